"""Templates checked through Jinja's own AST: what they print, what they may not reach, what can be null."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from synthc.compiler import ast, types
from synthc.compiler.check import template_syntax
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span
from synthc.compiler.types import Type

OUTPUT_FORMAT = "output_format"
"""What a prompt prints to say which JSON is wanted."""

# What Jinja brings of its own, less what is random, makes no prompt or reaches into Python.
GLOBALS = ("range", "dict", "namespace")
_REMOVED = ("random", "attr")
_FUNCTIONS = {
    "len": "a length is written `{{ name | length }}`",
    "str": "a value is printed as text by itself",
    "enumerate": "the number of a turn is `loop.index`",
    "loop": "`loop` is known between `{% for … %}` and `{% endfor %}`",
    "sorted": "a list is sorted by `{{ name | sort }}`",
    "ref": "a template sees the columns of its task, and no tables",
    **dict.fromkeys(
        ("now", "today", "datetime"), 'give it as a parameter: `param today: text = "…"`'
    ),
    **dict.fromkeys(("env", "env_var"), "give it as a parameter of the spec"),
}
_ASKS_FIRST = ("default", "d")
_NEVER_NULL = ("string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable")

_WHOLE = (types.Text, types.Int, types.Float, types.Bool, types.Choice, types.Image, types.Audio)
"""The types of what has no parts and is no list."""

_SAME = ("sort", "reverse", "unique", "list", "default", "d", "select", "reject")
_TEXTS = ("trim", "upper", "lower", "title", "capitalize")
_SAME += ("selectattr", "rejectattr", *_TEXTS)
"""Filters that give what they are given, in another order or form; of numbers some make text."""

_METHODS = (
    (types.Text | types.Audio | types.Choice, str),
    (types.ListOf | types.Chat | types.Vector, list),
    (types.Record, dict),
    (types.Int | types.Choice, int),
    (types.Float | types.Choice, float),
)

_OF_LISTS = ("first", "last", "length", "count", "list", "reverse")
"""Filters that give the elements of a list as they are, or count them."""

IN_SYSTEM, IN_TEXT = "a system message", "a column's template"
_IN_BLOCK = "a `{% set %}`, a macro or a filter"
"""Where no picture can stand."""

_Use = Literal["printed", "looked at", "used"]
"""What becomes of an expression: of a picture the last is wrong."""

_Path = tuple[str, ...]
_Safe = frozenset[_Path]
"""The columns, and parts of columns, that were asked whether they are null."""
_Local = Mapping[str, Type | None]
"""The names that the template itself sets, with their types where those are known."""


def environment() -> ImmutableSandboxedEnvironment:
    """The sandbox that templates are checked in; the runtime renders them in one like it."""
    made = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
    made.globals = {name: made.globals[name] for name in GLOBALS}
    for name in _REMOVED:
        del made.filters[name]
    return made


def check(
    template: ast.String,
    scope: Mapping[str, Type],
    *,
    has_format: bool,
    report: Callable[[Problem], None],
    later: frozenset[str] = frozenset(),
    without: str | None = None,
) -> tuple[str, ...] | None:
    """The names of the scope that the template uses, in the scope's order; None where it is wrong.

    `has_format` says whether `{{ output_format }}` can be printed; `later` are names that the scope
    will have further down. `without` says what this is, where no picture can stand in it.
    """
    sandbox = environment()
    try:
        tree = template_syntax.read(template.text, sandbox)
    except template_syntax.Unreadable as wrong:
        span = template.at(wrong.offset, wrong.length)
        report(problems.TemplateSyntax(span=span, reason=wrong.reason, advice=wrong.advice))
        return None
    visitor = _Visitor(template, scope, later, sandbox, report, without, has_format=has_format)
    visitor.statements(tree.body, {}, frozenset())
    return None if visitor.failed else tuple(name for name in scope if name in visitor.used)


class _Visitor:
    def __init__(
        self,
        template: ast.String,
        scope: Mapping[str, Type],
        later: frozenset[str],
        sandbox: ImmutableSandboxedEnvironment,
        report: Callable[[Problem], None],
        without: str | None,
        *,
        has_format: bool,
    ) -> None:
        self.later = later
        self.without = without
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
        """The word, from where the node starts (its `lineno` is an offset: see template_syntax)."""
        at = self.template.text.find(word, node.lineno)
        return self.template.at(max(at, node.lineno), len(word))

    def tag(self, node: nodes.Node) -> Span:
        """The whole `{% … %}` that the node's first word stands in."""
        text = self.template.text
        start, end = text.rfind("{%", 0, node.lineno), text.find("%}", node.lineno)
        return self.template.at(start, end + 2 - start)

    def statements(self, body: list[nodes.Node], local: _Local, safe: _Safe) -> None:
        """Check statements in order; `local` are names set so far, `safe` nullables asked about."""
        for node in body:
            local = self.statement(node, local, safe)

    def statement(self, node: nodes.Node, local: _Local, safe: _Safe) -> _Local:
        """Check one statement; the names that those after it see."""
        match node:
            case nodes.Output():
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        self.expression(part, local, safe, printed=True)
                        self.pictures(part, local, "printed")
            case nodes.If():
                for branch in (node, *node.elif_):
                    self.expression(branch.test, local, safe)
                    self.pictures(branch.test, local, "looked at")
                    self.statements(branch.body, local, safe | _asked(branch.test))
                    safe = safe | _denied(branch.test)
                self.statements(node.else_, local, safe)
            case nodes.For():
                self.expression(node.iter, local, safe, printed=True)
                self.pictures(node.iter, local, "looked at")
                listed = self.type_of(node.iter, local)
                element = types.element(listed) if listed else None
                if isinstance(listed, _WHOLE):
                    self.no_list(node.iter, listed)
                inside = {**local, **_targets(node.target, element), "loop": None}
                asked: _Safe = frozenset()
                if node.test:
                    self.expression(node.test, inside, safe)
                    self.pictures(node.test, inside, "looked at")
                    asked = _asked(node.test)
                self.statements(node.body, inside, safe | asked)
                self.statements(node.else_, local, safe)
            case nodes.Assign():
                self.expression(node.node, local, safe, printed=True)
                self.pictures(node.node, local, "looked at")
                return {**local, **_targets(node.target, self.type_of(node.node, local))}
            case nodes.AssignBlock():
                self.inside_block(node.body, local, safe)
                return {**local, **_targets(node.target)}
            case nodes.With():
                for value in node.values:
                    self.expression(value, local, safe, printed=True)
                    self.pictures(value, local, "looked at")
                names: _Local = {}
                for target, value in zip(node.targets, node.values, strict=True):
                    names = {**names, **_targets(target, self.type_of(value, local))}
                self.statements(node.body, {**local, **names}, safe)
            case nodes.Macro():
                inside = {**local, **{arg.name: None for arg in node.args}}
                self.inside_block(node.body, inside, safe)
                return {**local, node.name: None}
            case nodes.FilterBlock():
                self.inside_block(node.body, local, safe)
            case nodes.CallBlock():
                self.expression(node.call, local, safe)
                self.pictures(node.call, local, "used")
                self.inside_block(node.body, local, safe)
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                self.problem(problems.UnsafeTemplate(span=self.tag(node), what="other files"))
            case _:
                for child in node.iter_child_nodes():
                    if isinstance(child, nodes.Expr):
                        self.expression(child, local, safe)
                        self.pictures(child, local, "used")
                    else:
                        self.statement(child, local, safe)
        return local

    def inside_block(self, body: list[nodes.Node], local: _Local, safe: _Safe) -> None:
        """Check statements whose text something else is made of."""
        around, self.without = self.without, self.without or _IN_BLOCK
        self.statements(body, local, safe)
        self.without = around

    def pictures(self, node: nodes.Node, local: _Local, use: _Use) -> None:
        """Report a picture that would become something else."""
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                found = self.type_of(node, local)
                if found and types.has_image(found):
                    self.picture(node, found, use)
                elif isinstance(node, nodes.Getitem):
                    whole = isinstance(self.type_of(node.node, local), types.Image)
                    self.pictures(node.node, local, "used" if whole else "looked at")
                    self.pictures(node.arg, local, "used")
                elif isinstance(node, nodes.Getattr):
                    self.pictures(node.node, local, "looked at")
            case nodes.CondExpr():
                self.pictures(node.test, local, "looked at")
                for branch in (node.expr1, node.expr2):
                    if branch:
                        self.pictures(branch, local, use)
            case nodes.And() | nodes.Or():
                self.pictures(node.left, local, use)
                self.pictures(node.right, local, use)
            case nodes.Not():
                self.pictures(node.node, local, "looked at")
            case nodes.Compare(ops=[nodes.Operand(expr=other)]) if _is_none(other):
                self.pictures(node.expr, local, "looked at")
            case nodes.Filter(node=nodes.Expr() as inner) | nodes.Test(node=nodes.Expr() as inner):
                within = self.filtered(node, inner, local, use)
                self.pictures(inner, local, within)
                found = self.type_of(node, local)
                if within == "looked at" and found and types.has_image(found):
                    self.picture(node, found, use)
                for argument in (*node.args, *node.kwargs):
                    self.pictures(argument, local, "used")
            case _:
                for child in node.iter_child_nodes():
                    self.pictures(child, local, "used")

    def filtered(
        self, node: nodes.Filter | nodes.Test, inner: nodes.Expr, local: _Local, use: _Use
    ) -> _Use:
        """What a filter or a test does to a picture, or to a list of some."""
        if isinstance(node, nodes.Test):
            return "looked at"
        if node.name in _ASKS_FIRST:
            return use
        found = self.type_of(inner, local)
        return "looked at" if found and types.element(found) and node.name in _OF_LISTS else "used"

    def picture(self, node: nodes.Expr, found: Type, use: _Use) -> None:
        """Report what is wrong with a picture, or with what holds some, if anything is."""
        name = _written(node)
        where = several = None
        if use == "looked at":
            return
        if use == "printed" and isinstance(found, types.Image):
            where = self.without
            if where is None:
                return
        elif types.element(found):
            one = "item" if name != "item" else "one"
            several = f"{{% for {one} in {name} %}}{{{{ {one} }}}}{{% endfor %}}"
        elif isinstance(found, types.Record):
            part = next(f.name for f in found.fields if types.has_image(f.type))
            several = f"{{{{ {name}.{part} }}}}"
        start = _start(node)
        length = len(name) if self.template.text.startswith(name, start) else 1
        span = self.template.at(start, length)
        self.problem(problems.PictureMisused(span=span, name=name, where=where, several=several))

    def expression(
        self, node: nodes.Node, local: _Local, safe: _Safe, *, printed: bool = False
    ) -> None:
        """Check an expression; `printed` says whether its value may end in the text."""
        if printed:
            self.not_null(node, local, safe)
        match node:
            case nodes.Name():
                self.name(node, local)
            case nodes.Call(node=nodes.Getattr() as method) if self.is_method(method, local):
                for child in (method.node, *node.args, *node.kwargs):
                    self.expression(child, local, safe, printed=printed)
            case nodes.Getattr():
                self.attribute(node, node.attr, local)
                self.expression(node.node, local, safe)
            case nodes.Getitem(arg=nodes.Const(value=str() as key)):
                self.attribute(node, key, local)
                self.expression(node.node, local, safe)
            case nodes.Filter():
                self.known("filter", node, self.sandbox.filters)
                for child in node.iter_child_nodes():
                    asks = child is node.node and node.name in _ASKS_FIRST
                    self.expression(child, local, safe, printed=printed and not asks)
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
                self.expression(node.right, local, safe | _denied(node.left), printed=printed)
            case nodes.And():
                self.expression(node.left, local, safe, printed=printed)
                self.expression(node.right, local, safe | _asked(node.left), printed=printed)
            case nodes.Add() | nodes.Sub() | nodes.Div() | nodes.FloorDiv() | nodes.Pow():
                self.reckoned(node, local)
                for child in (node.left, node.right):
                    self.expression(child, local, safe, printed=printed)
            case nodes.Compare() | nodes.Not():
                for child in node.iter_child_nodes():
                    self.expression(child, local, safe)
            case _:
                for child in node.iter_child_nodes():
                    self.expression(child, local, safe, printed=printed)

    def name(self, node: nodes.Name, local: _Local) -> None:
        name = node.name
        if name in local:
            return
        if name == OUTPUT_FORMAT and name not in self.scope:
            if not self.has_format:
                self.problem(problems.NoOutputFormat(span=self.find(node, name)))
        elif name.startswith("_"):
            what = f"`{name}`"
            self.problem(problems.UnsafeTemplate(span=self.find(node, name), what=what))
        elif name in self.scope:
            self.used.add(name)
        elif name not in GLOBALS:
            known = tuple(self.scope) + ((OUTPUT_FORMAT,) if self.has_format else ())
            self.problem(
                problems.UnknownTemplateName(
                    span=self.find(node, name),
                    name=name,
                    known=known,
                    further_down=name in self.later,
                    advice=self.habit(node),
                )
            )

    def habit(self, node: nodes.Name) -> str | None:
        """What is meant by a name that other languages have, and templates do not."""
        if node.name in _FUNCTIONS:
            return _FUNCTIONS[node.name]
        text = self.template.text
        part = re.match(rf"{re.escape(node.name)}\s*\.\s*(\w+)", text[node.lineno :])
        if part and part[1] in self.scope:
            return f"a column stands by its own name: `{part[1]}`"
        return None

    def not_null(self, node: nodes.Node, local: _Local, safe: _Safe) -> None:
        """Report a column, or a part of one, that can be null here."""
        path = _path(node)
        for length in range(1, len(path) + 1):
            type_ = self.type_of_path(path[:length], local)
            if type_ and types.nullable(type_) and path[:length] not in safe:
                name = ".".join(path[:length])
                span = self.template.at(_start(node), len(name))
                self.problem(problems.NullablePrinted(span=span, name=name))
                return

    def type_of_path(self, path: _Path, local: _Local) -> Type | None:
        """The type of a name, or of a part of it; None where that is unknown."""
        type_ = local[path[0]] if path[0] in local else self.scope.get(path[0])
        for part in path[1:]:
            record = types.required(type_) if type_ else None
            fields = record.fields if isinstance(record, types.Record) else ()
            type_ = next((field.type for field in fields if field.name == part), None)
        return type_

    def type_of(self, node: nodes.Node, local: _Local) -> Type | None:
        """The type that an expression has where it is not null; None where that is unknown."""
        found: Type | None = None
        match node:
            case nodes.Name():
                found = self.type_of_path((node.name,), local)
            case (
                nodes.Getattr(attr=str() as key)
                | nodes.Getitem(arg=nodes.Const(value=str() as key))
            ):
                owner = self.type_of(node.node, local)
                fields = owner.fields if isinstance(owner, types.Record) else ()
                found = next((field.type for field in fields if field.name == key), None)
            case nodes.Getitem(arg=nodes.Slice()):
                found = self.type_of(node.node, local)
            case nodes.Getitem():
                owner = self.type_of(node.node, local)
                found = types.element(owner) if owner else None
            case nodes.Filter(node=nodes.Expr() as inner) if node.name in _SAME:
                found = self.type_of(inner, local)
            case nodes.Filter(node=nodes.Expr() as inner) if node.name in ("first", "last"):
                owner = self.type_of(inner, local)
                found = types.element(owner) if owner else None
            case _:
                pass
        return types.required(found) if found else None

    def is_method(self, node: nodes.Getattr, local: _Local) -> bool:
        """Whether what is called is what Python's own values can do: `name.split(",")`."""
        owner = self.type_of(node.node, local)
        return not node.attr.startswith("_") and any(
            isinstance(owner, type_) and hasattr(kind, node.attr) for type_, kind in _METHODS
        )

    def attribute(self, node: nodes.Getattr | nodes.Getitem, key: str, local: _Local) -> None:
        if key.startswith("_"):
            self.problem(problems.UnsafeTemplate(span=self.find(node, key), what=f"`{key}`"))
            return
        owner = self.type_of(node.node, local)
        name = _written(node.node)
        if isinstance(owner, types.Record) and key not in (f.name for f in owner.fields):
            self.problem(
                problems.UnknownColumn(
                    span=self.find(node, key),
                    owner=f"`{name}`",
                    name=key,
                    known=tuple(f.name for f in owner.fields),
                )
            )
        elif isinstance(owner, (*_WHOLE, types.ListOf, types.Chat, types.Vector)):
            found = "a list" if types.element(owner) else f"`{types.name(owner)}`"
            advice = self.instead(name, key, owner)
            self.problem(
                problems.NoParts(
                    span=self.find(node, key), owner=name, name=key, found=found, advice=advice
                )
            )

    def instead(self, name: str, key: str, owner: Type) -> str:
        """What to write for a part of what has no parts."""
        element = types.element(owner)
        if element is None:
            function = "round" if key == "toFixed" else key
            if isinstance(owner, types.Image):
                return f"it is printed whole: `{{{{ {name} }}}}`"
            if key in self.sandbox.filters or function in self.sandbox.filters:
                return f"a filter follows a `|`: `{{{{ {name} | {function} }}}}`"
            if isinstance(owner, types.Text) and hasattr(str, key):
                return f"it is called with brackets: `{{{{ {name}.{key}() }}}}`"
            return f"it is printed whole: `{{{{ {name} }}}}`"
        if isinstance(element, types.Record) and key in (f.name for f in element.fields):
            one = "item" if name != "item" else "one"
            return (
                f"it is a list: `{{% for {one} in {name} %}}{{{{ {one}.{key} }}}}{{% endfor %}}`, "
                f"or `{{{{ {name}[0].{key} }}}}`"
            )
        if key in ("length", "size", "count"):
            return f"how many there are is `{{{{ {name} | length }}}}`"
        return f'it is a list: `{{{{ {name} | join(", ") }}}}`, or `{{% for item in {name} %}}`'

    def no_list(self, node: nodes.Node, found: Type) -> None:
        """Report a `for` over what is one value."""
        name = _written(node)
        advice = f"it is printed whole: `{{{{ {name} }}}}`"
        if isinstance(found, types.Text):
            advice += f'; text is taken apart with `{name}.split(",")`'
        if isinstance(found, types.Int):
            advice = f"to count, write `range({name})`"
        start = _start(node)
        length = len(name) if self.template.text.startswith(name, start) else 1
        self.problem(
            problems.WrongType(
                span=self.template.at(start, length),
                what="what `for` goes through",
                expected="a list",
                found=types.name(found),
                advice=advice,
            )
        )

    def kind(self, node: nodes.Node, local: _Local) -> type | None:
        """Whether an expression is surely text (str) or a number (float)."""
        match node:
            case nodes.Const(value=str()):
                return str
            case nodes.Const(value=int() | float()):
                return float
            case nodes.Filter() if node.name in _TEXTS:
                return str
            case _:
                pass
        match self.type_of(node, local):
            case types.Text():
                return str
            case types.Int() | types.Float() | types.Bool():
                return float
            case types.Choice(values):
                return str if isinstance(values[0], str) else float
            case _:
                return None

    def reckoned(self, node: nodes.BinExpr, local: _Local) -> None:
        """Report a text that is reckoned with, or that a number is added to."""
        kinds = [self.kind(side, local) for side in (node.left, node.right)]
        if str not in kinds or (isinstance(node, nodes.Add) and float not in kinds):
            return
        side = node.left if kinds[0] is str else node.right
        name = _written(side)
        start = _start(side)
        length = len(name) if self.template.text.startswith(name, start) else 1
        self.problem(
            problems.WrongType(
                span=self.template.at(start, length),
                what=f"each side of `{node.operator}` here",
                expected="a number",
                found="text",
                advice="texts are joined by `~`; a text of digits becomes a number by `| int`",
            )
        )

    def known(
        self, kind: str, node: nodes.Filter | nodes.Test, names: Mapping[str, object]
    ) -> None:
        if node.name in _REMOVED:
            what = f"the {kind} `{node.name}`"
            self.problem(problems.UnsafeTemplate(span=self.find(node, node.name), what=what))
        elif node.name not in names:
            self.problem(
                problems.UnknownFilter(
                    span=self.find(node, node.name), kind=kind, name=node.name, known=tuple(names)
                )
            )


