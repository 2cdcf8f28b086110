"""Rows of Python values ↔ Arrow tables with DuckDB's types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthc.compiler import types
from synthc.compiler.types import Field, Type
from synthc.runtime.pictures import data_url

if TYPE_CHECKING:
    import duckdb
    import pyarrow


def schema(connection: duckdb.DuckDBPyConnection, fields: Sequence[Field]) -> pyarrow.Schema:
    """The Arrow schema of columns, as DuckDB itself has it: no table of types to keep in step."""
    columns = ", ".join(
        f"CAST(NULL AS {types.sql(field.type)}) AS {types.quote(field.name)}" for field in fields
    )
    return connection.sql(f"SELECT {columns}").to_arrow_table().schema


def table(
    columns: Sequence[Sequence[Any]], fields: Sequence[Field], schema_: pyarrow.Schema
) -> pyarrow.Table:
    """Columns of values, one for each field, as a table.

    Raises pyarrow.ArrowException where a value has another type.
    """
    import pyarrow

    arrays = [
        pyarrow.array(
            [to_cell(value, field.type) for value in values]
            if has_json(field.type) or types.has_image(field.type)
            else values,
            type=schema_.field(field.name).type,
        )
        for values, field in zip(columns, fields, strict=True)
    ]
    return pyarrow.Table.from_arrays(arrays, schema=schema_)


def values(column: pyarrow.ChunkedArray) -> list[Any]:
    """A column as Python values. Raises OverflowError, which says what to do, where there are none."""
    try:
        return column.to_pylist()
    except OverflowError:
        raise OverflowError(
            "a date is before the year 1 or after 9999, which rows cannot hold:"
            " `CAST(… AS VARCHAR)` makes it text"
        ) from None


def has_json(type_: Type) -> bool:
    """Whether a value of the type holds JSON somewhere: text in a table, a value in a template."""
    match type_:
        case types.Json():
            return True
        case types.Maybe(inner) | types.ListOf(inner):
            return has_json(inner)
        case types.Record(fields):
            return any(has_json(field.type) for field in fields)
        case _:
            return False


def to_cell(value: Any, type_: Type) -> Any:
    """A value with its JSON as text, and with bytes of pictures as data URLs."""
    match type_:
        case _ if value is None:
            return None
        case types.Maybe(inner):
            return to_cell(value, inner)
        case types.Json():
            return json.dumps(value, ensure_ascii=False)
        case types.Image():
            return data_url(value) if isinstance(value, bytes) else value
        case types.ListOf(element):
            return [to_cell(item, element) for item in value]
        case types.Record(fields):
            return {field.name: to_cell(value.get(field.name), field.type) for field in fields}
        case _:
            return value


def from_cell(value: Any, type_: Type) -> Any:
    """A value with its JSON read."""
    match type_:
        case _ if value is None:
            return None
        case types.Maybe(inner):
            return from_cell(value, inner)
        case types.Json():
            return json.loads(value)
        case types.ListOf(element):
            return [from_cell(item, element) for item in value]
        case types.Record(fields):
            return {field.name: from_cell(value.get(field.name), field.type) for field in fields}
        case _:
            return value


def binary_column(name: str, values: list[bytes]) -> pyarrow.Table:
    """One column of bytes."""
    import pyarrow

    return pyarrow.table({name: pyarrow.array(values, type=pyarrow.binary())})
