"""Where a table's rows come from: `read`, `rows`, `files`, SQL, another table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from msgspec import structs

from synthc.compiler import ast, plan, typed, types
from synthc.compiler.check.scope import Scope
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.values import resolve_type
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.parse.words import FORMS, SOURCES
from synthc.compiler.types import Field, Type


def check_source(scope: Scope, node: ast.Call | ast.QuerySource) -> typed.Source | None:
    """The source, and the scope with its columns; None where it does not hold."""
    if isinstance(node, ast.QuerySource):
        return _query(scope, node)
    name = str(node.callee)
    if node.brackets or (name in SOURCES and name not in scope.known.tables):
        match name:
            case "read":
                return _read(scope, node)
            case "rows":
                count = scope.count(node, "rows")
                return None if count is None else plan.Rows(node.span, count)
            case "files":
                return _files(scope, node)
            case _ if name in scope.known.tables:
                form = f"table {scope.table} = {name}"
                scope.report(problems.WrongCall(span=node.span, callee=name, form=form))
                return None
            case _:
                pass
    if name not in scope.known.tables:
        _no_source(scope, node, name)
        return None
    table = scope.known.tables[name]
    if table is None:
        return None
    scope.columns = {field.name: field.type for field in table.columns}
    return plan.From(node.span, name)


def _no_source(scope: Scope, node: ast.Call, name: str) -> None:
    if name in scope.known.tasks or name in FORMS:
        call = f"{name}(…)" if node.brackets or name in FORMS else name
        form = f"table {scope.table} = … |> {call}"
        task = f"; a task of that name is `task {scope.table} = {call}`"
        advice = task if node.brackets and name in scope.known.tasks else None
        scope.report(problems.WrongCall(span=node.span, callee=name, form=form, advice=advice))
        return
    known = tuple(scope.known.tables)
    scope.report(
        problems.UnknownDeclaration(
            span=node.callee.span,
            kind="source" if node.brackets else "table",
            name=name,
            known=(*known, *SOURCES) if node.brackets else known,
            advice=_other_source(name) if node.brackets else None,
        )
    )


def _other_source(name: str) -> str | None:
    """What a source of other tools is here."""
    word = name.rsplit(".", maxsplit=1)[-1]
    if word in ("range", "seq", "generate_series"):
        return "rows without columns come from `rows(100)`"
    if word.startswith(("read_", "load", "scan_", "from_", "open")):
        return 'a file is read with `read("file.jsonl")`'
    return None


def _query(scope: Scope, node: ast.QuerySource) -> typed.Query | None:
    if scope.known.unsound(scope.binder.query_tables(node.text)):
        return None
    around = Surroundings("the query", {}, scope.known.parameters, scope.known.folded)
    bound = scope.binder.query(node.text, around, scope.report)
    if bound is None:
        return None
    scope.columns = {field.name: field.type for field in bound.fields}
    if node.key and not scope.has(node.key, scope.columns):
        return None
    return typed.Query(bound, node.key.text if node.key else None, node.span)


def _read(scope: Scope, node: ast.Call) -> plan.Read | None:
    path: ast.String | None = None
    key: ast.Name | None = None
    declared: ast.RecordValue | None = None
    parts: dict[str, ast.String] = {}
    for argument in node.arguments:
        match argument:
            case ast.Argument(None, ast.String() as text) if path is None and not argument.alias:
                path = text
            case ast.Argument(ast.Name("key"), ast.Path((name,))) if key is None:
                key = name
            case ast.Argument(ast.Name("types"), ast.RecordValue() as record) if not declared:
                declared = record
            case ast.Argument(ast.Name("split" | "config" as part), ast.String() as text) if (
                part not in parts
            ):
                parts[part] = text
            case ast.Argument(ast.Name("key"), ast.String(text)) if text.isidentifier():
                form = f'read("{path.text if path else "file.jsonl"}", key = {text})'
                return scope.wrong("read", argument.span, form)
            case ast.Argument(None, ast.Path() as bare, _, None) if path is None and "." in str(
                bare
            ):
                return scope.wrong("read", argument.span, f'read("{bare}")')
            case _:
                return scope.wrong("read", argument.span)
    if path is None:
        return scope.wrong("read", node.span)
    if parts or path.text.startswith("hf:"):
        path = _dataset(scope, path, parts)
        if path is None:
            return None
    found = scope.known.files.columns(path, scope.report)
    if found is not None and declared is not None:
        found = _declared(scope, path, found, declared)
    if found is None:
        return None
    scope.columns = {field.name: field.type for field in found}
    if key and not scope.has(key, scope.columns):
        return None
    return plan.Read(node.span, path.text, found, key.text if key else None)


_DATASET = re.compile(rf"{plan.DATASET}[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)
_PART = re.compile(r"[\w.:%+\[\]-]+", re.ASCII)


def _dataset(scope: Scope, path: ast.String, parts: Mapping[str, ast.String]) -> ast.String | None:
    """The path of a dataset of the Hub as a plan has it; None where a problem was reported."""
    if not _DATASET.fullmatch(path.text):
        if path.text.startswith("hf:"):
            wanted, found = "`hf:datasets/org/name` or `hf:datasets/org/name@revision`", path.text
            scope.report(
                problems.BadValue(
                    span=path.span,
                    what="a dataset of the Hugging Face Hub",
                    wanted=wanted,
                    found=f'"{found}"',
                )
            )
            return None
        form = 'read("file.jsonl")` or `read("hf:datasets/org/name", split = "train")'
        return scope.wrong("read", next(iter(parts.values())).span, form)
    if "split" not in parts:
        return scope.wrong("read", path.span, f'read("{path.text}", split = "train")')
    for part, text in parts.items():
        if not _PART.fullmatch(text.text):
            scope.report(
                problems.BadValue(
                    span=text.span,
                    what=f"the `{part}` of a dataset",
                    wanted="a name without spaces or slashes",
                    found=f'"{text.text}"',
                )
            )
            return None
    configuration = f"{parts['config'].text}/" if "config" in parts else ""
    return structs.replace(path, text=f"{path.text}#{configuration}{parts['split'].text}")


def _declared(
    scope: Scope, path: ast.String, found: tuple[Field, ...], node: ast.RecordValue
) -> tuple[Field, ...] | None:
    """The columns of a file with the types that the spec gives them."""
    known: dict[str, tuple[ast.Name, Type]] = {}
    for column in node.fields:
        name, type_ = column.name, resolve_type(column.type, scope.report)
        if name.text in known:
            scope.report(problems.SaidTwice(span=name.span, word=name.text))
        elif type_ is not None:
            known[name.text] = name, type_
    if len(known) < len(node.fields):
        return None
    return scope.known.files.declared(path, found, tuple(known.values()), scope.report)


_HELD: Mapping[str, Type] = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff"), types.Image()),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg", ".m4a"), types.Audio()),
}
"""What files of an ending are, besides a path."""


def _files(scope: Scope, node: ast.Call) -> plan.Files | None:
    match node.arguments:
        case (ast.Argument(None, ast.String() as path, _, None),):
            pass
        case _:
            return scope.wrong("files", node.span)
    if not scope.known.files.paths(path, scope.report):
        return None
    scope.columns = {"path": types.Text()}
    held = _HELD.get(PurePosixPath(path.text.lower()).suffix)
    if held is not None:
        scope.columns[types.name(held)] = held
    fields = tuple(Field(name, type_) for name, type_ in scope.columns.items())
    return plan.Files(node.span, path.text, fields)
