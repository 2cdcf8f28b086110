"""The embedder that a plan names, opened on this machine: which kind it is, its files say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from synthc.compiler import graphs, plan
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import Progress, cache_folder
from synthc.runtime.models import fetch


class LocalEmbedder(Protocol):
    """What makes vectors on this machine; to be used by one thread at a time.

    `truncated` counts what was cut at `limit`; `runs_on` and `why_there` say what it runs on and
    why not on something better. `digest` is that of all that makes the vectors, None where a vector is
    made sooner than it is found again; `notes` are what else a person should know.
    """

    @property
    def digest(self) -> str | None: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def runs_on(self) -> str: ...
    @property
    def why_there(self) -> str: ...
    @property
    def truncated(self) -> int: ...
    @property
    def limit(self) -> str: ...

    def embed(self, items: Any, /) -> Iterable[Any]:
        """A vector for each item, or the RowFailed that says why it has none."""
        ...


def open_local(
    spec: plan.Embedder, reference: str, *, base: Path, progress: Progress | None = None
) -> LocalEmbedder:
    """The embedder of a model, which `reference` names; paths are relative to `base`.

    Raises RunError: it cannot be had, or does not fit what the plan says of it.
    """
    from synthc.runtime.embedding.numbers import misfit, open_numbers

    if spec.input == "vector":
        return open_numbers(spec, reference, base=base, progress=progress)
    if spec.input in ("image", "audio"):
        from synthc.runtime.embedding.media_files import open_media_embedder

        return open_media_embedder(
            reference,
            kind=spec.input,
            base=base,
            dimensions=spec.dimensions,
            pooling=spec.pooling,
            normalize=spec.normalize,
            precision=spec.precision,
            truncate=spec.truncate,
            progress=progress,
        )
    from synthc.runtime.embedding.static import is_table, open_table

    cache = cache_folder()
    path = fetch(reference, base=base, cache=cache, progress=progress)
    settings: dict[str, Any] = {
        "dimensions": spec.dimensions,
        "normalize": spec.normalize,
        "max_tokens": spec.max_tokens,
        "precision": spec.precision,
        "progress": progress,
    }
    of_texts: dict[str, Any] = {
        "pooling": spec.pooling,
        "prompt": spec.prompt,
        "prompt_name": spec.prompt_name,
        "truncate": spec.truncate,
    }
    if spec.layer == "input" or is_table(path):
        return open_table(reference, path, **settings, **of_texts)
    if why := graphs.alone(path):
        raise misfit(reference, why)
    if graphs.made_elsewhere(path):
        from synthc.runtime.embedding.elsewhere import open_elsewhere

        return open_elsewhere(spec, reference, path)
    if spec.input_name or spec.output_name:
        raise RunError(
            f"`{reference}` is exported to a graph from its weights, and has one output",
            hint="leave `input_name` and `output_name` out",
        )
    if spec.pooling == "none":
        from synthc.runtime.embedding.tokens import open_token_embedder

        return open_token_embedder(reference, base=base, **settings)
    from synthc.runtime.embedding.pipeline import open_embedder

    return open_embedder(reference, base=base, **settings, **of_texts)


def require_exportable(reference: str, path: Path) -> None:
    """Raise RunError where a model, fetched to `path`, is used as it is: a table, or a graph already."""
    from synthc.runtime.embedding.static import is_table

    what = "a table of vectors" if is_table(path) else ""
    if path.suffix == ".onnx" or graphs.made_elsewhere(path):
        what = "a graph already"
    if what:
        raise RunError(
            f"`{reference}` is {what}, which is used as it is",
            hint="there is nothing to export: name it as an embedder's `model`",
        )
