"""Tables written to files: Parquet, JSON lines, CSV. DuckDB's own COPY is locked away, so Arrow does it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from synthc.compiler import types
from synthc.runtime.errors import RunError
from synthc.runtime.store.store import cursor_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow

FORMATS = (".parquet", ".jsonl", ".csv")
_BATCH = 10_000
_ROW = '"·row"'


def export(connection: duckdb.DuckDBPyConnection, table: str, path: Path) -> int:
    """Write a table of `main` to a file, whole or not at all; the number of its rows.

    The ending says the format. Raises RunError where it cannot be written.
    """
    if path.suffix not in FORMATS:
        raise RunError(
            f"the ending of `{path.name}` names no known format",
            hint=f"use one of {', '.join(FORMATS)}",
        )
    write = {".parquet": _parquet, ".jsonl": _json_lines, ".csv": _csv}[path.suffix]
    # DuckDB knows best how its values are JSON: dates, vectors, JSON inside of structs.
    columns = f"CAST(to_json({_ROW}) AS VARCHAR)" if path.suffix == ".jsonl" else "*"
    query = f"SELECT {columns} FROM main.{types.quote(table)} AS {_ROW}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A result that is not read to its end would block the connection: it gets its own.
        with cursor_of(connection) as cursor, whole_file(path) as file:
            return write(cursor.sql(query).to_arrow_reader(_BATCH), file)
    except OSError as error:
        raise RunError(f"{path.name} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the name only when all of it is there. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _parquet(reader: pyarrow.RecordBatchReader, file: IO[bytes]) -> int:
    from pyarrow import parquet

    count = 0
    with parquet.ParquetWriter(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _json_lines(reader: pyarrow.RecordBatchReader, file: IO[bytes]) -> int:
    count = 0
    for batch in reader:
        file.writelines(line.encode() + b"\n" for line in batch.column(0).to_pylist())
        count += batch.num_rows
    return count


def _csv(reader: pyarrow.RecordBatchReader, file: IO[bytes]) -> int:
    import csv
    import io

    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(reader.schema.names)
    count = 0
    for row in _rows(reader):
        writer.writerow([_cell(value) for value in row.values()])
        count += 1
    text.flush()
    text.detach()
    return count


def _rows(reader: pyarrow.RecordBatchReader) -> Iterable[dict[str, Any]]:
    for batch in reader:
        yield from batch.to_pylist()


def _cell(value: Any) -> Any:
    """CSV has no lists: they stand as JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
