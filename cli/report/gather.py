"""All that a report shows, asked of a database in SELECTs: of its file, or of the run that writes it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from importlib import metadata
from typing import Any, TypeVar

import duckdb
import msgspec

from synthc.cli.report import flow, lineage, vectors
from synthc.cli.report.asking import Query, brief, literal, rows, shown
from synthc.cli.report.columns import profiles
from synthc.cli.report.contents import (
    Bar,
    Contents,
    Cost,
    Example,
    Expectation,
    Failures,
    Loop,
    MutationsDrawn,
    Round,
    Run,
    Served,
    Table,
)
from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.errors import RunError
from synthc.runtime.planning.picture import svg
from synthc.runtime.store.schema import FORMAT
from synthc.runtime.store.store import stored

EXAMPLES = 3
SHOWN_RUNS = 20


def gather(query: Query, database: str, running: str | None) -> Contents:
    """Everything there is to show of a database, called `database`; `running` says who writes it.

    Raises RunError where it is none of ours, duckdb.Error where it cannot be read.
    """
    simulated = _simulated(query, database)
    plans = _plans(query)
    last = plans[max(plans)] if plans else None
    runs = _runs(query)
    spec, seed = (runs[0].spec, runs[0].seed) if runs else ("", 42)
    made = _tables(query, plans, last)
    calls = _calls_of(query)
    tables = [(one, _table(query, one, calls.get(one.name, {}))) for one in made]
    of_source = {t.name: t.source.table for t in made if isinstance(t.source, plan.From)}
    chains = {table.name: _chain(table.name, of_source) for table in made}
    below = {one.name: f"{_rows(table.rows)}, {table.status}" for one, table in tables}
    if last:
        below = {table.name: "not made yet" for table in last.tables} | below
    return Contents(
        database=shown(database),
        made_at=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        version=metadata.version("synthc"),
        spec=spec,
        seed=seed,
        simulated=simulated,
        running=running and shown(running),
        runs=runs,
        tables=tuple(table for _, table in tables),
        picture=svg(last, below) if last else None,
        maps=tuple(m for one, table in tables for m in vectors.maps(query, one, table, seed)),
        readings=lineage.readings(query, tables, chains, seed),
        failures=_failures(query),
        expectations=_expectations(query, plans),
        costs=_costs(query),
        served=_served(query),
        notes=() if last else ("the plan of the last run cannot be read by this version",),
    )


def _simulated(query: Query, database: str) -> bool:
    try:
        found = rows(query, "SELECT format, simulated FROM synth.meta")
    except duckdb.Error:
        found = []
    if not found:
        raise RunError(
            f"{database} is no database of synthc's",
            hint="`synthc run` makes one; `-d FILE` names another",
        )
    if found[0][0] != FORMAT:
        raise RunError(
            f"{database} has the format {found[0][0]}, and this version of synthc reads {FORMAT}",
            hint="use the version that made it",
        )
    return found[0][1]


def _plans(query: Query) -> dict[int, plan.Plan]:
    """The plans of runs, by their number, as far as this version can read them."""
    found: dict[int, plan.Plan] = {}
    known: dict[str, plan.Plan] = {}
    for number, text in rows(query, "SELECT run_id, plan FROM synth.runs ORDER BY run_id"):
        try:
            found[number] = known[text] = known.get(text) or plan.decode(text.encode())
        except msgspec.DecodeError:
            continue
    return found


def _tables(
    query: Query, plans: Mapping[int, plan.Plan], last: plan.Plan | None
) -> list[plan.Table]:
    """The tables that can be read, each as the plan of the run has it that made it."""
    runs: dict[str, int] = dict(rows(query, "SELECT table_name, run_id FROM synth.tables"))
    latest = {table.name: table for table in last.tables} if last else {}
    found: list[plan.Table] = []
    for name in dict.fromkeys((*latest, *runs)):
        made = plans.get(runs.get(name, -1))
        table = next((t for t in made.tables if t.name == name), None) if made else None
        table = table or latest.get(name)
        if table is not None and _is_there(query, table):
            found.append(table)
    return found


def _place(table: plan.Table) -> str:
    """A table as SQL names it. A name without its schema is also that of one that is being made."""
    return stored(table) if table.hidden else types.quote(table.name)


def _is_there(query: Query, table: plan.Table) -> bool:
    columns = ", ".join(types.quote(output.name) for output in table.outputs) or "1"
    try:
        rows(query, f"SELECT {columns} FROM {_place(table)} LIMIT 0")
    except duckdb.Error:
        return False
    return True


def _table(query: Query, table: plan.Table, calls: Mapping[str, int]) -> Table:
    name = literal(table.name)
    counts = rows(
        query,
        "SELECT status, rows_in, dropped, failed, not_asked FROM synth.tables"
        f" WHERE table_name = {name}",
    )
    status, rows_in, dropped, failed, not_asked = (
        counts[0] if counts else ("being made", None, 0, 0, 0)
    )
    fields = [Field(output.name, output.type) for output in table.outputs]
    return Table(
        name=shown(table.name),
        hidden=table.hidden,
        place=f"{shown(table.span.file)}:{table.span.line}",
        status=status,
        rows=rows(query, f"SELECT count(*) FROM {_place(table)}")[0][0],
        rows_in=rows_in,
        dropped=dropped,
        failed=failed,
        not_asked=not_asked,
        steps=flow.steps(table, calls),
        columns=profiles(query, _place(table), fields),
        mutations=_mutations(query, name),
        loops=_loops(query, name),
    )


def _mutations(query: Query, name: str) -> tuple[MutationsDrawn, ...]:
    found: dict[tuple[str, str], list[Bar]] = {}
    for column, set_, mutation, count in rows(
        query,
        'SELECT "column", set, mutation, count(*) FROM synth.mutations'
        f" WHERE table_name = {name} GROUP BY ALL ORDER BY 1, 2, 4 DESC, 3",
    ):
        found.setdefault((column, set_), []).append(Bar(shown(mutation), count))
    return tuple(MutationsDrawn(shown(c), shown(s), tuple(bars)) for (c, s), bars in found.items())


def _loops(query: Query, name: str) -> tuple[Loop, ...]:
    found: dict[str, list[Round]] = {}
    for column, round_, *figures in rows(
        query,
        f"""SELECT "column", rounds, count(*), quantile_cont(length(answer), 0.1),
            avg(length(answer)), quantile_cont(length(answer), 0.9)
        FROM synth.calls
        WHERE table_name = {name} AND rounds IS NOT NULL AND superseded_by IS NULL
        GROUP BY 1, 2 ORDER BY 1, CAST(string_split(any_value(rounds), '.') AS INTEGER[])""",
    ):
        found.setdefault(column, []).append(Round(round_, *figures))
    return tuple(Loop(shown(column), tuple(rounds)) for column, rounds in found.items())


def _chain(name: str, of_source: Mapping[str, str]) -> list[str]:
    """A table, and those that its rows came through, nearest first."""
    found = [name]
    while (name := of_source.get(name, "")) and name not in found:
        found.append(name)
    return found


def _calls_of(query: Query) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for table, column, count in rows(
        query, 'SELECT table_name, "column", count(*) FROM synth.calls GROUP BY ALL'
    ):
        found.setdefault(table, {})[column] = count
    return found


def _runs(query: Query) -> tuple[Run, ...]:
    """The last runs, the latest first."""
    return _each(
        query,
        Run,
        f"""SELECT r.run_id AS number, r.spec, r.seed,
            strftime(r.started_at, '%Y-%m-%d %H:%M:%S') AS started,
            CAST(epoch(r.ended_at - r.started_at) AS DOUBLE) AS seconds, r.status, {_SUMS}
        FROM synth.runs AS r LEFT JOIN synth.costs AS c USING (run_id)
        GROUP BY ALL ORDER BY number DESC LIMIT {SHOWN_RUNS}""",
    )


def _failures(query: Query) -> tuple[Failures, ...]:
    groups = rows(
        query,
        """SELECT table_name, "column", reason, min(place), count_if(stops_row), count_if(NOT stops_row)
        FROM synth.failures GROUP BY ALL ORDER BY count(*) DESC, 1, 2, 3 LIMIT 100""",
    )
    return tuple(_failure(query, group) for group in groups)


def _failure(query: Query, group: tuple[Any, ...]) -> Failures:
    table, column, reason, place, stopped, went_on = group
    examples: list[Example] = []
    for key, detail, digests in rows(
        query,
        "SELECT row_key, left(detail, 1000), list_transform(coalesce(calls, []), lambda c: hex(c))"
        f" FROM synth.failures WHERE table_name = {literal(table)}"
        f' AND "column" = {literal(column)} AND reason = {literal(reason)}'
        f" ORDER BY row_key LIMIT {EXAMPLES}",
    ):
        wanted = ", ".join(f"from_hex('{digest}')" for digest in digests)
        answers = (
            rows(
                query,
                f"SELECT left(answer, 1000) FROM synth.calls WHERE digest IN ({wanted}) ORDER BY reask",
            )
            if digests
            else []
        )
        examples.append(
            Example(brief(key), brief(detail, 500), tuple(brief(a or "", 500) for (a,) in answers))
        )
    return Failures(
        table=shown(table),
        column=shown(column),
        reason=shown(reason),
        place=shown(place or ""),
        stopped=stopped,
        went_on=went_on,
        examples=tuple(examples),
    )


def _expectations(query: Query, plans: Mapping[int, plan.Plan]) -> tuple[Expectation, ...]:
    """What the last run that checked them found."""
    found = rows(
        query,
        "SELECT name, holds, violations, run_id FROM synth.expectations"
        " WHERE run_id = (SELECT max(run_id) FROM synth.expectations)",
    )
    return tuple(
        Expectation(shown(name), holds, violations, run, shown(_sql_of(plans.get(run), name)))
        for name, holds, violations, run in found
    )


def _sql_of(made: plan.Plan | None, name: str) -> str:
    return next((e.sql for e in made.expects if e.name == name), "") if made else ""


def _costs(query: Query) -> tuple[Cost, ...]:
    return _each(
        query,
        Cost,
        f"""SELECT coalesce(table_name, ''), coalesce("column", ''), backend, {_SUMS}
        FROM synth.costs GROUP BY ALL ORDER BY cost_usd DESC NULLS LAST, calls DESC, 1, 2""",
    )


def _served(query: Query) -> tuple[Served, ...]:
    return _each(
        query,
        Served,
        """SELECT backend, model, count(*) AS calls, median(latency_s) AS median_s,
            quantile_cont(latency_s, 0.95) AS slow_s, count_if(attempts > 1)::BIGINT AS retried,
            count_if(reask > 0)::BIGINT AS reasked,
            count_if(finish_reason = 'length')::BIGINT AS cut_off,
            coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
            coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
            sum(coalesce(input_tokens, 0) * input_usd_per_mtok
                + coalesce(output_tokens, 0) * output_usd_per_mtok) / 1e6 AS cost_usd
        FROM synth.calls LEFT JOIN synth.prices USING (run_id, backend)
        GROUP BY ALL ORDER BY calls DESC, 1, 2""",
    )


_SUMS = """coalesce(sum(calls), 0)::BIGINT AS calls,
    coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
    coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens, sum(cost_usd) AS cost_usd"""

Shown = TypeVar("Shown", Run, Cost, Served)


def _each(query: Query, kind: type[Shown], sql: str) -> tuple[Shown, ...]:
    """Rows as what they stand for: the columns of the query are its fields, in order."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    return tuple(
        msgspec.convert(
            {
                name: shown(value) if isinstance(value, str) else value
                for name, value in zip(names, row, strict=True)
            },
            kind,
        )
        for row in rows(query, sql)
    )


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
