"""Where a table's rows come from: laid down once as (ordinal, key, columns), then read in pages."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import duckdb

from synthc.compiler import plan, types
from synthc.compiler.types import Field, Type
from synthc.runtime import arrow
from synthc.runtime.errors import RunError
from synthc.runtime.store import first

PAGE = 2_048
"""Rows that are in memory at once while a source is read."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it enters its chain: its place in the source's order, its key, its columns."""

    ordinal: int
    key: str
    values: dict[str, Any]


def files_of(read: plan.Read, base: Path) -> list[Path]:
    """The files that a `read` means now. Raises RunError where there are none."""
    path = base / read.path
    if path.is_file():
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not found:
        raise RunError(
            f"there is no file `{read.path}`",
            hint="paths are relative to the folder of the spec (or of the plan)",
            span=read.span,
        )
    return found


def digest_of(files: list[Path]) -> str:
    """What stands for the content of files, in hexadecimal."""
    hashed = hashlib.blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as opened:
            hashed.update(hashlib.file_digest(opened, hashlib.blake2b).digest())
    return hashed.hexdigest()


class Source:
    """The rows of one table's source, in a temporary table of the store's connection.

    Everything runs on the store's thread. Raises RunError where the source cannot be read.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        number: int,
        source: plan.Source,
        parent: plan.Table | None,
        base: Path,
        limit: int | None,
    ) -> None:
        self._connection = connection
        self._name = f"source_{number}"
        self._fields = _fields(source, parent)
        self._span = source.span
        limited = "" if limit is None else f" LIMIT {limit}"
        try:
            self._lay_down(source, base, limited)
        except duckdb.Error as error:
            raise self._unreadable(source, base, error) from None
        row = first(connection, f"SELECT count(*) FROM {self._name}")
        self.count: int = row[0] if row else 0

    def pages(self) -> Iterator[int]:
        """Where each page starts."""
        return iter(range(0, self.count, PAGE))

    def page(self, start: int) -> list[SourceRow]:
        """The rows from an ordinal on, `PAGE` of them at most, in order."""
        rows = self._connection.execute(
            f"SELECT * FROM {self._name} WHERE ordinal >= ? AND ordinal < ? ORDER BY ordinal",
            [start, start + PAGE],
        ).fetchall()
        names = [field.name for field in self._fields]
        json_types: dict[str, Type] = {
            field.name: field.type for field in self._fields if arrow.has_json(field.type)
        }
        found: list[SourceRow] = []
        for ordinal, key, *cells in rows:
            values = dict(zip(names, cells, strict=True))
            for name, type_ in json_types.items():
                values[name] = arrow.from_cell(values[name], type_)
            found.append(SourceRow(ordinal, key, values))
        return found

    def drop(self) -> None:
        """Forget the rows."""
        self._connection.execute(f"DROP TABLE {self._name}")

    def _lay_down(self, source: plan.Source, base: Path, limited: str) -> None:
        execute = self._connection.execute
        make = f"CREATE OR REPLACE TEMP TABLE {self._name} AS"
        columns = "".join(f", {types.quote(f.name)}" for f in self._fields)
        casts = ", ".join(
            f"CAST({types.quote(f.name)} AS {types.sql(f.type)}) AS {types.quote(f.name)}"
            for f in self._fields
        )
        match source:
            case plan.Rows(_, count):
                execute(
                    f"{make} SELECT range AS ordinal, CAST(range + 1 AS VARCHAR) AS row_key"
                    f" FROM range({count}){limited}"
                )
            case plan.From(_, table):
                execute(
                    f"{make} SELECT position AS ordinal, row_key{columns} FROM main.{types.quote(table)}"
                    " POSITIONAL JOIN (SELECT position, row_key FROM synth.rows"
                    f" WHERE table_name = '{table.replace(chr(39), chr(39) * 2)}'"
                    f" AND status = 'kept' ORDER BY position){limited}"
                )
            case plan.Read(_, path, fields, key):
                files = [str(file) for file in files_of(source, base)]
                reading = plan.reading(path, files, fields)
                execute(f"{make} SELECT {casts} FROM {reading}{limited}")
                self._key(key, "place", exclude_floats=False)
            case plan.Query(_, sql, _, _, key, ordered):
                execute(f"{make} SELECT {casts} FROM ({sql}\n){limited}")
                self._key(key, "place" if ordered else "row_key", exclude_floats=True)
            case _:
                assert_never(source)

    def _key(self, key: str | None, order: str, *, exclude_floats: bool) -> None:
        """Give each row its ordinal and its key: the declared column, or a digest and an occurrence."""
        columns = "".join(f", {types.quote(f.name)}" for f in self._fields)
        if key is None:
            hashed = [f for f in self._fields if not (exclude_floats and _has_floats(f.type))]
            struct = ", ".join(f"{types.quote(f.name)} := {types.quote(f.name)}" for f in hashed)
            value = f"md5(CAST(to_json(struct_pack({struct})) AS VARCHAR))" if hashed else "'row'"
        else:
            value = f"CAST({types.quote(key)} AS VARCHAR)"
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {self._name} AS"
            f" WITH digests AS (SELECT rowid AS place, {value} AS digest{columns} FROM {self._name}),"
            " counted AS (SELECT *, row_number() OVER (PARTITION BY digest ORDER BY place) AS nth"
            " FROM digests),"
            " keyed AS (SELECT *, CASE nth WHEN 1 THEN digest ELSE digest || '#' || nth END AS row_key"
            " FROM counted)"
            f" SELECT row_number() OVER (ORDER BY {order}) - 1 AS ordinal, row_key{columns}, nth"
            " FROM keyed ORDER BY ordinal"
        )
        if key is not None:
            self._check_key(key)
        self._connection.execute(f"ALTER TABLE {self._name} DROP COLUMN nth")

    def _check_key(self, key: str) -> None:
        wrong = first(
            self._connection,
            f"SELECT {types.quote(key)} FROM {self._name}"
            f" WHERE nth > 1 OR {types.quote(key)} IS NULL ORDER BY ordinal LIMIT 1",
        )
        if wrong is None:
            return
        what = "a row without a key" if wrong[0] is None else f"the key {wrong[0]!r} stands twice"
        raise RunError(
            f"`key = {key}` does not name each row: {what}",
            hint="choose a column that differs in every row, or leave `key` out",
            span=self._span,
        )

    def _unreadable(self, source: plan.Source, base: Path, error: duckdb.Error) -> RunError:
        text = str(error).split("\n")[0].split("Error: ", 1)[-1]
        if isinstance(source, plan.Read):
            for file in files_of(source, base):
                text = text.replace(str(file), file.name)
            return RunError(
                f"`{source.path}` cannot be read: {text}",
                hint="mend the file; if its columns changed, compile the spec again",
                span=source.span,
            )
        return RunError(f"this query cannot be run: {text}", span=source.span)


def _fields(source: plan.Source, parent: plan.Table | None) -> tuple[Field, ...]:
    match source:
        case plan.Read(columns=columns) | plan.Query(columns=columns):
            return columns
        case plan.From():
            return tuple(Field(o.name, o.type) for o in parent.outputs) if parent else ()
        case plan.Rows():
            return ()
        case _:
            assert_never(source)


def _has_floats(type_: Type) -> bool:
    match type_:
        case types.Float() | types.Vector():
            return True
        case types.Maybe(inner) | types.ListOf(inner):
            return _has_floats(inner)
        case types.Record(fields):
            return any(_has_floats(field.type) for field in fields)
        case types.Choice(values):
            return any(isinstance(value, float) for value in values)
        case _:
            return False
