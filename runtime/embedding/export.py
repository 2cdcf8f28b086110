"""The graph of a model: exported once in a process of its own, then found in the cache.

That process, `python -m synthc.runtime.embedding.export`, is the only one to import torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from synthc.runtime.embedding.chat_template import ChatTemplate
from synthc.runtime.embedding.model_files import NEEDED, read_text_model
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import (
    Progress,
    being_built,
    cache_folder,
    digest,
    read_json,
    write_json,
)

EXPORTER = 4  # counts the changes to how graphs are made: a graph of another number is made again
EXPORT_PACKAGES = ("onnx", "optimum", "optimum-onnx", "torch", "transformers")
ROOM = "make room there, or name another folder in the variable SYNTHC_CACHE"
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
# What of a card decides which vector a text has.
MAKES_VECTORS = (
    *("files", "normalize", "max_tokens", "pad_id", "lowercase"),
    *("prompts", "default_prompt", "chat_template", "wraps_text"),
)
REFUSED = 3  # the status of an export that made a graph which is not good enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """An exported text model: token ids and attention mask in, `embedding` (rows, dimensions) out.

    Where `pooling` is `none`, `embedding` is (rows, tokens, dimensions): a vector for each token.

    `digest` is that of all that makes the vectors, its files among it; `card` is what card.json says
    of how and from what it was made. The other fields are those of TextModel.
    """

    path: Path
    tokenizer: Path
    pooling: str
    dimensions: int
    max_tokens: int
    position_limit: int | None
    pad_id: int
    lowercase: bool
    normalize: bool
    prompts: Mapping[str, str]
    default_prompt: str | None
    pools_prompt: bool
    chat_template: ChatTemplate | None
    wraps_text: bool
    digest: str
    card: Mapping[str, Any]

    @classmethod
    def of(cls, card: Mapping[str, Any], folder: Path) -> Graph:
        """The graph in a folder, as its card says."""
        made_by = json.dumps({name: card.get(name) for name in MAKES_VECTORS}, sort_keys=True)
        template = card["chat_template"]
        return cls(
            path=folder / "model.onnx",
            tokenizer=folder / "tokenizer.json",
            pooling=card["pooling"],
            dimensions=card["dimensions"],
            max_tokens=card["max_tokens"],
            position_limit=card["position_limit"],
            pad_id=card["pad_id"],
            lowercase=card["lowercase"],
            normalize=card["normalize"],
            prompts=card["prompts"],
            default_prompt=card["default_prompt"],
            pools_prompt=card["pools_prompt"],
            chat_template=ChatTemplate(**template) if template else None,
            wraps_text=card["wraps_text"],
            digest=hashlib.sha256(made_by.encode()).hexdigest(),
            card=card,
        )


def graph_for(
    model_folder: Path,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    precision: str = "fp32",
    cache: Path | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> Graph:
    """The graph of the model in a folder, from the cache or exported now (seconds to minutes).

    `pooling` and `normalize` are what the model's files say where they are None; `precision` is
    that of the weights, `fp32`, `fp16` or `int8`; `source` is how the user named the model. Raises
    RunError: no text model, no exporter installed, an export that fails, or one whose vectors are
    not those of the original, as near as the precision allows.
    """
    model = read_text_model(model_folder, pooling=pooling, normalize=normalize)
    made = exported(
        model_folder,
        "text",
        made_from=(model.pooling, model.normalize),
        asked={"pooling": pooling, "normalize": normalize},
        precision=precision,
        needed=NEEDED,
        weights_in=model.folder,
        cache=cache,
        source=source,
        progress=progress,
    )
    return Graph.of(*made)


def exported(
    model_folder: Path,
    kind: str,
    *,
    made_from: Sequence[Any],
    asked: Mapping[str, Any],
    precision: str,
    needed: str,
    weights_in: Path,
    cache: Path | None,
    source: str | None,
    progress: Progress | None,
) -> tuple[Mapping[str, Any], Path]:
    """The card of the graph of a model whose input is `kind`, and the graph's folder in the cache.

    It is exported where no graph is there that was `made_from` the same, with the same files and in
    the same precision; `asked` is what the export's process reads the folder with, `needed` says
    what such a folder is, and `weights_in` is where its weights lie. Raises RunError, as `graph_for`.
    """
    cache = cache or cache_folder()
    source = source or str(model_folder)
    model_digest = digest(model_folder, cache=cache)
    known = json.dumps([model_digest, kind, *made_from, precision, EXPORTER])
    key = hashlib.sha256(known.encode()).hexdigest()[:32]
    target = cache / "graphs" / key
    card = _cached(target, cache)
    if card is not None:
        return card, target
    _require_weights(weights_in, needed)
    _require_exporter(source)
    if progress:
        progress(
            0, None, f"exporting {source}" + ("" if precision == "fp32" else f" ({precision})")
        )
    wanted = {**asked, "input": kind, "precision": precision}
    log = cache / "logs" / f"export-{key}.log"
    with _written_to(cache), being_built(target) as building:
        _export(model_folder, wanted, building, source, log=log)
        names = sorted(file.name for file in building.iterdir() if file.name != "card.json")
        made = {
            "source": source,
            "model_digest": model_digest,
            **read_json(building / "card.json"),
            "files": {name: digest(building / name, cache=cache) for name in names},
        }
        write_json(building / "card.json", made)
    card = _cached(target, cache)
    if card is None:
        raise RunError(f"the graph in {target} changed while it was written", hint="run again")
    return card, target


class Prompted(Protocol):
    """What says which prompts a model has: see TextModel."""

    @property
    def prompts(self) -> Mapping[str, str]: ...

    @property
    def default_prompt(self) -> str | None: ...

    @property
    def pools_prompt(self) -> bool: ...


def prompt_of(graph: Prompted, *, prompt: str | None, prompt_name: str | None, source: str) -> str:
    """What stands before each text: `prompt`, the model's own of that name, or its default.

    Raises RunError where the model, which the user named `source`, has no prompt of that name, or
    leaves it out of its pooling.
    """
    name = prompt_name or graph.default_prompt
    if prompt is None and name and name not in graph.prompts:
        known = ", ".join(f"`{known}`" for known in graph.prompts)
        raise RunError(
            f"`{source}` has no prompt `{name}`" + (f": it has {known}" if known else ""),
            hint='`prompt = "query: "` gives one of your own',
        )
    chosen = graph.prompts[name] if prompt is None and name else prompt or ""
    if chosen and not graph.pools_prompt:
        raise RunError(
            f"`{source}` leaves the prompt out of its pooling (`include_prompt`), which is not"
            " supported",
            hint='`prompt = ""` embeds without a prompt',
        )
    return chosen


def _cached(folder: Path, cache: Path) -> Mapping[str, Any] | None:
    """The card of a graph in the cache; None where there is none whose files match its card."""
    card = read_json(folder / "card.json")
    try:
        sound = card["exporter"] == EXPORTER and all(
            digest(folder / name, cache=cache) == sha256 for name, sha256 in card["files"].items()
        )
        return card if sound else None
    except (OSError, KeyError):
        return None


def _require_weights(folder: Path, needed: str) -> None:
    if any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir()):
        return
    raise RunError(f"{folder} has no weights (model.safetensors)", hint=needed)


def _require_exporter(source: str) -> None:
    """Ask what is installed, without importing it."""
    for package in EXPORT_PACKAGES:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError as error:
            raise RunError(
                f"`{source}` must be exported once, and {package} is not installed",
                hint="pip install 'synthc[export]'",
            ) from error


def _export(
    model: Path, wanted: Mapping[str, Any], folder: Path, source: str, *, log: Path
) -> None:
    """Make the graph, its tokenizer and card.json in `folder`, in a process of its own."""
    # -P: a `torch.py` in the current folder is not torch.
    module = [sys.executable, "-P", "-m", "synthc.runtime.embedding.export"]
    # The model is here already: nothing may be fetched.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as noise:
        done = subprocess.run(
            [*module, str(model.absolute()), json.dumps(wanted), str(folder.absolute())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=noise,
            check=False,
        )
    why = done.stdout.decode(errors="replace").strip()
    match done.returncode:
        case 0:
            return
        case code if code == REFUSED:
            other = 'leave `precision` out, or write `"fp16"`'
            hint = other if wanted["precision"] == "int8" else f"the whole log is {log}"
            raise RunError(f"`{source}` cannot be used: {why}", hint=hint)
        case code:
            hint = f"the whole log is {log}"
            if code == -9:
                why, hint = "it was killed", "it may need more memory than there is"
            elif any(os.strerror(number) in why for number in FULL):
                hint = ROOM
            kind = read_json(model / "config.json").get("model_type")
            of = f" (a model of the type `{kind}`)" if kind else ""
            why = why or f"status {code}"
            raise RunError(f"`{source}`{of} could not be exported: {why}", hint=hint)


@contextlib.contextmanager
def _written_to(cache: Path) -> Iterator[None]:
    """Say it plainly where the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{cache} cannot be written: {error.strerror or error}", hint=ROOM
        ) from error


def make(model: Path, wanted: Mapping[str, Any], folder: Path) -> None:
    """Make the graph, its tokenizer and card.json in `folder`, in this process, which imports torch.

    Raises RunError where the model cannot be used.
    """
    asked = dict(wanted)
    kind, precision = asked.pop("input"), asked.pop("precision")
    if kind == "text":
        from synthc.runtime.embedding.torch_graph import export

        export(read_text_model(model, **asked), folder, precision=precision)
    else:
        from synthc.runtime.embedding.media_files import read_media_model
        from synthc.runtime.embedding.media_graph import export_media

        export_media(read_media_model(model, kind, **asked), folder, precision=precision)


def _main(model: str, wanted: str, folder: str) -> int:
    """The export's own process: a reason on standard output, what libraries print on the other."""
    reason = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        make(Path(model), json.loads(wanted), Path(folder))
    except RunError as error:
        print(error.message, file=reason, flush=True)
        return REFUSED
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        said = " ".join(str(error).split())
        print(f"{type(error).__name__}: {said}", file=reason, flush=True)
        with contextlib.suppress(OSError):  # the log may lie on the disk that is full
            traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
