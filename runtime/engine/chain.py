"""The operations of a table, done for one row at a time (gates and forks, which see many, are not here)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.backends.protocol import Message
from synthc.runtime.embedding.passages import passage
from synthc.runtime.engine import chats
from synthc.runtime.engine.asking import Asker, Filled, questions
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.draws import Draws
from synthc.runtime.engine.gate import Gate
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.engine.rowsql import RowSql
from synthc.runtime.engine.scope import Place, Scope
from synthc.runtime.engine.segments import ahead
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.ops import every
from synthc.runtime.store.journal import Journal
from synthc.runtime.store.records import Drawn, Failure, Mutation
from synthc.runtime.store.whole import WholeTable, whole

WINDOW = 2_048
"""Rows of a table that are on their way at once: SQL and embeddings are cheaper the more there are."""

FEWEST = 256
"""Rows on their way of a table that only asks: each is kept whole while it waits, which costs time."""

Embed = Callable[[plan.Embed], Awaitable[Callable[[Any], Awaitable[Any]]]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What chains work with, shared by all tables of a run.

    `calls` is how many each backend takes at once, at most. `dropped`, where somebody watches, is told
    of each row that is dropped: its table, its key, and where.
    """

    journal: Journal
    asker: Asker
    row_sql: RowSql
    prompts: Prompts
    draws: Draws
    embed: Embed
    calls: Mapping[str, int]
    dropped: Callable[[str, str, plan.Op], None] | None = None


class Dropped(Exception):
    """The row ends here, at an operation, as the spec wants."""

    def __init__(self, status: str, op: plan.Op) -> None:
        super().__init__(status)
        self.status = status
        self.op = op


