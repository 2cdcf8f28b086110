"""Answers that are set aside, so that rows are asked anew: they stay, marked with the run that did it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from synthc.compiler import plan
from synthc.runtime.errors import RunError
from synthc.runtime.store.store import KEY, Store, is_query, keyed, transaction


@dataclass(frozen=True, slots=True)
class Again:
    """Which rows are asked anew: those of a finished table that satisfy a condition in SQL.

    `table` need not be named where only one asks; `column` is one that is asked for, None all of them.
    """

    condition: str
    table: str | None = None
    column: str | None = None


_FAILED = """
    WITH failed AS (FROM synth.failures WHERE list_contains($names, table_name)),
    unusable AS (SELECT run_id, unnest(calls) AS digest FROM failed),
    stopped AS (SELECT run_id, table_name, row_key FROM failed WHERE calls IS NULL AND stops_row)
    SELECT c.rowid FROM synth.calls AS c JOIN unusable AS f
        ON c.digest = f.digest AND c.run_id <= f.run_id
    UNION ALL
    SELECT c.rowid FROM synth.calls AS c JOIN stopped AS f
        ON c.table_name = f.table_name AND c.row_key = f.row_key AND c.run_id <= f.run_id
"""


def set_aside_failed(store: Store, tables: Sequence[plan.Table]) -> str:
    """Set aside what could not be used: the answers that failed, or where a row stopped for another
    reason, all of its own. Its table is to be made again. Says how many, in words.

    What was asked anew since a failure was noted is not set aside a second time.
    """
    names = [table.name for table in tables]
    with transaction(store.connection):
        count = _superseded(store, f"rowid IN ({_FAILED})", {"names": names})
        rows = store.connection.execute(
            "UPDATE synth.tables SET status = 'stale' WHERE status = 'done' AND list_contains(?, table_name)"
            " AND table_name IN (SELECT table_name FROM synth.failures) RETURNING table_name",
            [names],
        ).fetchall()
    if not rows and not count:
        return "--retry-failed: nothing that failed is in a complete table"
    made = "".join(f"; {name} is made again" for name in sorted(name for (name,) in rows))
    return f"--retry-failed: {_answers(count)} set aside{made}"


def set_aside(store: Store, plan_: plan.Plan, again: Again) -> str:
    """Set aside what chosen rows were answered; their table is to be made again. Says how many, in words.

    Raises RunError where the choice makes no sense, or chooses nothing.
    """
    table = _table(plan_, again)
    whats = [ask.what for ask in _asks(table, again.column)]
    keys = _chosen(store, table, again.condition)
    others = [other.name for other in plan_.tables if other is not table]
    with transaction(store.connection):
        # A table that was renamed since still has its calls under its old name.
        count = _superseded(
            store,
            "list_contains($keys, row_key) AND NOT list_contains($others, table_name)"
            ' AND ($whats IS NULL OR list_contains($whats, "column"))',
            {"keys": keys, "others": others, "whats": whats if again.column else None},
        )
        if not count:
            raise RunError(
                f"the rows of `{table.name}` that were chosen have no answers of their own",
                hint="where nothing is sampled, the first row with a prompt asks for all: choose that one",
            )
        store.connection.execute(
            "UPDATE synth.tables SET status = 'stale' WHERE status = 'done' AND table_name = ?",
            [table.name],
        )
    rows = "1 row" if len(keys) == 1 else f"{len(keys)} rows"
    return f"--again: {_answers(count)} set aside, of {rows} of {table.name}"


def _superseded(store: Store, condition: str, values: dict[str, object]) -> int:
    found = store.connection.execute(
        f"UPDATE synth.calls SET superseded_by = $run WHERE superseded_by IS NULL AND {condition}",
        {"run": store.run_id, **values},
    ).fetchall()
    return found[0][0]


def _table(plan_: plan.Plan, again: Again) -> plan.Table:
    asking = {table.name: table for table in plan_.tables if plan.asks(table.ops)}
    if again.table is None and len(asking) == 1:
        return next(iter(asking.values()))
    if again.table in asking:
        return asking[again.table]
    if not asking:
        raise RunError("no table of this spec asks a model: there is nothing to ask again")
    if again.table is None:
        raise RunError(
            "several tables ask: which is meant?", hint=f"name it: --table {' or '.join(asking)}"
        )
    raise RunError(
        f"there is no table `{again.table}` that asks", hint=f"there are: {', '.join(asking)}"
    )


def _asks(table: plan.Table, column: str | None) -> list[plan.Ask]:
    """The asks of a table that fill a column, by its whole name (`g.score`) or the end of it."""
    found = [
        ask
        for ask in plan.asks(table.ops)
        if column is None or any(w == column or w.endswith(f".{column}") for w in ask.writes)
    ]
    if not found:
        known = [write for ask in plan.asks(table.ops) for write in ask.writes]
        raise RunError(
            f"`{table.name}` asks for no column `{column}`", hint=f"it asks for: {', '.join(known)}"
        )
    return found


def _chosen(store: Store, table: plan.Table, condition: str) -> list[str]:
    """The keys of a table's rows that satisfy a condition."""
    if not store.finished(table):
        raise RunError(
            f"there is no complete table `{table.name}` to choose rows of",
            hint="run without `--again` first",
        )
    query = f'SELECT "{KEY}" {keyed(table)} WHERE (\n{condition}\n)'
    if not is_query(store.connection, query):
        raise RunError(
            f"`{condition}` is no condition in SQL", hint='for example: --again "score < 3"'
        )
    try:
        keys = [key for (key,) in store.connection.execute(query).fetchall()]
    except duckdb.Error as error:
        text = str(error).split("\n")[0].split("Error: ", 1)[-1]
        raise RunError(f"`{condition}` cannot be asked of `{table.name}`: {text}") from None
    if not keys:
        raise RunError(f"no row of `{table.name}` satisfies `{condition}`")
    return keys


def _answers(count: int) -> str:
    return "1 answer was" if count == 1 else f"{count} answers were"
