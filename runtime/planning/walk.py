"""Rows walked through a table's operations without asking anybody.

What the store has answered is known, and so is all that follows from it. What it has not is counted,
and a value of the right type stands in for it: from there on a row goes on as if it passed every
filter and every round, so that what is counted is the most that can come of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthc.compiler import plan, types
from synthc.runtime.backends.protocol import Content, Request
from synthc.runtime.embedding.passages import passage
from synthc.runtime.engine.asking import Asked, Asker, Filled, elements, questions
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.chain import check, require
from synthc.runtime.engine.draws import Draws
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.engine.rowsql import RowSql
from synthc.runtime.engine.scope import Place
from synthc.runtime.errors import RowFailed
from synthc.runtime.ops import costs
from synthc.runtime.planning.fillers import filler, fillers, read_example
from synthc.runtime.planning.places import Firsts, Gate, Places, Row
from synthc.runtime.planning.tokens import Tokens
from synthc.runtime.store.whole import WholeTable


class Unanswered(Exception):
    """A call that the store has no answer to."""

    def __init__(self, request: Request) -> None:
        super().__init__("not answered yet")
        self.request = request


class Nobody:
    """A backend that answers nothing."""

    async def complete(self, request: Request) -> Any:
        """Never comes back with an answer."""
        raise Unanswered(request)


@dataclass(frozen=True, slots=True)
class Likely:
    """What is known of an ask's answers before they are there: some like them, and how long they are."""

    examples: tuple[str, ...]
    characters: int
    tokens: Tokens


@dataclass(slots=True)
class Tally:
    """What an operation came to: rows behind it, calls answered already, to be sent at least and at most,
    the tokens of their prompts. `guessed` says that the most is no bound, since a list's length was
    guessed; `rows_guessed` the same of the rows."""

    rows_least: int = 0
    rows_most: int = 0
    stored: int = 0
    least: int = 0
    most: int = 0
    input_tokens: float = 0.0
    guessed: bool = False
    rows_guessed: bool = False


@dataclass(slots=True)
class Found:
    """Counts the answers that are there."""

    count: int = 0

    def trace(self, asked: Asked) -> None:
        """Told by the asker of each question."""
        self.count += asked.answer is not None


@dataclass(frozen=True, slots=True)
class Tools:
    """What all walks of a plan share. `sent` has the calls that were counted, and whether for sure."""

    asker: Asker
    row_sql: RowSql
    prompts: Prompts
    draws: Draws
    likely: Callable[[plan.Ask, str], Likely]
    found: Found
    sent: dict[bytes, bool] = field(default_factory=dict)


Outcome = Filled | Unanswered | RowFailed


