"""Where a table's rows come from: `read`, `rows`, SQL, another table."""

from __future__ import annotations

from synthc.compiler import ast, plan, typed
from synthc.compiler.check.scope import Scope
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.parse.words import FORMS, NOT_YET_NAMES


def check_source(scope: Scope, node: ast.Call | ast.QuerySource) -> typed.Source | None:
    """The source, and the scope with its columns; None where it does not hold."""
    if isinstance(node, ast.QuerySource):
        return _query(scope, node)
    name = str(node.callee)
    if node.brackets or name in ("read", "rows"):
        match name:
            case "read":
                return _read(scope, node)
            case "rows":
                count = scope.count(node, "rows")
                return None if count is None else plan.Rows(node.span, count)
            case _ if name in NOT_YET_NAMES:
                scope.report(problems.NotYet(span=node.callee.span, word=name))
                return None
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
        scope.report(problems.WrongCall(span=node.span, callee=name, form=form))
        return
    known = tuple(scope.known.tables)
    scope.report(
        problems.UnknownDeclaration(
            span=node.callee.span,
            kind="source" if node.brackets else "table",
            name=name,
            known=(*known, "read", "rows") if node.brackets else known,
        )
    )


def _query(scope: Scope, node: ast.QuerySource) -> typed.Query | None:
    tables = {name.lower(): table for name, table in scope.known.tables.items()}
    needed = scope.binder.query_tables(node.text)
    if any(tables.get(name.lower(), ...) is None for name in needed):
        return None
    around = Surroundings("the query", {}, scope.known.parameters, tuple(scope.known.tables))
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
    for argument in node.arguments:
        match argument:
            case ast.Argument(None, ast.String() as text) if path is None:
                path = text
            case ast.Argument(ast.Name("key"), ast.Path((name,))):
                key = name
            case ast.Argument(ast.Name("types") as name, _):
                scope.report(problems.NotYet(span=name.span, word="types"))
                return None
            case _:
                return scope.wrong("read", argument.span)
    if path is None:
        return scope.wrong("read", node.span)
    found = scope.known.files.columns(path, scope.report)
    if found is None:
        return None
    scope.columns = {field.name: field.type for field in found}
    if key and not scope.has(key, scope.columns):
        return None
    return plan.Read(node.span, path.text, found, key.text if key else None)
