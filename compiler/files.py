"""The data files that a spec names: which they are, and which columns they have."""

from __future__ import annotations

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


def columns(path: ast.String, base: Path, report: Report) -> tuple[Field, ...] | None:
    """The columns of the files that a spec reads, or None where a problem was reported."""
    if plan.file_format(path.text) is None:
        known = tuple(plan.FORMATS)
        report(problems.UnknownFormat(span=path.span, path=path.text, known=known))
        return None
    found = find(path.text, base)
    if not found:
        folder = (base / path.text).parent
        siblings = [f.name for f in folder.iterdir() if f.is_file()] if folder.is_dir() else []
        near = nearest(Path(path.text).name, siblings)
        if near:
            near = (Path(path.text).parent / near).as_posix()
        report(problems.FileNotFound(span=path.span, path=path.text, near=near))
        return None
    if all(file.stat().st_size == 0 for file in found):
        report(problems.FileUnreadable(span=path.span, path=path.text, reason="it is empty"))
        return None
    with duckdb.connect(":memory:", config={"python_enable_replacements": False}) as connection:
        try:
            relation = connection.sql(
                f"SELECT * FROM {plan.reading(path.text, [str(file) for file in found])}"
            )
            fields = tuple(
                Field(name, types.from_duckdb(type_))
                for name, type_ in zip(relation.columns, relation.types, strict=True)
            )
        except duckdb.Error as error:
            reason = readable(str(error), found)
            report(problems.FileUnreadable(span=path.span, path=path.text, reason=reason))
            return None
    if plan.file_format(path.text) == "json" and [f.name for f in fields] == ["json"]:
        reason = "its rows are no JSON objects"
        report(problems.FileUnreadable(span=path.span, path=path.text, reason=reason))
        return None
    return fields


def readable(message: str, files: list[Path]) -> str:
    """The first line of what DuckDB said of a file, without the folder that it lies in."""
    text = message.split("\n", maxsplit=1)[0].split("Error: ", 1)[-1]
    for file in files:
        text = text.replace(str(file), file.name)
    return text.rstrip(". ").replace('"', "`")
