"""What `sample` draws from, checked against the type of what is drawn."""

from __future__ import annotations

from collections.abc import Callable

from synthc.compiler import ast, plan, typed, types
from synthc.compiler.check.files import Reader
from synthc.compiler.check.values import described, resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse.words import SAMPLES
from synthc.compiler.types import Field, Type

Report = Callable[[Problem], None]
Constant = Callable[[ast.Value, str, Type], typed.FromParameter | tuple[object] | None]
"""A literal, or a parameter whose value is known before a run: (value, what it is, its type)."""


def check_sample(
    node: ast.Sample, name: str, type_: Type, files: Reader, constant: Constant, report: Report
) -> typed.Sample | None:
    """The draw for a column of the type; None where a problem was reported."""
    drawn = type_
    least = most = None
    if node.least is not None and node.most is not None:
        inner = types.required(type_)
        if not isinstance(inner, types.ListOf):
            _several_need_a_list(node, name, type_, report)
            return None
        drawn = inner.element
        counts = [_count(value, constant, report) for value in (node.least, node.most)]
        if counts[0] is None or counts[1] is None:
            return None
        least, most = counts[0], counts[1]
        if isinstance(least, int) and isinstance(most, int) and least > most:
            report(
                problems.BadValue(
                    span=node.most.span,
                    what="the larger number",
                    wanted=f"{least} or more",
                    found=str(most),
                )
            )
            return None
    source = _source(node, name, drawn, files, constant, report)
    if source is None:
        return None
    if isinstance(source, plan.Choices) and isinstance(most, int) and most > len(source.values):
        report(
            problems.BadValue(
                span=node.span,
                what="what is drawn",
                wanted=f"at most {len(source.values)} different values",
                found=str(most),
            )
        )
        return None
    return typed.Sample(source, Field(name, drawn), least, most, node.span)


def _several_need_a_list(node: ast.Sample, name: str, type_: Type, report: Report) -> None:
    report(
        problems.WrongType(
            span=node.span,
            what=f"`{name}`",
            expected=f"{types.name(types.required(type_))}[]",
            found=types.name(type_),
            advice="several values are drawn: declare a list",
        )
    )


def _count(value: ast.Value, constant: Constant, report: Report) -> typed.Count | None:
    found = constant(value, "how many are drawn", types.Int())
    if found is None or isinstance(found, typed.FromParameter):
        return found
    number = found[0]
    if isinstance(number, int) and number >= 0:
        return number
    wanted = "a whole number from 0"
    what = "how many are drawn"
    report(problems.BadValue(span=value.span, what=what, wanted=wanted, found=str(number)))
    return None


def _source(
    node: ast.Sample, name: str, type_: Type, files: Reader, constant: Constant, report: Report
) -> plan.Distribution | typed.FromParameter | None:
    inner = types.required(type_)
    match node.choices:
        case ():
            if isinstance(inner, types.Choice | types.Bool):
                values = inner.values if isinstance(inner, types.Choice) else (True, False)
                return plan.Choices(values, tuple(1.0 for _ in values))
            report(
                problems.WrongType(
                    span=node.span,
                    what=f"`{name}`",
                    expected="a choice",
                    found=types.name(type_),
                    advice='say what is drawn from: `sample "a" | "b"`',
                )
            )
            return None
        case (ast.Weighted(ast.Apply() as apply, None),):
            return _distribution(apply, name, inner, files, report)
        case (ast.Weighted(ast.ParameterValue() as value, None),):
            found = constant(value, "what is drawn from", types.ListOf(type_))
            return found if isinstance(found, typed.FromParameter) else None
        case choices:
            return _choices(choices, name, type_, report)


def _choices(
    nodes: tuple[ast.Weighted, ...], name: str, type_: Type, report: Report
) -> plan.Choices | None:
    values: list[object] = []
    weights: list[float] = []
    sound = True
    for node in nodes:
        value = resolve_value(node.value, type_, f"what is drawn for `{name}`", report)
        weight = node.weight.value if node.weight else 1
        if not isinstance(weight, int | float) or not 0 < weight < 1e9:
            wanted = "a number above 0"
            report(
                problems.BadValue(span=node.span, what="a weight", wanted=wanted, found=str(weight))
            )
            sound = False
        elif value is not None and value[0] in values:
            report(problems.SaidTwice(span=node.span, word=described(node.value)))
            sound = False
        elif value is None:
            sound = False
        else:
            values.append(value[0])
            weights.append(float(weight))
    return plan.Choices(tuple(values), tuple(weights)) if sound else None


def _distribution(
    node: ast.Apply, name: str, type_: Type, files: Reader, report: Report
) -> plan.Distribution | None:
    callee = str(node.function)
    if callee not in SAMPLES:
        known = tuple(SAMPLES)
        report(
            problems.UnknownDeclaration(
                span=node.function.span, kind="distribution", name=callee, known=known
            )
        )
        return None
    if callee == "lines":
        match node.arguments:
            case (ast.String() as path,):
                fits = _fits(node, name, type_, (types.Text,), "text", report)
                return plan.Lines(path.text) if files.lines(path, report) and fits else None
            case _:
                return _wrong(node, callee, report)
    numbers = [v.value for v in node.arguments if isinstance(v, ast.Literal)]
    if len(numbers) != len(node.arguments) or not all(
        isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e300 for n in numbers
    ):
        return _wrong(node, callee, report)
    wanted = (types.Int,) if callee == "poisson" else (types.Int, types.Float)
    if not _fits(node, name, type_, wanted, "int" if callee == "poisson" else "float", report):
        return None
    values = [float(n) for n in numbers if n is not None]
    match callee, values:
        case "uniform", [low, high] if low <= high:
            whole = low.is_integer() and high.is_integer()
            if isinstance(type_, types.Int) and not whole:
                return _wrong(node, callee, report)
            return plan.Uniform(low, high)
        case "normal", [mean, deviation] if deviation >= 0:
            return plan.Normal(mean, deviation)
        case "poisson", [mean] if 0 <= mean <= 1e6:
            return plan.Poisson(mean)
        case _:
            return _wrong(node, callee, report)


def _wrong(node: ast.Apply, callee: str, report: Report) -> None:
    report(problems.WrongCall(span=node.span, callee=callee, form=SAMPLES[callee]))


def _fits(
    node: ast.Apply,
    name: str,
    type_: Type,
    kinds: tuple[type, ...],
    found: str,
    report: Report,
) -> bool:
    if isinstance(type_, kinds):
        return True
    report(
        problems.WrongType(
            span=node.span, what=f"`{name}`", expected=types.name(type_), found=found
        )
    )
    return False
