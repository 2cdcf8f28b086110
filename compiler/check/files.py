"""The files that a spec names: which they are, what text they hold, and which columns."""

from __future__ import annotations

import functools
import glob
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb

from synthc.compiler import ast, plan, types
from synthc.compiler.check.values import IMAGES
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.plan import STANDARD, located
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

Report = Callable[[Problem], None]

_HEAD = 2_048
"""Rows that are read to see whether the declared types fit."""


def find(path: str, base: Path) -> list[Path]:
    """The files that a path or pattern of a spec means, in the order of their names."""
    if path.startswith(plan.DATASET):
        file = plan.dataset_file(path)
        return [file] if file.is_file() else []
    if glob.has_magic(path) and not (base / path).is_file():
        found = map(Path, glob.glob(str(base / path), recursive=True))
        return sorted(file for file in found if file.is_file())
    return [base / path] if (base / path).is_file() else []


def read_text(
    path: str, base: Path, span: Span, report: Report, advice: str | None = None
) -> str | None:
    """The text of a file with plain line ends, or None where a problem was reported at `span`.

    `advice` is what to do where there is no such file.
    """
    place = located(path, base)
    try:
        if place.is_dir():
            return _unreadable(path, "it is a folder", span, report)
        if not place.is_file():
            report(missing(path, base, span, advice))
            return None
        text = place.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return _unreadable(path, "it is not text in UTF-8", span, report)
    except OSError as error:
        return _unreadable(path, (error.strerror or "it fails").lower(), span, report)
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    return text if text.strip() else _unreadable(path, "it is empty", span, report)


def missing(path: str, base: Path, span: Span, advice: str | None = None) -> Problem:
    """What is said of a file that is not there: the names that there are, and the one that was meant."""
    siblings = _siblings(path, base)
    near = nearest(PurePosixPath(path).name, siblings)
    standard = path.startswith(STANDARD)
    folder = PurePosixPath(STANDARD) if standard else PurePosixPath(path).parent
    inside = PurePosixPath(STANDARD) / PurePosixPath(path).name
    if not standard and str(folder) == "." and located(str(inside), base).is_file():
        folder, near = PurePosixPath(STANDARD), inside.name
    if not near and not standard and (base / PurePosixPath(path).name).is_file():
        folder, near = PurePosixPath(), PurePosixPath(path).name
    if "://" in path and not advice:
        advice = "files are read from this machine: download it first"
    known = tuple((folder / name).as_posix() for name in siblings) if standard else ()
    return problems.FileNotFound(
        span=span,
        path=path,
        near=(folder / near).as_posix() if near else None,
        known=known,
        advice=advice,
    )


