"""Lists of numbers become vectors, by an ONNX graph of the user's own.

```
numbers ──lengths, batches──▶ arrays in the graph's type and shape ──graph──▶ vectors, as given
```
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthc.compiler import graphs, plan
from synthc.runtime.embedding.session import Sessions
from synthc.runtime.embedding.tokens import unit
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.model_cache import Progress, cache_folder, digest
from synthc.runtime.models import fetch

# Rows a batch. By two layers, 784 numbers to 512 to 64, a row took 14 µs of CPU with 16 to 1,024 of them.
BATCH = 256

_TYPES = {"float": np.float32, "double": np.float64, "float16": np.float16}


def packed(value: Any) -> bytes:
    """The numbers of a column's value, as float64 in bytes.

    Raises RowFailed where one of them is null or not finite.
    """
    array = np.asarray(value, np.float64)  # a null is NaN then
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        at = int(wrong[0])
        shown = "null" if value[at] is None else str(float(array[at]))
        raise RowFailed("numbers", f"number {at + 1} of {len(array)} is {shown}")
    return array.tobytes()


class NumberEmbedder:
    """Embeds lists of numbers with a graph; to be used by one thread at a time.

    `digest` is that of the graph and the names of its input and output; `runs_on` and `why_there`
    say what the graph runs on and why not on something better.
    """

    notes = ()
    truncated, limit = 0, ""

    def __init__(
        self, sessions: Sessions, fit: graphs.Fit, spec: plan.Embedder, *, digest: str
    ) -> None:
        """Open for what the plan says; `digest` is that of the graph's files."""
        self.dimensions = spec.dimensions
        self.digest = f"{digest} {fit.input.name} {fit.output.name}"
        self.runs_on, self.why_there = sessions.told, sessions.why
        self._sessions = sessions
        self._fit = fit
        self._normalize = bool(spec.normalize)
        self._truncate = spec.truncate
        rows = fit.input.shape[0] if fit.input.shape else None
        self._batch, self._fixed = rows or BATCH, rows is not None

    def embed(self, items: Sequence[bytes]) -> list[np.ndarray | RowFailed]:
        """The vector of each list, as `packed` gives it: float32 of shape (dimensions,), or why not."""
        rows = [np.frombuffer(item, np.float64) for item in items]
        made: list[np.ndarray | RowFailed] = [RowFailed("numbers", "")] * len(rows)
        by_length: dict[int, list[int]] = defaultdict(list)
        wanted, name = self._fit.numbers, self._fit.input.name
        for at, row in enumerate(rows):
            if not len(row) or wanted not in (None, len(row)):
                takes = f"and `{name}` takes {wanted or 'some'}"
                made[at] = RowFailed("numbers", f"there are {len(row)} numbers, {takes}")
            else:
                by_length[len(row)].append(at)
        for places in by_length.values():
            for batch in _batches(places, self._batch):
                vectors = self._run(np.stack([rows[at] for at in batch]))
                for number, at in enumerate(batch):
                    made[at] = (
                        vectors if isinstance(vectors, RowFailed) else _sound(vectors[number])
                    )
        return made

    def _run(self, rows: np.ndarray) -> np.ndarray | RowFailed:
        """The vectors of one batch, (rows, dimensions), or why the graph does not give them."""
        count = len(rows)
        if self._fixed and count < self._batch:
            rows = np.concatenate([rows, np.zeros((self._batch - count, rows.shape[1]))])
        port = self._fit.input
        sizes = [size or rows.shape[1] for size in (port.shape or (None, None))[1:]]
        with np.errstate(over="ignore"):  # what is too large for the graph's type is seen below
            array = rows.reshape(len(rows), *sizes).astype(_TYPES[port.type])
        try:
            (found,) = self._sessions.run([{port.name: array}], self._fit.output.name)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises its own, of many kinds
            said = str(error).split("\n", maxsplit=1)[0]
            return RowFailed("graph", f"the graph fails: {said}")
        output = self._fit.output.name
        is_vector = found.shape[:1] == (len(rows),) and len(graphs.vector_sizes(found.shape)) < 2
        has = found.size // len(rows)
        if not is_vector or has < self.dimensions or (has > self.dimensions and not self._truncate):
            shown = ", ".join(str(size) for size in found.shape)
            raise RunError(
                f"the graph gives `{output}` in the shape ({shown}) for {len(rows)} rows, and a vector"
                f" has {self.dimensions} dimensions",
                hint="choose another output with `output_name`, or write other `dimensions`",
            )
        vectors = found.reshape(len(found), -1)[:count, : self.dimensions].astype(np.float32)
        return unit(vectors) if self._normalize else vectors


def _sound(vector: np.ndarray) -> np.ndarray | RowFailed:
    wrong = np.flatnonzero(~np.isfinite(vector))
    if not wrong.size:
        return vector
    at = int(wrong[0])
    return RowFailed("numbers", f"the graph gives {vector[at]} as number {at + 1} of the vector")


def _batches(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def open_numbers(
    spec: plan.Embedder, reference: str, *, base: Path, progress: Progress | None = None
) -> NumberEmbedder:
    """The embedder of lists of numbers, whose model is `reference`: an .onnx file, or a folder with one.

    `base` is the folder that paths are relative to. Raises RunError: the file cannot be had, holds no
    graph, or one that does not fit what the embedder says.
    """
    cache = cache_folder()
    path = fetch(reference, base=base, cache=cache, progress=progress)
    file = graphs.file_of(path)
    if isinstance(file, graphs.Misfit):
        raise misfit(reference, file)
    sessions = open_own(reference, file)
    fit = graphs.fit_numbers(spec, sessions.ports)
    if isinstance(fit, graphs.Misfit):
        raise misfit(reference, fit)
    return NumberEmbedder(sessions, fit, spec, digest=content(path, cache))


def open_own(reference: str, file: Path) -> Sessions:
    """A graph that was made elsewhere. Raises RunError where it cannot be opened, and says why."""
    try:
        graphs.read(file)
        return Sessions(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"the graph `{reference}` cannot be read: {reason}", hint=_OWN) from None
    except RunError as error:
        raise RunError(error.message, hint=_OWN) from None


_OWN = "export it again, to ONNX; weights in a file of their own must lie beside it"


def misfit(reference: str, why: graphs.Misfit) -> RunError:
    """A graph that does not fit, told as the compiler tells it."""
    return RunError(f"the graph `{reference}` {why.reason}", hint=why.advice)


def content(path: Path, cache: Path) -> str:
    """The digest of a graph: of a file, with those beside it that hold its weights (`NAME.onnx.data`)."""
    if path.is_dir():
        return digest(path, cache=cache)
    files = sorted(path.parent.glob(f"{path.name}*"))
    return " ".join(digest(file, cache=cache) for file in files if file.is_file())
