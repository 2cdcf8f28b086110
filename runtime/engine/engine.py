"""The engine: every row of a table walks its own chain of operations.

source ──pages──▶ rows ──┬─ ask ─▶ the store, or a backend     (each row for itself)
                         ├─ compute, filter ─▶ row SQL         (rows that are ready, together)
                         ├─ embed ─▶ the embedding pipeline    (likewise)
                         └─ limit ─▶ a gate in row order
                              │
                              ▼
                           journal ──▶ the store
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from synthc.compiler import plan, types
from synthc.compiler.plan import Ref
from synthc.compiler.types import Field
from synthc.runtime.engine.asking import Asker, Place
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.gate import Gate
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.engine.rowsql import RowSql
from synthc.runtime.errors import RowFailed, reason
from synthc.runtime.store.journal import Journal
from synthc.runtime.store.source import Source, SourceRow
from synthc.runtime.store.store import Counts

WINDOW = 1_024
"""Rows of a table that are on their way at once, at least; more where a backend takes more calls."""

Embed = Callable[[plan.Embed], Awaitable[Batcher[str, Any]]]


@dataclass(slots=True)
class Progress:
    """How far a table is: `total` counts the rows of its source, None before that is known."""

    name: str
    total: int | None = None
    rows_in: int = 0
    kept: int = 0
    dropped: int = 0
    failed: int = 0
    not_asked: int = 0
    state: str = "waiting"

    def counts(self) -> Counts:
        """The numbers alone, as the store keeps them."""
        return Counts(self.rows_in, self.kept, self.dropped, self.failed, self.not_asked)


@dataclass(frozen=True, slots=True)
class Tools:
    """What chains work with, shared by all tables of a run."""

    journal: Journal
    asker: Asker
    row_sql: RowSql
    prompts: Prompts
    embed: Embed
    window: int = WINDOW


@dataclass(slots=True)
class _Row:
    """A row on its way. A slot holds its value, or the task that is making it."""

    number: int
    ordinal: int
    key: str
    slots: dict[str, Any]
    started: list[asyncio.Task[None]] = field(default_factory=list)


class _Dropped(Exception):
    """The row ends here, as the spec wants."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class TableRun:
    """One table of a plan while it is made."""

    def __init__(self, number: int, table: plan.Table, tools: Tools, progress: Progress) -> None:
        self._number = number
        self._table = table
        self._tools = tools
        self._progress = progress
        self._fields = tuple(Field(output.name, output.type) for output in table.outputs)
        self._staged = (Field("ordinal", types.Int()), *self._fields)
        self._gates = {id(op): Gate(op.count) for op in table.ops if isinstance(op, plan.Limit)}
        self._computed: dict[int, Batcher[Mapping[str, Any], tuple[Any, ...]]] = {}
        self._embedded: dict[int, Batcher[str, Any]] = {}
        self._ahead = _asks_ahead(table.ops)
        self._paces = {
            at: [self._gates[id(limit)] for limit in limits]
            for at, limits in _limits_after_calls(table.ops).items()
        }

    async def run(
        self,
        parent: plan.Table | None,
        base: Path,
        limit: int | None,
        fingerprint: str,
    ) -> None:
        """Make the table and put it in place; where that ends early, what is complete of it.

        Raises RunError (Stopped among them); cancelling it keeps what was answered.
        """
        store = self._tools.journal.store
        do = self._tools.journal.do
        self._progress.state = "running"
        source = await do(
            Source, store.connection, self._number, self._table.source, parent, base, limit
        )
        self._progress.total = source.count
        await do(store.begin, self._number, self._table)
        for op in self._table.ops:
            match op:
                case plan.Compute():
                    self._computed[id(op)] = self._tools.row_sql.expression(op)
                case plan.Filter():
                    self._computed[id(op)] = self._tools.row_sql.condition(op)
                case plan.Embed() if source.count:
                    self._embedded[id(op)] = await self._tools.embed(op)
                case _:
                    pass
        status = "partial"
        try:
            await self._feed(source)
            status = "done" if limit is None else "partial"
        except BaseExceptionGroup as group:
            raise reason(group) from None
        finally:
            self._progress.state = status
            await asyncio.shield(self._publish(source, fingerprint, status))

    async def _publish(self, source: Source, fingerprint: str, status: str) -> None:
        journal = self._tools.journal
        await journal.flush()
        await journal.do(
            journal.store.publish,
            self._number,
            self._table,
            fingerprint,
            status,
            self._progress.counts(),
        )
        await journal.do(source.drop)

    async def _feed(self, source: Source) -> None:
        room = asyncio.Semaphore(self._tools.window)
        number = 0
        async with asyncio.TaskGroup() as rows:
            for start in source.pages():
                for row in await self._tools.journal.do(source.page, start):
                    if any(gate.full for gate in self._gates.values()):
                        self._progress.not_asked += source.count - number
                        self._progress.rows_in = source.count
                        return
                    await room.acquire()
                    await self._tools.journal.room()
                    self._progress.rows_in += 1
                    task = rows.create_task(self._row(number, row))
                    task.add_done_callback(lambda _task: room.release())
                    number += 1

    async def _row(self, number: int, source: SourceRow) -> None:
        row = _Row(number, source.ordinal, source.key, source.values)
        status = "kept"
        failed: RowFailed | None = None
        record: dict[str, Any] = {"ordinal": row.ordinal}
        try:
            await self._walk(row)
            for output in self._table.outputs:
                record[output.name] = await _value(row, output.value)
        except _Dropped as dropped:
            status = dropped.status
        except RowFailed as error:
            status, failed = "failed", error
        except asyncio.CancelledError:
            for task in row.started:
                task.cancel()
            raise
        finally:
            if row.started:  # what was sent is worth keeping, even if the row is not
                await asyncio.gather(*row.started, return_exceptions=True)
        if status != "kept":
            for turn in [gate.leave(number) for gate in self._gates.values()]:
                if not await turn:  # a limit was full before: the row should not have started
                    status = "not_asked"
        setattr(self._progress, status, getattr(self._progress, status) + 1)
        if status == "not_asked":
            return
        if status == "kept":
            self._tools.journal.row(self._number, self._staged, record)
        elif failed is not None:
            self._failure(row, failed, stops_row=True)
        self._tools.journal.status(self._number, row.ordinal, row.key, status)

    async def _walk(self, row: _Row) -> None:
        for op in self._table.ops:
            for gate in self._paces.get(id(op), ()):
                if not await gate.wanted(row.number):
                    raise _Dropped("not_asked")
            if id(op) in self._ahead:
                self._start(row, op)
            else:
                await self._do(row, op)

    def _start(self, row: _Row, op: plan.Op) -> None:
        """Let an ask go on by itself: the next operations do not need it yet."""
        task = asyncio.create_task(self._do(row, op))
        row.started.append(task)
        for slot in plan.writes(op):
            row.slots[slot] = task

    async def _do(self, row: _Row, op: plan.Op) -> None:
        try:
            await self._apply(row, op)
        except RowFailed as failed:
            failed.what = failed.what or _what(op)
            failed.place = failed.place or str(op.span)
            raise

    async def _apply(self, row: _Row, op: plan.Op) -> None:
        match op:
            case plan.Ask():
                values = await _values(row, op.reads)
                place = Place(self._table.name, row.key)
                filled = await self._tools.asker.fill(op, values, place)
                row.slots.update(zip(op.writes, filled.values, strict=True))
                row.slots[op.model_slot] = filled.model
                if filled.problems:
                    failed = RowFailed(filled.reason, "; ".join(filled.problems))
                    failed.what, failed.place = _what(op), str(op.span)
                    self._failure(row, failed, stops_row=False)
            case plan.Compute():
                values = await self._computed[id(op)](await _values(row, op.reads))
                for slot, field_, value in zip(op.writes, op.fields, values, strict=True):
                    _check(value, field_)
                    row.slots[slot] = value
            case plan.Filter():
                (kept,) = await self._computed[id(op)](await _values(row, op.reads))
                if not kept:
                    raise _Dropped("dropped")
            case plan.Render():
                values = await _values(row, op.reads)
                row.slots[op.write] = self._tools.prompts.render(op.template, values)
            case plan.Constant():
                row.slots[op.write] = op.value
            case plan.Require():
                values = await _values(row, op.reads)
                for field_ in op.fields:
                    _check(values[field_.name], field_)
            case plan.Embed():
                text = await _value(row, op.read)
                row.slots[op.write] = await self._embedded[id(op)](text)
            case plan.Limit():
                if not await self._gates[id(op)].enter(row.number):
                    raise _Dropped("not_asked")
            case _:
                assert_never(op)

    def _failure(self, row: _Row, failed: RowFailed, *, stops_row: bool) -> None:
        self._tools.journal.failure(
            {
                "run_id": self._tools.journal.store.run_id,
                "table_name": self._table.name,
                "row_key": row.key,
                "column": failed.what,
                "reason": failed.reason,
                "detail": failed.detail,
                "stops_row": stops_row,
                "place": failed.place,
            }
        )


