"""Guards: conditions on parameters that say when a column exists, and what follows from them.

A parameter that guards name has few values that matter: true and false, those of its choice, or those
it is compared with and one that is none of them. So all cases can be gone through.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from synthc.compiler import ast, typed, types
from synthc.compiler.check.values import resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span
from synthc.compiler.typed import Condition, Guard, Parameter

MAX_CASES = 10_000
"""How many cases are gone through at most; of more, columns are taken not to exclude each other."""

_ELSE = object()


def resolve(
    nodes: tuple[ast.Condition, ...],
    parameters: Mapping[str, Parameter],
    columns: Iterable[str],
    report: Callable[[Problem], None],
) -> Guard | None:
    """The guard that is written; None where a problem was reported."""
    known = {name: p for name, p in parameters.items() if p.kind == "value"}
    found = [_condition(node, known, tuple(columns), report) for node in nodes]
    return None if None in found else tuple(c for c in found if c is not None)


def _condition(
    node: ast.Condition,
    parameters: Mapping[str, Parameter],
    columns: tuple[str, ...],
    report: Callable[[Problem], None],
) -> Condition | None:
    name = node.parameter.text
    if name not in parameters:
        report(
            problems.GuardWithoutParameter(
                span=node.parameter.span,
                name=name,
                known=tuple(parameters),
                column=name in columns,
            )
        )
        return None
    type_ = types.required(parameters[name].type)
    if type_ == types.NULL:
        return None
    if node.value is None:
        if isinstance(type_, types.Bool):
            return Condition(name, node.negated)
        advice = f"compare it: `when {name} == {_example(type_)}`"
        report(
            problems.WrongType(
                span=node.parameter.span,
                what="what a guard asks for",
                expected="bool",
                found=types.name(parameters[name].type),
                advice=advice,
            )
        )
        return None
    value = resolve_value(node.value, type_, f"`{name}`", report)
    return Condition(name, node.negated, value[0]) if value else None


def _example(type_: types.Type) -> str:
    """What a parameter of the type could be compared with."""
    match type_:
        case types.Choice((first, *_)):
            return f'"{first}"' if isinstance(first, str) else str(first)
        case types.Int() | types.Float():
            return "1"
        case _:
            return '"…"'


def written(guard: Guard) -> str:
    """The guard as a spec writes it."""
    return "when " + " and ".join(str(condition) for condition in guard)


def absent(span: Span, name: str, ways: tuple[Guard, ...]) -> problems.GuardedOff:
    """That a column is left out by what the task was given; `ways` are the guards it exists under."""
    return problems.GuardedOff(
        span=span,
        name=name,
        guards=tuple(map(written, ways)),
        given=tuple(_given(condition) for condition in ways[0]),
    )


def _given(condition: Condition) -> str:
    """What a call would say for a condition to hold."""
    match condition.value:
        case bool() as truth:
            return (
                f"{condition.parameter} = {'true' if truth is not condition.negated else 'false'}"
            )
        case value:
            shown = f'"{value}"' if isinstance(value, str) else str(value)
            return f"{condition.parameter} {'!=' if condition.negated else '='} {shown}"


class Cases:
    """All combinations of the parameters' values that guards can tell apart."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = parameters

    def covered(self, guard: Guard, by: Iterable[Guard]) -> bool:
        """Whether in every case of the guard one of the others holds."""
        others = tuple(by)
        if () in others or guard in others:
            return True
        cases = self._cases((guard, *others))
        return cases is not None and all(
            any(typed.holds(other, case) for other in others)
            for case in cases
            if typed.holds(guard, case)
        )

    def exclude(self, one: Guard, other: Guard) -> bool:
        """Whether two guards never hold together."""
        cases = self._cases((one, other))
        return cases is not None and not any(
            typed.holds(one, case) and typed.holds(other, case) for case in cases
        )

    def _cases(self, guards: tuple[Guard, ...]) -> Iterator[dict[str, Any]] | None:
        compared: dict[str, list[Any]] = {}
        for condition in itertools.chain(*guards):
            values = compared.setdefault(condition.parameter, [])
            if condition.value not in values:
                values.append(condition.value)
        options = [self._values(name, values) for name, values in compared.items()]
        count = 1
        for values in options:
            count *= len(values)
        if count > MAX_CASES:
            return None
        return (dict(zip(compared, case, strict=True)) for case in itertools.product(*options))

    def _values(self, name: str, compared: list[Any]) -> list[Any]:
        type_ = types.required(self._parameters[name].type)
        if isinstance(type_, types.Bool):
            return [True, False]
        if isinstance(type_, types.Choice):
            return list(type_.values)
        return [*compared, _ELSE]
