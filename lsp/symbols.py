"""The names of a spec: where they are declared, and where each of them stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synthc.compiler import ast
from synthc.compiler.parse.words import FORMS
from synthc.compiler.span import Span
from synthc.compiler.walk import nodes
from synthc.lsp.analysis import Analysis
from synthc.lsp.text import Position, holds

KINDS: Mapping[type, str] = {
    ast.Parameter: "param",
    ast.TypeAlias: "type",
    ast.Backend: "backend",
    ast.Embedder: "embedder",
    ast.Mutations: "mutations",
    ast.Task: "task",
    ast.TaskAlias: "task",
    ast.Table: "table",
    ast.Expect: "expect",
}
"""What each declaration declares, in the word that it starts with."""

_SQL = re.compile(
    r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\"(?:[^\"]|\"\")*\"|\$?[A-Za-z_]\w*|\S", re.DOTALL
)
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_IN_JINJA = re.compile(r"\"[^\"]*\"|'[^']*'|\.\s*[A-Za-z_]\w*|[A-Za-z_]\w*")
_BEFORE_TABLES = ("from", "join", ",")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A name at a place. `kind` is the word of its declaration, or `column`.

    `owner` is the task or table that a column or a task's parameter is of; "" for what a file declares.
    `within` is the step or declaration that it stands in.
    """

    kind: str
    name: str
    span: Span
    owner: str = ""
    declares: bool = False
    within: Span | None = None

    @property
    def same(self) -> tuple[str, str, str]:
        """What two occurrences of one thing share."""
        return self.kind, self.owner, self.name


def at(analysis: Analysis, place: Position) -> Occurrence | None:
    """The name at a position: the shortest, where one stands in another."""
    found = [o for o in occurrences(analysis) if holds(o.span, place)]
    return min(found, key=lambda o: (o.span.end_line, o.span.end_column), default=None)


def declarations(spec: ast.Spec) -> Iterator[tuple[str, ast.Name, Any]]:
    """The declarations of a tree: kind, name, node."""
    for node in spec.declarations:
        kind = KINDS.get(type(node))
        if kind and not isinstance(node, ast.Export | ast.Test | ast.Use):
            yield kind, node.name, node


def occurrences(analysis: Analysis) -> Iterator[Occurrence]:
    """Every name that stands in the file."""
    file = _File(analysis)
    for node in analysis.spec.declarations:
        yield from file.declaration(node)


