"""The data files that a spec names: which they are, and which columns they have."""

from __future__ import annotations

import functools
import glob
from collections.abc import Callable
from pathlib import Path

import duckdb

from synthc.compiler import ast, plan, types
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.types import Field

Report = Callable[[Problem], None]


def find(path: str, base: Path) -> list[Path]:
    """The files that a path or pattern of a spec means, in the order of their names."""
    if glob.has_magic(path) and not (base / path).is_file():
        return sorted(found for found in map(Path, glob.glob(str(base / path), recursive=True)))
    return [base / path] if (base / path).is_file() else []


class Reader:
    """Looks into data files for their columns, through one DuckDB that is opened when first needed."""

    def __init__(self, base: Path) -> None:
        self._base = base

    @functools.cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(":memory:", config={"python_enable_replacements": False})

    def columns(self, path: ast.String, report: Report) -> tuple[Field, ...] | None:
        """The columns of the files that a spec reads, or None where a problem was reported."""
        if plan.file_format(path.text) is None:
            known = tuple(plan.FORMATS)
            report(problems.UnknownFormat(span=path.span, path=path.text, known=known))
            return None
        found = find(path.text, self._base)
        if not found:
            near = self._near(path.text)
            report(problems.FileNotFound(span=path.span, path=path.text, near=near))
            return None
        fields, reason = self._look(path.text, found)
        if reason:
            report(problems.FileUnreadable(span=path.span, path=path.text, reason=reason))
            return None
        return fields

    def _near(self, path: str) -> str | None:
        folder = (self._base / path).parent
        siblings = (
            [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
        )
        near = nearest(Path(path).name, siblings)
        return (Path(path).parent / near).as_posix() if near else None

    def _look(self, path: str, found: list[Path]) -> tuple[tuple[Field, ...], str | None]:
        """The columns, and why there are none."""
        if all(file.stat().st_size == 0 for file in found):
            return (), "it is empty"
        reading = plan.reading(path, [str(file) for file in found])
        try:
            relation = self._connection.sql(f"SELECT * FROM {reading}")
            described = zip(relation.columns, relation.types, strict=True)
            fields = tuple(Field(name, types.from_duckdb(type_)) for name, type_ in described)
        except duckdb.Error as error:
            return (), readable(str(error), found)
        if plan.file_format(path) == "json" and [field.name for field in fields] == ["json"]:
            return (), "its rows are no JSON objects"
        return fields, None


def readable(message: str, files: list[Path]) -> str:
    """The first line of what DuckDB said of a file, without the folder that it lies in."""
    text = message.split("\n", maxsplit=1)[0].split("Error: ", 1)[-1]
    for file in files:
        text = text.replace(str(file), file.name)
    return text.rstrip(". ").replace('"', "`")
