"""What a run writes, gathered and committed by one thread: an answered call is on disk within a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from msgspec.structs import astuple

from synthc.compiler.types import Field
from synthc.runtime.store.records import Call, Drawn, Failure, Mutation, Note, Vector
from synthc.runtime.store.schema import (
    CALL_COLUMNS,
    DRAW_COLUMNS,
    FAILURE_COLUMNS,
    MUTATION_COLUMNS,
    VECTOR_COLUMNS,
)
from synthc.runtime.store.seen import Seen
from synthc.runtime.store.store import (
    Ordinal,
    Store,
    StoredAnswer,
    gone,
    staged,
    transaction,
    writing,
)

_CALLS, _VECTORS = "synth.calls", "synth.vectors"
_NOTED = {
    Failure: ("synth.failures", FAILURE_COLUMNS),
    Mutation: ("synth.mutations", MUTATION_COLUMNS),
    Drawn: ("synth.draws", DRAW_COLUMNS),
}

if TYPE_CHECKING:
    import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

FLUSH_S = 0.2
"""Seconds between commits. A kill loses at most the answers of this long and of one commit."""

FLUSH_ROWS = 5_000
"""Records that make a commit start early, so that memory stays small."""


@dataclass(slots=True)
class _Pending:
    """Records of one target that are not written yet."""

    fields: tuple[Field, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)


class Journal:
    """The store seen from the event loop.

    `async with Journal(store)` commits now and then and at its end. What cannot be written is lost to
    the file, so nothing may follow it: from then on everything that is added or committed raises.
    Calls can have a store of their own, `calls`.
    """

    def __init__(self, store: Store, calls: Store | None = None) -> None:
        self.store = store
        self._calls = calls or store
        self._thread = ThreadPoolExecutor(1, "store")
        self._pending: dict[str, _Pending] = {}
        self._size = 0
        self._recent: dict[bytes, StoredAnswer] = {}
        self._recent_vectors: dict[bytes, np.ndarray] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._error: Exception | None = None
        self._room = asyncio.Event()
        self._room.set()

    async def __aenter__(self) -> Journal:
        self._seen = Seen(await self.do(self._calls.prefixes))
        self._task = asyncio.create_task(self._keep_flushing())
        return self

    async def __aexit__(self, *_rest: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        try:
            await self.flush()
        finally:
            self._thread.shutdown(wait=True)

    async def do(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something on the store's thread. Raises Stopped where the disk is full, or gone."""
        loop = asyncio.get_running_loop()
        with writing(self.store.path):
            return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    @property
    def run_id(self) -> int:
        """The run that calls are noted under."""
        return self._calls.run_id

    # Writing

    def call(self, record: Call, answer: StoredAnswer) -> None:
        """Keep an answered call."""
        self._recent[record.digest] = answer
        self._add(_CALLS, CALL_COLUMNS, astuple(record))

    def vector(self, record: Vector) -> None:
        """Keep a vector that was made here."""
        self._recent_vectors[record.digest] = record.vector
        self._add(_VECTORS, VECTOR_COLUMNS, astuple(record))

    def note(self, record: Note) -> None:
        """Keep what a row could not have, which prompt it was asked by, what was drawn for it."""
        target, fields = _NOTED[type(record)]
        self._add(target, fields, astuple(record))

    def row(self, number: int, fields: tuple[Field, ...], row: tuple[Any, ...]) -> None:
        """Keep a finished row of the table that was begun by the number."""
        self._add(staged(number), fields, row)

    def gone(self, number: int, fields: tuple[Field, ...], row: tuple[Ordinal, str, str]) -> None:
        """Keep of a row that ended otherwise its ordinal, its key, and what became of it."""
        self._add(gone(number), fields, row)

    def _add(self, target: str, fields: tuple[Field, ...], row: tuple[Any, ...]) -> None:
        pending = self._pending.get(target)
        if pending is None:
            pending = self._pending[target] = _Pending(fields)
        pending.rows.append(row)
        if self._error:
            raise self._error
        self._size += 1
        if self._size >= FLUSH_ROWS:
            self._wake.set()
            self._room.clear()

    async def room(self) -> None:
        """Wait while more is pending than memory should hold."""
        await self._room.wait()
        if self._error:
            raise self._error

    async def flush(self) -> None:
        """Commit everything that is pending. Who is cancelled here leaves the commit to go on."""
        await asyncio.shield(asyncio.create_task(self._commit()))

    async def _commit(self) -> None:
        async with self._writing:  # whoever comes second learns what became of the first
            if self._error:
                raise self._error
            pending, self._pending = self._pending, {}
            recent, vectors = list(self._recent), list(self._recent_vectors)
            self._size = 0
            try:
                if pending:
                    await self.do(self._write, pending)
            except Exception as error:
                self._error = error
                raise
            finally:
                self._room.set()
            for digest in recent:
                del self._recent[digest]
            for digest in vectors:
                del self._recent_vectors[digest]

    def _write(self, pending: dict[str, _Pending]) -> None:
        if self._calls is not self.store:
            elsewhere = {name: pending.pop(name) for name in (_CALLS, _VECTORS) if name in pending}
            with transaction(self._calls.connection):
                for target, records in elsewhere.items():
                    self._calls.append(target, records.fields, records.rows)
        # A transaction writes to one database: what is staged stands in another, in memory.
        kept = {target: pending.pop(target) for target in [*pending] if target.startswith("synth.")}
        for targets in filter(None, (kept, pending)):
            with transaction(self.store.connection):
                for target, records in targets.items():
                    self.store.append(target, records.fields, records.rows)
        self.store.settle()

    async def _keep_flushing(self) -> None:
        while not self._error:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FLUSH_S)
            self._wake.clear()
            with contextlib.suppress(Exception):  # kept, and raised where records are added
                await self.flush()

    # Reading

    def seen(self, digest: bytes) -> bool:
        """Whether a call (or a vector) may have been made before, in this run or another; from now on it
        was."""
        return self._seen.add(digest)

    async def answers(self, digests: Sequence[bytes]) -> Sequence[StoredAnswer | Exception | None]:
        """For each call identity its answer, if it was ever answered."""
        recent = [self._recent.get(digest) for digest in digests]
        missing = [d for d, known in zip(digests, recent, strict=True) if known is None]
        stored = await self.do(self._calls.answers, missing) if missing else {}
        return [known or stored.get(d) for d, known in zip(digests, recent, strict=True)]

    async def vectors(self, digests: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that were made before, by digest."""
        recent = self._recent_vectors
        found = {digest: recent[digest] for digest in digests if digest in recent}
        missing = [digest for digest in digests if digest not in found]
        return found | (await self.do(self._calls.vectors, missing) if missing else {})
