"""What `sample` draws from, checked against the type of what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from synthc.compiler import ast, plan, typed, types
from synthc.compiler.check.files import Reader
from synthc.compiler.check.task_scope import TaskScope
from synthc.compiler.check.values import described, resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse.words import SAMPLES
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

Report = Callable[[Problem], None]
_HOW_MANY = "how many are drawn"
_OTHERS = {
    **dict.fromkeys(("randint", "randrange", "range", "random"), "did you mean `uniform`?"),
    **dict.fromkeys(("gauss", "gaussian"), "did you mean `normal`?"),
    **dict.fromkeys(("choice", "choices"), 'values are separated by `|`: `sample "a" | "b"`'),
    **dict.fromkeys(("file", "read"), "did you mean `lines`?"),
}
"""Draws that other languages have, and ours for them."""


def check_sample(scope: TaskScope, node: ast.Sample, name: str, type_: Type) -> typed.Sample | None:
    """The draw for a column of the type; None where a problem was reported."""
    drawn = type_
    least = most = None
    if node.least is not None and node.most is not None:
        inner = types.required(type_)
        if not isinstance(inner, types.ListOf):
            _several_need_a_list(node, name, type_, scope.report)
            return None
        drawn = inner.element
        least, most = (scope.count(value, _HOW_MANY) for value in (node.least, node.most))
        if least is None or most is None:
            return None
    source = _source(scope, node, name, drawn)
    if source is None:
        return None
    made = typed.Sample(source, Field(name, drawn), least, most, node.span)
    return made if _enough(made, {}, node.span, scope.report) else None


def check_draws(
    task: typed.Task, given: Mapping[str, typed.Given], span: Span, report: Report
) -> bool:
    """Whether a task can draw as it is told to by what it is given; reports where it cannot."""
    values = {name: known.value for name, known in given.items() if known.path is None}
    by_default = (known.sample for known in given.values() if known.sample)
    draws = (*by_default, *_draws(task.produces))
    sound = [_enough(draw, values, span, report) for draw in draws]
    return all(sound)


def _draws(produces: tuple[typed.Produce, ...]) -> Iterator[typed.Sample]:
    for produce in produces:
        match produce.producer:
            case typed.Sample() as draw:
                yield draw
            case typed.Repeat() as loop:
                yield from _draws((*loop.produces, loop.next))
            case _:
                pass


def _enough(draw: typed.Sample, given: Mapping[str, object], span: Span, report: Report) -> bool:
    """Whether there is enough to draw from; what is only known where the task is used is taken to do."""

    def known(count: typed.Count | None) -> object:
        return given.get(count.name) if isinstance(count, typed.FromParameter) else count

    values: object = None
    match draw.source:
        case plan.Choices(choices):
            values = choices
        case typed.FromParameter(name) if name in given:
            values = given[name] or []
        case _:
            pass
    least, most = known(draw.least), known(draw.most)
    name = draw.field.name
    if isinstance(least, int) and isinstance(most, int) and least > most:
        what, wanted, found = "the larger number", f"{least} or more", str(most)
    elif isinstance(values, list) and not values:
        what, wanted = f"what is drawn from for `{name}`", "a list with values"
        found = "an empty one"
    elif isinstance(values, list | tuple) and isinstance(most, int) and most > len(values):
        what, wanted = f"what is drawn for `{name}`", f"at most {len(values)} different values"
        found = str(most)
    else:
        return True
    report(problems.BadValue(span=span, what=what, wanted=wanted, found=found))
    return False


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


def _source(
    scope: TaskScope, node: ast.Sample, name: str, type_: Type
) -> plan.Distribution | typed.FromParameter | None:
    inner = types.required(type_)
    report = scope.report
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
        case (
            ast.Weighted(ast.Path() | ast.String() | ast.Literal() | ast.ListValue() as value, _),
        ):
            return _one_value(value, name, type_, report)
        case (ast.Weighted(ast.Apply() as apply, None),):
            return _distribution(apply, name, inner, scope.known.files, report)
        case (ast.Weighted(ast.ParameterValue() as value, None),):
            found = scope.constant(value, "what is drawn from", types.ListOf(type_))
            return found if isinstance(found, typed.FromParameter) else None
        case choices:
            return _choices(choices, name, type_, report)


def _one_value(value: ast.Value, name: str, type_: Type, report: Report) -> None:
    """Report a draw of which the outcome is known, or that was meant as one from a column's list."""
    advice = 'values are separated by `|`: `sample "a" | "b"`'
    if isinstance(value, ast.Path):
        advice += "; a list of them is a parameter: `sample $values`"
        if isinstance(types.required(type_), types.Choice | types.Bool):
            advice = f"`sample` alone draws one of the values of `{types.name(type_)}`"
    report(
        problems.BadValue(
            span=value.span,
            what=f"what is drawn for `{name}`",
            wanted="one of several values",
            found=described(value),
            advice=advice,
        )
    )


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
            shown = described(node.weight) if node.weight else ""
            report(problems.BadValue(span=node.span, what="a weight", wanted=wanted, found=shown))
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
        advice = _OTHERS.get(callee.rsplit(".", maxsplit=1)[-1])
        report(
            problems.UnknownDeclaration(
                span=node.function.span,
                kind="distribution",
                name=callee,
                known=known,
                advice=advice,
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
    if len(values) != _NUMBERS[callee]:
        return _wrong(node, callee, report)
    whole = isinstance(type_, types.Int)
    match callee, values:
        case "uniform", [low, high] if low > high:
            return _bad(node, 1, "the second number of `uniform`", f"{low:g} or more", report)
        case "uniform", [low, high] if whole and not (low.is_integer() and high.is_integer()):
            at = int(low.is_integer())
            return _bad(node, at, "what is drawn from for an `int`", "a whole number", report)
        case "uniform", [low, high]:
            return plan.Uniform(low, high)
        case "normal", [mean, deviation]:
            if deviation < 0:
                return _bad(node, 1, "the second number of `normal`", "0 or more", report)
            return plan.Normal(mean, deviation)
        case _:
            if not 0 <= values[0] <= 1e6:
                return _bad(node, 0, "the mean of `poisson`", "from 0 to 1000000", report)
            return plan.Poisson(values[0])


_NUMBERS = {"uniform": 2, "normal": 2, "poisson": 1}


def _bad(node: ast.Apply, index: int, what: str, wanted: str, report: Report) -> None:
    value = node.arguments[index]
    found = described(value)
    report(problems.BadValue(span=value.span, what=what, wanted=wanted, found=found))


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