class Walk:
    """One table, walked. `tallies` are by the id of an operation.

    `share` is the part of the source's rows that walk, `drawn` what is drawn from (by the id of a draw):
    None where that is not known yet. `guessed` says that nobody knows how many rows there are, before
    the walk and after it.
    """

    def __init__(
        self,
        table: plan.Table,
        tools: Tools,
        share: float,
        drawn: Mapping[int, WholeTable | None],
        *,
        guessed: bool,
    ) -> None:
        self._table = table
        self._tools = tools
        self._share = share
        self._drawn = drawn
        self._batchers: dict[int, Batcher[Mapping[str, Any], tuple[Any, ...]]] = {}
        self.tallies: dict[int, Tally] = {}
        self.guessed = guessed

    async def through(self, rows: list[Row]) -> list[Row]:
        """The rows that come to the end of the table."""
        part: list[plan.Op] = []
        for op in self._table.ops:
            if isinstance(op, plan.Unnest):
                rows = await self._segment(part, rows)
                rows = self._counted(op, self._fork(op, rows))
                part = []
            else:
                part.append(op)
        return await self._segment(part, rows)

    # Gates

    async def _segment(self, ops: Sequence[plan.Op], rows: list[Row]) -> list[Row]:
        """Rows up to the next fork: those that no limit can want any more never set out."""
        free = next((at for at, op in enumerate(ops) if costs(op)), len(ops))
        gates: dict[int, Gate] = {}
        for at, op in enumerate(ops):
            match op:
                case plan.Limit():
                    made = {slot for before in ops[free:at] for slot in plan.writes(before)}
                    gates[id(op)] = Places(op, self._share, ahead=op.per not in made)
                case plan.Dedup():
                    gates[id(op)] = Firsts(op)
                case _:
                    pass
        waiting = await self._ops(ops[:free], rows, gates)
        behind = [gates[id(op)] for op in ops[free:] if id(op) in gates]
        if not ops[free:]:
            return waiting
        done: list[Row] = []
        stretch = 1
        while True:
            setting_out, waiting = _wave(behind, waiting, stretch)
            done += await self._ops(ops[free:], setting_out, gates)
            if not waiting:
                return done
            # Where nobody knows who passes, more set out at once: it is a bound in any case.
            stretch = 1 if all(row.sure for row in setting_out) else 2 * stretch

    async def _ops(
        self, ops: Iterable[plan.Op], rows: list[Row], gates: Mapping[int, Gate]
    ) -> list[Row]:
        for op in ops:
            gate = gates.get(id(op))
            if gate is None:
                rows = await self._step(op, rows)
            else:
                rows = [row for row in rows if _has_label(op, row) and gate.enter(row)]
            self._counted(op, rows)
        return rows

    def _counted(self, op: plan.Op, rows: list[Row]) -> list[Row]:
        tally = self._tally(op)
        tally.rows_guessed |= self.guessed
        tally.rows_most += len(rows)
        tally.rows_least += sum(row.sure for row in rows)
        return rows

    def _tally(self, op: plan.Op) -> Tally:
        return self.tallies.setdefault(id(op), Tally())

    def _fork(self, op: plan.Unnest, rows: list[Row]) -> list[Row]:
        children: list[Row] = []
        for row in rows:
            guessed = any(row.open(ref) for ref in op.reads.values())
            self.guessed |= guessed
            with contextlib.suppress(RowFailed):
                lists = [elements(v or [], name) for name, v in row.values(op.reads).items()]
                unknown = row.unknown | (set(op.writes) if guessed else set())
                for nth, parts in enumerate(_side_by_side(lists), 1):
                    slots = {**row.slots, **dict(zip(op.writes, parts, strict=True))}
                    sure = row.sure and not guessed
                    children.append(Row(f"{row.key}/{nth}", slots, set(unknown), sure))
        return children

    # One operation, for all rows

    async def _step(self, op: plan.Op, rows: list[Row]) -> list[Row]:
        """Those that go on."""
        match op:
            case plan.Ask():
                return await self._ask(op, rows)
            case plan.Compute():
                return await self._compute(op, rows)
            case plan.Filter():
                return await self._filter(op, rows)
            case plan.Repeat():
                return await self._repeat(op, rows)
            case plan.Embed():
                return self._embed(op, rows)
            case _:
                return [row for row in rows if self._simple(op, row)]

    def _simple(self, op: plan.Op, row: Row) -> bool:
        """An operation that needs no other row: whether the row goes on."""
        try:
            match op:
                case plan.Constant():
                    row.put(op.write, op.value)
                case plan.Render():
                    text = self._tools.prompts.render(op.template, row.values(op.reads))
                    row.put(op.write, text, unknown=self._open(op, row))
                case plan.Require():
                    _require(op, row)
                case plan.Sample():
                    value = self._tools.draws.sample(op, self._place(row))
                    check(value, op.field)
                    row.put(op.write, value)
                case plan.Draw():
                    self._draw(op, row)
                case _:
                    raise AssertionError(f"{type(op).__name__} sees more than one row")
        except RowFailed:
            if not self._open(op, row):
                return False
            for slot in plan.writes(
                op
            ):  # what stands in for a value may not do where the value would
                row.put(slot, filler(types.Text(), 40), unknown=True)
        return True

    def _draw(self, op: plan.Draw, row: Row) -> None:
        table = self._drawn[id(op)]
        if table is None:
            example = filler(types.Record(op.fields), 200)
            row.put(op.write, [example] * op.count, unknown=True)
            return
        drawn = self._tools.draws.rows(op, table.digest, len(table.rows), self._place(row))
        row.put(op.write, [table.rows[at] for at in drawn])

    def _embed(self, op: plan.Embed, rows: list[Row]) -> list[Row]:
        tally = self._tally(op)
        tally.guessed |= self.guessed
        type_ = plan.embedding(op.dimensions, op.parts)
        kept: list[Row] = []
        for row in rows:
            spans = row.slots[op.spans] if op.spans else None
            if op.spans and not self._open(op, row):
                try:
                    passage(row.slots[op.read], "spans", spans)
                except RowFailed:
                    continue
            count = len(spans) if isinstance(spans, list) else None
            tally.most += 1
            tally.least += row.sure
            row.put(op.write, filler(type_, 100, count), unknown=True)
            kept.append(row)
        return kept

    async def _compute(self, op: plan.Compute, rows: list[Row]) -> list[Row]:
        kept: list[Row] = []
        results = await self._sql(op, rows)
        for row, result in zip(rows, results, strict=True):
            unknown = self._open(op, row)
            if isinstance(result, Exception) and not unknown:
                continue
            values = (None,) * len(op.fields) if isinstance(result, Exception) else result
            try:
                for slot, field_, value in zip(op.writes, op.fields, values, strict=True):
                    if unknown and value is None:
                        row.put(slot, filler(field_.type, 40), unknown=True)
                        continue
                    if not unknown:
                        check(value, field_)
                    row.put(slot, value, unknown=unknown)
            except RowFailed:
                continue
            kept.append(row)
        return kept

    async def _filter(self, op: plan.Filter, rows: list[Row]) -> list[Row]:
        known = [row for row in rows if not self._open(op, row)]
        results = await self._sql(op, known)
        holds = {id(row): r for row, r in zip(known, results, strict=True)}
        kept: list[Row] = []
        for row in rows:
            result = holds.get(id(row))
            if result is None:
                row.sure = False
                kept.append(row)
            elif not isinstance(result, Exception) and result[0]:
                kept.append(row)
        return kept

    async def _sql(
        self, op: plan.Compute | plan.Filter, rows: Sequence[Row]
    ) -> list[tuple[Any, ...] | Exception]:
        batcher = self._batchers.get(id(op))
        if batcher is None:
            make = self._tools.row_sql
            batcher = make.expression(op) if isinstance(op, plan.Compute) else make.condition(op)
            self._batchers[id(op)] = batcher
        return await _all(batcher(row.values(op.reads)) for row in rows)

    # Loops

    async def _repeat(self, op: plan.Repeat, rows: list[Row]) -> list[Row]:
        after_each: dict[int, list[Any]] = {id(row): [] for row in rows}
        unknown = {id(row): row.open(op.start) for row in rows}
        sure = {id(row): row.sure for row in rows}
        reached: set[int] = set()
        around = {id(row): row.rounds for row in rows}
        for row in rows:
            for ask in plan.asks(op.ops):
                row.put(ask.model_slot, None)
            row.put(op.variable, row.value(op.start), unknown=unknown[id(row)])
        going, ended = rows, []
        for number in range(1, op.times + 1):
            for row in going:
                row.rounds = (*around[id(row)], number)
                row.put(op.round, number)
            going = await self._ops(op.ops, going, {})
            for row in going:
                following = row.value(op.next)
                open_ = row.open(op.next)
                if following is not None or open_:
                    row.put(op.variable, following, unknown=open_)
                unknown[id(row)] = row.open(op.variable)
                after_each[id(row)].append(row.slots[op.variable])
            if op.until:
                over = await self._reached(op.until, going)
                reached |= over
                ended += [row for row in going if id(row) in over]
                going = [row for row in going if id(row) not in over]
        for row in (*ended, *going):
            row.rounds = around[id(row)]
            row.sure = sure[id(row)]
        kept = [*ended, *(row for row in going if self._ends(op, row))]
        for row in kept:
            value = after_each[id(row)] if op.collect else row.slots[op.variable]
            row.put(op.write, value, unknown=unknown[id(row)])
        order = {id(row): at for at, row in enumerate(rows)}
        return sorted(kept, key=lambda row: order[id(row)])

    def _ends(self, op: plan.Repeat, row: Row) -> bool:
        """What becomes of a row whose loop was never known to be over."""
        if op.until is None:
            return True
        if not self._open(op.until, row):
            row.put(op.variable, None)
            return types.nullable(op.field.type)
        row.sure = row.sure and types.nullable(op.field.type)
        return True

    async def _reached(self, until: plan.Filter, rows: list[Row]) -> set[int]:
        """The rows (by id) whose loop is over; where nobody knows, it may go on."""
        known = [row for row in rows if not self._open(until, row)]
        for row in rows:
            row.sure = row.sure and not self._open(until, row)
        results = await self._sql(until, known)
        holds = zip(known, results, strict=True)
        return {id(row) for row, r in holds if not isinstance(r, Exception) and r[0]}

    # Asking

    async def _ask(self, op: plan.Ask, rows: list[Row]) -> list[Row]:
        asking: list[tuple[Row, list[dict[str, Any]], bool]] = []
        kept: set[int] = set()
        for row in rows:
            if op.where and not row.open(op.where) and not row.slots[op.where]:
                for slot in (*op.writes, op.model_slot):
                    row.put(slot, None)
                kept.add(id(row))
                continue
            with contextlib.suppress(RowFailed):
                asking.append(
                    (row, questions(op, row.values(op.reads)), self._questions_open(op, row))
                )
        before = self._tools.found.count
        outcomes = await asyncio.gather(*(self._answers(op, row, seen) for row, seen, _ in asking))
        self._tally(op).stored += self._tools.found.count - before
        for (row, seen, unknown), answers in zip(asking, outcomes, strict=True):
            if self._fill_in(op, row, seen, answers, unknown=unknown):
                kept.add(id(row))
        return [row for row in rows if id(row) in kept]

    async def _answers(
        self, op: plan.Ask, row: Row, seen: Sequence[dict[str, Any]]
    ) -> list[Filled | Exception]:
        several = op.each is not None or op.count is not None
        return await _all(
            self._fill(op, row, values, index if several else None)
            for index, values in enumerate(seen)
        )

    async def _fill(
        self, op: plan.Ask, row: Row, values: dict[str, Any], index: int | None
    ) -> Filled:
        place = self._place(row, index)
        match op.prompt:
            case plan.Template(text):
                template = text
            case plan.OneOf() as set_:
                template = self._tools.draws.prompt(set_, place).template
            case plan.Conversation():
                template = None
        return await self._tools.asker.fill(op, template, values, place)

    def _questions_open(self, op: plan.Ask, row: Row) -> bool:
        """Whether the prompts of a row hold what nobody knows yet."""
        return any(row.open(ref) for ref in op.reads.values())

    def _fill_in(
        self,
        op: plan.Ask,
        row: Row,
        seen: Sequence[Mapping[str, Any]],
        answers: Sequence[Filled | Exception],
        *,
        unknown: bool,
    ) -> bool:
        """Put what was answered into a row's slots, and count what was not; whether the row goes on."""
        columns: list[tuple[Any, ...]] = []
        model = None
        maybe = op.where is not None and row.open(op.where)
        guessed = op.each is not None and _list_open(op, row)
        self._tally(op).guessed |= guessed or self.guessed
        open_ = unknown or maybe
        for values, answer in zip(seen, answers, strict=True):
            if isinstance(answer, Filled):
                columns.append(answer.values)
                model = answer.model or model
                continue
            sure = row.sure and not maybe and not guessed
            if isinstance(answer, Unanswered):
                self._send(op, answer.request, sure=sure, known=not unknown)
            elif unknown:  # what stands in for a value does not do for the template
                self._count(op, [_texts(op)], sure=sure)
            else:  # what is asked is known, and cannot be asked
                return False
            columns.append(self._stand_in(op, row, values))
            open_, model = True, op.backend
        if op.each is None and op.count is None:
            written: Sequence[Any] = columns[0]
        else:
            written = [[c[at] for c in columns] for at in range(len(op.writes))]
        for slot, value in zip(op.writes, written, strict=True):
            row.put(slot, value, unknown=open_)
        row.put(op.model_slot, model, unknown=open_)
        return True

    def _send(self, op: plan.Ask, request: Request, *, sure: bool, known: bool) -> None:
        """Count a call. Equal ones are made once, which shows only where the prompt is known."""
        before = self._tools.sent.get(request.key) if known else None
        if before is None:
            self._count(op, [message.content for message in request.messages], sure=sure)
        elif sure and not before:
            self._tally(op).least += 1
        if known:
            self._tools.sent[request.key] = sure or bool(before)

    def _count(self, op: plan.Ask, contents: Sequence[Content], *, sure: bool) -> None:
        tally = self._tally(op)
        tokens = self._tools.likely(op, self._table.name).tokens
        tally.most += 1
        tally.least += sure
        tally.input_tokens += sum(map(tokens.of, contents))

    def _stand_in(self, op: plan.Ask, row: Row, values: Mapping[str, Any]) -> tuple[Any, ...]:
        likely = self._tools.likely(op, self._table.name)
        count = None
        if op.contract.per is not None:
            with contextlib.suppress(RowFailed):
                count = len(elements(values[op.contract.per], op.contract.per))
        examples = likely.examples
        # Not the same for every row: what follows may depend on it.
        first = sum(row.key.encode()) % len(examples) if examples else 0
        for example in (*examples[first:], *examples[:first])[:3]:
            found = read_example(op.contract, example, count)
            if found is not None:
                return found
        return fillers(op.contract.fields, likely.characters, count)

    # Parts

    def _open(self, op: plan.Op, row: Row) -> bool:
        """Whether an operation reads what nobody knows yet."""
        return not row.unknown.isdisjoint(plan.reads(op))

    def _place(self, row: Row, index: int | None = None) -> Place:
        return Place(self._table.name, row.key, row.rounds, index)


