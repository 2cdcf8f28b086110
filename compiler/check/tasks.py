"""Checks one task by itself: its columns, prompts and SQL, whatever tables it will be used on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from synthc.compiler import ast, typed, types
from synthc.compiler.check import templates as template_checks
from synthc.compiler.check.sql import Binder
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.values import assignable, described, resolve_type, resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse.words import NOT_YET_NAMES, NOT_YET_PRODUCERS
from synthc.compiler.span import Span
from synthc.compiler.types import Type

Report = Callable[[Problem], None]

MODEL_NAME = "model_name"


@dataclass(frozen=True, slots=True)
class Known:
    """What a task may refer to outside of itself: backends by name, the spec's parameters by type."""

    backends: tuple[str, ...]
    parameters: Mapping[str, Type]


def check_task(node: ast.Task, known: Known, binder: Binder, report: Report) -> typed.Task | None:
    """The task with everything resolved; None where its columns or parameters are not even known.

    A task with a mistake in a prompt still says what it takes and gives, so that the tables that use
    it are checked too.
    """
    return _Checker(node, known, binder, report).task()


class _Checker:
    def __init__(self, node: ast.Task, known: Known, binder: Binder, report: Report) -> None:
        self.node = node
        self.known = known
        self.binder = binder
        self.sound = True
        self.signature_known = True
        self._report = report
        self.parameters: dict[str, typed.Parameter] = {}
        self.columns: dict[str, Type] = {}
        self.spans: dict[str, ast.Name] = {}
        self.used: set[str] = set()
        self.later = frozenset(c.name.text for p in node.produces for c in p.columns)

    def report(self, problem: Problem) -> None:
        self.sound = self.sound and problem.severity == "warning"
        if isinstance(problem, problems.UnknownColumn) and problem.name in self.later:
            advice = (
                f"`{problem.name}` is made further down: move its `out` or `let` above this one"
            )
            problem = dataclasses.replace(problem, advice=advice)
        self._report(problem)

    @property
    def owner(self) -> str:
        return f"the task `{self.node.name.text}`"

    def task(self) -> typed.Task | None:
        for parameter in self.node.parameters:
            self.parameter(parameter)
        inputs = [column for node in self.node.inputs if (column := self.column(node))]
        produces = [made for node in self.node.produces if (made := self.produce(node))]
        if not any(p.keyword == "out" for p in self.node.produces):
            self.report(problems.NoOutput(span=self.node.name.span, task=self.node.name.text))
        if self.sound:
            self.warn_unused(inputs)
        if not self.signature_known:
            return None
        return typed.Task(
            name=self.node.name.text,
            span=self.node.name.span,
            parameters=tuple(self.parameters.values()),
            inputs=tuple(inputs),
            produces=tuple(produces),
        )

    def warn_unused(self, inputs: list[typed.Column]) -> None:
        for kind, things in (("input", inputs), ("parameter", self.parameters.values())):
            for thing in things:
                if thing.name not in self.used:
                    self.report(problems.Unused(span=thing.span, kind=kind, name=thing.name))

    def parameter(self, node: ast.Parameter) -> None:
        name = node.name.text
        if name in self.parameters:
            self.report(
                problems.DuplicateDeclaration(
                    span=node.name.span,
                    kind="parameter",
                    name=name,
                    first=self.parameters[name].span,
                )
            )
            return
        type_ = resolve_type(node.type, self.report)
        default = None
        if type_ and node.default is not None:
            if isinstance(node.default, ast.Path) and str(node.default) in NOT_YET_PRODUCERS:
                self.sound = False  # the parser said so
            else:
                what = f"the default of `{name}`"
                default = resolve_value(node.default, type_, what, self.report)
        if type_ is None or (node.default is not None and default is None):
            # Known all the same, so that its uses are not reported too.
            self.signature_known = self.signature_known and type_ is not None
            self.parameters[name] = typed.Parameter(
                name, type_ or types.Text(), True, None, node.name.span
            )
            return
        value = default[0] if default else None
        self.parameters[name] = typed.Parameter(
            name, type_, default is not None, value, node.name.span
        )

    def column(self, node: ast.Column) -> typed.Column | None:
        """A column that comes into being, if its name is free and its type is one."""
        name = node.name.text
        type_ = resolve_type(node.type, self.report)
        first = next((n for n in self.spans if n.lower() == name.lower()), None)
        if first is not None:
            self.report(
                problems.ColumnTwice(
                    span=node.name.span, name=name, owner=self.owner, first=self.spans[first].span
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
        self.spans[name] = node.name
        self.signature_known = self.signature_known and type_ is not None
        self.columns[name] = type_ or types.Text()
        return typed.Column(name, type_, node.name.span) if type_ else None

    @property
    def visible_parameters(self) -> dict[str, Type]:
        """The spec's parameters, hidden by the task's."""
        return {**self.known.parameters, **{name: p.type for name, p in self.parameters.items()}}

    def scope(self) -> dict[str, Type]:
        """What a template sees: parameters and columns."""
        return {**self.visible_parameters, **self.columns}

    def produce(self, node: ast.Produce) -> typed.Produce | None:
        before = dict(self.columns)
        producer = self.producer(node)
        columns = [column for c in node.columns if (column := self.column(c))]
        if len(columns) != len(node.columns):
            return None
        if producer is None or not self.fits(node, producer, columns, before):
            # Its columns are known all the same; the spec has an error, so nothing will make them.
            asks = isinstance(node.producer, ast.Ask)
            producer = typed.Ask("", None, None, "json", ()) if asks else typed.Constant(None)
        return typed.Produce(node.keyword == "out", tuple(columns), producer, node.span)

    def producer(self, node: ast.Produce) -> typed.Producer | None:
        match node.producer:
            case ast.Ask():
                return self.ask(node, node.producer)
            case ast.Sql(text):
                around = Surroundings(self.owner, self.columns, self.visible_parameters)
                bound = self.binder.expression(text, around, self.report)
                if bound is None:
                    return None
                self.used |= {path[0] for path in bound.paths} | {p[0] for p in bound.parameters}
                return typed.Sql(bound)
            case ast.String() as template:
                reads = self.template(template, has_format=False)
                return None if reads is None else typed.Template(template.text, reads)
            case ast.Path() as path:
                return self.copy(path)
            case ast.ParameterValue(name, span):
                return self.copy_parameter(name, span)
            case ast.Apply(function, _, span):
                name = str(function)
                self.report(problems.WrongCall(span=span, callee=name, form=f'sql "{name}(…)"'))
                return None
            case ast.Literal() | ast.ListValue():
                if len(node.columns) != 1:
                    return self.one_column(node)
                type_ = resolve_type(node.columns[0].type, lambda _problem: None)
                if type_ is None:
                    return None
                what = f"`{node.columns[0].name.text}`"
                value = resolve_value(node.producer, type_, what, self.report)
                return typed.Constant(value[0]) if value else None

    def one_column(self, node: ast.Produce) -> None:
        names = ", ".join(column.name.text for column in node.columns)
        self.report(
            problems.BadValue(
                span=_producer_span(node.producer),
                what=f"`({names})`",
                wanted="made by one `ask`",
                found="SQL"
                if isinstance(node.producer, ast.Ask | ast.Sql)
                else described(node.producer),
                advice="give each column an `out` of its own",
            )
        )

    def copy(self, path: ast.Path) -> typed.Producer | None:
        name = path.names[0].text
        if len(path.names) > 1:
            form = f'sql "{path}"'
            self.report(problems.WrongCall(span=path.span, callee=str(path), form=form))
            return None
        if name in NOT_YET_PRODUCERS:
            return None  # the parser said so
        if name not in self.columns:
            advice = None
            if name in self.visible_parameters:
                advice = f"a parameter is written with a `$`: `${name}`"
            self.report(
                problems.UnknownColumn(
                    span=path.span,
                    owner=self.owner,
                    name=name,
                    known=tuple(self.columns),
                    advice=advice,
                )
            )
            return None
        self.used.add(name)
        return typed.Copy(name)

    def copy_parameter(self, name: str, span: Span) -> typed.Producer | None:
        if name not in self.visible_parameters:
            self.report(
                problems.UnknownParameter(
                    span=span,
                    name=name,
                    known=tuple(self.visible_parameters),
                    columns=tuple(self.columns),
                )
            )
            return None
        self.used.add(name)
        return typed.Copy(name)

    def template(self, template: ast.String, *, has_format: bool) -> tuple[str, ...] | None:
        reads = template_checks.check(
            template, self.scope(), has_format=has_format, report=self.report, later=self.later
        )
        self.used.update(reads or ())
        return reads

    def ask(self, node: ast.Produce, ask: ast.Ask) -> typed.Ask | None:
        for word, said in (("system", ask.systems), ("using", ask.backends), ("as", ask.contracts)):
            if len(said) > 1:
                self.report(problems.SaidTwice(span=said[1].span, word=word))
        contract = self.contract(node, ask)
        has_format = contract != "text"
        reads = self.template(ask.template, has_format=has_format)
        system = ask.systems[0] if ask.systems else None
        system_reads = self.template(system, has_format=has_format) if system else ()
        backend = ask.backends[0] if ask.backends else None
        if backend and backend.text not in self.known.backends:
            self.report(
                problems.UnknownDeclaration(
                    span=backend.span, kind="backend", name=backend.text, known=self.known.backends
                )
            )
            return None
        if contract is None or reads is None or system_reads is None:
            return None
        return typed.Ask(
            ask.template.text,
            system.text if system else None,
            backend.text if backend else None,
            contract,
            tuple(dict.fromkeys((*reads, *system_reads))),
        )

    def contract(self, node: ast.Produce, ask: ast.Ask) -> str | None:
        silent: list[Problem] = []
        found = [resolve_type(column.type, silent.append) for column in node.columns]
        if silent or None in found:
            return "json"  # the types are reported where the columns are
        declared = [type_ for type_ in found if type_ is not None]
        plain = len(declared) == 1 and isinstance(types.required(declared[0]), types.Text)
        if not ask.contracts:
            return "text" if plain and not node.tuple_ else "json"
        name = ask.contracts[0]
        if name.text in NOT_YET_NAMES:
            self.report(problems.NotYet(span=name.span, word=name.text))
            return None
        if name.text not in ("text", "json") or (name.text == "text" and not plain):
            self.report(
                problems.ContractCannotFill(
                    span=name.span,
                    contract=name.text,
                    types=tuple(types.name(type_) for type_ in declared),
                )
            )
            return None
        return name.text

    def fits(
        self,
        node: ast.Produce,
        producer: typed.Producer,
        columns: list[typed.Column],
        before: Mapping[str, Type],
    ) -> bool:
        """Whether what is made has the type that is declared."""
        match producer:
            case typed.Ask():
                for column in columns:
                    if isinstance(types.required(column.type), types.Vector | types.Other):
                        self.report(
                            problems.ContractCannotFill(
                                span=column.span,
                                contract=producer.contract,
                                types=(types.name(column.type),),
                            )
                        )
                return True
            case typed.Sql(bound):
                found = bound.fields[0].type
            case typed.Template():
                found = types.Text()
            case typed.Copy(name):
                found = {**self.scope(), **before}[name]
            case typed.Constant():
                return True
        if len(columns) != 1:
            self.one_column(node)
            return False
        column = columns[0]
        if assignable(found, column.type):
            return True
        self.report(
            problems.WrongType(
                span=_producer_span(node.producer),
                what=f"`{column.name}`",
                expected=types.name(column.type),
                found=types.name(found),
            )
        )
        return False


def _producer_span(producer: ast.Producer) -> Span:
    return producer.text.span if isinstance(producer, ast.Sql) else producer.span
