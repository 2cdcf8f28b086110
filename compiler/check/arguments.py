"""What a task's parameters and inputs are given: by a step, by a test, for good by a task's other name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from synthc.compiler import ast, typed, types
from synthc.compiler.check.mutations import can_see
from synthc.compiler.check.scope import Scope
from synthc.compiler.check.task_scope import Known
from synthc.compiler.check.values import assignable, described, resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem

_SETTINGS = ("temperature", "max_tokens", "max_new_tokens", "top_p", "stop", "seed", "timeout")

Report = Callable[[Problem], None]
Given = dict[str, typed.Given]


def bind_arguments(scope: Scope, node: ast.Step, task: typed.Task) -> tuple[Given, bool]:
    """What each parameter and input of the task is given, and whether all of it holds."""
    parameters = {p.name: p for p in task.open}
    inputs = {column.name: column for column in task.inputs}
    wanted = (*parameters, *inputs)
    given: Given = {}
    sound = True
    misnamed = False
    for argument in node.call.arguments:
        # What no column of its own name binds was meant first.
        order = sorted(wanted, key=lambda name: name in scope.columns)
        name = _name(scope.report, argument, task, tuple(order), given, scope)
        if name is None:
            sound = False
            misnamed = True
            continue
        if name in parameters:
            value = _parameter(scope, argument, parameters[name], task)
        else:
            what = f"`{name}` of `{task.name}`"
            value = _value(scope, argument.value, inputs[name], what)
        sound = sound and value is not None
        given[name] = value or typed.Given()
    # What is missing may be what an argument of another name, or of none, was meant for.
    sound = _inputs(scope, node, task, given, quiet=misnamed) and sound
    for parameter in task.open:
        if parameter.name not in given:
            if not parameter.has_default:
                if not misnamed:
                    _missing(scope, node, task, parameter.name, "parameter")
                sound = False
            given[parameter.name] = by_default(parameter)
    return {**task.filled, **given}, sound


def by_default(parameter: typed.Parameter) -> typed.Given:
    """What a parameter is that is not given."""
    if isinstance(parameter.default, typed.Sample):
        return typed.Given(sample=parameter.default)
    return typed.Given(value=parameter.default)


def _name(
    report: Report,
    argument: ast.Argument,
    task: typed.Task,
    wanted: tuple[str, ...],
    given: Mapping[str, typed.Given],
    around: Scope | Known,
) -> str | None:
    """The name that an argument is given by; None where a problem was reported."""
    if argument.name is None or argument.alias:
        left = tuple(name for name in wanted if name not in given)
        value = argument.value
        meant = next((name for name in left if _takes(task, name, value, around)), None)
        shown = str(value) if isinstance(value, ast.Path) else described(value)
        form = f"{task.name}({meant or '…'} = {shown.strip('`')})"
        names = () if meant else left
        report(problems.WrongCall(span=argument.span, callee=task.name, form=form, names=names))
        return None
    name = argument.name.text
    if name not in wanted:
        advice = None
        if name in task.filled:
            advice = f"`{task.name}` has a value for it already"
        elif name in (column.name for column in task.inputs):
            advice = f"`{name}` is an input: it is bound where `{task.name}` is a step"
        elif name in (column.name for column in task.outputs):
            advice = f"`{name}` is what the task makes: `{task.name} as …` gives it a name"
        elif name in (column.name for produce in task.produces for column in produce.columns):
            advice = (
                f"`{name}` is for the task itself; a parameter is `task {task.name}({name}: …)`"
            )
        elif name in _SETTINGS:
            advice = (
                f"`{name}` is a setting of the backend: `backend other extends … {{ {name} = … }}`"
            )
        elif name in ("n", "num_generations", "num_return_sequences", "samples"):
            advice = 'several answers to one prompt: `out answers: text[] = ask "…" n 3`'
        elif name in ("input_mappings", "inputs", "mapping", "columns"):
            advice = f"each input is given by its own name: `{task.name}(input = column)`"
        report(
            problems.UnknownArgument(
                span=argument.name.span, callee=task.name, name=name, known=wanted, advice=advice
            )
        )
        return None
    if name in given:
        report(problems.SaidTwice(span=argument.name.span, word=name))
        return None
    return name


def _takes(task: typed.Task, name: str, value: ast.Value, around: Scope | Known) -> bool:
    """Whether a value without a name could be meant for a parameter or an input of the task."""
    parameter = next((p for p in task.open if p.name == name), None)
    wanted = parameter or next(column for column in task.inputs if column.name == name)
    kind = parameter.kind if parameter else "value"
    known = around.known.outside if isinstance(around, Scope) else around
    if isinstance(value, ast.Path):
        declared = {"backend": known.backends, "mutations": known.mutations}
        if kind != "value" or any(str(value) in names for names in declared.values()):
            return str(value) in declared.get(kind, ())
        return isinstance(around, Scope)  # a column; of those another task knows none
    if isinstance(value, ast.ParameterValue) and value.name in known.constants:
        return kind == "value" and assignable(known.constants[value.name][1], wanted.type)
    return kind == "value" and resolve_value(value, wanted.type, "", lambda _: None) is not None


def _inputs(scope: Scope, node: ast.Step, task: typed.Task, given: Given, *, quiet: bool) -> bool:
    """Give inputs that are not given the columns of their names."""
    sound = True
    for column in task.inputs:
        if column.name in given:
            continue
        if column.name in scope.columns:
            found = scope.columns[column.name]
            if not scope.fits(found, column.type, f"`{column.name}` of `{task.name}`", node):
                sound = False
            given[column.name] = typed.Given(path=(column.name,))
        else:
            if not quiet:
                _missing(scope, node, task, column.name, "input")
            sound = False
            given[column.name] = typed.Given()
    return sound


def _missing(scope: Scope, node: ast.Step, task: typed.Task, name: str, kind: Any) -> None:
    scope.report(
        problems.MissingArgument(
            span=node.call.callee.span,
            task=task.name,
            name=name,
            kind=kind,
            columns=tuple(scope.columns),
            advice=_bind_part(scope, task, name)
            if kind == "input"
            else _declare_input(scope, task, name),
        )
    )


def _declare_input(scope: Scope, task: typed.Task, name: str) -> str | None:
    """A parameter that was meant as an input: the table has a column of its name."""
    if name not in scope.columns:
        return None
    return f"a column is an input, `in {name}: …`, or is given: `{task.name}({name} = {name})`"


def _bind_part(scope: Scope, task: typed.Task, name: str) -> str | None:
    """How an input is bound to a part of a struct that has its name."""
    for column, type_ in scope.columns.items():
        inner = types.required(type_)
        if isinstance(inner, types.Record) and any(f.name == name for f in inner.fields):
            return f"bind it: `{task.name}({name} = {column}.{name})`"
    return None


def _parameter(
    scope: Scope, argument: ast.Argument, parameter: typed.Parameter, task: typed.Task
) -> typed.Given | None:
    value = argument.value
    if isinstance(value, ast.Path) and parameter.kind == "value":
        if parameter.constant and str(value) in scope.columns:
            what = f"`{parameter.name}` of `{task.name}`"
            scope.report(problems.NotConstant(span=value.span, what=what))
            return None
        return _value(scope, value, parameter, f"`{parameter.name}` of `{task.name}`")
    columns = tuple(scope.columns)
    return given_constant(value, parameter, task.name, scope.known.outside, scope.report, columns)


def _value(
    scope: Scope, value: ast.Value, wanted: typed.Parameter | typed.Column, what: str
) -> typed.Given | None:
    """A column, a parameter of the spec or a literal, of the type that is wanted."""
    match value:
        case ast.Path():
            path = scope.path(value)
            if path is None or not scope.fits(scope.type_of(path), wanted.type, what, value):
                return None
            return typed.Given(path=path)
        case ast.ParameterValue(name, span):
            constant = scope.constant(name, span)
            if constant is None or not scope.fits(constant[1], wanted.type, what, value):
                return None
            return typed.Given(value=constant[0])
        case ast.Apply(_, _, span):
            found = described(value)
            wanted_ = "a column, a `$parameter` or a literal"
            scope.report(problems.BadValue(span=span, what=what, wanted=wanted_, found=found))
            return None
        case _:
            taken = resolve_value(value, wanted.type, what, scope.report)
            if isinstance(value, ast.String) and taken and _names_column(scope, value.text):
                scope.report(problems.QuotedColumn(span=value.span, name=value.text))
            return typed.Given(value=taken[0]) if taken else None


def _names_column(scope: Scope, text: str) -> bool:
    """Whether a text is the name of a column of the table, or of a part of one."""
    name, _, part = text.partition(".")
    type_ = types.required(scope.columns[name]) if name in scope.columns else None
    if not part:
        return type_ is not None
    return isinstance(type_, types.Record) and any(field.name == part for field in type_.fields)


def given_constant(
    value: ast.Value,
    parameter: typed.Parameter,
    task: str,
    known: Known,
    report: Report,
    columns: tuple[str, ...] = (),
) -> typed.Given | None:
    """What a parameter is given that is known before a run; None where a problem was reported."""
    what = f"`{parameter.name}` of `{task}`"
    if parameter.kind != "value":
        return _declaration(value, parameter, what, known, report)
    if isinstance(value, ast.Path) and str(value) in known.constants:
        wanted, near = "a value", f"${value}"
        shown = f"`{value}`, a parameter without its `$`"
        report(problems.BadValue(span=value.span, what=what, wanted=wanted, found=shown, near=near))
        return None
    if isinstance(value, ast.ParameterValue):
        found = _constant(value, parameter, what, known, report, columns)
    else:
        found = resolve_value(value, parameter.type, what, report)
    if found is None:
        return None
    if parameter.count and isinstance(found[0], int) and found[0] < 0:
        wanted = "a whole number from 0"
        report(problems.BadValue(span=value.span, what=what, wanted=wanted, found=str(found[0])))
        return None
    return typed.Given(value=found[0])


def _constant(
    value: ast.ParameterValue,
    parameter: typed.Parameter,
    what: str,
    known: Known,
    report: Report,
    columns: tuple[str, ...],
) -> tuple[Any] | None:
    if value.name not in known.constants:
        names = tuple(known.constants)
        report(
            problems.UnknownParameter(
                span=value.span, name=value.name, known=names, columns=columns
            )
        )
        return None
    constant, type_ = known.constants[value.name]
    if assignable(type_, parameter.type):
        return (constant,)
    report(
        problems.WrongType(
            span=value.span,
            what=what,
            expected=types.name(parameter.type),
            found=types.name(type_),
        )
    )
    return None


def _declaration(
    value: ast.Value, parameter: typed.Parameter, what: str, known: Known, report: Report
) -> typed.Given | None:
    """The backend or the set that a parameter is given by name."""
    kind = parameter.kind
    options = known.backends if kind == "backend" else tuple(known.mutations)
    if not isinstance(value, ast.Path):
        wanted = f"the name of a declaration, `{kind} name {{ … }}`"
        quoted = value.text if isinstance(value, ast.String) else ""
        report(
            problems.BadValue(
                span=value.span,
                what=what,
                wanted=wanted,
                found=described(value),
                advice=f"names stand without quotes: `{quoted}`" if quoted in options else None,
            )
        )
        return None
    name = str(value)
    if name not in options:
        report(problems.UnknownDeclaration(span=value.span, kind=kind, name=name, known=options))
        return None
    mutations = known.mutations[name] if kind == "mutations" else None
    asked = parameter.constant  # else no ask draws from it
    if mutations and asked and not can_see(mutations, parameter.sees, value.span, report):
        return None
    return typed.Given(value=name)


def check_alias(
    node: ast.TaskAlias, tasks: Mapping[str, typed.Task | None], known: Known, report: Report
) -> typed.Task | None:
    """The task that another name stands for, with its arguments filled in."""
    callee = str(node.call.callee)
    if callee not in tasks:
        report(
            problems.UnknownDeclaration(
                span=node.call.callee.span, kind="task", name=callee, known=tuple(tasks)
            )
        )
        return None
    task = tasks[callee]
    if task is None:
        return None
    filled: Given = {}
    parameters = {p.name: p for p in task.open}
    sound = True
    for argument in node.call.arguments:
        name = _name(report, argument, task, tuple(parameters), filled, known)
        given = (
            given_constant(argument.value, parameters[name], task.name, known, report)
            if name
            else None
        )
        if name is None or given is None:
            sound = False
        else:
            filled[name] = given
    if not sound:
        return None
    return msgspec.structs.replace(
        task, name=node.name.text, span=node.name.span, filled={**task.filled, **filled}
    )
