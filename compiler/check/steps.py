"""What each step of a chain finds, does and leaves."""

from __future__ import annotations

from synthc.compiler import ast, typed, types
from synthc.compiler.check.arguments import bind_arguments
from synthc.compiler.check.scope import Scope
from synthc.compiler.check.tasks import MODEL_NAME
from synthc.compiler.check.values import assignable
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.parse.words import FORMS, NOT_YET_NAMES
from synthc.compiler.types import Field

_EMBEDDING = "embedding"


def check_step(scope: Scope, node: ast.Step) -> typed.Step | None:
    """The step with everything resolved, and the scope as it leaves it; None where it does not hold."""
    for word, said in (("using", node.usings), ("as", node.aliases)):
        if len(said) > 1:
            scope.report(problems.SaidTwice(span=said[1].span, word=word))
            return None
    callee = str(node.call.callee)
    if callee in ("where", "select", "limit"):
        for word, said in (("using", node.usings), ("as", node.aliases)):
            if said:
                scope.report(problems.NothingToUse(span=said[0].span, word=word, callee=callee))
                return None
    match callee:
        case "where":
            return _where(scope, node)
        case "select":
            return _select(scope, node)
        case "limit":
            count = scope.count(node.call, "limit")
            return None if count is None else typed.Limit(count, node.span)
        case "embed":
            return _embed(scope, node)
        case _ if callee not in scope.known.tasks:
            _no_step(scope, node.call, callee)
            return None
        case _:
            task = scope.known.tasks[callee]
            scope.columns_known = task is not None
            return _task(scope, node, task) if task else None


def _no_step(scope: Scope, node: ast.Call, callee: str) -> None:
    scope.columns_known = False
    if callee in NOT_YET_NAMES:
        scope.report(problems.NotYet(span=node.callee.span, word=callee))
    elif callee in ("read", "rows"):
        form = f"table {scope.table} = {FORMS[callee]}"
        scope.report(problems.WrongCall(span=node.span, callee=callee, form=form))
    else:
        steps = tuple(name for name in FORMS if name not in ("read", "rows"))
        near = str(node.callee.names[0].text)
        scope.report(
            problems.UnknownDeclaration(
                span=node.callee.span,
                kind="task or step",
                name=callee,
                known=(*scope.known.tasks, *steps),
                advice=f"did you mean `{near}`?" if near in scope.known.tasks else None,
            )
        )


def check_names_only(scope: Scope, node: ast.Step) -> None:
    """Check what can be checked of a step whose columns are unknown."""
    callee = str(node.call.callee)
    if callee not in ("where", "select", "limit", "embed", *scope.known.tasks):
        _no_step(scope, node.call, callee)
    for name in node.usings:
        known = tuple(scope.known.embedders) if callee == "embed" else scope.known.backends
        kind = "embedder" if callee == "embed" else "backend"
        if name.text not in known and (callee == "embed" or callee in scope.known.tasks):
            scope.report(
                problems.UnknownDeclaration(span=name.span, kind=kind, name=name.text, known=known)
            )


def _sql_text(scope: Scope, node: ast.Step, callee: str) -> ast.String | None:
    match node.call.arguments:
        case (ast.Argument(None, ast.String() as text),):
            return text
        case _:
            scope.wrong(callee, node.call.span)
            return None


def _where(scope: Scope, node: ast.Step) -> typed.Where | None:
    text = _sql_text(scope, node, "where")
    if text is None:
        return None
    bound = scope.binder.condition(text, scope.around, scope.report)
    return typed.Where(bound, node.span) if bound else None


def _select(scope: Scope, node: ast.Step) -> typed.Select | None:
    text = _sql_text(scope, node, "select")
    if text is None:
        scope.columns_known = False
        return None
    bound = scope.binder.columns(text, scope.around, scope.report)
    if bound is None:
        scope.columns_known = False
        return None
    # A column that only passes through keeps what is known of it (`T?`, a choice).
    kept = {name: scope.type_of(path) for name, path in (bound.plain or {}).items()}
    scope.columns = {field.name: kept.get(field.name, field.type) for field in bound.fields}
    return typed.Select(bound, node.span)


def _embed(scope: Scope, node: ast.Step) -> typed.Embed | None:
    for argument in node.call.arguments:
        if argument.name is not None and argument.name.text == "system":
            scope.report(problems.NotYet(span=argument.name.span, word="system"))
            return None
    match node.call.arguments:
        case (ast.Argument(None, ast.Path() as value),):
            path = scope.path(value)
        case _:
            scope.wrong("embed", node.call.span)
            return None
    embedder = scope.using(node, "embedder", tuple(scope.known.embedders))
    if path is None or embedder is None:
        return None
    found = types.required(scope.type_of(path))
    if not assignable(found, types.Text()):
        what = "what is embedded"
        scope.report(
            problems.WrongType(span=value.span, what=what, expected="text", found=types.name(found))
        )
        return None
    column = node.aliases[0].text if node.aliases else _EMBEDDING
    place = node.aliases[0].span if node.aliases else node.call.callee.span
    advice = None if node.aliases else f"name the vector: `as {column}2`"
    if scope.taken(column, place, advice):
        return None
    dimensions = scope.known.embedders[embedder]
    scope.columns[column] = types.Vector(dimensions)
    return typed.Embed(path, embedder, dimensions, column, node.span)


def _task(scope: Scope, node: ast.Step, task: typed.Task) -> typed.TaskStep | None:
    given = bind_arguments(scope, node, task)
    backend: str | None = None
    sound = True
    if node.usings and not task.asks:
        name = node.usings[0]
        scope.report(problems.NothingToUse(span=name.span, word="using", callee=task.name))
        sound = False
    elif node.usings or task.needs_backend:
        backend = scope.using(node, "backend", scope.known.backends)
        sound = backend is not None
    made = [(column.name, column.type) for column in task.outputs]
    if task.asks and MODEL_NAME not in (name for name, _ in made):
        made.append((MODEL_NAME, types.Text()))
    alias = node.aliases[0] if node.aliases else None
    if alias:
        if scope.taken(alias.text, alias.span):
            return None
        fields = tuple(Field(name, type_) for name, type_ in made)
        scope.columns[alias.text] = types.Record(fields)
    else:
        for name, type_ in made:
            if name == MODEL_NAME and name in scope.columns:
                del scope.columns[name]
            elif scope.taken(name, node.call.callee.span, _own_name(name)):
                return None
            scope.columns[name] = type_
    if not sound or given is None:
        return None
    return typed.TaskStep(task, given, backend, alias.text if alias else None, node.span)


def _own_name(column: str) -> str:
    return f"give the step's columns a name of their own: `as step2` (then `step2.{column}`)"
