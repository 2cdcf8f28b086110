"""Templates checked through Jinja's own AST: what they print, what they may not reach, what can be null."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from jinja2 import TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from synthc.compiler import ast, types
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span
from synthc.compiler.types import Type

OUTPUT_FORMAT = "output_format"
"""What a prompt prints to say which JSON is wanted."""

# What Jinja brings of its own, less what is random or makes no prompt.
GLOBALS = ("range", "dict", "namespace")
_VOLATILE_FILTERS = {"random"}
_ASKS_FIRST = {"default", "d"}


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox that templates are checked in; the runtime renders them in one like it."""
    made = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
    made.globals = {name: made.globals[name] for name in GLOBALS}
    for name in _VOLATILE_FILTERS:
        del made.filters[name]
    return made


def check(
    template: ast.String,
    scope: Mapping[str, Type],
    *,
    has_format: bool,
    report: Callable[[Problem], None],
) -> tuple[str, ...] | None:
    """The names of the scope that the template uses, in the scope's order; None where it is wrong.

    `has_format` says whether `{{ output_format }}` can be printed.
    """
    sandbox = environment()
    try:
        tree = sandbox.parse(template.text)
    except TemplateSyntaxError as error:
        span = _line(template, error.lineno)
        report(problems.TemplateSyntax(span=span, reason=(error.message or "").rstrip(".")))
        return None
    visitor = _Visitor(template, scope, has_format, sandbox, report)
    visitor.statements(tree.body, frozenset(), frozenset())
    return None if visitor.failed else tuple(name for name in scope if name in visitor.used)


def _line(template: ast.String, line: int) -> Span:
    lines = template.text.split("\n")
    start = sum(len(text) + 1 for text in lines[: line - 1])
    text = lines[min(line, len(lines)) - 1]
    indent = len(text) - len(text.lstrip())
    return template.at(start + indent, max(1, len(text.strip())))


