"""Text → AST: what a spec says, or where it cannot be read.

A syntax error ends only its own declaration: the text is cut where declarations start, each is read
by itself, and the ones that can be read go on to the next stage.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import resources

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput
from msgspec.structs import replace

from synthc.compiler import ast
from synthc.compiler.cache import kept
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse import place
from synthc.compiler.parse.strings import BadEscape, decode
from synthc.compiler.span import Span


class _WholeWords:
    """Makes the lexer try a name in every state: `input` is never read as `in` and `put`."""

    always_accept = ("NAME",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


@functools.cache
def _parser() -> Lark:
    tables = kept("grammar")
    grammar = resources.files("synthc.grammar").joinpath("synth.lark").read_text(encoding="utf-8")
    return Lark(
        grammar,
        parser="lalr",
        propagate_positions=True,
        postlex=_WholeWords(),
        # Lark makes them anew where the grammar changed, or where the file cannot be read.
        cache=str(tables) if tables else False,
    )


def parse(text: str, file: str) -> tuple[ast.Spec, list[Problem]]:
    """The spec in `text`, and what could not be read. `file` is the name that places carry."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    reader = _Reader(file)
    try:
        tree = _parser().parse(text)
    except UnexpectedInput:
        return _parse_in_pieces(text, reader)
    return ast.Spec(file, tuple(reader.declarations(tree))), reader.problems


def _parse_in_pieces(text: str, reader: _Reader) -> tuple[ast.Spec, list[Problem]]:
    declarations: list[ast.Declaration] = []
    broken: set[str] = set()
    for line, piece in place.pieces(text):
        found = len(reader.problems)
        tree = _read("\n" * line + piece, reader)
        if tree is not None and len(reader.problems) == found:
            declarations += reader.declarations(tree)
        else:
            for first in re.findall(r"(?m)^\S.*", piece):
                broken.update(re.findall(r"[A-Za-z_]\w*", first))
    return ast.Spec(reader.file, tuple(declarations), frozenset(broken)), reader.problems


def _read(text: str, reader: _Reader) -> Tree[Token] | None:
    """The tree of a piece, or None where it cannot be read.

    A reserved word that stands as a name is read as one, so that the next is reported too.
    """
    from synthc.compiler.parse import syntax  # most specs need no advice

    renamed = False
    while True:
        try:
            return _parser().parse(text)
        except UnexpectedInput as error:
            problem = syntax.problem(error, text, reader.file, _parser())
        reserved = isinstance(problem, problems.ReservedWord)
        if reserved or not renamed:
            reader.problems.append(problem)
        if not reserved:
            return None
        text, renamed = place.renamed(text, problem.span), True


