"""Where a table's rows come from: laid down once as (key, columns) in order, then read in pages."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import duckdb
from msgspec import Struct

from synthc.compiler import plan, types
from synthc.compiler.types import Field, Type
from synthc.runtime.errors import RunError
from synthc.runtime.store import arrow
from synthc.runtime.store.store import KEY, STAGING, first, is_query, keyed

PAGE = 2_048
"""Rows that are in memory at once while a source is read."""


class SourceRow(Struct, frozen=True, gc=False):
    """A row as it enters its chain: its place in the source's order, its key, its columns."""

    ordinal: int
    key: str
    values: dict[str, Any]


def files_of(source: plan.Read | plan.Files, base: Path) -> list[Path]:
    """The files that a source means now, in order. Raises RunError where there are none."""
    if source.path.startswith(plan.DATASET):
        return [_fetched(source)]
    path = base / source.path
    if path.is_file():
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if isinstance(source, plan.Files):
        found = [file for file in found if file.is_file()]
    if not found:
        raise RunError(
            f"there is no file `{source.path}`",
            hint="paths are relative to the folder of the spec (or of the plan)",
            span=source.span,
        )
    return found


def _fetched(source: plan.Read | plan.Files) -> Path:
    file = plan.dataset_file(source.path)
    if not file.is_file():
        raise RunError(
            f"the dataset {source.path} is not on this machine yet",
            hint=f"fetch it: {plan.fetching(source.path)}",
            span=source.span,
        )
    return file


def digest_of(files: list[Path]) -> str:
    """What stands for the content of files, in hexadecimal."""
    hashed = hashlib.blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as opened:
            hashed.update(hashlib.file_digest(opened, hashlib.blake2b).digest())
    return hashed.hexdigest()