class _Visitor:
    def __init__(
        self,
        template: ast.String,
        scope: Mapping[str, Type],
        has_format: bool,
        sandbox: ImmutableSandboxedEnvironment,
        report: Callable[[Problem], None],
    ) -> None:
        self.template = template
        self.scope = scope
        self.has_format = has_format
        self.sandbox = sandbox
        self.used: set[str] = set()
        self.failed = False
        self._report = report

    def problem(self, problem: Problem) -> None:
        self.failed = True
        self._report(problem)

    def find(self, node: nodes.Node, word: str) -> Span:
        """The word inside the tags of the node's line: Jinja knows lines, not columns."""
        lines = self.template.text.split("\n")
        start = sum(len(text) + 1 for text in lines[: node.lineno - 1])
        for at, part in _tags(self.template.text[start:]):
            match = re.search(
                rf"(?<![\w.]){re.escape(word)}(?!\w)|(?<=\.){re.escape(word)}(?!\w)", part
            )
            if match:
                return self.template.at(start + at + match.start(), len(word))
        return _line(self.template, node.lineno)

    def statements(
        self, body: list[nodes.Node], local: frozenset[str], safe: frozenset[str]
    ) -> frozenset[str]:
        """Check statements in order; `local` are names set so far, `safe` nullables asked about."""
        for node in body:
            local = self.statement(node, local, safe)
        return local

    def statement(
        self, node: nodes.Node, local: frozenset[str], safe: frozenset[str]
    ) -> frozenset[str]:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        self.expression(part, local, safe, printed=True)
            case nodes.If():
                self.expression(node.test, local, safe)
                inner = safe | _asked(node.test)
                self.statements(node.body, local, inner)
                for branch in node.elif_:
                    self.statement(branch, local, safe)
                self.statements(node.else_, local, safe | _denied(node.test))
            case nodes.For():
                self.expression(node.iter, local, safe, printed=True)
                inside = local | _targets(node.target) | {"loop"}
                if node.test:
                    self.expression(node.test, inside, safe)
                self.statements(node.body, inside, safe)
                self.statements(node.else_, local, safe)
            case nodes.Assign():
                self.expression(node.node, local, safe)
                return local | _targets(node.target)
            case nodes.AssignBlock():
                self.statements(node.body, local, safe)
                return local | _targets(node.target)
            case nodes.With():
                for value in node.values:
                    self.expression(value, local, safe)
                names = frozenset().union(*(_targets(t) for t in node.targets))
                self.statements(node.body, local | names, safe)
            case nodes.Macro():
                inside = local | {arg.name for arg in node.args}
                self.statements(node.body, inside, safe)
                return local | {node.name}
            case nodes.FilterBlock():
                self.statements(node.body, local, safe)
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                self.problem(
                    problems.UnsafeTemplate(
                        span=_line(self.template, node.lineno), what="other files"
                    )
                )
            case _:
                for child in node.iter_child_nodes():
                    if isinstance(child, nodes.Expr):
                        self.expression(child, local, safe)
                    else:
                        self.statement(child, local, safe)
        return local

    def expression(
        self,
        node: nodes.Node,
        local: frozenset[str],
        safe: frozenset[str],
        *,
        printed: bool = False,
    ) -> None:
        match node:
            case nodes.Name():
                self.name(node, local, safe, printed)
            case nodes.Getattr():
                self.attribute(node, node.attr, local)
                self.expression(node.node, local, safe, printed=printed)
            case nodes.Getitem(arg=nodes.Const(value=str() as key)):
                self.attribute(node, key, local)
                self.expression(node.node, local, safe, printed=printed)
            case nodes.Filter():
                self.known("filter", node, self.sandbox.filters)
                inner = printed and node.name not in _ASKS_FIRST
                for child in node.iter_child_nodes():
                    self.expression(child, local, safe, printed=inner and child is node.node)
            case nodes.Test():
                self.known("test", node, self.sandbox.tests)
                for child in node.iter_child_nodes():
                    self.expression(child, local, safe)
            case nodes.CondExpr():
                self.expression(node.test, local, safe)
                self.expression(node.expr1, local, safe | _asked(node.test), printed=printed)
                if node.expr2:
                    self.expression(node.expr2, local, safe | _denied(node.test), printed=printed)
            case nodes.Or():
                self.expression(node.left, local, safe)
                self.expression(node.right, local, safe, printed=printed)
            case nodes.Call():
                for child in node.iter_child_nodes():
                    self.expression(child, local, safe)
            case nodes.Concat() | nodes.BinExpr():
                for child in node.iter_child_nodes():
                    self.expression(child, local, safe, printed=printed)
            case _:
                for child in node.iter_child_nodes():
                    self.expression(child, local, safe)

    def name(
        self, node: nodes.Name, local: frozenset[str], safe: frozenset[str], printed: bool
    ) -> None:
        name = node.name
        if name in local:
            return
        if name == OUTPUT_FORMAT and name not in self.scope:
            if not self.has_format:
                self.problem(problems.NoOutputFormat(span=self.find(node, name)))
            return
        if name.startswith("_"):
            what = f"`{name}`"
            self.problem(problems.UnsafeTemplate(span=self.find(node, name), what=what))
            return
        if name not in self.scope:
            if name not in GLOBALS:
                known = tuple(self.scope) + ((OUTPUT_FORMAT,) if self.has_format else ())
                self.problem(
                    problems.UnknownTemplateName(span=self.find(node, name), name=name, known=known)
                )
            return
        self.used.add(name)
        if printed and types.nullable(self.scope[name]) and name not in safe:
            self.problem(problems.NullablePrinted(span=self.find(node, name), name=name))

    def attribute(
        self, node: nodes.Getattr | nodes.Getitem, key: str, local: frozenset[str]
    ) -> None:
        if key.startswith("_"):
            self.problem(problems.UnsafeTemplate(span=self.find(node, key), what=f"`{key}`"))
            return
        owner = node.node
        if not isinstance(owner, nodes.Name) or owner.name in local or owner.name not in self.scope:
            return
        type_ = types.required(self.scope[owner.name])
        if isinstance(type_, types.Record) and key not in (f.name for f in type_.fields):
            self.problem(
                problems.UnknownColumn(
                    span=self.find(node, key),
                    owner=f"`{owner.name}`",
                    name=key,
                    known=tuple(f.name for f in type_.fields),
                )
            )

    def known(
        self, kind: str, node: nodes.Filter | nodes.Test, names: Mapping[str, object]
    ) -> None:
        if node.name not in names:
            self.problem(
                problems.UnknownFilter(
                    span=self.find(node, node.name), kind=kind, name=node.name, known=tuple(names)
                )
            )


def _tags(text: str) -> list[tuple[int, str]]:
    return [(m.start(), m.group()) for m in re.finditer(r"\{\{.*?\}\}|\{%.*?%\}", text, re.DOTALL)]


def _targets(node: nodes.Node) -> frozenset[str]:
    return frozenset(
        name.name for name in [node, *node.find_all(nodes.Name)] if isinstance(name, nodes.Name)
    )


def _asked(test: nodes.Node) -> frozenset[str]:
    """The names that are there where the test holds."""
    match test:
        case nodes.Name():
            return frozenset((test.name,))
        case nodes.And():
            return _asked(test.left) | _asked(test.right)
        case nodes.Not():
            return _denied(test.node)
        case nodes.Compare(expr=nodes.Name() as name, ops=[nodes.Operand(op="ne") as operand]):
            none = isinstance(operand.expr, nodes.Const) and operand.expr.value is None
            return frozenset((name.name,)) if none else frozenset()
        case nodes.Compare(expr=nodes.Name() as name):
            return frozenset((name.name,))
        case _:
            return frozenset()


def _denied(test: nodes.Node) -> frozenset[str]:
    """The names that are there where the test does not hold."""
    match test:
        case nodes.Not():
            return _asked(test.node)
        case nodes.Or():
            return _denied(test.left) | _denied(test.right)
        case nodes.Test(node=nodes.Name() as name, name="none"):
            return frozenset((name.name,))
        case _:
            return frozenset()