class _Reader:
    """Lark's tree → the nodes of `ast`; collects the problems that single words have."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def declarations(self, tree: Tree[Token]) -> list[ast.Declaration]:
        return [self._declaration(child) for child in _trees(tree)]

    def _span(self, node: Tree[Token] | Token) -> Span:
        at = node if isinstance(node, Token) else node.meta
        return Span(self.file, at.line or 1, at.column or 1, at.end_line or 1, at.end_column or 1)

    def _declaration(self, node: Tree[Token]) -> ast.Declaration:
        span = self._span(node)
        match node.data:
            case "use":
                path, *name = _trees(node)
                return ast.Use(self._string(path), self._name(name[0]) if name else None, span)
            case "param":
                return self._parameter(node)
            case "type_alias":
                name, type_ = _trees(node)
                return ast.TypeAlias(self._name(name), self._type(type_), span)
            case "backend":
                name, *settings = _trees(node)
                own = tuple(self._setting(s) for s in settings if s.data != "extends")
                return ast.Backend(self._name(name), own, self._extends(settings), span)
            case "embedder":
                name, *settings = _trees(node)
                return ast.Embedder(self._name(name), tuple(map(self._setting, settings)), span)
            case "mutations":
                return self._mutations(node)
            case "task":
                return self._task(node)
            case "task_alias":
                name, call = _trees(node)
                return ast.TaskAlias(self._name(name), self._call(call), span)
            case "expectation":
                name, text = _trees(node)
                return ast.Expect(self._name(name), self._string(text), span)
            case "table":
                name, source, *steps = _trees(node)
                return ast.Table(
                    self._name(name), self._source(source), tuple(map(self._step, steps)), span
                )
            case "test":
                return self._test(node)
            case _:
                table, path = _trees(node)
                return ast.Export(self._name(table), self._string(path), span)

    def _name(self, node: Tree[Token]) -> ast.Name:
        token = _token(node)
        span = self._span(token)
        if token.startswith("`"):
            return ast.Name(token[1:-1], span)
        return ast.Name(str(token), span)

    def _extends(self, nodes: list[Tree[Token]]) -> ast.Path | None:
        base = [self._path(_trees(node)[0]) for node in nodes if node.data == "extends"]
        return base[0] if base else None

    def _string(self, node: Tree[Token]) -> ast.String:
        literal = str(_token(node))
        span = self._span(node)
        try:
            text, offsets = decode(literal)
        except BadEscape as error:
            column = span.column + error.offset
            at = Span(self.file, span.line, column, span.line, column + len(error.escape))
            self.problems.append(problems.BadEscape(span=at, escape=error.escape))
            text, offsets = literal[1:-1], tuple(range(1, len(literal)))
        return ast.String(text, span, literal, offsets)

    def _number(self, node: Tree[Token] | Token) -> ast.Literal:
        token = node if isinstance(node, Token) else _token(node)
        # Python refuses to read very long whole numbers; no type has room for them anyway.
        whole = re.fullmatch(r"-?\d{1,100}", token)
        value = int(token) if whole else float(token)
        return ast.Literal(value, self._span(token))

    def _path(self, node: Tree[Token]) -> ast.Path:
        names = tuple(map(self._name, _trees(node)))
        return ast.Path(names, names[0].span.to(names[-1].span))

    def _value(self, node: Tree[Token]) -> ast.Value:
        span = self._span(node)
        match node.data:
            case "string":
                return self._string(node)
            case "number":
                return self._number(node)
            case "parameter_value":
                return ast.ParameterValue(str(_token(node))[1:], span)
            case "list":
                return ast.ListValue(tuple(map(self._value, _trees(node))), span)
            case "apply":
                function, *arguments = _trees(node)
                return ast.Apply(self._path(function), tuple(map(self._value, arguments)), span)
            case "record":
                return ast.RecordValue(tuple(map(self._column, _trees(node))), span)
            case _:
                path = self._path(node)
                literals = {"true": True, "false": False, "null": None}
                if str(path) in literals and not str(_token(_trees(node)[0])).startswith("`"):
                    return ast.Literal(literals[str(path)], path.span)
                return path

    def _setting(self, node: Tree[Token]) -> ast.Setting:
        name, *rest = _trees(node)
        value = tuple(map(self._setting, rest)) if node.data == "group" else self._value(rest[0])
        return ast.Setting(self._name(name), value, self._span(node))

    def _parameter(self, node: Tree[Token]) -> ast.Parameter:
        name, type_, *default = _trees(node)
        return ast.Parameter(
            self._name(name),
            self._type(type_),
            self._default(default[0]) if default else None,
            self._span(node),
        )

    def _default(self, node: Tree[Token]) -> ast.Value | ast.Sample:
        return self._sample(node) if node.data == "sample" else self._value(node)

    def _column(self, node: Tree[Token]) -> ast.Column:
        if node.data == "guarded":
            column, *guard = _trees(node)
            return replace(self._column(column), guard=self._guard(guard))
        name, type_ = _trees(node)
        return ast.Column(self._name(name), self._type(type_), self._span(node))

    def _guard(self, nodes: list[Tree[Token]]) -> tuple[ast.Condition, ...]:
        return tuple(self._condition(part) for node in nodes for part in _trees(node))

    def _condition(self, node: Tree[Token]) -> ast.Condition:
        name, *value = _trees(node)
        return ast.Condition(
            self._name(name),
            node.data in ("fails", "differs"),
            self._literal(value[0]) if value else None,
            self._span(node),
        )

    def _literal(self, node: Tree[Token]) -> ast.String | ast.Literal:
        return self._string(node) if node.data == "string" else self._number(node)

    def _type(self, node: Tree[Token]) -> ast.TypeExpression:
        span = self._span(node)
        match node.data:
            case "named_type":
                path = self._path(_trees(node)[0])
                return ast.NamedType(ast.Name(str(path), path.span), path.span)
            case "choice":
                return ast.ChoiceType(tuple(map(self._literal, _trees(node))), span)
            case "list_type":
                sizes = [self._number(c).value for c in node.children if isinstance(c, Token)]
                size = sizes[0] if sizes else None
                whole = size if isinstance(size, int) or size is None else -1
                return ast.ListType(self._type(_trees(node)[0]), whole, span)
            case "maybe_type":
                return ast.MaybeType(self._type(_trees(node)[0]), span)
            case _:
                return ast.RecordType(tuple(map(self._column, _trees(node))), span)

    def _mutations(self, node: Tree[Token]) -> ast.Mutations:
        name, *rest = _trees(node)
        return ast.Mutations(
            self._name(name),
            self._extends(rest),
            tuple(self._column(_trees(child)[0]) for child in rest if child.data == "input"),
            tuple(self._mutation(child) for child in rest if child.data == "mutation"),
            self._span(node),
        )

    def _mutation(self, node: Tree[Token]) -> ast.Mutation:
        name, template = _trees(node)
        return ast.Mutation(
            self._name(name), self._weight(node), self._template(template), self._span(node)
        )

    def _weight(self, node: Tree[Token]) -> ast.Literal | None:
        numbers = [self._number(child) for child in node.children if isinstance(child, Token)]
        return numbers[0] if numbers else None

    def _task(self, node: Tree[Token]) -> ast.Task:
        name, *rest = _trees(node)
        groups: dict[str, list[Tree[Token]]] = {}
        for child in rest:
            groups.setdefault(child.data, []).append(child)
        parameters = [p for group in groups.get("parameters", []) for p in _trees(group)]
        tags = [tag for group in groups.get("tags", []) for tag in _trees(group)]
        description = groups.get("string")
        return ast.Task(
            self._name(name),
            self._string(description[0]) if description else None,
            tuple(map(self._string, tags)),
            tuple(map(self._parameter, parameters)),
            self._extends(rest),
            tuple(self._column(_trees(child)[0]) for child in groups.get("input", [])),
            self._produces(rest),
            self._span(node),
        )

    def _produces(self, nodes: list[Tree[Token]]) -> tuple[ast.Produce, ...]:
        return tuple(self._produce(node) for node in nodes if node.data in ("let", "out"))

    def _produce(self, node: Tree[Token]) -> ast.Produce:
        target, producer, *guard = _trees(node)
        tuple_ = target.data == "columns"
        columns = _trees(target) if tuple_ else [target]
        return ast.Produce(
            node.data,
            tuple(map(self._column, columns)),
            tuple_,
            self._producer(producer),
            self._guard(guard),
            self._span(node),
        )

    def _producer(self, node: Tree[Token]) -> ast.Producer:
        match node.data:
            case "sql":
                return ast.Sql(self._string(_trees(node)[0]), self._span(node))
            case "ask":
                return self._ask(node)
            case "sample":
                return self._sample(node)
            case "repeat":
                return self._repeat(node)
            case _:
                return self._value(node)

    def _ask(self, node: Tree[Token]) -> ast.Ask:
        prompt, *options = _trees(node)

        def said(option: str) -> list[Tree[Token]]:
            return [child for child in options if child.data == option]

        def within(option: str) -> list[Tree[Token]]:
            return [_trees(child)[0] for child in said(option)]

        return ast.Ask(
            self._prompt(prompt),
            tuple(map(self._template, within("system"))),
            tuple(map(self._reference, within("using"))),
            tuple(map(self._contract, said("contract"))),
            tuple(map(self._string, within("ask_where"))),
            tuple(map(self._each, said("each"))),
            tuple(map(self._value, within("several"))),
            self._span(node),
        )

    def _prompt(self, node: Tree[Token]) -> ast.Template | ast.OneOf | ast.Path:
        match node.data:
            case "one_of":
                return ast.OneOf(self._reference(_trees(node)[0]), self._span(node))
            case "path":
                return self._path(node)
            case _:
                return self._template(node)

    def _template(self, node: Tree[Token]) -> ast.Template:
        if node.data == "string":
            return self._string(node)
        function, path = _trees(node)
        callee = self._path(function)
        if str(callee) != "file":
            form = 'file("prompts/name.jinja")'
            self.problems.append(
                problems.WrongCall(span=callee.span, callee=str(callee), form=form)
            )
        return ast.File(self._string(path), self._span(node))

    def _reference(self, node: Tree[Token]) -> ast.Reference:
        if node.data == "parameter_value":
            return ast.ParameterValue(str(_token(node))[1:], self._span(node))
        return self._path(node)

    def _each(self, node: Tree[Token]) -> ast.Each:
        name, value = _trees(node)
        return ast.Each(self._name(name), self._value(value), self._span(node))

    def _contract(self, node: Tree[Token]) -> ast.Contract:
        name, *rest = _trees(node)
        details = [child for child in rest if child.data == "contract_details"]
        inside = [child for group in details for child in _trees(group)]
        per = [self._path(child) for child in inside if child.data == "path"]
        return ast.Contract(
            self._name(name),
            tuple(self._detail(child) for child in inside if child.data == "detail"),
            per[0] if per else None,
            self._span(node),
        )

    def _detail(self, node: Tree[Token]) -> ast.Detail:
        *name, mark = _trees(node)
        return ast.Detail(
            self._name(name[0]) if name else None,
            self._string(mark) if mark.data == "string" else self._regex(mark),
            self._span(node),
        )

    def _regex(self, node: Tree[Token]) -> ast.Regex:
        text, flags = str(_token(node))[1:].rsplit("/", 1)
        span = self._span(node)
        start, end = span.column + 1, span.column + 1 + len(text)
        inner = Span(self.file, span.line, start, span.line, end)
        return ast.Regex(text, flags, inner, span)

    def _sample(self, node: Tree[Token]) -> ast.Sample:
        span = self._span(node)
        least: ast.Value | None = None
        most: ast.Value | None = None
        source = _trees(node)
        if source and source[0].data == "several_draws":
            *numbers, source = _trees(source[0])
            least, most = self._value(numbers[0]), self._value(numbers[-1])
            source = [source]
        choices = [part for group in source for part in _trees(group)]
        return ast.Sample(tuple(map(self._weighted, choices)), least, most, span)

    def _weighted(self, node: Tree[Token]) -> ast.Weighted:
        value = self._value(_trees(node)[0])
        return ast.Weighted(value, self._weight(node), self._span(node))

    def _repeat(self, node: Tree[Token]) -> ast.Repeat:
        times, variable, start, *rest = _trees(node)
        until = [child for child in rest[:-1] if child.data == "string"]
        return ast.Repeat(
            self._value(times),
            self._column(variable),
            self._value(start),
            self._string(until[0]) if until else None,
            self._produces(rest[:-1]),
            self._producer(rest[-1]),
            self._span(node),
        )

    def _test(self, node: Tree[Token]) -> ast.Test:
        title, call, *lines = _trees(node)

        def pairs(kind: str) -> tuple[ast.Argument, ...]:
            return tuple(
                ast.Argument(
                    self._name(_trees(pair)[0]), self._value(_trees(pair)[1]), self._span(pair)
                )
                for line in lines
                if line.data == kind
                for pair in _trees(line)
            )

        words = [self._name(_trees(line)[0]) for line in lines if line.data == "expect_word"]
        return ast.Test(
            self._string(title),
            self._call(call),
            pairs("given"),
            pairs("reply"),
            pairs("expect"),
            words[0] if words else None,
            self._span(node),
        )

    def _source(self, node: Tree[Token]) -> ast.Call | ast.QuerySource:
        if node.data == "call":
            return self._call(node)
        text, *key = _trees(node)
        name = self._name(key[0]) if key else None
        return ast.QuerySource(self._string(text), name, self._span(node))

    def _call(self, node: Tree[Token]) -> ast.Call:
        callee, *brackets = _trees(node)
        if callee.data == "where":
            at = self._span(node)
            word = Span(self.file, at.line, at.column, at.line, at.column + len("where"))
            path = ast.Path((ast.Name("where", word),), word)
        else:
            path = self._path(callee)
        arguments = [a for group in brackets for a in _trees(group)]
        return ast.Call(
            path, tuple(map(self._argument, arguments)), bool(brackets), self._span(node)
        )

    def _argument(self, node: Tree[Token]) -> ast.Argument:
        if node.data == "named":
            name, value = _trees(node)
            return ast.Argument(self._name(name), self._value(value), self._span(node))
        if node.data == "renamed":
            value, name = _trees(node)
            return ast.Argument(None, self._value(value), self._span(node), self._name(name))
        value = self._value(node)
        return ast.Argument(None, value, value.span)

    def _step(self, node: Tree[Token]) -> ast.Step | ast.SqlStep:
        if node.data == "sql_step":
            text, *key = _trees(node)
            name = self._name(key[0]) if key else None
            return ast.SqlStep(self._string(text), name, self._span(node))
        call, *modifiers = _trees(node)

        def said(modifier: str) -> list[Tree[Token]]:
            return [_trees(child)[0] for child in modifiers if child.data == modifier]

        return ast.Step(
            self._call(call),
            tuple(map(self._reference, said("using"))),
            tuple(map(self._name, said("alias"))),
            self._span(node),
        )


def _trees(node: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in node.children if isinstance(child, Tree)]


def _token(node: Tree[Token]) -> Token:
    return next(child for child in node.children if isinstance(child, Token))
