"""What a spec expects of its tables: queries that must give no row."""

from __future__ import annotations

import json
from collections.abc import Sequence

import duckdb

from synthc.compiler import plan
from synthc.runtime.errors import RunError
from synthc.runtime.store.store import Store, first, is_query

SHOWN_ROWS = 3
SHOWN_CHARACTERS = 200

_VIOLATIONS = "violations"


class Violated(RunError):
    """The tables are made, and are not what the spec expects: nothing is exported (exit status 1)."""


def check(store: Store, expects: Sequence[plan.Expect]) -> None:
    """Run each query, and keep what it found in `synth.expectations`.

    Raises Violated where one gives rows, and RunError where one cannot be run.
    """
    violated: list[tuple[plan.Expect, int, str]] = []
    for expect in expects:
        count, shown = _violations(store.connection, expect)
        store.connection.execute(
            "INSERT INTO synth.expectations VALUES (?, ?, ?, ?)",
            [store.run_id, expect.name, count == 0, count],
        )
        if count:
            violated.append((expect, count, shown))
    if not violated:
        return
    (expect, count, shown), *others = violated
    rows = "1 row violates it" if count == 1 else f"{count} rows violate it"
    more = "".join(f"; nor does `{other.name}`" for other, _, _ in others)
    raise Violated(
        f"`{expect.name}` does not hold: {rows}{more}",
        hint=f"nothing was exported; {'it is' if count == 1 else 'the first are'} {shown}",
        span=expect.span,
    )


def _violations(connection: duckdb.DuckDBPyConnection, expect: plan.Expect) -> tuple[int, str]:
    """How many rows a query gives, and the first few in words."""
    if not is_query(connection, expect.sql):  # a plan can be edited by hand
        raise RunError(f"`{expect.name}` is no single query", span=expect.span)
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {_VIOLATIONS} AS FROM ({expect.sql}\n)")
    except duckdb.Error as error:
        text = str(error).split("\n")[0].split("Error: ", 1)[-1]
        raise RunError(f"`{expect.name}` cannot be checked: {text}", span=expect.span) from None
    row = first(connection, f"SELECT count(*) FROM temp.{_VIOLATIONS}")
    count: int = row[0] if row else 0
    # DuckDB knows best how its values are JSON.
    seen = connection.execute(
        f"SELECT CAST(to_json(v) AS VARCHAR) FROM temp.{_VIOLATIONS} AS v LIMIT {SHOWN_ROWS}"
    ).fetchall()
    connection.execute(f"DROP TABLE temp.{_VIOLATIONS}")
    return count, ", ".join(_shortly(text) for (text,) in seen)


def _shortly(row: str) -> str:
    """A row as JSON on one line."""
    text = json.dumps(json.loads(row), ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 2] + " …"
