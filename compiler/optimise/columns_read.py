"""Which columns of the rows before it the SQL over all of them reads: DuckDB's own planner says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from synthc.compiler import types
from synthc.compiler.plan import Query, Table

# The parts of DuckDB's optimiser that tell: one drops the columns that are not read, the other makes
# it see through `WITH`. The others would move conditions into the scans, or see that there are no rows.
_PARTS = ("unused_columns", "cte_inlining")


def columns_read(name: str, query: Query, tables: Mapping[str, Table]) -> frozenset[str] | None:
    """What a query reads of a hidden table: columns, and parts of structs as `s.a`.

    `tables` has those that it reads, by name. None where DuckDB does not tell.
    """
    columns = [output.name for output in tables[name].outputs]
    scans = _scans(name, query, tables)
    read = {column for scan in scans for column in scan}
    if not scans or not all(any(is_of(one, column) for column in columns) for one in read):
        return None
    return frozenset(read)


def is_of(name: str, column: str) -> bool:
    """Whether what is read is a column, or a part of it."""
    return name == column or name.startswith(f"{column}.")


def _scans(table: str, query: Query, tables: Mapping[str, Table]) -> list[list[str]]:
    """What each scan of a table reads; none where it is not read, or DuckDB has no plan."""
    with duckdb.connect(":memory:", config={"python_enable_replacements": False}) as connection:
        connection.execute("SET enable_external_access = false")
        connection.execute("CREATE SCHEMA synth")
        for read in (tables[name] for name in query.tables):
            schema = "synth" if read.hidden else "main"
            fields = [f"{types.quote(o.name)} {types.sql(o.type)}" for o in read.outputs]
            columns = ", ".join(fields) or '"·" INTEGER'  # DuckDB has no table without columns
            connection.execute(f"CREATE TABLE {schema}.{types.quote(read.name)} ({columns})")
        parts = connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()
        others = ",".join(name for (name,) in parts if name not in _PARTS)
        connection.execute(f"SET disabled_optimizers = '{others}'")
        try:
            rows = connection.execute(f"EXPLAIN (FORMAT json) {query.sql}").fetchall()
        except duckdb.Error:  # what cannot be planned reads all, as far as is known here
            return []
    # The name that DuckDB shows is quoted where it has to be, and starts with the database's.
    shown = f"memory.synth.{types.quote(table)}"
    about = [node["extra_info"] for tree in json.loads(rows[0][1]) for node in _nodes(tree)]
    return [_names(scan.get("Projections", "*")) for scan in about if scan.get("Table") == shown]


def _nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree["children"]:
        yield from _nodes(child)


def _names(projections: str | list[str]) -> list[str]:
    """One name stands alone, none is an empty text; `*`, which is no column's, where nothing is said."""
    found = [projections] if isinstance(projections, str) else projections
    return [name for name in found if name]