def _siblings(path: str, base: Path) -> list[str]:
    """The files beside the one that is missing; of the standard library those of its kind."""
    if path.startswith(STANDARD):
        files = resources.files("synthc.specs").joinpath("std")
        ending = PurePosixPath(path).suffix
        return sorted(f.name for f in files.iterdir() if f.name.endswith(ending))
    folder = (base / path).parent
    return [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []


def _unreadable(path: str, reason: str, span: Span, report: Report) -> None:
    report(problems.FileUnreadable(span=span, path=path, reason=reason))


def _as_written(file: Path) -> tuple[Path, int, int]:
    """A file, its time and its size: something else once it was written."""
    stat = file.stat()
    return file, stat.st_mtime_ns, stat.st_size


class Reader:
    """Looks into data files for their columns, through one DuckDB that is opened when first needed.

    It may be kept from one look at a spec to the next: a file is read again when it was written.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._known: dict[tuple[object, ...], tuple[tuple[Field, ...], str | None]] = {}

    @functools.cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(":memory:", config={"python_enable_replacements": False})

    def lines(self, path: ast.String, report: Report) -> bool:
        """Whether `lines("words.txt")` has a line to draw; a problem was reported where it has none.

        Lines that are blank do not count. `std/words.txt` is of the standard library.
        """
        return read_text(path.text, self._base, path.span, report) is not None

    def paths(self, pattern: ast.String, report: Report) -> bool:
        """Whether `files("*.jpg")` means a file; a problem was reported where it means none."""
        return bool(self._found(pattern, report))

    def columns(self, path: ast.String, report: Report) -> tuple[Field, ...] | None:
        """The columns of the files that a spec reads, or None where a problem was reported."""
        if (self._base / path.text).is_dir():
            reason = f"it is a folder, and its files are `{path.text.rstrip('/')}/*.jsonl`"
            return _unreadable(path.text, reason, path.span, report)
        if plan.file_format(path.text) is None:
            known = tuple(plan.FORMATS)
            report(problems.UnknownFormat(span=path.span, path=path.text, known=known))
            return None
        found = self._found(path, report)
        if not found:
            return None
        same = (path.text, *map(_as_written, found))
        if same not in self._known:
            self._known[same] = self._look(path.text, found)
        fields, reason = self._known[same]
        if reason:
            report(problems.FileUnreadable(span=path.span, path=path.text, reason=reason))
            return None
        return fields

    def declared(
        self,
        path: ast.String,
        found: tuple[Field, ...],
        wanted: Sequence[tuple[ast.Name, Type]],
        report: Report,
    ) -> tuple[Field, ...] | None:
        """The columns of `read(…, types = {…})`: those that were found, with the types of the spec.

        None where a problem was reported: a column that is not there, or a type that it cannot be
        read as without a loss.
        """
        there = {field.name: field.type for field in found}
        sound = [self._fits(path, there, name, type_, report) for name, type_ in wanted]
        if not all(sound):
            return None
        types_ = there | {name.text: type_ for name, type_ in wanted}
        fields = tuple(Field(name, type_) for name, type_ in types_.items())
        rows, reason = self._head(path.text, find(path.text, self._base), fields)
        if reason:
            report(problems.FileUnreadable(span=path.span, path=path.text, reason=reason))
            return None
        others = [_none_of(path, rows, fields, name, report) for name, _ in wanted]
        return None if any(others) else fields

    def _fits(
        self, path: ast.String, there: dict[str, Type], name: ast.Name, wanted: Type, report: Report
    ) -> bool:
        if name.text not in there:
            report(
                problems.UnknownColumn(
                    span=name.span, owner=f"`{path.text}`", name=name.text, known=tuple(there)
                )
            )
            return False
        found = there[name.text]
        if readable_as(found, wanted):
            return True
        advice = "leave its type out here, and convert it in a `select`"
        if types.has_image(wanted):
            advice = IMAGES
        if found == types.BYTES:
            advice = "leave its type out here: an input `image` takes bytes as they are"
        report(
            problems.WrongType(
                span=name.span,
                what=f"the column `{name.text}` of `{path.text}`",
                expected=types.name(wanted),
                found=types.name(found),
                advice=advice,
            )
        )
        return False

    def _found(self, path: ast.String, report: Report) -> list[Path]:
        found = find(path.text, self._base)
        if not found and path.text.startswith(plan.DATASET):
            fetch = plan.fetching(path.text)
            report(problems.DatasetNotFetched(span=path.span, path=path.text, fetch=fetch))
        elif not found:
            folder = (self._base / path.text).is_dir()
            advice = (
                f"it is a folder: `{path.text.rstrip('/')}/*` are its files" if folder else None
            )
            report(missing(path.text, self._base, path.span, advice))
        return found

    def _look(self, path: str, found: list[Path]) -> tuple[tuple[Field, ...], str | None]:
        """The columns, and why there are none."""
        if all(file.stat().st_size == 0 for file in found):
            return (), "it is empty"
        reading = plan.reading(path, [str(file) for file in found])
        try:
            relation = self._connection.cursor().sql(f"SELECT * FROM {reading}")
            described = zip(relation.columns, relation.types, strict=True)
            fields = tuple(Field(name, types.from_duckdb(type_)) for name, type_ in described)
        except duckdb.Error as error:
            return (), readable(str(error), found)
        if plan.file_format(path) == "json" and [field.name for field in fields] == ["json"]:
            return (), "its rows are no JSON objects"
        return fields, None

    def _head(
        self, path: str, found: list[Path], fields: tuple[Field, ...]
    ) -> tuple[list[tuple[Any, ...]], str | None]:
        """The first rows with these columns, as a run reads them, and why they cannot be read."""
        reading = plan.reading(path, [str(file) for file in found], fields)
        casts = ", ".join(f"CAST({types.quote(f.name)} AS {types.sql(f.type)})" for f in fields)
        try:
            query = f"SELECT {casts} FROM {reading} LIMIT {_HEAD}"
            rows = self._connection.cursor().sql(query).fetchall()
        except duckdb.Error as error:
            return [], readable(str(error), found)
        return rows, None


def _none_of(
    path: ast.String,
    rows: list[tuple[Any, ...]],
    fields: tuple[Field, ...],
    name: ast.Name,
    report: Report,
) -> bool:
    """Whether a row holds a value that is none of its column's choice; reports the first."""
    at = [field.name for field in fields].index(name.text)
    choice = types.required(fields[at].type)
    if not isinstance(choice, types.Choice):
        return False
    for number, row in enumerate(rows, 1):
        if row[at] is not None and row[at] not in choice.values:
            shown = f'"{row[at]}"' if isinstance(row[at], str) else str(row[at])
            report(
                problems.BadValue(
                    span=name.span,
                    what=f"the column `{name.text}` of `{path.text}`",
                    wanted=f"one of `{types.name(choice)}`",
                    found=f"{shown} in row {number}",
                    advice="name that value too, or leave the type out and keep rows by `where`",
                )
            )
            return True
    return False


def readable_as(found: Type, wanted: Type) -> bool:
    """Whether a column that DuckDB found to be of a type can be read as another without a loss.

    JSON may hold anything: what it does hold is seen when it is read.
    """
    if types.has_image(wanted):  # what a file says must never be read as the path of another
        return False
    match found, types.required(wanted):
        case types.Json(), _:
            return True
        case _, types.Json():
            return True
        case _, types.Chat():
            return readable_as(found, types.MESSAGES)
        case types.ListOf(inner), types.ListOf(element):
            return readable_as(inner, element)
        case types.ListOf(inner), types.Vector():
            return readable_as(inner, types.Float())
        case types.Record(fields), types.Record(parts):
            return _each_readable(fields, parts)
        case _, types.Choice(values):
            base = types.Text() if isinstance(values[0], str) else types.Float()
            whole = all(isinstance(value, int) for value in values)
            return readable_as(found, types.Int() if whole else base)
        case ((types.ListOf() | types.Record() | types.Vector()), _):
            return found == types.required(wanted)
        case _, types.Text():
            return True
        case (types.Text(), types.Audio()) | (types.Int(), types.Float()):
            return True
        case _, required:
            return found == required


def _each_readable(fields: Iterable[Field], parts: Iterable[Field]) -> bool:
    there = {field.name: field.type for field in fields}
    return all(
        readable_as(there[part.name], part.type)
        if part.name in there
        else types.nullable(part.type)
        for part in parts
    )


def readable(message: str, files: list[Path]) -> str:
    """The first line of what DuckDB said of a file, without the folder that it lies in."""
    for file in files:
        if broken := plan.broken_line(file):
            return broken
    text = message.split("\n", maxsplit=1)[0].split("Error: ", 1)[-1]
    for file in files:
        text = text.replace(str(file), file.name)
    return text.rstrip(". ").replace('"', "`")
