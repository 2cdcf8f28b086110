"""A few rows of a plan, end to end, with all that was said on their way.

They take the path of a run: the same engine, and the calls of the same database, so that the run after
it does not pay again. Tables are made in a database of their own, which is thrown away: none that is
kept is marked as done, or replaced.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.backends.protocol import Content, Image
from synthc.runtime.engine.asking import Asked
from synthc.runtime.errors import RunError
from synthc.runtime.ops import drawn_from, every, models
from synthc.runtime.planning.words import named
from synthc.runtime.run import Options, Report, run
from synthc.runtime.store import arrow
from synthc.runtime.store.fingerprint import parents
from synthc.runtime.store.store import KEY, connect, keyed


@dataclass(frozen=True, slots=True)
class Drawn:
    """Something that was drawn for a row: for which column, in which round of a loop, and what."""

    column: str
    round: int | None
    value: Any


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was sent, what was answered, and what was read of the answer.

    `prompt` is the name of the prompt that was drawn from a set. `answer` is None where none came
    (`failed` says why); `values` are what the contract made of it, by column, where it was not broken.
    """

    column: str
    backend: str
    rounds: tuple[int, ...]
    index: int | None
    reask: int
    prompt: str | None
    messages: tuple[tuple[str, str], ...]
    sent: bool
    answer: str | None
    model: str | None
    finish_reason: str | None
    values: Mapping[str, Any] | None
    problems: tuple[str, ...]
    failed: str | None


@dataclass(frozen=True, slots=True)
class Fault:
    """What a row could not have: a column, why, where in the spec, and whether the row ended there."""

    column: str
    reason: str
    detail: str
    place: str
    stops_row: bool