class _File:
    """What the names of a file can mean."""

    def __init__(self, analysis: Analysis) -> None:
        self.known: dict[str, set[str]] = {}
        self.tasks: dict[str, ast.Task | ast.TaskAlias] = {}
        for kind, name, node in declarations(analysis.linked):
            self.known.setdefault(kind, set()).add(name.text)
            if isinstance(node, ast.Task | ast.TaskAlias):
                self.tasks[name.text] = node
        self.types = self.known.get("type", set()) | {
            node.name.text for node in analysis.spec.declarations if isinstance(node, ast.TypeAlias)
        }
        self.tables = {name.lower(): name for name in self.known.get("table", ())}
        self.params = self.known.get("param", set())

    def declaration(self, node: ast.Declaration) -> Iterator[Occurrence]:
        if not isinstance(node, ast.Export | ast.Test | ast.Use):
            yield Occurrence(KINDS[type(node)], node.name.text, node.name.span, declares=True)
        for part in nodes(node):
            if isinstance(part, ast.NamedType) and part.name.text in self.types:
                yield Occurrence("type", part.name.text, part.span)
        match node:
            case ast.Backend(extends=base, settings=settings):
                yield from self.reference("backend", base)
                for setting in settings:
                    if setting.name.text == "fallback":
                        yield from self.reference("backend", setting.value)
            case ast.Mutations():
                yield from self.mutations(node)
            case ast.Task():
                yield from self.task(node)
            case ast.TaskAlias(call=call):
                yield from self.call(call, "", None)
            case ast.Table():
                yield from self.table(node)
            case ast.Export(table=name):
                yield Occurrence("table", name.text, name.span)
            case ast.Expect(text=text):
                yield from self.sql(text, "", {}, None)
            case ast.Test():
                yield from self.call(node.call, "", None)
                owner = str(node.call.callee)
                for said in (*node.given, *node.replies, *node.expected):
                    if said.name:
                        yield self.of_task(owner, said.name)
            case _:
                pass

    def reference(self, kind: str, value: Any, owner: str = "") -> Iterator[Occurrence]:
        """What names a declaration, or is a parameter that does."""
        if isinstance(value, ast.Path):
            yield Occurrence(kind, str(value), value.span)
        elif isinstance(value, ast.ParameterValue):
            yield self.parameter(value.name, value.span, owner, sign=True)

    def parameter(self, name: str, span: Span, owner: str, *, sign: bool = False) -> Occurrence:
        task = self.tasks.get(owner)
        own = isinstance(task, ast.Task) and any(p.name.text == name for p in task.parameters)
        if sign:
            start = span.column + 1
            span = Span(span.file, span.line, start, span.end_line, start + len(name))
        return Occurrence("param", name, span, owner if own else "")

    def values(self, node: Any, owner: str) -> Iterator[Occurrence]:
        """The `$parameters` of a node."""
        for part in nodes(node):
            if isinstance(part, ast.ParameterValue):
                yield self.parameter(part.name, part.span, owner, sign=True)

    # Tasks

    def mutations(self, node: ast.Mutations) -> Iterator[Occurrence]:
        owner = node.name.text
        yield from self.reference("mutations", node.extends)
        for column in node.inputs:
            yield Occurrence("column", column.name.text, column.name.span, owner, declares=True)
        names = {column.name.text for column in node.inputs}
        for prompt in node.prompts:
            if isinstance(prompt.template, ast.String):
                yield from self.template(prompt.template, owner, names)

    def task(self, node: ast.Task) -> Iterator[Occurrence]:
        owner = node.name.text
        yield from self.reference("task", node.extends)
        for parameter in node.parameters:
            name = parameter.name
            yield Occurrence("param", name.text, name.span, owner, declares=True)
            word = parameter.type.name.text if isinstance(parameter.type, ast.NamedType) else ""
            if word in ("backend", "mutations"):
                yield from self.reference(word, parameter.default)
            else:
                yield from self.values(parameter.default, owner)
        names = {p.name.text for p in node.parameters}
        for part in nodes((node.inputs, node.produces)):
            if isinstance(part, ast.Produce):
                names |= {column.name.text for column in part.columns}
            elif isinstance(part, ast.Repeat):
                names.add(part.variable.name.text)
            elif isinstance(part, ast.Each):
                names.add(part.name.text)
        for column in node.inputs:
            yield Occurrence("column", column.name.text, column.name.span, owner, declares=True)
        names |= {column.name.text for column in node.inputs}
        for part in nodes(node.produces):
            yield from self.part(part, owner, names)

    def part(self, part: Any, owner: str, names: set[str]) -> Iterator[Occurrence]:
        """The names of one node of a task."""
        match part:
            case ast.Produce(columns=columns, producer=producer):
                for column in columns:
                    name = column.name
                    yield Occurrence("column", name.text, name.span, owner, declares=True)
                yield from self.column(producer, owner, names)
                if isinstance(producer, ast.String):
                    yield from self.template(producer, owner, names)
            case ast.Repeat(variable=variable, start=start, until=until, next=following):
                yield Occurrence(
                    "column", variable.name.text, variable.name.span, owner, declares=True
                )
                yield from self.column(start, owner, names)
                yield from self.column(following, owner, names)
                if until:
                    yield from self.sql(until, owner, dict.fromkeys(names, owner), None)
            case ast.Condition(parameter=name):
                yield Occurrence("param", name.text, name.span, owner)
            case ast.Ask():
                for backend in part.backends:
                    if isinstance(backend, ast.Path):
                        yield from self.reference("backend", backend)
                for text in (part.prompt, *part.systems):
                    if isinstance(text, ast.String):
                        yield from self.template(text, owner, names)
                yield from self.column(part.prompt, owner, names)
                for text in part.wheres:
                    yield from self.sql(text, owner, dict.fromkeys(names, owner), None)
                for each in part.eaches:
                    yield Occurrence("column", each.name.text, each.name.span, owner, declares=True)
                    yield from self.column(each.list, owner, names)
                for contract in part.contracts:
                    yield from self.column(contract.per, owner, names)
                    for detail in contract.details:
                        if detail.name and detail.name.text in names:
                            yield Occurrence("column", detail.name.text, detail.name.span, owner)
            case ast.OneOf(set=named) if isinstance(named, ast.Path):
                yield from self.reference("mutations", named)
            case ast.Sql(text=text):
                yield from self.sql(text, owner, dict.fromkeys(names, owner), None)
            case ast.ParameterValue(name=name, span=span):
                yield self.parameter(name, span, owner, sign=True)
            case _:
                pass

    def column(self, value: Any, owner: str, names: set[str]) -> Iterator[Occurrence]:
        if isinstance(value, ast.Path) and value.names[0].text in names:
            first = value.names[0]
            yield self.of_task(owner, first)

    def of_task(self, owner: str, name: ast.Name) -> Occurrence:
        """An input, a column or a parameter of a task, by its name."""
        task = self.tasks.get(owner)
        if isinstance(task, ast.Task) and name.text in {p.name.text for p in task.parameters}:
            return Occurrence("param", name.text, name.span, owner)
        return Occurrence("column", name.text, name.span, owner)

    # Tables

    def table(self, node: ast.Table) -> Iterator[Occurrence]:
        owner = node.name.text
        match node.source:
            case ast.QuerySource(text=text):
                yield from self.sql(text, owner, {}, node.span)
            case ast.Call(callee=callee, brackets=False):
                yield Occurrence("table", str(callee), callee.span)
            case ast.Call(arguments=arguments):
                yield from self.values(arguments, "")
        for step in node.steps:
            if isinstance(step, ast.SqlStep):
                yield from self.sql(step.text, owner, None, step.span)
                continue
            yield from self.call(step.call, owner, step.span)
            kind = "embedder" if str(step.call.callee) == "embed" else "backend"
            for named in step.usings:
                yield from self.reference(kind, named)
            for alias in step.aliases:
                yield Occurrence("column", alias.text, alias.span, owner, True, step.span)

    def call(self, call: ast.Call, owner: str, within: Span | None) -> Iterator[Occurrence]:
        callee = str(call.callee)
        if callee not in FORMS:
            yield Occurrence("task", callee, call.callee.span, within=within)
        kinds = _kinds(self.tasks, callee)
        for argument in call.arguments:
            if argument.name and callee in self.tasks:
                yield self.of_task(_own(self.tasks, callee, argument.name.text), argument.name)
            kind = kinds.get(argument.name.text) if argument.name else None
            if argument.name and callee == "draw" and argument.name.text == "from":
                kind = "table"
            match argument.value:
                case ast.String() as text if callee in ("where", "select"):
                    yield from self.sql(text, owner, None, within)
                case ast.Path() as path if kind:
                    yield from self.reference(kind, path)
                case ast.Path(names=names) if within is not None:
                    name = names[0]
                    yield Occurrence("column", name.text, name.span, owner, within=within)
                case value:
                    yield from self.values(value, "")

    # Text

    def sql(
        self,
        text: ast.String,
        owner: str,
        columns: Mapping[str, str] | None,
        within: Span | None,
    ) -> Iterator[Occurrence]:
        """The names in SQL. `columns` says whose each is; None where any word may be a column."""
        whole = columns is not None and within is not None
        folded = {name.lower(): name for name in columns or ()}
        found = list(_SQL.finditer(text.text))
        for index, token in enumerate(found):
            word = token.group()
            before = found[index - 1].group().lower() if index else ""
            after = found[index + 1].group() if index + 1 < len(found) else ""
            span = _stretch(text, token.start(), len(word))
            if word.startswith("$") and len(word) > 1:
                yield self.parameter(
                    word[1:], _stretch(text, token.start() + 1, len(word) - 1), owner
                )
            elif not re.fullmatch(r"[A-Za-z_]\w*", word):
                continue
            elif word.lower() in self.tables and (before in _BEFORE_TABLES or after == "."):
                if before != "." and (before != "," or not within or whole or columns == {}):
                    yield Occurrence("table", self.tables[word.lower()], span)
            elif before != "." and after != "(":
                if word.lower() in folded:
                    name = folded[word.lower()]
                    yield self.of_task(owner, ast.Name(name, span))
                elif columns is None:
                    yield Occurrence("column", word, span, owner, within=within)

    def template(self, text: ast.String, owner: str, names: set[str]) -> Iterator[Occurrence]:
        """The names that a template's expressions and statements say."""
        for block in _JINJA.finditer(text.text):
            for token in _IN_JINJA.finditer(block.group()):
                word = token.group()
                span = _stretch(text, block.start() + token.start(), len(word))
                if word in names:
                    yield self.of_task(owner, ast.Name(word, span))
                elif word in self.params:
                    yield Occurrence("param", word, span)


