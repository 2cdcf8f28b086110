"""Pictures and recordings become vectors: read and made ready beside the graph, a few at a time.

```
media ──front end, in threads──▶ tensors ──equal shapes──▶ batches ──graph──▶ vectors, as given
```

A front end is all that a medium has of its own: what it makes of a file for the model.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeVar

import numpy as np

from synthc.compiler.plan import NOUNS
from synthc.runtime.embedding.pipeline import first_of
from synthc.runtime.embedding.session import Sessions, usable_cpus
from synthc.runtime.embedding.tensorrt import Engine
from synthc.runtime.errors import RowFailed
from synthc.runtime.listed import Listed, not_listed
from synthc.runtime.pictures import of_data_url

Item = TypeVar("Item")
Result = TypeVar("Result")
Kind = Literal["image", "audio"]


class Unusable(Exception):
    """A file that is no medium the model can take; the message continues a sentence on the file."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture or a recording, which is whatever its bytes are: two of equal bytes are equal.

    `name` is how a failure names it. `source` is its file, read when it is needed, with its size and
    its time of change when the digest was made; or the bytes themselves.
    """

    sha256: str
    name: str = field(compare=False)
    source: tuple[Path, tuple[int, int]] | bytes = field(compare=False)

    def made(self, work: Callable[[BinaryIO], Result]) -> Result:
        """What comes of reading it. Raises Unusable, where the file cannot be read or was changed too."""
        if isinstance(self.source, bytes):
            return work(io.BytesIO(self.source))
        path, stamp = self.source
        try:
            with path.open("rb") as file:
                result = work(file)
            if _stamp(path) != stamp:
                raise Unusable("was changed while the run went on: run it again")
        except OSError as error:
            raise Unusable(f"cannot be read: {_why(error)}") from None
        return result


def medium(value: Any, name: str, kind: Kind, files: Listed) -> Medium:
    """The medium that a value of the column `name` is: bytes, a data URL, or the path of a listed file.

    Raises RowFailed where it is none of these.
    """
    inside = f"the {NOUNS[kind]} in `{name}`"
    if isinstance(value, str):
        path = files.path(value)
        if path is not None:
            return _of_file(value, path, kind)
        if not value.startswith("data:"):
            raise failed(kind, *not_listed(value))
        try:
            value = of_data_url(value)
        except ValueError:
            raise failed(kind, inside, "is no data URL in base64") from None
    if not isinstance(value, bytes):  # a plan can be edited by hand
        raise failed(kind, f"what `{name}` holds", f"is no {NOUNS[kind]}")
    return Medium(hashlib.sha256(value).hexdigest(), inside, value)


def failed(kind: Kind, name: str, why: object) -> RowFailed:
    """How a row fails whose medium cannot be embedded."""
    return RowFailed(kind, f"{name} {why}")


def _of_file(name: str, path: Path, kind: Kind) -> Medium:
    try:
        stamp = _stamp(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise failed(kind, f"`{name}`", f"cannot be read: {_why(error)}") from None
    return Medium(digest, f"`{name}`", (path, stamp))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _why(error: OSError) -> str:
    return (error.strerror or str(error) or "it fails").lower()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a graph takes for one medium: arrays by the names of its inputs, without the rows.

    `cost` is what it takes of a batch's budget; `cut` says that the model does not see all of it.
    """

    arrays: Mapping[str, np.ndarray]
    cost: float = 1.0
    cut: bool = False


class FrontEnd(Protocol):
    """What a medium has of its own."""

    @property
    def budget(self) -> Mapping[str, float]:
        """How much cost a batch may have, by what the graph runs on."""
        ...

    @property
    def limit(self) -> str:
        """Where a medium is cut, in words; empty where none is."""
        ...

    def __call__(self, file: BinaryIO) -> Prepared:
        """What the model takes for a file. Raises Unusable, and OSError where it cannot be read."""
        ...


class MediaEmbedder:
    """Embeds pictures or recordings with a graph; to be used by one thread at a time.

    `digest` is that of all that makes the vectors. `truncated` counts the media so far of which the
    model did not see all, cut at `limit`; `runs_on` and `why_there` say what the graph runs on
    and why not on something better.
    """

    notes = ()

    def __init__(
        self,
        graph: Path,
        front_end: FrontEnd,
        *,
        digest: str,
        dimensions: int,
        unit_length: bool,
        budget: float | None = None,
        threads: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Open a graph. Of a vector the first `dimensions` are kept; `unit_length` says what the
        graph gives. `budget` is how much a batch may cost (None: the front end's own); `threads` and
        `engine` are as in Sessions."""
        self.dimensions = dimensions
        self.digest = digest
        self.truncated = 0
        self.limit = front_end.limit
        self._front_end = front_end
        self._unit_length = unit_length
        self._sessions = Sessions(graph, threads=threads, engine=engine)
        self.runs_on, self.why_there = self._sessions.told, self._sessions.why
        self._budget = budget or front_end.budget[self._sessions.device]
        self._threads = threads or usable_cpus()
        # The same threads for all: what each new one decodes is kept in a part of memory of its own.
        self._pool = ThreadPoolExecutor(self._threads, "prepare")

    def embed(self, media: Sequence[Medium]) -> list[np.ndarray | Unusable]:
        """A float32 vector of shape (dimensions,) for each medium, or why it has none."""
        found: list[np.ndarray | Unusable] = []
        batch: list[Prepared] = []
        places: list[int] = []

        def run() -> None:
            for place, vector in zip(places, self._vectors(batch), strict=True):
                found[place] = vector
            batch.clear()
            places.clear()

        # As many are ready or under way as two a thread, and a batch: however many there are to come.
        made_ready = _ahead(self._pool, self._prepare, media, 2 * self._threads)
        for place, made in enumerate(made_ready):
            found.append(made if isinstance(made, Unusable) else np.empty(0, np.float32))
            if isinstance(made, Unusable):
                continue
            full = sum(one.cost for one in batch) + made.cost > self._budget
            if batch and (full or not _alike(batch[0], made)):
                run()
            batch.append(made)
            places.append(place)
            self.truncated += made.cut
        if batch:
            run()
        return found

    def _prepare(self, item: Medium) -> Prepared | Unusable:
        try:
            return item.made(self._front_end)
        except Unusable as why:
            return why

    def _vectors(self, batch: Sequence[Prepared]) -> np.ndarray:
        """The vectors of one batch: (len(batch), dimensions)."""
        names = batch[0].arrays
        arrays = {name: np.stack([one.arrays[name] for one in batch]) for name in names}
        (vectors,) = self._sessions.run([arrays])
        return first_of(vectors, self.dimensions, unit_length=self._unit_length)


def _alike(one: Prepared, other: Prepared) -> bool:
    """Whether two fit into a batch: nothing is padded, so that a vector never depends on others."""
    return all(other.arrays[name].shape == array.shape for name, array in one.arrays.items())


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[Result]:
    """The results in order; `count` more are begun than were asked for."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