async def _all(work: Iterable[Awaitable[Any]]) -> list[Any]:
    """What each gives, or the failure of a row (or of a call) that it ends with."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, RowFailed | Unanswered):
            raise result
    return list(results)


def _wave(
    gates: Sequence[Gate], waiting: Sequence[Row], stretch: int
) -> tuple[list[Row], list[Row]]:
    """The rows that set out now, and those that wait to learn whether they are wanted."""
    planned: list[Counter[bytes]] = [Counter() for _ in gates]
    now: list[Row] = []
    later: list[Row] = []
    for row in waiting:
        answers = {gate.wanted(row, out, stretch) for gate, out in zip(gates, planned, strict=True)}
        if answers <= {"yes", "maybe"}:
            row.sure = row.sure and "maybe" not in answers
            now.append(row)
        elif "no" not in answers:
            later.append(row)
    return now, later


def _side_by_side(lists: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The elements of lists that are equally long, but for those whose length was guessed."""
    longest = max(map(len, lists))
    padded = [[*listed, *[listed[-1]] * (longest - len(listed))] for listed in lists if listed]
    return list(zip(*padded, strict=True)) if len(padded) == len(lists) else []


def _has_label(op: plan.Op, row: Row) -> bool:
    """A row without the label that a limit counts by fails there."""
    if not isinstance(op, plan.Limit) or op.per is None or row.open(op.per):
        return True
    return row.slots[op.per] is not None


def _list_open(op: plan.Ask, row: Row) -> bool:
    return op.each is not None and row.open(op.reads[op.each.list])


def _texts(op: plan.Ask) -> str:
    """The templates of an ask: about as long as what becomes of them."""
    match op.prompt:
        case plan.Template(text):
            return (op.system or "") + text
        case plan.OneOf(prompts=prompts):
            return (op.system or "") + max((p.template for p in prompts), key=len, default="")
        case plan.Conversation():
            return op.system or ""


def _require(op: plan.Require, row: Row) -> None:
    """Raises RowFailed where a value that is known is not what a task wants."""
    for field_ in op.fields:
        ref = op.reads[field_.name]
        if row.open(ref):
            continue
        require(row.value(ref), field_)
