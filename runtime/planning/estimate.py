"""What a run of a plan would do: its tables, rows, calls, tokens and cost, before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthc.compiler import plan
from synthc.runtime.backends.settings import resolve
from synthc.runtime.engine.asking import AskCounts, Asker, Model
from synthc.runtime.engine.draws import Draws
from synthc.runtime.engine.images import images_of
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.engine.rowsql import RowSql
from synthc.runtime.lazy_models import LazyModels
from synthc.runtime.ops import every
from synthc.runtime.planning.changes import Now, current, why_stale
from synthc.runtime.planning.fillers import filler
from synthc.runtime.planning.kept import Answered, Held, Kept
from synthc.runtime.planning.places import Row
from synthc.runtime.planning.tokens import (
    CHARACTERS_A_TOKEN,
    Tokens,
    as_counted,
    by_length,
    of_tokenizer,
)
from synthc.runtime.planning.walk import Found, Likely, Nobody, Tally, Tools, Walk
from synthc.runtime.store.fingerprint import content_of, fingerprints
from synthc.runtime.store.lines import lines_of
from synthc.runtime.store.records import Call
from synthc.runtime.store.source import Source, files_of
from synthc.runtime.store.store import Counts, StoredAnswer
from synthc.runtime.store.whole import WholeTable, whole

WALKED = 5_000
"""Rows of a table that are walked: of more, about so many are taken from everywhere."""
ANSWER_TOKENS = 250
"""How long an answer is taken to be where there is no `max_tokens` and no answer yet."""


@dataclass(frozen=True, slots=True)
class Range:
    """A count that is between two others, both known; `guessed` says that the higher is no bound."""

    least: int
    most: int
    guessed: bool = False

    @property
    def exact(self) -> bool:
        """Whether it is known to be just so."""
        return self.least == self.most and not self.guessed


@dataclass(frozen=True, slots=True)
class Calls:
    """What an ask comes to, or an embedding (which has no tokens, and in place of calls what is embedded).

    `stored` are answered already. `input_tokens` and `output_tokens` are those of `sent.most` calls, the
    latter if answers are as long as they were, or may be (`answers` says which); `output_limit` is the
    most that `max_tokens` allows, None where there is none. `counting` says how prompts were counted.
    """

    stored: int
    sent: Range
    input_tokens: int = 0
    output_tokens: int = 0
    output_limit: int | None = None
    counting: str = ""
    answers: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation, how deep it stands in loops, the rows that go on behind it (None in a loop), and what
    it asks."""

    op: plan.Op
    depth: int
    rows: Range | None
    calls: Calls | None


@dataclass(frozen=True, slots=True)
class TableEstimate:
    """What a run would do for a table.

    `state` is `done`, `partial`, `missing` or `stale`; `why` says what made it stale; `held` are the
    counts of what is there. `walked` of `rows_in` rows were looked at; the others are taken to be alike.
    """

    table: plan.Table
    state: str
    why: tuple[str, ...]
    held: Counts | None
    rows_in: Range
    kept: Range
    walked: int
    steps: tuple[Step, ...]

    @property
    def to_make(self) -> bool:
        """Whether a run makes the table."""
        return self.state != "done"


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars: `likely`, and the `highest` (None where `max_tokens` bounds no answer)."""

    likely: float
    highest: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do: tables in the order of the plan, and what each backend is asked for."""

    tables: tuple[TableEstimate, ...]
    backends: Mapping[str, Calls]
    costs: Mapping[str, Cost] = field(default_factory=dict)

    @property
    def cost(self) -> Cost | None:
        """US dollars in all, None where no backend that is asked has a price."""
        if not self.costs:
            return None
        highest = [cost.highest for cost in self.costs.values()]
        bounded = [cost for cost in highest if cost is not None]
        return Cost(
            sum(cost.likely for cost in self.costs.values()),
            sum(bounded) if len(bounded) == len(highest) else None,
        )


def estimate(
    plan_: plan.Plan,
    database: Path,
    base: Path,
    env: Mapping[str, str],
    walked: int | None = WALKED,
) -> Estimate:
    """What a run would do, given what a database holds. Sends nothing, opens no model, changes no database.

    `base` is the folder that paths start from; `walked` is how many rows of a table are looked at, None
    for all. Raises RunError where something is missing that the run would miss too.
    """
    return asyncio.run(_Estimating(plan_, database, base, env, walked).estimate())


