"""Checks one task by itself: its columns, prompts and SQL, whatever tables it will be used on."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from synthc.compiler import ast, typed, types
from synthc.compiler.check import guards, templates
from synthc.compiler.check.asks import check_ask
from synthc.compiler.check.mutations import can_see
from synthc.compiler.check.samples import check_sample
from synthc.compiler.check.sql import Binder
from synthc.compiler.check.task_scope import Known, TaskScope
from synthc.compiler.check.values import (
    IMAGES,
    assignable,
    described,
    resolve_type,
    resolve_value,
)
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse.words import SAMPLES
from synthc.compiler.span import Span
from synthc.compiler.typed import Guard
from synthc.compiler.types import Type
from synthc.compiler.walk import nodes

Report = Callable[[Problem], None]

MODEL_NAME = "model_name"
ROUND = "round"
"""What a loop calls the number of its round."""

KINDS = ("mutations", "backend")
"""The types of parameters that take declarations."""


def check_task(node: ast.Task, known: Known, binder: Binder, report: Report) -> typed.Task | None:
    """The task with everything resolved; None where its columns or parameters are not even known.

    A task with a mistake in a prompt still says what it takes and gives, so that the tables that use
    it are checked too.
    """
    return _Checker(node, known, binder, report).task()


_EXCLUDE = "columns of one name need guards of which only one can hold: `when p`, `when not p`"


class _Checker:
    def __init__(self, node: ast.Task, known: Known, binder: Binder, report: Report) -> None:
        self.node = node
        self.sound = True
        self.signature_known = True
        self._report = report
        self.parameters: dict[str, typed.Parameter] = {}
        later = frozenset(c.name.text for p in node.produces for c in p.columns)
        owner = f"the task `{node.name.text}`"
        self.scope = TaskScope(owner, known, self.parameters, binder, self.report, later)

    def report(self, problem: Problem) -> None:
        self.sound = self.sound and problem.severity == "warning"
        self._report(problem)

    def task(self) -> typed.Task | None:
        for parameter in self.node.parameters:
            self.parameter(parameter)
        inputs = [c for node in self.node.inputs if (c := self.column(self.scope, node, ()))]
        produces = [made for node in self.node.produces if (made := self.produce(node))]
        if not any(p.keyword == "out" for p in self.node.produces):
            self.report(problems.NoOutput(span=self.node.name.span, task=self.node.name.text))
        if self.sound:
            self.warn_unused(inputs)
        if not self.signature_known:
            return None
        description = self.node.description
        return typed.Task(
            name=self.node.name.text,
            span=self.node.name.span,
            parameters=tuple(self.finished(p) for p in self.parameters.values()),
            inputs=tuple(inputs),
            produces=tuple(produces),
            description=description.text.strip() if description else "",
            tags=tuple(tag.text for tag in self.node.tags),
        )

    def warn_unused(self, inputs: list[typed.Column]) -> None:
        used = self.scope.uses.names
        for kind, things in (("input", inputs), ("parameter", self.parameters.values())):
            for thing in things:
                if thing.name not in used:
                    advice = self.printed_otherwise(thing.name)
                    self.report(
                        problems.Unused(span=thing.span, kind=kind, name=thing.name, advice=advice)
                    )

    def printed_otherwise(self, name: str) -> str | None:
        """How a template prints a name that one of the task prints as other languages do."""
        sign = rf"\$?\{{ ?{name} ?\}}|\${name}\b|%\({name}\)s|<%= ?{name} ?%>|<{name}>|\[{name}\]"
        for part in nodes(self.node.produces):
            if isinstance(part, ast.String) and (found := re.search(sign, part.text)):
                return f"`{found[0]}` does not print it: `{{{{ {name} }}}}` does"
        return None

    # Parameters

    def finished(self, parameter: typed.Parameter) -> typed.Parameter:
        """The parameter with what the task turned out to do with it."""
        uses = self.scope.uses
        constant = parameter.name in uses.constants
        if constant and isinstance(parameter.default, typed.Sample):
            what = f"`{parameter.name}`"
            advice = "give it a literal as its default"
            place = parameter.default.span
            self.report(problems.NotConstant(span=place, what=what, advice=advice))
        count = parameter.name in uses.counts
        if count and isinstance(parameter.default, int) and parameter.default < 0:
            what, wanted = f"the default of `{parameter.name}`, a count,", "a whole number from 0"
            found = str(parameter.default)
            self.report(
                problems.BadValue(span=parameter.span, what=what, wanted=wanted, found=found)
            )
        sees = uses.seen.get(parameter.name, {})
        default = self.scope.known.mutations.get(str(parameter.default))
        if parameter.kind == "mutations" and default is not None and constant:
            can_see(default, sees, parameter.span, self.report)
        return msgspec.structs.replace(parameter, constant=constant, count=count, sees=sees)

    def parameter(self, node: ast.Parameter) -> None:
        name = node.name.text
        if name in self.parameters:
            first = self.parameters[name].span
            self.report(
                problems.DuplicateDeclaration(
                    span=node.name.span, kind="parameter", name=name, first=first
                )
            )
            return
        span = node.name.span
        if isinstance(node.type, ast.NamedType) and node.type.name.text in KINDS:
            kind = node.type.name.text
            default, has = self.declaration(node, kind), node.default is not None
            self.parameters[name] = typed.Parameter(name, types.Text(), has, default, span, kind)
            return
        type_ = resolve_type(node.type, self.report)
        self.signature_known = self.signature_known and type_ is not None
        if type_ is None:  # known all the same, so that its uses are not reported too
            self.parameters[name] = typed.Parameter(name, types.NULL, True, None, span)
            return
        default = self.default(node, type_)
        self.parameters[name] = typed.Parameter(
            name, type_, node.default is not None, default[0] if default else None, span
        )

    def default(self, node: ast.Parameter, type_: Type) -> tuple[object] | None:
        if node.default is None:
            return None
        if isinstance(node.default, ast.Sample):
            made = check_sample(self.scope, node.default, node.name.text, type_)
            return (made,) if made else None
        what = f"the default of `{node.name.text}`"
        return resolve_value(node.default, type_, what, self.report)

    def declaration(self, node: ast.Parameter, kind: str) -> str | None:
        """The name of the backend or set that a parameter has by default."""
        known = self.scope.known
        options = known.backends if kind == "backend" else tuple(known.mutations)
        match node.default:
            case None:
                return None
            case ast.Path() as path if str(path) in options:
                return str(path)
            case ast.Path() as path:
                self.report(
                    problems.UnknownDeclaration(
                        span=path.span, kind=kind, name=str(path), known=options
                    )
                )
            case other:
                what = f"the default of `{node.name.text}`"
                found = "a draw" if isinstance(other, ast.Sample) else described(other)
                wanted = f"the name of a declaration, `{kind} name {{ … }}`"
                self.report(
                    problems.BadValue(span=other.span, what=what, wanted=wanted, found=found)
                )
        return None

    # Columns

    def column(self, scope: TaskScope, node: ast.Column, guard: Guard) -> typed.Column | None:
        """A column that comes into being, if its name is free and its type is one."""
        name = node.name.text
        type_ = resolve_type(node.type, self.report)
        own = guards.resolve(node.guard, self.parameters, self.names(scope), self.report)
        self.guarded(node.guard)
        guard = (*guard, *(own or ()))
        first = scope.first(name, guard)
        if first is not None:
            self.report(
                problems.ColumnTwice(
                    span=node.name.span,
                    name=name,
                    owner=scope.owner,
                    first=first.span,
                    advice=_EXCLUDE if guard or first.guard else "choose another name",
                )
            )
            self.signature_known = False
            return None
        if name in self.parameters:
            self.report(
                problems.ParameterSharesName(
                    span=self.parameters[name].span, name=name, column=node.name.span
                )
            )
        self.signature_known = self.signature_known and type_ is not None
        made = typed.Column(name, type_ or types.NULL, node.name.span, guard)
        same = [c for c in scope.columns if c.name == name and c.type != made.type]
        other = next((c for c in same if types.NULL not in (c.type, made.type)), None)
        if other is not None:
            self.report(
                problems.WrongType(
                    span=node.type.span,
                    what=f"`{name}`, declared {guards.written(other.guard)} too,",
                    expected=types.name(other.type),
                    found=types.name(made.type),
                )
            )
        scope.columns.append(made)
        return made if type_ else None

    def names(self, scope: TaskScope) -> tuple[str, ...]:
        return tuple(column.name for column in scope.columns)

    def guarded(self, nodes: tuple[ast.Condition, ...]) -> None:
        for node in nodes:
            self.scope.uses.names.add(node.parameter.text)
            self.scope.uses.constants.add(node.parameter.text)

    # What makes them

    def produce(self, node: ast.Produce) -> typed.Produce | None:
        return self.produce_in(self.scope, node, ())

    def produce_in(self, scope: TaskScope, node: ast.Produce, outer: Guard) -> typed.Produce | None:
        """One `let` or `out`; its columns join the scope."""
        own = guards.resolve(node.guard, self.parameters, self.names(scope), self.report)
        self.guarded(node.guard)
        guard = (*outer, *(own or ()))
        scope.making = frozenset(part.name.text for part in node.columns)
        producer = self.made(scope, node, guard)
        scope.making = frozenset()
        columns = [c for part in node.columns if (c := self.column(scope, part, guard))]
        if len(columns) != len(node.columns):
            return None
        if producer is None:
            # Its columns are known all the same; the spec has an error, so nothing will make them.
            asks = any(isinstance(part, ast.Ask) for part in nodes(node.producer))
            contract = typed.Contract("json")
            named = isinstance(node.producer, ast.Ask) and node.producer.backends
            backend = "?" if named else None
            producer = typed.Ask("", None, backend, contract, ()) if asks else typed.Constant(None)
        public = node.keyword == "out"
        return typed.Produce(public, tuple(columns), producer, node.span, guard)

    def made(self, scope: TaskScope, node: ast.Produce, guard: Guard) -> typed.Producer | None:
        """What makes the columns, if it makes what they are declared to be."""
        producer = self.producer(scope, node, guard)
        return producer if producer and self.fits(scope, node, producer, guard) else None

    def producer(self, scope: TaskScope, node: ast.Produce, guard: Guard) -> typed.Producer | None:
        match node.producer:
            case ast.Ask() as ask:
                return check_ask(scope, node, ask, guard)
            case ast.Sql(text):
                bound = scope.binder.expression(text, scope.around(guard), scope.report)
                if bound is None:
                    return None
                self.use(bound)
                return typed.Sql(bound)
            case ast.String() as template:
                reads = templates.check(
                    template,
                    scope.names(guard),
                    has_format=False,
                    report=scope.report,
                    later=scope.later,
                    without=templates.IN_TEXT,
                )
                scope.uses.names.update(reads or ())
                return None if reads is None else typed.Template(template.text, reads)
            case ast.Path() as path:
                name = scope.column(path, guard)
                return typed.Copy(name) if name else None
            case ast.ParameterValue(name, span):
                parameter = scope.parameter(name, span, guard)
                return typed.Copy(parameter) if parameter else None
            case ast.Apply(function, arguments, span):
                name = str(function)
                last = function.names[-1].text
                plain = all(isinstance(a, ast.Path | ast.Literal) for a in arguments)
                given = ", ".join(_said(a) for a in arguments) if plain else "…"
                form = SAMPLES.get(name, f'sql "{name}({given})"')
                if last in ("random", "choice", "choose", "choices", "one_of"):
                    form = 'sample "a" | "b"'
                elif last in ("llm", "prompt", "generate", "complete", "chat", "gpt", "model"):
                    form = 'ask "…"'
                self.report(problems.WrongCall(span=span, callee=name, form=form))
                return None
            case other if len(node.columns) != 1:
                return self.one_column(node, other)
            case ast.Sample() as sample:
                return self.sample(scope, node, sample)
            case ast.Repeat() as repeat:
                return self.repeat(scope, node, repeat, guard)
            case literal:
                type_ = resolve_type(node.columns[0].type, lambda _problem: None)
                if type_ is None:
                    return None
                what = f"`{node.columns[0].name.text}`"
                value = resolve_value(literal, type_, what, self.report)
                return typed.Constant(value[0]) if value else None

    def use(self, bound: typed.Bound) -> None:
        """Note what SQL reads."""
        names = {path[0] for path in bound.paths} | {name for name, _, _ in bound.parameters}
        self.scope.uses.names |= names

    def one_column(self, node: ast.Produce, producer: ast.Producer) -> None:
        names = ", ".join(column.name.text for column in node.columns)
        match producer:
            case ast.Sql() | ast.Ask():
                found = "SQL"
            case ast.Sample():
                found = "a draw"
            case ast.Repeat():
                found = "a loop"
            case value:
                found = described(value)
        self.report(
            problems.BadValue(
                span=_producer_span(producer),
                what=f"`({names})`",
                wanted="made by one `ask`",
                found=found,
                advice="give each column an `out` of its own",
            )
        )

    def sample(
        self, scope: TaskScope, node: ast.Produce, sample: ast.Sample
    ) -> typed.Sample | None:
        column = node.columns[0]
        type_ = resolve_type(column.type, lambda _problem: None)
        if type_ is None:
            return None
        return check_sample(scope, sample, column.name.text, type_)

    # Loops

    def repeat(
        self, scope: TaskScope, node: ast.Produce, loop: ast.Repeat, guard: Guard
    ) -> typed.Repeat | None:
        declared = resolve_type(node.columns[0].type, lambda _problem: None)
        times = scope.count(loop.times, "`repeat`")
        start = self.start(scope, loop, guard)
        outside = scope.inside(())  # the variable must differ from what is there
        variable = self.column(outside, loop.variable, guard)
        if variable is None or declared is None:
            return None
        round_ = typed.Column(ROUND, types.Int(), loop.span, guard)
        inner = scope.inside((variable, round_))
        produces = [self.produce_in(inner, part, guard) for part in loop.produces]
        scope.uses.inside |= {column.name for column in inner.columns}
        optional = ast.MaybeType(loop.variable.type, loop.variable.type.span)
        column = msgspec.structs.replace(loop.variable, type=optional)
        span = _producer_span(loop.next)
        step = ast.Produce("next", (column,), False, loop.next, (), span)
        following = self.made(inner, step, guard)
        until = None
        if loop.until is not None:
            until = scope.binder.condition(loop.until, inner.around(guard), inner.report)
            if until:
                self.use(until)
        collect = not assignable(variable.type, declared)
        if collect and not self.collects(node, variable.type, declared):
            return None
        if (
            times is None
            or start is None
            or following is None
            or None in produces
            or (loop.until is not None and until is None)
        ):
            return None
        next_column = typed.Column(variable.name, types.maybe(variable.type), span)
        return typed.Repeat(
            times,
            variable,
            start,
            until,
            tuple(p for p in produces if p is not None),
            typed.Produce(False, (next_column,), following, span),
            collect,
        )

    def start(
        self, scope: TaskScope, loop: ast.Repeat, guard: Guard
    ) -> typed.Copy | typed.Constant | None:
        step = ast.Produce("let", (loop.variable,), False, loop.start, (), loop.start.span)
        made = self.made(scope, step, guard)
        if made is None or isinstance(made, typed.Copy | typed.Constant):
            return made
        what, wanted = "what a loop starts with", "a column, a `$parameter` or a literal"
        if isinstance(made, typed.Template) and not made.reads and "{" not in made.template:
            return typed.Constant(made.template)
        found = described(loop.start)
        advice = "make it in a `let` before the loop"
        self.report(
            problems.BadValue(
                span=loop.start.span, what=what, wanted=wanted, found=found, advice=advice
            )
        )
        return None

    def collects(self, node: ast.Produce, variable: Type, declared: Type) -> bool:
        """Whether the column is a list of what the loop's variable is; reports where it is not."""
        inner = types.required(declared)
        if isinstance(inner, types.ListOf) and assignable(variable, inner.element):
            return True
        one = types.name(types.required(variable))
        self.report(
            problems.WrongType(
                span=node.columns[0].type.span,
                what=f"`{node.columns[0].name.text}`",
                expected=f"{one}` (the last value) or `{one}[]",
                found=types.name(declared),
            )
        )
        return False

    # Types

    def fits(
        self, scope: TaskScope, node: ast.Produce, producer: typed.Producer, guard: Guard
    ) -> bool:
        """Whether what is made has the type that is declared."""
        match producer:
            case typed.Sql(bound):
                found = bound.fields[0].type
            case typed.Template():
                found = types.Text()
            case typed.Copy(name):
                found = scope.names(guard)[name]
            case _:
                return True
        if len(node.columns) != 1:
            self.one_column(node, node.producer)
            return False
        column = node.columns[0]
        declared = resolve_type(column.type, lambda _problem: None)
        if declared is None or assignable(found, declared):
            return True
        # A null `next` keeps the value, whatever the variable's type.
        shown = types.required(declared) if node.keyword == "next" else declared
        self.report(
            problems.WrongType(
                span=_producer_span(node.producer),
                what=f"`{column.name.text}`",
                expected=types.name(shown),
                found=types.name(found),
                advice=IMAGES if types.has_image(declared) and not types.has_image(found) else None,
            )
        )
        return False


def _said(value: ast.Value) -> str:
    """A column or a literal as SQL has it."""
    return str(value) if isinstance(value, ast.Path) else described(value)


def _producer_span(producer: ast.Producer) -> Span:
    return producer.text.span if isinstance(producer, ast.Sql) else producer.span