def _stretch(text: ast.String, start: int, length: int) -> Span:
    """The place of a word of a string: on its line, also where the string's text ends with it."""
    first = text.at(start)
    return Span(first.file, first.line, first.column, first.line, first.column + length)


def _kinds(tasks: Mapping[str, ast.Task | ast.TaskAlias], name: str) -> dict[str, str]:
    """The parameters of a task that are given the name of a backend or a set."""
    found: dict[str, str] = {}
    for task in _line(tasks, name):
        for parameter in task.parameters if isinstance(task, ast.Task) else ():
            type_ = parameter.type
            if isinstance(type_, ast.NamedType) and type_.name.text in ("backend", "mutations"):
                found.setdefault(parameter.name.text, type_.name.text)
    return found


def _own(tasks: Mapping[str, ast.Task | ast.TaskAlias], name: str, word: str) -> str:
    """The task that declares a parameter or an input which a call names: the one called, or its base."""
    for task in _line(tasks, name):
        if isinstance(task, ast.Task):
            parts = (*task.parameters, *task.inputs)
            parts += tuple(column for made in task.produces for column in made.columns)
            if any(part.name.text == word for part in parts):
                return task.name.text
    return name


def _line(
    tasks: Mapping[str, ast.Task | ast.TaskAlias], name: str
) -> Iterator[ast.Task | ast.TaskAlias]:
    """A task, and those that it stands for or extends."""
    seen: set[str] = set()
    while name in tasks and name not in seen:
        seen.add(name)
        task = tasks[name]
        yield task
        base = task.call.callee if isinstance(task, ast.TaskAlias) else task.extends
        name = str(base)


def base_tasks(analysis: Analysis, name: str) -> list[ast.Task | ast.TaskAlias]:
    """A task of the linked spec, and those that it stands for or extends."""
    tasks = {
        n.text: node
        for kind, n, node in declarations(analysis.linked)
        if kind == "task" and isinstance(node, ast.Task | ast.TaskAlias)
    }
    return list(_line(tasks, name))