@dataclass(frozen=True, slots=True)
class _Walked:
    """A table after its walk: how many of its rows are kept, in which share they stand for all, whether all
    of it is known, and by their keys what stands in for the columns that are not."""

    kept: Range
    share: float
    known: bool
    open: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unsure: frozenset[str] = frozenset()


_Counting = Callable[[plan.Ask, Tally], Calls]


class _Stored:
    """What an asker needs of a journal, over a database that is only read."""

    run_id = 0

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def seen(self, digest: bytes) -> bool:
        del digest
        return True

    async def answers(self, digests: Sequence[bytes]) -> Sequence[StoredAnswer | None]:
        found = self._kept.answers(digests)
        return [found.get(digest) for digest in digests]

    def call(self, record: Call, answer: StoredAnswer) -> None:
        raise AssertionError(f"nothing is sent: {answer} {record}")


class _Estimating:
    """One estimate, while it is made."""

    def __init__(
        self,
        plan_: plan.Plan,
        database: Path,
        base: Path,
        env: Mapping[str, str],
        walked: int | None,
    ) -> None:
        self._plan = plan_
        self._base = base
        self._walked = walked
        self._backends = {backend.name: backend for backend in plan_.backends}
        self._env = {**_unset_urls(plan_), **env}
        self._models = LazyModels(plan_, base, self._env, None, lambda _note: None)
        self._lines = lines_of(plan_, base)
        reads = [t.source for t in plan_.tables if isinstance(t.source, plan.Read)]
        self._readable = [file for read in reads for file in files_of(read, base)]
        self._database = database
        self._made: dict[str, _Walked] = {}
        self._likely: dict[tuple[int, str], Likely] = {}
        self._tokenizers: dict[str, Tokens | None] = {}

    async def estimate(self) -> Estimate:
        content = content_of(self._base, self._lines)
        marks = fingerprints(self._plan, content, self._models.names)
        with Kept(self._database, self._readable) as self._kept:
            held = self._kept.tables()
            self._answered = self._kept.answered()
            self._row_sql = RowSql()
            try:
                tools = self._tools()
                now = Now(self._plan, marks, self._models.names, self._base, content)
                tables = [
                    await self._table(number, table, held.get(table.name), now, held, tools)
                    for number, table in enumerate(self._plan.tables)
                ]
            finally:
                self._row_sql.close()
        return _in_all(self._plan, tables)

    def _tools(self) -> Tools:
        async def nobody() -> Nobody:
            return Nobody()

        models = {
            name: Model(model.spec, model.identity, nobody, AskCounts())
            for name, model in self._models.asked.items()
        }
        prompts = Prompts()
        found = Found()
        images = images_of(self._plan, self._base)
        asker = Asker(_Stored(self._kept), models, prompts, images, found.trace)
        draws = Draws(self._plan.seed, self._lines)
        return Tools(asker, self._row_sql, prompts, draws, self._likely_of, found)

    # Tables

    async def _table(
        self,
        number: int,
        table: plan.Table,
        held: Held | None,
        now: Now,
        all_held: Mapping[str, Held],
        tools: Tools,
    ) -> TableEstimate:
        counts = held.counts if held else None
        if held and current(table, held, now, all_held):
            self._kept.show(table)
            kept = Range(held.counts.kept, held.counts.kept)
            self._made[table.name] = _Walked(kept, 1.0, True)
            rows_in = Range(held.counts.rows_in, held.counts.rows_in)
            return TableEstimate(table, "done", (), counts, rows_in, kept, 0, _steps(table.ops))
        state, why = "missing", ()
        if held:
            stale = held.fingerprint != now.marks[table.name] or held.status != "partial"
            state = "stale" if stale else "partial"
            why = why_stale(table, held, now, all_held, self._kept) if stale else ()
        rows, rows_in, share = self._rows(number, table, held)
        walk = Walk(table, tools, share, self._drawn(table), guessed=rows_in.guessed)
        ended = await walk.through(rows)
        made = self._lay_down(table, ended, share, walk.guessed)
        self._made[table.name] = made
        return TableEstimate(
            table,
            state,
            tuple(why),
            counts,
            rows_in,
            made.kept,
            len(rows),
            _steps(table.ops, walk.tallies, share, self._calls(table.name, share)),
        )

    def _rows(
        self, number: int, table: plan.Table, held: Held | None
    ) -> tuple[list[Row], Range, float]:
        """The rows that walk, how many there are, and which share of them walk."""
        source = table.source
        if isinstance(source, plan.Query) and not all(self._made[t].known for t in source.tables):
            return self._made_up(source, held)
        parent = None
        made = _Walked(Range(0, 0), 1.0, True)
        if isinstance(source, plan.From):
            parent = next(t for t in self._plan.tables if t.name == source.table)
            made = self._made[source.table]
        laid = Source(self._kept.connection, number, source, parent, self._base, None)
        step = 1 if self._walked is None else -(-laid.count // self._walked) or 1
        rows = [
            Row(
                row.key,
                {**row.values, **made.open.get(row.key, {})},
                set(made.open.get(row.key, {})),
                row.key not in made.unsure,
            )
            for row in laid.part(step)
        ]
        laid.drop()
        if parent:
            return rows, made.kept, made.share * (len(rows) / laid.count if laid.count else 1.0)
        return rows, Range(laid.count, laid.count), len(rows) / laid.count if laid.count else 1.0

    def _made_up(self, source: plan.Query, held: Held | None) -> tuple[list[Row], Range, float]:
        """Rows of a query that cannot be run before the tables are there that it reads."""
        largest = max((self._made[name].kept.most for name in source.tables), default=1)
        count = held.counts.rows_in if held and held.status == "done" else largest
        walked = count if self._walked is None else min(count, self._walked)
        names = [column.name for column in source.columns]
        rows = [
            Row(
                f"?{number}",
                {column.name: filler(column.type, 100) for column in source.columns},
                set(names),
                sure=False,
            )
            for number in range(walked)
        ]
        return rows, Range(0, count, guessed=True), walked / count if count else 1.0

    def _drawn(self, table: plan.Table) -> dict[int, WholeTable | None]:
        """What each draw of a table draws from, where that is known."""
        by_name = {t.name: t for t in self._plan.tables}
        return {
            id(op): whole(self._kept.connection, by_name[op.table], op.fields)
            if self._made[op.table].known
            else None
            for op in every(table.ops)
            if isinstance(op, plan.Draw)
        }

    def _lay_down(
        self, table: plan.Table, rows: Sequence[Row], share: float, guessed: bool
    ) -> _Walked:
        """Put the rows that came to the end where other tables read them: null where nobody knows."""
        open_: dict[str, dict[str, Any]] = {}
        records: list[dict[str, Any]] = []
        for row in rows:
            unknown = {o.name: row.value(o.value) for o in table.outputs if row.open(o.value)}
            if unknown:
                open_[row.key] = unknown
            records.append(
                {o.name: None if o.name in unknown else row.value(o.value) for o in table.outputs}
            )
        self._kept.lay_down(table, [row.key for row in rows], records)
        unsure = frozenset(row.key for row in rows if not row.sure)
        sure = len(rows) - len(unsure)
        kept = _range(sure, len(rows), share, guessed=guessed)
        known = share == 1.0 and not open_ and not unsure
        return _Walked(kept, share, known, open_, unsure)

    # Calls

    def _likely_of(self, op: plan.Ask, table: str) -> Likely:
        found = self._likely.get((id(op), table))
        if found is None:
            found = self._likely[id(op), table] = self._make_likely(op, table)
        return found

    def _make_likely(self, op: plan.Ask, table: str) -> Likely:
        answered = self._answers_of(op, table)
        examples = answered.examples if answered else ()
        limit = self._backends[op.backend].sampling.max_tokens or ANSWER_TOKENS
        characters = round(limit * CHARACTERS_A_TOKEN)
        if examples:
            characters = sum(map(len, examples)) // len(examples)
        return Likely(examples, characters, self._tokens(op, answered))

    def _tokens(self, op: plan.Ask, answered: Answered | None) -> Tokens:
        if answered and (counted := as_counted([answered])):
            return counted
        backend = self._backends[op.backend]
        if backend.name not in self._tokenizers:
            what = f"`model` of backend `{backend.name}`"
            model = resolve(backend.model, what, env=self._env, span=backend.span)
            self._tokenizers[backend.name] = of_tokenizer(model.text, self._base) if model else None
        others = [a for (_, _, name), a in self._answered.items() if name == op.backend]
        return self._tokenizers[backend.name] or as_counted(others) or by_length(CHARACTERS_A_TOKEN)

    def _counting(self, op: plan.Ask, table: str) -> str:
        """How prompts were counted, in words."""
        tokens = self._likely_of(op, table).tokens
        return f"{tokens.how}; a picture as {tokens.image:,.0f} tokens" if op.images else tokens.how

    def _answers_of(self, op: plan.Ask, table: str) -> Answered | None:
        return self._answered.get((table, op.what, op.backend))

    def _calls(self, table: str, share: float) -> _Counting:
        def calls(op: plan.Ask, tally: Tally) -> Calls:
            sent = _range(tally.least, tally.most, share, guessed=tally.guessed)
            answered = self._answers_of(op, table)
            limit = self._backends[op.backend].sampling.max_tokens
            if answered and answered.output_tokens is not None:
                length = answered.output_tokens
                answers = f"{length:.0f} an answer, as in {answered.calls} stored"
            elif limit is not None:
                length, answers = limit, f"`max_tokens` is {limit}"
            else:
                length, answers = ANSWER_TOKENS, f"{ANSWER_TOKENS} an answer, a guess"
            return Calls(
                _whole(tally.stored, share),
                sent,
                _whole(tally.input_tokens, share),
                round(sent.most * length),
                None if limit is None else sent.most * limit,
                self._counting(op, table) if sent.most else "",
                answers if sent.most else "",
            )

        return calls


def _unset_urls(plan_: plan.Plan) -> dict[str, str]:
    """Something for variables that only say where a server is: nothing is sent there."""
    urls = [backend.url for backend in plan_.backends]
    return {
        url.name: "http://nowhere"
        for url in urls
        if isinstance(url, plan.Env) and url.default is None
    }


def _whole(count: float, share: float) -> int:
    """What a count of walked rows is for all."""
    return round(count / share) if share else 0


def _range(least: int, most: int, share: float, *, guessed: bool) -> Range:
    # What was seen of a part says nothing for sure of the whole.
    return Range(_whole(least, share), _whole(most, share), guessed or share < 1)


# Steps


def _steps(
    ops: Sequence[plan.Op],
    tallies: Mapping[int, Tally] | None = None,
    share: float = 1.0,
    calls: _Counting | None = None,
    depth: int = 0,
) -> tuple[Step, ...]:
    """The operations with what they come to; without tallies, those of a table that is there."""
    steps: list[Step] = []
    for op in ops:
        tally = None if tallies is None else tallies.get(id(op), Tally())
        rows, asked = None, None
        if tally:
            if not depth:
                rows = _range(tally.rows_least, tally.rows_most, share, guessed=tally.rows_guessed)
            if isinstance(op, plan.Ask) and calls:
                asked = calls(op, tally)
            elif isinstance(op, plan.Embed):
                asked = Calls(0, _range(tally.least, tally.most, share, guessed=tally.guessed))
        steps.append(Step(op, depth, rows, asked))
        if isinstance(op, plan.Repeat):
            inner = (*op.ops, op.until) if op.until else op.ops
            steps += _steps(inner, tallies, share, calls, depth + 1)
    return tuple(steps)


def _in_all(plan_: plan.Plan, tables: Sequence[TableEstimate]) -> Estimate:
    """What each backend is asked for by all tables, and what that costs."""
    backends: dict[str, Calls] = {}
    for backend in plan_.backends:
        asked = [
            step.calls
            for table in tables
            for step in table.steps
            if isinstance(step.op, plan.Ask) and step.op.backend == backend.name and step.calls
        ]
        if asked:
            backends[backend.name] = _sum(asked)
    prices = {backend.name: backend.price for backend in plan_.backends if backend.price}
    costs = {name: _cost(calls, prices[name]) for name, calls in backends.items() if name in prices}
    return Estimate(tuple(tables), backends, costs)


def _sum(asked: Sequence[Calls]) -> Calls:
    limits = [calls.output_limit for calls in asked if calls.sent.most]
    bounded = [limit for limit in limits if limit is not None]
    return Calls(
        sum(calls.stored for calls in asked),
        Range(
            sum(calls.sent.least for calls in asked),
            sum(calls.sent.most for calls in asked),
            any(calls.sent.guessed for calls in asked),
        ),
        sum(calls.input_tokens for calls in asked),
        sum(calls.output_tokens for calls in asked),
        sum(bounded) if len(bounded) == len(limits) else None,
        "; ".join(dict.fromkeys(calls.counting for calls in asked if calls.counting)),
        "; ".join(dict.fromkeys(calls.answers for calls in asked if calls.answers)),
    )


def _cost(calls: Calls, price: plan.Price) -> Cost:
    def dollars(output_tokens: int) -> float:
        return (
            calls.input_tokens * price.input_usd_per_mtok
            + output_tokens * price.output_usd_per_mtok
        ) / 1e6

    limit = calls.output_limit
    return Cost(dollars(calls.output_tokens), None if limit is None else dollars(limit))