def _start(node: nodes.Node) -> int:
    """The offset of an expression's first word."""
    while isinstance(node, nodes.Getattr | nodes.Getitem | nodes.Filter) and node.node:
        node = node.node
    return node.lineno


def _written(node: nodes.Node) -> str:
    """An expression as a message shows it."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Getattr():
            return f"{_written(node.node)}.{node.attr}"
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            return f"{_written(node.node)}.{key}"
        case nodes.Getitem(arg=nodes.Const(value=number)):
            return f"{_written(node.node)}[{number}]"
        case nodes.Filter() if node.node:
            return f"{_written(node.node)} | {node.name}"
        case _:
            return "this"


def _path(node: nodes.Node) -> _Path:
    """The names of `x` or `x.a.b`; () for any other expression."""
    match node:
        case nodes.Name():
            return (node.name,)
        case nodes.Getattr():
            owner = _path(node.node)
            return (*owner, node.attr) if owner else ()
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            owner = _path(node.node)
            return (*owner, key) if owner else ()
        case _:
            return ()


def _targets(node: nodes.Node, type_: Type | None = None) -> dict[str, Type | None]:
    """The names that an assignment sets; one alone has the type of the value."""
    if isinstance(node, nodes.Name):
        return {node.name: type_}
    return {name.name: None for name in node.find_all(nodes.Name)}


def _asked(test: nodes.Node) -> _Safe:
    """What is not null where the test holds."""
    match test:
        case nodes.Name() | nodes.Getattr() | nodes.Getitem():
            path = _path(test)
            return frozenset(path[:length] for length in range(1, len(path) + 1))
        case nodes.And():
            return _asked(test.left) | _asked(test.right)
        case nodes.Or():
            return _asked(test.left) & _asked(test.right)
        case nodes.Not():
            return _denied(test.node)
        case nodes.Test() if test.name in _NEVER_NULL:
            return _asked(test.node)
        case nodes.Compare(ops=[nodes.Operand(op=op, expr=other)]):
            if op == "ne":
                return _asked(test.expr) if _is_none(other) else frozenset()
            return frozenset() if op == "notin" or not _is_literal(other) else _asked(test.expr)
        case _:
            return frozenset()


def _denied(test: nodes.Node) -> _Safe:
    """What is not null where the test does not hold."""
    match test:
        case nodes.Not():
            return _asked(test.node)
        case nodes.Or():
            return _denied(test.left) | _denied(test.right)
        case nodes.And():
            return _denied(test.left) & _denied(test.right)
        case nodes.Test(name="none"):
            return _asked(test.node)
        case nodes.Compare(ops=[nodes.Operand(op=op, expr=other)]):
            none, literal = _is_none(other), _is_literal(other)
            same = (op == "eq" and none) or (op == "ne" and literal)
            return _asked(test.expr) if same else frozenset()
        case _:
            return frozenset()


def _is_none(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and node.value is None


def _is_literal(node: nodes.Node) -> bool:
    """Whether the expression is a literal without a null in it."""
    match node:
        case nodes.Const():
            return node.value is not None
        case nodes.List() | nodes.Tuple():
            return all(map(_is_literal, node.items))
        case _:
            return False
