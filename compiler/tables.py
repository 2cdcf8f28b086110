"""Checks one table: its source, and what each step finds and leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthc.compiler import ast, files, plan, typed, types
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse import NOT_YET_NAMES
from synthc.compiler.span import Span
from synthc.compiler.sql import Binder
from synthc.compiler.tasks import MODEL_NAME
from synthc.compiler.types import Field, Type
from synthc.compiler.values import assignable, described, resolve_value

Report = Callable[[Problem], None]

_FORMS = {
    "read": 'read("file.jsonl")` or `read("file.jsonl", key = id)',
    "rows": "rows(100)",
    "where": 'where("length(question) > 10")',
    "select": 'select("id, question")',
    "limit": "limit(10)",
    "embed": "embed(question) using minilm",
}
_EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Known:
    """What a table may refer to: everything that was declared and checked before it.

    Embedders are known by their dimensions. A task or table that did not hold stands as None, so that nothing is reported because of it.
    """

    base: Path
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

    @property
    def owner(self) -> str:
        return f"the table `{self.node.name.text}`"

    def table(self) -> typed.Table | None:
        source = self.source(self.node.source)
        if source is None:
            return None
        source_columns = tuple(Field(name, type_) for name, type_ in self.columns.items())
        steps: list[typed.Step] = []
        for node in self.node.steps:
            step = self.step(node)
            if step is None:
                return None  # what later steps see is unknown
            steps.append(step)
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
                case _ if name in self.known.tables or name in self.known.tasks:
                    form = "table t = topics" if name in self.known.tables else f"… |> {name}(…)"
                    self.report(problems.WrongCall(span=node.span, callee=name, form=form))
                    return None
        if name not in self.known.tables:
            known = (*self.known.tables, "read", "rows") if node.brackets else self.known.tables
            kind = "source" if node.brackets else "table"
            self.report(
                problems.UnknownDeclaration(
                    span=node.callee.span, kind=kind, name=name, known=tuple(known)
                )
            )
            return None
        table = self.known.tables[name]
        if table is None:
            return None
        self.columns = {field.name: field.type for field in table.columns}
        return plan.From(node.span, name)

    def query(self, node: ast.QuerySource) -> typed.Query | None:
        needed = self.binder.query_tables(node.text)
        if any(self.known.tables.get(name, ...) is None for name in needed):
            return None
        bound = self.binder.query(
            node.text, self.known.parameters, tuple(self.known.tables), self.report
        )
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
        found = files.columns(path, self.known.base, self.report)
        if found is None:
            return None
        self.columns = {field.name: field.type for field in found}
        if key and not self.has(key, self.columns):
            return None
        return plan.Read(node.span, path.text, found, key.text if key else None)

    def has(self, name: ast.Name, columns: Mapping[str, Type]) -> bool:
        if name.text in columns:
            return True
        owner = self.owner
        self.report(
            problems.UnknownColumn(
                span=name.span, owner=owner, name=name.text, known=tuple(columns)
            )
        )
        return False

    def wrong(self, callee: str, span: Span) -> None:
        self.report(problems.WrongCall(span=span, callee=callee, form=_FORMS[callee]))

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
            case _ if callee in NOT_YET_NAMES and callee not in self.known.tasks:
                self.report(problems.NotYet(span=node.call.callee.span, word=callee))
                return None
            case _ if callee not in self.known.tasks:
                known = (
                    *self.known.tasks,
                    *(name for name in _FORMS if name not in ("read", "rows")),
                )
                self.report(
                    problems.UnknownDeclaration(
                        span=node.call.callee.span, kind="task or step", name=callee, known=known
                    )
                )
                return None
        task = self.known.tasks[callee]
        return None if task is None else self.task(node, task)

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
        bound = self.binder.condition(
            text, self.columns, self.known.parameters, self.owner, self.report
        )
        return typed.Where(bound, node.span) if bound else None

    def select(self, node: ast.Step) -> typed.Select | None:
        text = self.sql_text(node, "select")
        if text is None:
            return None
        bound = self.binder.columns(
            text, self.columns, self.known.parameters, self.owner, self.report
        )
        if bound is None:
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
                self.report(
                    problems.UnknownColumn(
                        span=name.span, owner=owner, name=name.text, known=tuple(columns)
                    )
                )
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
        if self.taken(column, place, step=not node.aliases):
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

    def taken(self, name: str, span: Span, *, step: bool) -> bool:
        if name.lower() not in (column.lower() for column in self.columns):
            return False
        self.report(problems.ColumnTwice(span=span, name=name, owner=self.owner, step=step))
        return True

    def task(self, node: ast.Step, task: typed.Task) -> typed.TaskStep | None:
        given = self.arguments(node, task)
        backend: str | None = None
        if node.usings or task.needs_backend:
            if node.usings and not task.asks:
                name = node.usings[0]
                self.report(problems.NothingToUse(span=name.span, word="using", callee=task.name))
                return None
            backend = self.using(node, "backend", self.known.backends)
            if backend is None:
                return None
        if given is None:
            return None
        made = [(column.name, column.type) for column in task.outputs]
        if task.asks and MODEL_NAME not in (name for name, _ in made):
            made.append((MODEL_NAME, types.Text()))
        alias = node.aliases[0] if node.aliases else None
        if alias:
            if self.taken(alias.text, alias.span, step=False):
                return None
            fields = tuple(Field(name, type_) for name, type_ in made)
            self.columns[alias.text] = types.Record(fields)
        else:
            for name, type_ in made:
                if name == MODEL_NAME and name in self.columns:
                    del self.columns[name]
                elif self.taken(name, node.call.callee.span, step=True):
                    return None
                self.columns[name] = type_
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

    def missing(self, node: ast.Step, task: typed.Task, name: str, kind: Any) -> None:  # noqa: ANN401
        self.report(
            problems.MissingArgument(
                span=node.call.callee.span,
                task=task.name,
                name=name,
                kind=kind,
                columns=tuple(self.columns),
            )
        )

    def fits(self, found: Type, wanted: Type, what: str, node: ast.Step | ast.Value) -> bool:
        if assignable(found, wanted):
            return True
        span = node.call.callee.span if isinstance(node, ast.Step) else node.span
        self.report(
            problems.WrongType(
                span=span, what=what, expected=types.name(wanted), found=types.name(found)
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