async def _slot(row: _Row, slot: str) -> Any:
    value = row.slots[slot]
    if isinstance(value, asyncio.Task):
        await asyncio.shield(value)
        value = row.slots[slot]
    return value


async def _value(row: _Row, ref: Ref) -> Any:
    if isinstance(ref, str):
        return await _slot(row, ref)
    return {name: await _slot(row, slot) for name, slot in ref.items()}


async def _values(row: _Row, reads: Mapping[str, Ref]) -> dict[str, Any]:
    return {name: await _value(row, ref) for name, ref in reads.items()}


def _check(value: Any, field_: Field) -> None:
    """Raise RowFailed where a value is not what its column promises."""
    type_ = types.required(field_.type)
    if value is None:
        if not types.nullable(field_.type):
            raise RowFailed("null", f"`{field_.name}` is null")
    elif isinstance(type_, types.Choice) and value not in type_.values:
        raise RowFailed("choice", f"`{field_.name}` is none of {types.name(type_)}")


def _what(op: plan.Op) -> str:
    return "" if isinstance(op, plan.Constant | plan.Limit) else op.what


def _asks_ahead(ops: tuple[plan.Op, ...]) -> frozenset[int]:
    """The asks beside which a later one can run, and what stands between the two and needs the first.

    What decides whether a row goes on (a filter, a limit, a null check) ends the search: nothing
    behind it may be asked before it did.
    """
    ahead: set[int] = set()
    for at, op in enumerate(ops):
        if not isinstance(op, plan.Ask):
            continue
        waiting = set(plan.writes(op))
        waiters = {id(op)}
        for later in ops[at + 1 :]:
            needs = bool(plan.reads(later) & waiting)
            if isinstance(later, plan.Filter | plan.Limit) or (
                isinstance(later, plan.Require) and needs
            ):
                break
            if needs:
                waiting |= plan.writes(later)
                waiters.add(id(later))
            elif isinstance(later, plan.Ask):
                ahead |= waiters
    return frozenset(ahead)


def _limits_after_calls(ops: tuple[plan.Op, ...]) -> dict[int, list[plan.Limit]]:
    """The limits behind the first operation that costs something (by its id): they hold it back."""
    costly = next((at for at, op in enumerate(ops) if isinstance(op, plan.Ask | plan.Embed)), None)
    if costly is None:
        return {}
    return {id(ops[costly]): [op for op in ops[costly:] if isinstance(op, plan.Limit)]}
