"""What a task's parameters and inputs are given by a step."""

from __future__ import annotations

from typing import Any

from synthc.compiler import ast, typed, types
from synthc.compiler.check.scope import Scope
from synthc.compiler.check.values import described, resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.types import Type


def bind_arguments(scope: Scope, node: ast.Step, task: typed.Task) -> dict[str, typed.Given] | None:
    """What each parameter and input of the task is given; None where something does not hold."""
    wanted: dict[str, Type] = {p.name: p.type for p in task.parameters}
    wanted |= {column.name: column.type for column in task.inputs}
    given: dict[str, typed.Given] = {}
    sound = True
    for argument in node.call.arguments:
        if argument.name is None:
            form = f"{task.name}({next(iter(wanted), 'name')} = …)"
            scope.report(problems.WrongCall(span=argument.span, callee=task.name, form=form))
            sound = False
            continue
        name = argument.name.text
        if name not in wanted:
            scope.report(
                problems.UnknownArgument(
                    span=argument.name.span, callee=task.name, name=name, known=tuple(wanted)
                )
            )
            sound = False
            continue
        if name in given:
            scope.report(problems.SaidTwice(span=argument.name.span, word=name))
            sound = False
            continue
        value = _given(scope, argument, wanted[name], f"`{name}` of `{task.name}`")
        sound = sound and value is not None
        given[name] = value or typed.Given()
    for column in task.inputs:
        if column.name in given:
            continue
        if column.name in scope.columns:
            found = scope.columns[column.name]
            if not scope.fits(found, column.type, f"`{column.name}` of `{task.name}`", node):
                sound = False
            given[column.name] = typed.Given(path=(column.name,))
        else:
            _missing(scope, node, task, column.name, "input")
            sound = False
    for parameter in task.parameters:
        if parameter.name not in given:
            if not parameter.has_default:
                _missing(scope, node, task, parameter.name, "parameter")
                sound = False
            given[parameter.name] = typed.Given(value=parameter.default)
    return given if sound else None


def _missing(scope: Scope, node: ast.Step, task: typed.Task, name: str, kind: Any) -> None:
    scope.report(
        problems.MissingArgument(
            span=node.call.callee.span,
            task=task.name,
            name=name,
            kind=kind,
            columns=tuple(scope.columns),
            advice=_bind_part(scope, task, name) if kind == "input" else None,
        )
    )


def _bind_part(scope: Scope, task: typed.Task, name: str) -> str | None:
    """How an input is bound to a part of a struct that has its name."""
    for column, type_ in scope.columns.items():
        inner = types.required(type_)
        if isinstance(inner, types.Record) and any(f.name == name for f in inner.fields):
            return f"bind it: `{task.name}({name} = {column}.{name})`"
    return None


def _given(scope: Scope, argument: ast.Argument, wanted: Type, what: str) -> typed.Given | None:
    match argument.value:
        case ast.Path() as value:
            path = scope.path(value)
            if path is None or not scope.fits(scope.type_of(path), wanted, what, value):
                return None
            return typed.Given(path=path)
        case ast.ParameterValue(name, span) as value:
            constant = scope.constant(name, span)
            if constant is None or not scope.fits(constant[1], wanted, what, value):
                return None
            return typed.Given(value=constant[0])
        case ast.Apply(_, _, span):
            scope.report(
                problems.BadValue(
                    span=span,
                    what=what,
                    wanted="a column, a `$parameter` or a literal",
                    found=described(argument.value),
                )
            )
            return None
        case value:
            taken = resolve_value(value, wanted, what, scope.report)
            return typed.Given(value=taken[0]) if taken else None
