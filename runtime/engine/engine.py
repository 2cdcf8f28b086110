"""The engine: every row of a table walks its own chain of operations.

source ──pages──▶ rows ──┬─ ask, repeat ─▶ the store, or a backend  (each row for itself)
                         ├─ compute, filter ─▶ row SQL              (rows that are ready, together)
                         ├─ embed ─▶ the embedding pipeline         (likewise)
                         ├─ limit, dedup ─▶ a gate in row order
                         ├─ unnest ─▶ a row for each element        (they walk on by themselves)
                         ▼
                      journal ──▶ the store
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from synthc.compiler import plan
from synthc.runtime.engine.asking import elements
from synthc.runtime.engine.chain import FEWEST, WINDOW, Chain, Dropped, Tools
from synthc.runtime.engine.scope import Scope
from synthc.runtime.engine.segments import Segment, limits_behind, segments
from synthc.runtime.errors import RowFailed, reason
from synthc.runtime.store.source import Source, SourceRow
from synthc.runtime.store.store import Counts, Ordinal, gone_fields, staged_fields

__all__ = ["Progress", "TableRun", "Tools"]

_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=str)


@dataclass(slots=True)
class Progress:
    """How far a table is: `total` counts the rows of its source, None before that is known.

    Where rows are unnested, both it and `rows_in` grow as rows become many. `old_stays` says that this
    ended early, and a complete table of before still stands in the place.
    """

    name: str
    total: int | None = None
    rows_in: int = 0
    kept: int = 0
    dropped: int = 0
    failed: int = 0
    not_asked: int = 0
    state: str = "waiting"
    old_stays: bool = False

    def counts(self) -> Counts:
        """The numbers alone, as the store keeps them."""
        return Counts(self.rows_in, self.kept, self.dropped, self.failed, self.not_asked)

    def grow(self, rows: int) -> None:
        """So many rows more (or fewer) are there than the source has."""
        self.rows_in += rows
        self.total = (self.total or 0) + rows


class _Row(Struct, eq=False):
    """A row on its way: `path` is its ordinal, those of the rows it came from before it.

    Its number, by which gates know it, is `nth` behind that of the first of its siblings.
    """

    scope: Scope
    segment: int
    path: tuple[int, ...]
    nth: int
    first: asyncio.Future[int] | None = None

    async def number(self) -> int:
        """The number of the row, when it is known how many come before it."""
        return self.nth if self.first is None else self.nth + await asyncio.shield(self.first)


class TableRun:
    """One table of a plan while it is made."""

    def __init__(self, number: int, table: plan.Table, tools: Tools, progress: Progress) -> None:
        self._number = number
        self._table = table
        self._tools = tools
        self._progress = progress
        self._staged, self._gone = staged_fields(table), gone_fields(table)
        self._outputs = {output.name: output.value for output in table.outputs}
        self._segments = segments(table.ops)
        self._limits = [
            part.gates[id(op)]
            for part in self._segments
            for op in part.ops
            if isinstance(op, plan.Limit)
        ]
        self._window = _window(table, tools.calls)
        self._chain = Chain(table, tools, limits_behind(self._segments))
        self._children = 0

    async def run(
        self,
        tables: Mapping[str, plan.Table],
        base: Path,
        limit: int | None,
        fingerprint: str,
        *,
        whole: bool,
    ) -> None:
        """Make the table and put it in place; where that ends early, what is complete of it.

        Those of `tables` that it reads are there. Not `whole`, it is never done. Raises RunError
        (Stopped among them); cancelling it keeps what was answered.
        """
        store = self._tools.journal.store
        do = self._tools.journal.do
        self._progress.state = "running"
        reads = self._table.source
        parent = tables[reads.table] if isinstance(reads, plan.From) else None
        source = await do(Source, store.connection, self._number, reads, parent, base, limit)
        self._progress.total = source.count
        await do(store.begin, self._number, self._table)
        await do(store.settle, now=True)
        await self._chain.prepare(tables, rows=source.count > 0)
        status = "partial"
        try:
            await self._feed(source)
            status = "done" if whole else "partial"
        except BaseExceptionGroup as group:
            raise reason(group) from None
        finally:
            self._progress.state = status
            early = whole and status == "partial"
            await asyncio.shield(self._publish(source, fingerprint, status, early=early))

    async def _publish(self, source: Source, fingerprint: str, status: str, *, early: bool) -> None:
        """Put the table in place. What ended `early` never takes the place of a complete one."""
        journal = self._tools.journal
        store = journal.store
        await journal.flush()
        if early and await journal.do(store.finished, self._table):
            self._progress.old_stays = True
            await journal.do(store.withdraw, self._number, self._table)
        else:
            await journal.do(
                store.publish,
                self._number,
                self._table,
                fingerprint,
                status,
                self._progress.counts(),
            )
        await journal.do(source.drop)

    async def _feed(self, source: Source) -> None:
        """Take the rows of a source to their ends, some at once, each begun in its turn."""
        journal = self._tools.journal
        pages, turning = source.pages(), asyncio.Lock()
        arrived: deque[SourceRow] = deque()
        numbers = itertools.count()

        async def more() -> bool:
            async with turning:
                if not arrived and (start := next(pages, None)) is not None:
                    arrived.extend(await journal.do(source.page, start))
                return bool(arrived)

        async def walk() -> None:
            while arrived or await more():
                await journal.room()
                if not arrived:  # others took what was there
                    continue
                if self._limits and any(gate.full for gate in self._limits):
                    return
                row, number = arrived.popleft(), next(numbers)
                self._progress.rows_in += 1
                scope = Scope(row.key, row.values)
                await self._row(_Row(scope, 0, (row.ordinal,), number))

        async with asyncio.TaskGroup() as walkers:
            for _ in range(min(self._window, source.count)):
                walkers.create_task(walk())
        # Those that a full limit left behind.
        never = source.count - next(numbers)
        self._progress.not_asked += never
        self._progress.rows_in += never

    # One row

    async def _row(self, row: _Row) -> str:
        """Take a row to its end: what became of it, which is `forked` where others took its place."""
        segment = self._segments[row.segment]
        status = "kept"
        failed: RowFailed | None = None
        values: list[Any] = []
        try:
            async with row.scope:
                await self._walk(row, segment)
                if segment.fork:
                    status = await self._fork(row, segment, segment.fork)
                else:
                    values = await self._values(row.scope)
        except Dropped as dropped:
            status = dropped.status
            if status == "dropped" and self._tools.dropped:
                self._tools.dropped(self._table.name, row.scope.row_key, dropped.op)
        except RowFailed as error:
            status, failed = "failed", error
        if status in ("dropped", "failed", "not_asked") and not await self._leave(row):
            status = "not_asked"
        if status != "forked":
            setattr(self._progress, status, getattr(self._progress, status) + 1)
        if status != "not_asked":
            self._keep(row, status, values, failed)
        return status

    async def _values(self, scope: Scope) -> list[Any]:
        """The columns of a row that came to its end."""
        await scope.settled(around=True)
        return list((await scope.values(self._outputs)).values())

    def _keep(self, row: _Row, status: str, values: list[Any], failed: RowFailed | None) -> None:
        """Put into the journal what is known of a row now that it ended."""
        if failed:
            self._chain.note_failure(row.scope, failed, stops_row=True)
        journal, key = self._tools.journal, row.scope.row_key
        for note in row.scope.notes:
            journal.note(note)
        ordinal: Ordinal = row.path if len(self._segments) > 1 else row.path[0]
        if status == "kept":
            journal.row(self._number, self._staged, (ordinal, key, *values))
        elif status != "forked":
            journal.gone(self._number, self._gone, (ordinal, key, status))

    async def _walk(self, row: _Row, segment: Segment) -> None:
        if not segment.gates:
            for op in segment.ops:
                await self._chain.step(row.scope, op)
            return
        for op in segment.ops:
            for limit, gate in segment.paces.get(id(op), ()):
                value = await self._compared(row, limit) if limit else b""
                if not await gate.wanted(await row.number(), value):
                    raise Dropped("not_asked", op)
            gate = segment.gates.get(id(op))
            if gate is None:
                await self._chain.step(row.scope, op)
                continue
            await row.scope.settled(
                around=True
            )  # a row that is counted must not fail by what came before
            if not await gate.enter(await row.number(), await self._compared(row, op)):
                raise Dropped(gate.turned_away, op)

    async def _compared(self, row: _Row, op: plan.Op) -> bytes:
        """What a gate compares rows by: equal values have equal bytes."""
        match op:
            case plan.Dedup(similar=float()):
                (vector,) = (await row.scope.values(op.reads)).values()
                return _bytes(vector)
            case plan.Dedup():
                values = await row.scope.values(op.reads)
                return hashlib.blake2b(_encoder.encode(values), digest_size=16).digest()
            case plan.Limit(per=str() as slot):
                value = await row.scope.slot(slot)
                if value is None:
                    failed = RowFailed("null", f"`{op.what}` is null")
                    failed.what, failed.place = op.what, str(op.span)
                    raise failed
                return _encoder.encode(value)
            case _:
                return b""

    async def _leave(self, row: _Row) -> bool:
        """Let those behind a row pass: whether it was in time for every limit that it did not reach.

        If not, it depended on what was quick whether it set out at all, and nothing is kept of it.
        """
        parts = self._segments[row.segment :]
        if not any(part.gates for part in parts):
            return True
        number = await row.number()
        turns: list[asyncio.Future[bool]] = []
        for part in parts:
            turns += [gate.leave(number) for gate in part.gates.values()]
            if part.numbers is None or part.numbers.had(number):
                break
            # To the gates behind a fork it is as if it had one child, and that were gone.
            number = await part.numbers.first(number, 1)
        return all([await turn for turn in turns])

    # Forks

    async def _fork(self, row: _Row, segment: Segment, op: plan.Unnest) -> str:
        """Send a row for each element on its way, and wait for them."""
        try:
            found = _side_by_side(await row.scope.values(op.reads))
        except RowFailed as failed:
            failed.what, failed.place = failed.what or op.what, failed.place or str(op.span)
            raise
        if not found:
            raise Dropped("dropped", op)
        first = None
        if segment.numbers:
            first = segment.numbers.first(await row.number(), len(found))
        self._progress.grow(len(found) - 1)
        statuses = await self._children_of(row, op, found, first)
        if statuses.keys() != {"not_asked"}:
            return "forked"
        # Whether it came to be forked at all was chance: it counts as one row.
        self._progress.grow(1 - len(found))
        self._progress.not_asked -= len(found)
        return "not_asked"

    async def _children_of(
        self,
        row: _Row,
        op: plan.Unnest,
        found: Sequence[tuple[Any, ...]],
        first: asyncio.Future[int] | None,
    ) -> Counter[str]:
        """What became of the children, of which few enough are on their way at once.

        Of each parent there is always one: the first row of all must not wait for room, since the
        others may be waiting for it at a gate.
        """
        statuses: Counter[str] = Counter()
        own = 0
        one_ended = asyncio.Event()

        async def walk(child: _Row) -> None:
            nonlocal own
            try:
                statuses[await self._row(child)] += 1
            finally:
                own -= 1
                self._children -= 1
                one_ended.set()

        async with asyncio.TaskGroup() as children:
            for nth, at_one_place in enumerate(found):
                while own and self._children >= self._window:
                    one_ended.clear()
                    await one_ended.wait()
                await self._tools.journal.room()
                slots = dict(zip(op.writes, at_one_place, strict=True))
                scope = row.scope.child(nth + 1, slots)
                own += 1
                self._children += 1
                child = _Row(scope, row.segment + 1, (*row.path, nth), nth, first)
                children.create_task(walk(child))
        return statuses


def _window(table: plan.Table, calls: Mapping[str, int]) -> int:
    """How many rows of a table are on their way at once: as many as its backends take calls."""
    backends = {ask.backend for ask in plan.asks(table.ops)}
    in_bulk = any(isinstance(op, plan.Embed) for op in table.ops) or not backends
    return max(WINDOW if in_bulk else FEWEST, sum(calls[name] for name in backends))


def _bytes(vector: Any) -> bytes:
    """The float32 numbers of a vector; none where it is null."""
    import numpy as np

    return b"" if vector is None else np.asarray(vector, np.float32).tobytes()


def _side_by_side(lists: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The elements of lists, those at one place together. Raises RowFailed where they do not match."""
    found = {name: [] if v is None else elements(v, name) for name, v in lists.items()}
    lengths = {name: len(listed) for name, listed in found.items()}
    if len(set(lengths.values())) > 1:
        told = " and ".join(f"`{name}` has {length}" for name, length in lengths.items())
        raise RowFailed("unnest", f"the lists differ in length: {told}")
    return list(zip(*found.values(), strict=True))