class Chain:
    """What the operations of one table do to a row."""

    def __init__(
        self, table: plan.Table, tools: Tools, limits_behind: Mapping[int, tuple[Gate, ...]]
    ) -> None:
        self._table = table
        self._tools = tools
        self._limits_behind = limits_behind
        self._ahead = ahead(table.ops)
        self._computed: dict[int, Batcher[Mapping[str, Any], tuple[Any, ...]]] = {}
        self._embedded: dict[int, Callable[[Any], Awaitable[Any]]] = {}
        self._drawn: dict[int, WholeTable] = {}

    async def prepare(self, tables: Mapping[str, plan.Table], *, rows: bool) -> None:
        """Open what the operations need. No model is, where there are no `rows`.

        Raises RunError where a plan that was edited by hand makes no sense.
        """
        for op in every(self._table.ops):
            match op:
                case plan.Compute():
                    self._computed[id(op)] = self._tools.row_sql.expression(op)
                case plan.Filter():
                    self._computed[id(op)] = self._tools.row_sql.condition(op)
                case plan.Embed() if rows:
                    self._embedded[id(op)] = await self._tools.embed(op)
                case plan.Draw():
                    store = self._tools.journal.store
                    self._drawn[id(op)] = await self._tools.journal.do(
                        whole, store.connection, tables[op.table], op.fields
                    )
                case plan.Ask() if op.each and op.count is not None:
                    raise RunError("an ask has either `each` or a number", span=op.span)
                case plan.Repeat() if any(
                    isinstance(inner, plan.Limit | plan.Dedup | plan.Unnest) for inner in op.ops
                ):
                    raise RunError("what counts or makes rows cannot be in a loop", span=op.span)
                case _:
                    pass

    async def step(self, scope: Scope, op: plan.Op, *, now: bool = False) -> None:
        """Do one operation; unless it is to be `now`, only start it where the next ones can go on.

        Raises RowFailed and Dropped, as do all that follow.
        """
        if not now and id(op) in self._ahead:
            scope.start(self.step(scope, op, now=True), plan.writes(op))
            return
        try:
            await self._apply(scope, op)
        except RowFailed as failed:
            _tell(failed, op)
            raise

    async def _apply(self, scope: Scope, op: plan.Op) -> None:
        match op:
            case plan.Ask():
                await self._ask(scope, op)
            case plan.Compute():
                values = await self._computed[id(op)](await scope.values(op.reads))
                for slot, field, value in zip(op.writes, op.fields, values, strict=True):
                    check(value, field)
                    scope.slots[slot] = value
            case plan.Filter():
                if not await self._holds(scope, op):
                    raise Dropped("dropped", op)
            case plan.Render():
                values = await scope.values(op.reads)
                scope.slots[op.write] = self._tools.prompts.render(op.template, values)
            case plan.Constant():
                scope.slots[op.write] = op.value
            case plan.Require():
                values = await scope.values(op.reads)
                for field in op.fields:
                    require(values[field.name], field)
            case plan.Embed():
                self._still_wanted(op)
                item = await scope.slot(op.read)
                if op.parts:
                    spans = await scope.slot(op.spans) if op.spans else None
                    item = passage(item, op.parts, spans)
                elif op.chat:
                    item = chats.messages(item, op.what)
                elif op.system:
                    before = await scope.slot(op.system)
                    system = [] if before is None else [Message("system", before)]
                    item = [*system, Message("user", item)]
                scope.slots[op.write] = await self._embedded[id(op)](item)
            case plan.Sample():
                value = self._tools.draws.sample(op, self._place(scope))
                check(value, op.field)
                self._note_draw(scope, op, value)
                scope.slots[op.write] = value
            case plan.Draw():
                self._draw(scope, op)
            case plan.Repeat():
                await self._repeat(scope, op)
            case plan.Limit() | plan.Dedup() | plan.Unnest():
                raise AssertionError(f"{type(op).__name__} sees more than one row")

    async def _holds(self, scope: Scope, op: plan.Filter) -> bool:
        (holds,) = await self._computed[id(op)](await scope.values(op.reads))
        return bool(holds)

    def _still_wanted(self, op: plan.Op) -> None:
        """Where a limit behind is full, nothing is asked any more: the row comes too late for it."""
        behind = self._limits_behind.get(id(op))
        if behind and any(gate.full for gate in behind):
            raise Dropped("not_asked", op)

    # Asking

    async def _ask(self, scope: Scope, op: plan.Ask) -> None:
        if op.where is not None and not await scope.slot(op.where):
            columns, model = [None for _ in op.writes], None
        else:
            self._still_wanted(op)
            values = await scope.values(op.reads)
            if op.each or op.count is not None:
                columns, model = await self._several(scope, op, values)
            else:
                filled = await self._answer(scope, op, values, None)
                columns, model = filled.values, filled.model
        scope.slots.update(zip(op.writes, columns, strict=True))
        scope.slots[op.model_slot] = model

    async def _several(
        self, scope: Scope, op: plan.Ask, values: dict[str, Any]
    ) -> tuple[list[list[Any]], str | None]:
        """A list for each column, and the model that gave the last answer."""
        seen = questions(op, values)

        async def one(index: int) -> Filled | RowFailed:
            try:
                return await self._answer(scope, op, seen[index], index)
            except RowFailed as failed:  # the others were sent: what they answer is worth keeping
                return failed

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(one(index)) for index in range(len(seen))]
        answers: list[Filled] = []
        for task in asked:
            answer = task.result()
            if isinstance(answer, RowFailed):
                raise answer
            answers.append(answer)
        columns = [[answer.values[at] for answer in answers] for at in range(len(op.writes))]
        models = [answer.model for answer in answers if answer.model is not None]
        return columns, models[-1] if models else None

    async def _answer(
        self, scope: Scope, op: plan.Ask, values: dict[str, Any], index: int | None
    ) -> Filled:
        place = self._place(scope, index)
        template = self._template(scope, op, values, place)
        filled = await self._tools.asker.fill(op, template, values, place)
        if filled.problems:
            failed = RowFailed(filled.reason, "; ".join(filled.problems))
            failed.calls = filled.calls
            self.note_failure(scope, failed, op)
        return filled

    def _template(
        self, scope: Scope, op: plan.Ask, values: Mapping[str, Any], place: Place
    ) -> str | None:
        match op.prompt:
            case plan.Template(text):
                return text
            case plan.Conversation():
                return None
            case plan.OneOf() as set_:
                drawn = self._tools.draws.prompt(set_, place)
                changed = values[set_.of] if set_.of is not None else None
                asked = Mutation(
                    **self._where(scope, op),
                    set=set_.set,
                    mutation=drawn.name,
                    value=_text(changed),
                )
                scope.notes.append(asked)
                return drawn.template

    # Drawing

    def _draw(self, scope: Scope, op: plan.Draw) -> None:
        table = self._drawn[id(op)]
        drawn = self._tools.draws.rows(op, table.digest, len(table.rows), self._place(scope))
        self._note_draw(scope, op, [table.keys[at] for at in drawn])
        scope.slots[op.write] = [table.rows[at] for at in drawn]

    def _note_draw(self, scope: Scope, op: plan.Sample | plan.Draw, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False)
        scope.notes.append(Drawn(**self._where(scope, op), value=text))

    # Loops

    async def _repeat(self, scope: Scope, op: plan.Repeat) -> None:
        """Go round: asks of one round may run beside each other, rounds come one after the other."""
        value = await scope.value(op.start)
        after_each: list[Any] = []
        models: dict[str, str | None] = {ask.model_slot: None for ask in plan.asks(op.ops)}
        reached = op.until is None
        for number in range(1, op.times + 1):
            async with scope.round(number, {op.variable: value, op.round: number}) as round_:
                for inner in op.ops:
                    await self.step(round_, inner)
                following = await round_.value(op.next)
                value = value if following is None else following
                round_.slots[op.variable] = value
                after_each.append(value)
                await round_.settled()
                models = {slot: await round_.slot(slot) or was for slot, was in models.items()}
                if op.until and await self._reached(round_, op.until):
                    reached = True
                    break
        result = after_each if op.collect else value
        if not reached:
            result = self._never(scope, op)
        check(result, op.field)
        scope.slots.update(models)
        scope.slots[op.write] = result

    async def _reached(self, scope: Scope, until: plan.Filter) -> bool:
        try:
            return await self._holds(scope, until)
        except RowFailed as failed:
            _tell(failed, until)
            raise

    def _never(self, scope: Scope, op: plan.Repeat) -> None:
        """What a loop gives whose condition was never true: null where that may be."""
        rounds = "1 round" if op.times == 1 else f"{op.times} rounds"
        failed = RowFailed("until", f"the condition was never true in {rounds}")
        if not types.nullable(op.field.type):
            raise failed
        self.note_failure(scope, failed, op)

    # Notes

    def _place(self, scope: Scope, index: int | None = None) -> Place:
        return Place(self._table.name, scope.row_key, scope.rounds, index)

    def _where(self, scope: Scope, op: plan.Ask | plan.Sample | plan.Draw) -> dict[str, Any]:
        return {
            "run_id": self._tools.journal.store.run_id,
            "table_name": self._table.name,
            "row_key": scope.row_key,
            "column": op.what,
            "round": scope.rounds[-1] if scope.rounds else None,
        }

    def note_failure(
        self, scope: Scope, failed: RowFailed, op: plan.Op | None = None, *, stops_row: bool = False
    ) -> None:
        """Keep what a row could not have: `op` says where, if nothing did before."""
        if op:
            _tell(failed, op)
        scope.notes.append(
            Failure(
                run_id=self._tools.journal.store.run_id,
                table_name=self._table.name,
                row_key=scope.row_key,
                column=failed.what,
                reason=failed.reason,
                detail=failed.detail,
                stops_row=stops_row,
                place=failed.place,
                calls=failed.calls,
            )
        )


def check(value: Any, field: Field) -> None:
    """Raise RowFailed where a value is not what its column promises."""
    if value is None:
        if not types.nullable(field.type):
            raise RowFailed("null", f"`{field.name}` is null")
        return
    type_ = types.required(field.type)
    if isinstance(type_, types.Choice) and value not in type_.values:
        raise RowFailed("choice", f"`{field.name}` is none of {types.name(type_)}")


def require(value: Any, field: Field) -> None:
    """Raise RowFailed where a value is not what a task's input promises: of a chat, its messages too."""
    check(value, field)
    if value is not None and isinstance(types.required(field.type), types.Chat):
        chats.messages(value, field.name)


def _tell(failed: RowFailed, op: plan.Op) -> None:
    """Say of a failure what failed and where, if nothing nearer did."""
    failed.what = failed.what or _what(op)
    failed.place = failed.place or str(op.span)


def _what(op: plan.Op) -> str:
    match op:
        case plan.Constant():
            return ""
        case _:
            return op.what


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
