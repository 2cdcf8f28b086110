"""Checks one table: its source, and what each step finds and leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synthc.compiler import ast, plan, typed, types
from synthc.compiler.check.files import Reader
from synthc.compiler.check.sql import Binder
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.tasks import MODEL_NAME
from synthc.compiler.check.values import assignable, described, resolve_value
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse.words import FORMS, NOT_YET_NAMES
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

Report = Callable[[Problem], None]

_EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Known:
    """What a table may refer to: everything that was declared and checked before it.

    Embedders are known by their dimensions. A task or table that did not hold stands as None, so that
    nothing is reported because of it.
    """

    files: Reader
    constants: Mapping[str, tuple[Any, Type]]
    backends: tuple[str, ...]
    embedders: Mapping[str, int]
    tasks: Mapping[str, typed.Task | None]
    tables: Mapping[str, typed.Table | None]

    @property
    def parameters(self) -> dict[str, Type]:
        """The spec's parameters by type."""
        return {name: type_ for name, (_, type_) in self.constants.items()}


def check_table(
    node: ast.Table, known: Known, binder: Binder, report: Report
) -> typed.Table | None:
    """The table with everything resolved, or None where a problem was reported (here or earlier)."""
    return _Checker(node, known, binder, report).table()


class _Checker:
    def __init__(self, node: ast.Table, known: Known, binder: Binder, report: Report) -> None:
        self.node = node
        self.known = known
        self.binder = binder
        self.report = report
        self.columns: dict[str, Type] = {}
        self.columns_known = True

    @property
    def around(self) -> Surroundings:
        """What SQL of a step sees."""
        return Surroundings(self.owner, self.columns, self.known.parameters)

    @property
    def owner(self) -> str:
        return f"the table `{self.node.name.text}`"

    def table(self) -> typed.Table | None:
        source = self.source(self.node.source)
        if source is None:
            for node in self.node.steps:
                self.names_only(node)
            return None
        source_columns = tuple(Field(name, type_) for name, type_ in self.columns.items())
        steps: list[typed.Step] = []
        for node in self.node.steps:
            step = self.step(node) if self.columns_known else self.names_only(node)
            if step:
                steps.append(step)
        if len(steps) < len(self.node.steps):
            return None
        return typed.Table(
            self.node.name.text,
            self.node.span,
            source,
            source_columns,
            tuple(steps),
            tuple(Field(name, type_) for name, type_ in self.columns.items()),
        )

    # Sources

    def source(self, node: ast.Call | ast.QuerySource) -> typed.Source | None:
        if isinstance(node, ast.QuerySource):
            return self.query(node)
        name = str(node.callee)
        if node.brackets or name in ("read", "rows"):
            match name:
                case "read":
                    return self.read(node)
                case "rows":
                    count = self.count(node, "rows")
                    return None if count is None else plan.Rows(node.span, count)
                case _ if name in NOT_YET_NAMES:
                    self.report(problems.NotYet(span=node.callee.span, word=name))
                    return None
                case _ if name in self.known.tables:
                    form = f"table {self.node.name.text} = {name}"
                    self.report(problems.WrongCall(span=node.span, callee=name, form=form))
                    return None
                case _:
                    pass
        if name not in self.known.tables:
            self.no_source(node, name)
            return None
        table = self.known.tables[name]
        if table is None:
            return None
        self.columns = {field.name: field.type for field in table.columns}
        return plan.From(node.span, name)

    def no_source(self, node: ast.Call, name: str) -> None:
        if name in self.known.tasks or name in FORMS:
            call = f"{name}(…)" if node.brackets or name in FORMS else name
            form = f"table {self.node.name.text} = … |> {call}"
            self.report(problems.WrongCall(span=node.span, callee=name, form=form))
            return
        known = tuple(self.known.tables)
        self.report(
            problems.UnknownDeclaration(
                span=node.callee.span,
                kind="source" if node.brackets else "table",
                name=name,
                known=(*known, "read", "rows") if node.brackets else known,
            )
        )

    def query(self, node: ast.QuerySource) -> typed.Query | None:
        tables = {name.lower(): table for name, table in self.known.tables.items()}
        needed = self.binder.query_tables(node.text)
        if any(tables.get(name.lower(), ...) is None for name in needed):
            return None
        around = Surroundings("the query", {}, self.known.parameters, tuple(self.known.tables))
        bound = self.binder.query(node.text, around, self.report)
        if bound is None:
            return None
        self.columns = {field.name: field.type for field in bound.fields}
        if node.key and not self.has(node.key, self.columns):
            return None
        return typed.Query(bound, node.key.text if node.key else None, node.span)

    def read(self, node: ast.Call) -> plan.Read | None:
        path: ast.String | None = None
        key: ast.Name | None = None
        for argument in node.arguments:
            match argument:
                case ast.Argument(None, ast.String() as text) if path is None:
                    path = text
                case ast.Argument(ast.Name("key"), ast.Path((name,))):
                    key = name
                case ast.Argument(ast.Name("types") as name, _):
                    self.report(problems.NotYet(span=name.span, word="types"))
                    return None
                case _:
                    return self.wrong("read", argument.span)
        if path is None:
            return self.wrong("read", node.span)
        found = self.known.files.columns(path, self.report)
        if found is None:
            return None
        self.columns = {field.name: field.type for field in found}
        if key and not self.has(key, self.columns):
            return None
        return plan.Read(node.span, path.text, found, key.text if key else None)

    def has(self, name: ast.Name, columns: Mapping[str, Type]) -> bool:
        if name.text in columns:
            return True
        self.unknown_column(name, self.owner, columns)
        return False

    def unknown_column(self, name: ast.Name, owner: str, columns: Mapping[str, Type]) -> None:
        around = Surroundings(owner, columns, self.known.parameters)
        self.report(
            problems.UnknownColumn(
                span=name.span,
                owner=owner,
                name=name.text,
                known=tuple(columns),
                advice=around.meant(name.text, quoted=False),
            )
        )

    def wrong(self, callee: str, span: Span) -> None:
        self.report(problems.WrongCall(span=span, callee=callee, form=FORMS[callee]))

    def count(self, node: ast.Call, callee: str) -> int | None:
        """The one whole number from 0 that `rows` and `limit` take."""
        match node.arguments:
            case (ast.Argument(None, ast.Literal(int() as number)),) if not isinstance(
                number, bool
            ):
                span, shown = node.arguments[0].span, str(number)
            case (ast.Argument(None, ast.ParameterValue(name, span)),):
                constant = self.constant(name, span)
                if constant is None:
                    return None
                number, shown = constant[0], f"`${name}` = {constant[0]}"
            case (_, ast.Argument(ast.Name("per") as name, _), *_):
                self.report(problems.NotYet(span=name.span, word="per"))
                return None
            case _:
                self.wrong(callee, node.span)
                return None
        if number is None:
            return None  # the parameter's value was reported
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            self.report(
                problems.BadValue(
                    span=span,
                    what=f"`{callee}`",
                    wanted="a whole number from 0",
                    found=shown,
                )
            )
            return None
        return number

    def constant(self, name: str, span: Span) -> tuple[Any, Type] | None:
        if name not in self.known.constants:
            self.report(
                problems.UnknownParameter(
                    span=span,
                    name=name,
                    known=tuple(self.known.constants),
                    columns=tuple(self.columns),
                )
            )
            return None
        return self.known.constants[name]

    # Steps

    def step(self, node: ast.Step) -> typed.Step | None:
        for word, said in (("using", node.usings), ("as", node.aliases)):
            if len(said) > 1:
                self.report(problems.SaidTwice(span=said[1].span, word=word))
                return None
        callee = str(node.call.callee)
        if callee in ("where", "select", "limit"):
            for word, said in (("using", node.usings), ("as", node.aliases)):
                if said:
                    self.report(problems.NothingToUse(span=said[0].span, word=word, callee=callee))
                    return None
        match callee:
            case "where":
                return self.where(node)
            case "select":
                return self.select(node)
            case "limit":
                count = self.count(node.call, "limit")
                return None if count is None else typed.Limit(count, node.span)
            case "embed":
                return self.embed(node)
            case _ if callee not in self.known.tasks:
                self.no_step(node.call, callee)
                return None
            case _:
                task = self.known.tasks[callee]
                self.columns_known = task is not None
                return self.task(node, task) if task else None

    def no_step(self, node: ast.Call, callee: str) -> None:
        self.columns_known = False
        if callee in NOT_YET_NAMES:
            self.report(problems.NotYet(span=node.callee.span, word=callee))
        elif callee in ("read", "rows"):
            form = f"table {self.node.name.text} = {FORMS[callee]}"
            self.report(problems.WrongCall(span=node.span, callee=callee, form=form))
        else:
            steps = tuple(name for name in FORMS if name not in ("read", "rows"))
            near = str(node.callee.names[0].text)
            self.report(
                problems.UnknownDeclaration(
                    span=node.callee.span,
                    kind="task or step",
                    name=callee,
                    known=(*self.known.tasks, *steps),
                    advice=f"did you mean `{near}`?" if near in self.known.tasks else None,
                )
            )

    def names_only(self, node: ast.Step) -> None:
        """Check what can be checked of a step whose columns are unknown."""
        callee = str(node.call.callee)
        if callee not in ("where", "select", "limit", "embed", *self.known.tasks):
            self.no_step(node.call, callee)
        for name in node.usings:
            known = tuple(self.known.embedders) if callee == "embed" else self.known.backends
            kind = "embedder" if callee == "embed" else "backend"
            if name.text not in known and (callee == "embed" or callee in self.known.tasks):
                self.report(
                    problems.UnknownDeclaration(
                        span=name.span, kind=kind, name=name.text, known=known
                    )
                )

    def sql_text(self, node: ast.Step, callee: str) -> ast.String | None:
        match node.call.arguments:
            case (ast.Argument(None, ast.String() as text),):
                return text
            case _:
                self.wrong(callee, node.call.span)
                return None

    def where(self, node: ast.Step) -> typed.Where | None:
        text = self.sql_text(node, "where")
        if text is None:
            return None
        bound = self.binder.condition(text, self.around, self.report)
        return typed.Where(bound, node.span) if bound else None

    def select(self, node: ast.Step) -> typed.Select | None:
        text = self.sql_text(node, "select")
        if text is None:
            self.columns_known = False
            return None
        bound = self.binder.columns(text, self.around, self.report)
        if bound is None:
            self.columns_known = False
            return None
        # A column that only passes through keeps what is known of it (`T?`, a choice).
        kept = {name: self.type_of(path) for name, path in (bound.plain or {}).items()}
        self.columns = {field.name: kept.get(field.name, field.type) for field in bound.fields}
        return typed.Select(bound, node.span)

    def type_of(self, path: typed.Path) -> Type:
        type_ = self.columns[path[0]]
        for part in path[1:]:
            record = types.required(type_)
            fields = record.fields if isinstance(record, types.Record) else ()
            type_ = next(field.type for field in fields if field.name == part)
        return type_

    def path(self, value: ast.Path) -> typed.Path | None:
        """A column of the table, or a part of one; None where there is none of that name."""
        columns: Mapping[str, Type] = self.columns
        owner = self.owner
        for name in value.names:
            if name.text not in columns:
                self.unknown_column(name, owner, columns)
                return None
            inner = types.required(columns[name.text])
            owner = f"`{name.text}`"
            fields = inner.fields if isinstance(inner, types.Record) else ()
            columns = {field.name: field.type for field in fields}
        return tuple(name.text for name in value.names)

    def embed(self, node: ast.Step) -> typed.Embed | None:
        for argument in node.call.arguments:
            if argument.name is not None and argument.name.text == "system":
                self.report(problems.NotYet(span=argument.name.span, word="system"))
                return None
        match node.call.arguments:
            case (ast.Argument(None, ast.Path() as value),):
                path = self.path(value)
            case _:
                self.wrong("embed", node.call.span)
                return None
        embedder = self.using(node, "embedder", tuple(self.known.embedders))
        if path is None or embedder is None:
            return None
        found = types.required(self.type_of(path))
        if not assignable(found, types.Text()):
            what = "what is embedded"
            self.report(
                problems.WrongType(
                    span=value.span, what=what, expected="text", found=types.name(found)
                )
            )
            return None
        column = node.aliases[0].text if node.aliases else _EMBEDDING
        place = node.aliases[0].span if node.aliases else node.call.callee.span
        advice = None if node.aliases else f"name the vector: `as {column}2`"
        if self.taken(column, place, advice):
            return None
        dimensions = self.known.embedders[embedder]
        self.columns[column] = types.Vector(dimensions)
        return typed.Embed(path, embedder, dimensions, column, node.span)

    def using(self, node: ast.Step, kind: str, known: tuple[str, ...]) -> str | None:
        if node.usings:
            name = node.usings[0]
            if name.text in known:
                return name.text
            self.report(
                problems.UnknownDeclaration(span=name.span, kind=kind, name=name.text, known=known)
            )
            return None
        if len(known) == 1:
            return known[0]
        self.report(problems.UsingMissing(span=node.call.span, kind=kind, known=known))
        return None

    def taken(self, name: str, span: Span, advice: str | None = None) -> bool:
        if name.lower() not in (column.lower() for column in self.columns):
            return False
        advice = advice or "choose another name"
        self.report(problems.ColumnTwice(span=span, name=name, owner=self.owner, advice=advice))
        return True

    def task(self, node: ast.Step, task: typed.Task) -> typed.TaskStep | None:
        given = self.arguments(node, task)
        backend: str | None = None
        sound = True
        if node.usings and not task.asks:
            name = node.usings[0]
            self.report(problems.NothingToUse(span=name.span, word="using", callee=task.name))
            sound = False
        elif node.usings or task.needs_backend:
            backend = self.using(node, "backend", self.known.backends)
            sound = backend is not None
        made = [(column.name, column.type) for column in task.outputs]
        if task.asks and MODEL_NAME not in (name for name, _ in made):
            made.append((MODEL_NAME, types.Text()))
        alias = node.aliases[0] if node.aliases else None
        if alias:
            if self.taken(alias.text, alias.span):
                return None
            fields = tuple(Field(name, type_) for name, type_ in made)
            self.columns[alias.text] = types.Record(fields)
        else:
            for name, type_ in made:
                if name == MODEL_NAME and name in self.columns:
                    del self.columns[name]
                elif self.taken(name, node.call.callee.span, _own_name(name)):
                    return None
                self.columns[name] = type_
        if not sound or given is None:
            return None
        return typed.TaskStep(task, given, backend, alias.text if alias else None, node.span)

    def arguments(self, node: ast.Step, task: typed.Task) -> dict[str, typed.Given] | None:
        """What each parameter and input of the task is given; None where something does not hold."""
        wanted: dict[str, Type] = {p.name: p.type for p in task.parameters}
        wanted |= {column.name: column.type for column in task.inputs}
        given: dict[str, typed.Given] = {}
        sound = True
        for argument in node.call.arguments:
            if argument.name is None:
                form = f"{task.name}({next(iter(wanted), 'name')} = …)"
                self.report(problems.WrongCall(span=argument.span, callee=task.name, form=form))
                sound = False
                continue
            name = argument.name.text
            if name not in wanted:
                self.report(
                    problems.UnknownArgument(
                        span=argument.name.span, callee=task.name, name=name, known=tuple(wanted)
                    )
                )
                sound = False
                continue
            if name in given:
                self.report(problems.SaidTwice(span=argument.name.span, word=name))
                sound = False
                continue
            value = self.given(argument, wanted[name], f"`{name}` of `{task.name}`")
            sound = sound and value is not None
            given[name] = value or typed.Given()
        for column in task.inputs:
            if column.name in given:
                continue
            if column.name in self.columns:
                found = self.columns[column.name]
                if not self.fits(found, column.type, f"`{column.name}` of `{task.name}`", node):
                    sound = False
                given[column.name] = typed.Given(path=(column.name,))
            else:
                self.missing(node, task, column.name, "input")
                sound = False
        for parameter in task.parameters:
            if parameter.name not in given:
                if not parameter.has_default:
                    self.missing(node, task, parameter.name, "parameter")
                    sound = False
                given[parameter.name] = typed.Given(value=parameter.default)
        return given if sound else None

    def missing(self, node: ast.Step, task: typed.Task, name: str, kind: Any) -> None:
        self.report(
            problems.MissingArgument(
                span=node.call.callee.span,
                task=task.name,
                name=name,
                kind=kind,
                columns=tuple(self.columns),
                advice=self.bind_part(task, name) if kind == "input" else None,
            )
        )

    def bind_part(self, task: typed.Task, name: str) -> str | None:
        """How an input is bound to a part of a struct that has its name."""
        for column, type_ in self.columns.items():
            inner = types.required(type_)
            if isinstance(inner, types.Record) and any(f.name == name for f in inner.fields):
                return f"bind it: `{task.name}({name} = {column}.{name})`"
        return None

    def fits(self, found: Type, wanted: Type, what: str, node: ast.Step | ast.Value) -> bool:
        if assignable(found, wanted):
            return True
        span = node.call.callee.span if isinstance(node, ast.Step) else node.span
        known = types.required(found)
        advice = "convert it before, in a `select`"
        if isinstance(types.required(wanted), types.Text):
            advice += ', as in `select("*, size::VARCHAR AS size_text")`'
        elif not isinstance(known, types.Other):
            advice = f"declare it as `{types.name(known)}`, or {advice}"
        self.report(
            problems.WrongType(
                span=span,
                what=what,
                expected=types.name(wanted),
                found=types.name(found),
                advice=advice,
            )
        )
        return False

    def given(self, argument: ast.Argument, wanted: Type, what: str) -> typed.Given | None:
        match argument.value:
            case ast.Path() as value:
                path = self.path(value)
                if path is None or not self.fits(self.type_of(path), wanted, what, value):
                    return None
                return typed.Given(path=path)
            case ast.ParameterValue(name, span) as value:
                constant = self.constant(name, span)
                if constant is None or not self.fits(constant[1], wanted, what, value):
                    return None
                return typed.Given(value=constant[0])
            case ast.Apply(_, _, span):
                self.report(
                    problems.BadValue(
                        span=span,
                        what=what,
                        wanted="a column, a `$parameter` or a literal",
                        found=described(argument.value),
                    )
                )
                return None
            case value:
                taken = resolve_value(value, wanted, what, self.report)
                return typed.Given(value=taken[0]) if taken else None


def _own_name(column: str) -> str:
    return f"give the step's columns a name of their own: `as step2` (then `step2.{column}`)"