@dataclass(frozen=True, slots=True)
class RowPreview:
    """What became of a row: `kept`, `dropped` (`why` says where), `failed`, or `unnested` into others.

    `columns` are those of the table, of a row that was kept.
    """

    key: str
    status: str
    why: str | None
    drawn: tuple[Drawn, ...]
    asked: tuple[Question, ...]
    faults: tuple[Fault, ...]
    columns: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class TablePreview:
    """The rows of a table that were looked at, in order; one that is drawn from, or read by SQL, may have
    more: `total` counts them."""

    name: str
    hidden: bool
    rows: tuple[RowPreview, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a preview showed. `notes` say in what the rows of a run may differ; `error` why it ended early."""

    tables: tuple[TablePreview, ...]
    notes: tuple[str, ...] = ()
    error: RunError | None = None


@dataclass(slots=True)
class _Watched:
    """Keeps what a run tells while it goes on."""

    questions: list[Asked] = field(default_factory=list)
    why: dict[tuple[str, str], plan.Op] = field(default_factory=dict)

    def asked(self, asked: Asked) -> None:
        self.questions.append(asked)

    def dropped(self, table: str, row_key: str, op: plan.Op) -> None:
        self.why[table, row_key] = op


def preview(
    plan_: plan.Plan,
    rows: int,
    options: Options,
    report: Report,
    note: Callable[[str], None],
    table: str | None = None,
) -> Preview:
    """The first rows of each source through the whole plan, or through what `table` needs.

    `options` are those of the run: its database gets the calls, and nothing else. `report` and `note` are
    told what goes on, as by a run. Where the run cannot
    go on, what was seen so far is there, with the error. Raises RunError where the database cannot be used.
    """
    short = shortened(plan_, rows, table)
    watched = _Watched()
    error: RunError | None = None
    with tempfile.TemporaryDirectory(prefix="synthc-preview-") as folder:
        scratch = Path(folder) / "preview.duckdb"
        aside = Options(
            scratch,
            options.base,
            options.env,
            stand_in=options.stand_in,
            calls=options.database,
            watcher=watched,
        )
        try:
            run(short, aside, report, note)
        except RunError as found:
            error = found
        tables = tuple(_tables(short, rows, scratch, watched)) if scratch.exists() else ()
        if error and not any(made.rows for made in tables):
            raise error
    return Preview(tables, tuple(_notes(plan_, short)), error)


# Which rows


def shortened(plan_: plan.Plan, rows: int, table: str | None = None) -> plan.Plan:
    """The plan with the first rows of its sources, of the tables that `table` needs (None: all).

    Tables that ask nobody stay whole where rows are drawn from them, or SQL reads them: so draws are those
    of the run. Its exports and expectations are left out.
    """
    needed = _needed(plan_, table)
    tables = tuple(t for t in plan_.tables if t.name in needed)
    whole = _whole(tables)
    least: dict[str, int] = {}  # nobody can draw more rows than there are
    for made in tables:
        for op in every(made.ops):
            if isinstance(op, plan.Draw):
                least[op.table] = max(least.get(op.table, 0), op.count)
    short = tuple(_short(t, max(rows, least.get(t.name, 0)), whole) for t in tables)
    return msgspec.structs.replace(plan_, tables=short, exports=(), expects=())


def _needed(plan_: plan.Plan, table: str | None) -> set[str]:
    if table is None:
        return {t.name for t in plan_.tables}
    needed = {table}
    for made in reversed(plan_.tables):  # those they read stand before them
        if made.name in needed:
            needed |= set(parents(made))
    return needed


def _whole(tables: Sequence[plan.Table]) -> set[str]:
    """The tables that are made whole: read whole by others, and free."""
    free: set[str] = set()
    for table in tables:
        if not models(table.ops) and set(parents(table)) <= free:
            free.add(table.name)
    wanted: set[str] = set()
    for table in reversed(tables):
        query = table.source.tables if isinstance(table.source, plan.Query) else ()
        wanted |= {*query, *drawn_from(table.ops)} & free
        if table.name in wanted:
            wanted |= set(parents(table))
    return wanted


def _short(table: plan.Table, rows: int, whole: set[str]) -> plan.Table:
    if table.name in whole:
        return table
    if isinstance(table.source, plan.From) and table.source.table not in whole:
        return table
    limit = plan.Limit(span=table.source.span, count=rows)
    return msgspec.structs.replace(table, ops=(limit, *table.ops))


def _notes(plan_: plan.Plan, short: plan.Plan) -> Iterator[str]:
    """In what the rows of a run may be others."""
    untouched = {id(table) for table in plan_.tables}
    cut = {t.name for t in short.tables if id(t) not in untouched}
    for table in short.tables:
        if isinstance(table.source, plan.From) and table.source.table in cut:
            cut.add(table.name)
    for table in short.tables:
        query = table.source.tables if isinstance(table.source, plan.Query) else ()
        few = [name for name in (*query, *drawn_from(table.ops)) if name in cut]
        for name in dict.fromkeys(few):
            yield (
                f"`{table.name}` saw only these rows of `{name}`: in a run it sees all of them, and what it"
                " asks may differ"
            )


# What was seen


def _tables(
    short: plan.Plan, rows: int, scratch: Path, watched: _Watched
) -> Iterator[TablePreview]:
    whole = _whole(short.tables)
    with connect(scratch, read_only=True) as connection:
        for table in short.tables:
            statuses = dict(
                _all(
                    connection,
                    "SELECT row_key, status FROM synth.rows WHERE table_name = ? ORDER BY ordinal",
                    table.name,
                )
            )
            total = len(statuses)
            if table.name in whole:
                statuses = dict(islice(statuses.items(), rows))
            seen = tuple(_rows(connection, table, statuses, watched))
            yield TablePreview(table.name, table.hidden, seen, max(total, len(seen)))


def _rows(
    connection: Any, table: plan.Table, statuses: Mapping[str, str], watched: _Watched
) -> Iterator[RowPreview]:
    columns = _columns(connection, table, list(statuses))
    asked: dict[str, list[Asked]] = {}
    for question in watched.questions:
        if question.place.table == table.name:
            asked.setdefault(question.place.row_key, []).append(question)
    drawn = _by_row(connection, "draws", '"column", round, value', table.name)
    prompts = _by_row(connection, "mutations", '"column", round, mutation', table.name)
    faults = _by_row(
        connection, "failures", '"column", reason, detail, place, stops_row', table.name
    )
    unnested = any(isinstance(op, plan.Unnest) for op in table.ops)
    order = {id(op): at for at, op in enumerate(every(table.ops))}
    top = {id(o): at for at, op in enumerate(table.ops) for o in every((op,))}
    for key in _keys(statuses, asked, unnested):
        why = watched.why.get((table.name, key))
        questions = sorted(
            asked.get(key, ()),
            key=lambda q: (
                top[id(q.op)],
                q.place.rounds,
                order[id(q.op)],
                -1 if q.place.index is None else q.place.index,
                q.reask,
            ),
        )
        chosen = _chosen(prompts.get(key, ()), questions)
        yield RowPreview(
            key,
            statuses.get(key, "unnested" if unnested else "not finished"),
            None if why is None else named(why),
            tuple(Drawn(c, r, msgspec.json.decode(v)) for c, r, v in drawn.get(key, ())),
            tuple(_question(q, chosen.get(id(q))) for q in questions),
            tuple(Fault(*row) for row in faults.get(key, ())),
            columns.get(key),
        )


def _keys(statuses: Mapping[str, str], asked: Mapping[str, Any], unnested: bool) -> list[str]:
    """The keys of all rows, those that others came from right before them."""
    keys = dict.fromkeys(statuses)
    if not unnested:
        return list(dict.fromkeys((*keys, *asked)))
    found: dict[str, None] = {}
    for key in (*keys, *asked):
        parts = key.split("/")
        for deep in range(1, len(parts)):
            before = "/".join(parts[:deep])
            if before in asked:
                found[before] = None
        found[key] = None
    return list(found)


def _chosen(prompts: Sequence[tuple[Any, ...]], questions: Sequence[Asked]) -> dict[int, str]:
    """The name of the prompt that was drawn for each question, by its id.

    What is kept of a draw says less of its place than a question does, but their order is the same.
    """
    drawn: dict[tuple[str, int | None], list[str]] = {}
    for column, round_, mutation in prompts:
        drawn.setdefault((column, round_), []).append(mutation)
    places: dict[tuple[str, int | None], dict[Any, str]] = {}
    found: dict[int, str] = {}
    for q in questions:
        where = (q.op.what, q.place.rounds[-1] if q.place.rounds else None)
        if isinstance(q.op.prompt, plan.OneOf) and where in drawn:
            known = places.setdefault(where, {})
            place = (q.place.rounds, q.place.index)
            if place not in known and len(known) < len(drawn[where]):
                known[place] = drawn[where][len(known)]
            if place in known:
                found[id(q)] = known[place]
    return found


def _question(asked: Asked, prompt: str | None) -> Question:
    reading, answer = asked.reading, asked.answer
    read = reading is not None and not reading.broken
    return Question(
        column=asked.op.what,
        backend=asked.op.backend,
        rounds=asked.place.rounds,
        index=asked.place.index,
        reask=asked.reask,
        prompt=prompt,
        messages=tuple((m.role, _said(m.content)) for m in asked.messages),
        sent=asked.sent,
        answer=answer and answer.text,
        model=answer and answer.model,
        finish_reason=answer and answer.finish_reason,
        values={f.name: v for f, v in zip(asked.op.contract.fields, reading.values, strict=True)}
        if reading and read
        else None,
        problems=reading.problems if reading else (),
        failed=asked.failed and f"{asked.failed.reason}: {asked.failed.detail}",
    )


def _said(content: Content) -> str:
    """What a message says as text: of each picture what is known of it."""
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else _picture(part) for part in content)


def _picture(image: Image) -> str:
    which = f" {image.path}" if image.path else ""
    return (
        f"[picture{which}: {image.media_type}, {image.size:,} bytes, sha256 {image.digest[:12]}…]"
    )


def _columns(connection: Any, table: plan.Table, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The columns of each row that was kept, by its key."""
    there = _all(connection, "SELECT 1 FROM synth.tables WHERE table_name = ?", table.name)
    if not there:
        return {}
    fields = [Field(output.name, output.type) for output in table.outputs]
    names = "".join(f", {types.quote(f.name)}" for f in fields)
    query = f'SELECT "{KEY}"{names} {keyed(table)} WHERE list_contains($keys, "{KEY}")'
    found = connection.sql(query, params={"keys": list(keys)}).to_arrow_table()
    keys, *cells = [column.to_pylist() for column in found.columns]
    for at, field_ in enumerate(fields):
        if arrow.has_json(field_.type):
            cells[at] = [arrow.from_cell(cell, field_.type) for cell in cells[at]]
    columns = [f.name for f in fields]
    return {
        key: dict(zip(columns, row, strict=True)) for key, *row in zip(keys, *cells, strict=True)
    }


def _by_row(
    connection: Any, name: str, columns: str, table: str
) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    query = f"SELECT row_key, {columns} FROM synth.{name} WHERE table_name = ? ORDER BY rowid"
    for key, *rest in _all(connection, query, table):
        found.setdefault(key, []).append(tuple(rest))
    return found


def _all(connection: Any, query: str, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(query, [table]).fetchall()
