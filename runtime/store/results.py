"""The rows of a query as they travel: Arrow, with text for what only DuckDB can write exactly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthc.compiler import types

if TYPE_CHECKING:
    import duckdb
    import pyarrow

_AS_TEXT = ("date", "time", "interval", "uuid", "bit", "bignum", "union", "variant", "geometry")
"""How the names of those types begin that Python has nothing as exact for: DuckDB writes them itself."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Names of columns, of which several can be equal, and batches of rows that are read once."""

    names: tuple[str, ...]
    schema: pyarrow.Schema
    batches: Iterable[pyarrow.RecordBatch]


def reader(relation: duckdb.DuckDBPyRelation) -> pyarrow.RecordBatchReader:
    """The rows of a query, as they are read. Raises duckdb.Error."""
    columns: list[str] = []
    for number, (name, type_) in enumerate(
        zip(relation.columns, relation.types, strict=True), start=1
    ):
        texted = _sql(type_, _AS_TEXT)
        as_it_is = texted == _sql(type_)
        columns.append(
            f"#{number}" if as_it_is else f"CAST(#{number} AS {texted}) AS {types.quote(name)}"
        )
    return relation.project(", ".join(columns)).to_arrow_reader(1_000)


def _sql(type_: Any, as_text: tuple[str, ...] = ()) -> str:
    """A type of DuckDB's in SQL, with text in the place of those whose names begin so."""
    match type_.id, type_.children if type_.id in ("list", "array", "map", "struct") else ():
        case "list", ((_, inner),):
            return f"{_sql(inner, as_text)}[]"
        case "array", ((_, inner), (_, size)):
            return f"{_sql(inner, as_text)}[{size}]"
        case "map", ((_, key), (_, value)):
            return f"MAP({_sql(key, as_text)}, {_sql(value, as_text)})"
        case "struct", parts if parts and all(name for name, _ in parts):
            fields = (f"{types.quote(name)} {_sql(part, as_text)}" for name, part in parts)
            return f"STRUCT({', '.join(fields)})"
        case kind, _:
            return "VARCHAR" if kind.startswith(as_text) else str(type_)


def exact(relation: duckdb.DuckDBPyRelation) -> pyarrow.RecordBatchReader:
    """The same with the types that the query gives them. Raises duckdb.Error."""
    # Few at a time: a row can hold megabytes.
    return relation.to_arrow_reader(100)


def rows(relation: duckdb.DuckDBPyRelation) -> Rows:
    """The rows of a query with the names of its columns. Raises duckdb.Error, also while they are read."""
    found = reader(relation)
    return Rows(tuple(relation.columns), found.schema, found)


def exact_rows(relation: duckdb.DuckDBPyRelation) -> Rows:
    """The same with the types that the query gives them. Raises duckdb.Error, also while they are read."""
    found = exact(relation)
    return Rows(tuple(relation.columns), found.schema, found)
