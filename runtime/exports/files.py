"""Rows written to files: Parquet, JSON lines, CSV. DuckDB's own COPY is locked away, so Arrow does it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import duckdb

from synthc.compiler import types
from synthc.runtime.errors import RunError
from synthc.runtime.store.results import Rows, exact_rows
from synthc.runtime.store.store import cursor_of

if TYPE_CHECKING:
    import pyarrow
    from duckdb.sqltypes import DuckDBPyType

FORMATS = ("parquet", "jsonl", "csv")

Ask = Callable[[str], AbstractContextManager[Rows]]
"""Gives the rows of a SELECT with their exact types. Raises duckdb.Error."""

_ROW = '"·row"'
_PART = 64 << 20
"""Bytes of rows, about, that Parquet keeps together: what a reader takes into memory at once."""
_WITHOUT = (
    "map",
    "union",
    "interval",
    "bit",
    "bignum",
    "variant",
    "geometry",
    "time with time zone",
)
"""Types that Parquet has not, or that those who load it have not."""
_NESTED = ("list", "array", "struct", "map")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How text begins that a spreadsheet takes for a formula."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a query's result."""

    name: str
    type: DuckDBPyType


@dataclass(frozen=True, slots=True)
class Written:
    """What stands in a file: its rows, and in CSV how many cells a spreadsheet takes for formulas."""

    rows: int
    formulas: int = 0


def asking(connection: duckdb.DuckDBPyConnection) -> Ask:
    """Asks a connection, through a cursor: a result that is not read to its end would block it."""

    @contextlib.contextmanager
    def ask(query: str) -> Iterator[Rows]:
        with cursor_of(connection) as cursor:
            yield exact_rows(cursor.sql(query))

    return ask


def select(table: str) -> str:
    """The query of a table of `main`, whole."""
    return f"SELECT * FROM main.{types.quote(table)}"


def format_of(path: Path) -> str:
    """The format that a file's ending names. Raises RunError where it names none."""
    if path.suffix[1:] not in FORMATS:
        raise RunError(
            f"the ending of `{path.name}` names no known format",
            hint=f"use one of {', '.join(f'.{name}' for name in FORMATS)}",
        )
    return path.suffix[1:]


def columns_of(ask: Ask, query: str) -> tuple[Column, ...]:
    """The columns of a SELECT; of several with one name, the second is called `name_1`."""
    found = all_of(
        ask, f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM ({query}\n))"
    )
    return tuple(Column(name, duckdb.sqltype(type_)) for name, type_ in found)


def all_of(ask: Ask, query: str) -> list[tuple[Any, ...]]:
    """The rows of a small result."""
    with ask(query) as rows:
        return [
            row
            for batch in rows.batches
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]


def export(connection: duckdb.DuckDBPyConnection, table: str, path: Path) -> int:
    """Write a table of `main` to a file, whole or not at all; the number of its rows.

    The ending says the format. Raises RunError where it cannot be written.
    """
    return write(asking(connection), select(table), path, format_of(path)).rows