def digest_of_names(source: plan.Files, base: Path) -> str:
    """What stands for files, their names and what they hold, in hexadecimal."""
    named = "\n".join([*names_of(source, base), digest_of(files_of(source, base))])
    return hashlib.blake2b(named.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def names_of(source: plan.Files, base: Path) -> list[str]:
    """The paths of the files as the source has them: from the folder of the spec, where it names them so."""
    found = files_of(source, base)
    if Path(source.path).is_absolute():
        return [file.as_posix() for file in found]
    return [Path(os.path.relpath(file, base)).as_posix() for file in found]


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
        self._name = f"{STAGING}.source_{number}"
        self._fields = _fields(source, parent)
        self._span = source.span
        try:
            self._lay_down(source, parent, base, limit)
        except duckdb.Error as error:
            raise self._unreadable(source, base, error) from None
        row = first(connection, f"SELECT count(*) FROM {self._name}")
        self.count: int = row[0] if row else 0

    def pages(self) -> Iterator[int]:
        """Where each page starts."""
        return iter(range(0, self.count, PAGE))

    def page(self, start: int) -> list[SourceRow]:
        """The rows from an ordinal on, `PAGE` of them at most, in order."""
        return self._rows(f"rowid >= {start} AND rowid < {start + PAGE}")

    def part(self, step: int) -> list[SourceRow]:
        """About one row in `step`, in order: by their keys, since what is in rows may come in turns."""
        return self._rows(f'hash("{KEY}") % {step} = 0')

    def _rows(self, where: str) -> list[SourceRow]:
        rows = self._cells(f"SELECT rowid, * FROM {self._name} WHERE {where} ORDER BY rowid")
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

    def _cells(self, query: str) -> Iterable[tuple[Any, ...]]:
        page = self._connection.sql(query)
        if all(_is_plain(field.type) for field in self._fields):
            return page.fetchall()  # the first request need not wait until pyarrow is loaded
        # Through Arrow, as all other values go: DuckDB's own way wants pytz for a time with its zone.
        columns = page.to_arrow_table().columns
        try:
            return zip(*map(arrow.values, columns), strict=True)
        except OverflowError as error:
            raise RunError(str(error), span=self._span) from None

    def drop(self) -> None:
        """Forget the rows."""
        self._connection.execute(f"DROP TABLE {self._name}")

    def _lay_down(
        self, source: plan.Source, parent: plan.Table | None, base: Path, limit: int | None
    ) -> None:
        limited = "" if limit is None else f" LIMIT {limit}"
        columns = ", ".join(types.quote(f.name) for f in self._fields)
        casts = ", ".join(
            f"CAST({types.quote(f.name)} AS {types.sql(f.type)}) AS {types.quote(f.name)}"
            for f in self._fields
        )
        match source:
            case plan.Rows(_, count):
                self._make(f"CAST(range + 1 AS VARCHAR) FROM range({count}){limited}")
            case plan.From():
                assert parent is not None
                of_parent = ", ".join(filter(None, (f'"{KEY}"', columns)))
                self._make(f"{of_parent} {keyed(parent)}{limited}")
            case plan.Files():
                # Its path is a file's key, and each of its columns holds it too.
                names = ", ".join(["name"] * (1 + len(self._fields)))
                found = names_of(source, base)[:limit]
                self._make(f"{names} FROM (SELECT unnest($names) AS name)", {"names": found})
            case plan.Read(_, path, fields, key):
                files = [str(file) for file in files_of(source, base)]
                reading = plan.reading(path, files, fields)
                made = self._key(key, self._fields)
                self._make(f"{made}, {columns} FROM (SELECT {casts} FROM {reading}{limited})")
                self._check_columns(source, files)
                self._tell_apart(key, "rowid")
            case plan.Query(_, sql, _, _, key, ordered):
                if not is_query(self._connection, sql):  # a plan can be edited by hand
                    raise RunError("this is no single query", span=source.span)
                # It gives its rows in any order: which of equals is the first, the floats decide.
                floats = [f for f in self._fields if key is None and _has_floats(f.type)]
                made = self._key(key, [f for f in self._fields if f not in floats])
                ties = [types.quote(f.name) for f in floats]
                by = [types.quote(key)] if key else [f'"{KEY}"', *ties]
                order = "" if ordered else f" ORDER BY {', '.join(by)}"
                self._make(f"{made}, {columns} FROM (SELECT {casts} FROM ({sql}\n))", order=order)
                self._tell_apart(key, ", ".join([*ties, "rowid"]))
                if limit is not None:  # of the rows in their order, which only now is known
                    self._connection.execute(f"DELETE FROM {self._name} WHERE rowid >= {limit}")
            case _:
                assert_never(source)

    def _make(self, select: str, values: Mapping[str, Any] | None = None, order: str = "") -> None:
        """Lay down what a query selects: the key, and the columns. A row's ordinal is its rowid."""
        columns = ", ".join([f'"{KEY}"', *(types.quote(f.name) for f in self._fields)])
        self._connection.execute(
            f"CREATE OR REPLACE TABLE {self._name} AS"
            f" SELECT * FROM (SELECT {select}) AS made({columns}){order}",
            values,
        )

    def _key(self, key: str | None, fields: Sequence[Field]) -> str:
        """The key of a row as SQL: the declared column, or a digest of the fields."""
        if key is not None:
            return f"CAST({types.quote(key)} AS VARCHAR)"
        struct = ", ".join(f"{types.quote(f.name)} := {types.quote(f.name)}" for f in fields)
        return f"md5(CAST(to_json(struct_pack({struct})) AS VARCHAR))" if fields else "'row'"

    def _tell_apart(self, key: str | None, ties: str) -> None:
        """Number the keys of equal rows from the second one on; a declared key must not need it."""
        # Few are equal, as a rule: hashes find those without all rows in memory at once.
        equals = (
            f'SELECT rowid AS "·place", row_number() OVER (PARTITION BY "{KEY}" ORDER BY {ties}) AS "·nth"'
            f' FROM {self._name} WHERE hash("{KEY}") IN'
            f' (SELECT hash("{KEY}") FROM {self._name} GROUP BY ALL HAVING count(*) > 1)'
        )
        if key is not None:
            self._check_key(key, equals)
            return
        self._connection.execute(
            f"""UPDATE {self._name} SET "{KEY}" = "{KEY}" || '#' || "·nth\""""
            f' FROM ({equals}) WHERE {self._name}.rowid = "·place" AND "·nth" > 1'
        )

    def _check_key(self, key: str, equals: str) -> None:
        wrong = first(
            self._connection,
            f"SELECT {types.quote(key)} FROM {self._name} WHERE {types.quote(key)} IS NULL"
            f' OR rowid IN (SELECT "·place" FROM ({equals}) WHERE "·nth" > 1) ORDER BY rowid LIMIT 1',
        )
        if wrong is None:
            return
        what = "a row without a key" if wrong[0] is None else f"the key {wrong[0]!r} stands twice"
        raise RunError(
            f"`key = {key}` does not name each row: {what}",
            hint="choose a column that differs in every row, or leave `key` out",
            span=self._span,
        )

    def _check_columns(self, source: plan.Read, files: list[str]) -> None:
        """A column that JSON does not have any more is read as nulls: that is no way to fail rows."""
        if not self._fields or plan.file_format(source.path) not in (None, "json"):
            return
        names = [types.quote(field.name) for field in self._fields]
        counts = first(
            self._connection,
            f"SELECT count(*), {', '.join(f'count({name})' for name in names)} FROM {self._name}",
        )
        if counts is None or not counts[0] or all(counts[1:]):
            return
        described = self._connection.execute(f"DESCRIBE FROM {plan.reading(source.path, files)}")
        there = {row[0] for row in described.fetchall()}
        gone = [field.name for field in self._fields if field.name not in there]
        if gone:
            raise RunError(
                f"`{source.path}` has no column `{gone[0]}` any more",
                hint="mend the file, or compile the spec again",
                span=source.span,
            )

    def _unreadable(self, source: plan.Source, base: Path, error: duckdb.Error) -> RunError:
        text = str(error).split("\n")[0].split("Error: ", 1)[-1]
        if isinstance(source, plan.Read):
            for file in files_of(source, base):
                text = plan.broken_line(file) or text.replace(str(file), file.name)
            return RunError(
                f"`{source.path}` cannot be read: {text}",
                hint="mend the file; if its columns changed, compile the spec again",
                span=source.span,
            )
        return RunError(f"this query cannot be run: {text}", span=source.span)


def _fields(source: plan.Source, parent: plan.Table | None) -> tuple[Field, ...]:
    match source:
        case plan.Read(columns=columns) | plan.Query(columns=columns) | plan.Files(columns=columns):
            return columns
        case plan.From():
            return tuple(Field(o.name, o.type) for o in parent.outputs) if parent else ()
        case plan.Rows():
            return ()
        case _:
            assert_never(source)


def _is_plain(type_: Type) -> bool:
    return isinstance(types.required(type_), types.Text | types.Int | types.Float | types.Bool)


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