def write(ask: Ask, query: str, path: Path, form: str, *, guarded: bool = False) -> Written:
    """Write the rows of a SELECT to a file, whole or not at all.

    `form` is one of FORMATS. `guarded` puts an apostrophe before text that a spreadsheet would take for
    a formula. Raises RunError where the file cannot be written, and duckdb.Error.
    """
    columns = columns_of(ask, query)
    project = {"parquet": _for_parquet, "jsonl": _for_json, "csv": _for_csv}[form]
    wanted = ", ".join(
        f"{project(types.quote(c.name), c.type)} AS {types.quote(c.name)}" for c in columns
    )
    query = f"SELECT {wanted} FROM ({query}\n)"
    if (
        form == "jsonl"
    ):  # DuckDB knows best how its values are JSON: dates, vectors, JSON in structs
        query = f"SELECT CAST(to_json({_ROW}) AS VARCHAR) FROM ({query}) AS {_ROW}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file, ask(query) as rows:
            match form:
                case "parquet":
                    return Written(_parquet(rows, file))
                case "jsonl":
                    return Written(_json_lines(rows, file))
                case _:
                    return _csv(rows, columns, file, guarded)
    except OSError as error:
        raise RunError(f"{path.name} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the name only when all of it is there."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _batches(rows: Rows) -> Iterator[pyarrow.RecordBatch]:
    """The batches of a result; what DuckDB finds wrong while they are read, as its own error."""
    try:
        yield from rows.batches
    except OSError as error:
        if error.errno is not None:
            raise
        raise duckdb.Error(str(error)) from None


# What a column is in each format


def _for_parquet(column: str, type_: DuckDBPyType) -> str:
    if not _has(type_, lambda part: str(part.id).startswith(_WITHOUT)):
        return column
    return _json(column) if type_.id in _NESTED else f"CAST({column} AS VARCHAR)"


def _for_json(column: str, type_: DuckDBPyType) -> str:
    return _hex(column) if type_.id == "blob" else column


def _for_csv(column: str, type_: DuckDBPyType) -> str:
    if type_.id == "blob":
        return _hex(column)
    return _json(column) if type_.id in _NESTED else f"CAST({column} AS VARCHAR)"


def _json(column: str) -> str:
    return f"CAST(to_json({column}) AS VARCHAR)"


def _hex(column: str) -> str:
    return f"lower(hex({column}))"


def _has(type_: DuckDBPyType, wanted: Callable[[DuckDBPyType], bool]) -> bool:
    if wanted(type_):
        return True
    parts: Any = [part for _, part in type_.children] if type_.id in _NESTED else ()
    return any(_has(part, wanted) for part in parts if not isinstance(part, int))


# The formats


def _parquet(rows: Rows, file: IO[bytes]) -> int:
    import pyarrow
    from pyarrow import parquet

    count = size = 0
    part: list[pyarrow.RecordBatch] = []
    with parquet.ParquetWriter(file, rows.schema) as writer:
        for batch in _batches(rows):
            part.append(batch)
            count += batch.num_rows
            size += batch.nbytes
            if size >= _PART:
                writer.write_table(pyarrow.Table.from_batches(part))
                part, size = [], 0
        if part:
            writer.write_table(pyarrow.Table.from_batches(part))
    return count


def _json_lines(rows: Rows, file: IO[bytes]) -> int:
    count = 0
    for batch in _batches(rows):
        file.writelines(_finite(line).encode() + b"\n" for line in batch.column(0).to_pylist())
        count += batch.num_rows
    return count


def _finite(text: str) -> str:
    """JSON of DuckDB's with null for what is no number: JSON has no infinity."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    found = json.loads(text, parse_constant=lambda _name: None)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _csv(rows: Rows, columns: Sequence[Column], file: IO[bytes], guarded: bool) -> Written:
    nested = [column.type.id in _NESTED for column in columns]
    texts = [column.type.id in ("varchar", "enum") for column in columns]
    file.write(_line(column.name for column in columns))
    count = formulas = 0
    for batch in _batches(rows):
        cells = [
            [value and _finite(value) for value in found.to_pylist()]
            if of_parts
            else found.to_pylist()
            for of_parts, found in zip(nested, batch.columns, strict=True)
        ]
        for number, is_text in enumerate(texts):
            risky = [at for at, value in enumerate(cells[number]) if is_text and _is_formula(value)]
            formulas += len(risky)
            for at in risky if guarded else ():
                cells[number][at] = f"'{cells[number][at]}"
        file.writelines(_line(row) for row in zip(*cells, strict=True))
        count += batch.num_rows
    return Written(count, formulas)


def _is_formula(value: str | None) -> bool:
    if not value or not value.startswith(_FORMULA):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def _line(cells: Iterable[str | None]) -> bytes:
    """A line of CSV. A null is nothing, and an empty text is `""`, as PostgreSQL and DuckDB read it."""
    line = ",".join("" if cell is None else _cell(cell) for cell in cells)
    # A line of nothing would be no row.
    return (line or '""').encode() + b"\n"


def _cell(text: str) -> str:
    if text and not any(character in text for character in ',"\r\n') and text.strip() == text:
        return text
    return '"' + text.replace('"', '""') + '"'
