"""Text → AST: what a spec says, or where it cannot be read.

A syntax error ends only its own declaration: the text is cut where declarations start, each is read
by itself, and the ones that can be read go on to the next stage.
"""

from __future__ import annotations

import functools
import re
from importlib import resources

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken
from synthc.compiler import ast
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.span import Span
from synthc.compiler.strings import BadEscape, decode

DECLARATIONS = ("param", "backend", "embedder", "task", "table", "export")
RESERVED = frozenset(
    (
        "in",
        "let",
        "out",
        "ask",
        "sample",
        "sql",
        "repeat",
        "next",
        "when",
        "where",
        "as",
        "using",
        "each",
    )
)
NOT_YET_DECLARATIONS = ("use", "type", "mutations", "expect", "test", "tags")
NOT_YET = frozenset(
    (*NOT_YET_DECLARATIONS, "extends", "sample", "repeat", "when", "where", "each", "n")
)
# Steps, sources, types and contracts of the language that are read as names: the checker refuses them.
NOT_YET_NAMES = frozenset(
    ("unnest", "dedup", "draw", "files", "chat", "image", "audio")
    + ("lines", "sections", "after", "tag", "regex")
)


@functools.cache
def _parser() -> Lark:
    grammar = resources.files("synthc.grammar").joinpath("synth.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


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
    for line, piece in _pieces(text):
        try:
            tree = _parser().parse("\n" * line + piece)
        except UnexpectedInput as error:
            reader.problems.append(_syntax_problem(error, "\n" * line + piece, reader.file))
            broken.update(re.findall(r"[A-Za-z_]\w*", piece.split("\n", 1)[0]))
        else:
            declarations += reader.declarations(tree)
    return ast.Spec(reader.file, tuple(declarations), frozenset(broken)), reader.problems


_START = re.compile(rf"(?:{'|'.join((*DECLARATIONS, *NOT_YET_DECLARATIONS))})\b")


def _pieces(text: str) -> list[tuple[int, str]]:
    """The text cut before each line that starts a declaration, with the number of lines before it.

    Declarations start in the first column; a line inside a closed long string starts none.
    """
    lines = text.split("\n")
    starts = [0]
    inside = False
    for number, line in enumerate(lines):
        if not inside and number and _START.match(line):
            starts.append(number)
        quotes = re.sub(r'"(?:[^"\\\n]|\\.)+"|#.*', "", line) if not inside else line
        if quotes.count('"""') % 2:
            rest = "\n".join(lines[number + 1 :])
            inside = not inside and '"""' in rest
    return [
        (start, "\n".join(lines[start:end]))
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


def _syntax_problem(error: UnexpectedInput, text: str, file: str) -> Problem:
    opened = _unclosed(text, file)
    line, column = error.line, error.column
    if isinstance(error, UnexpectedEOF) or line < 1:
        line, column = text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
    found = str(error.token) if isinstance(error, UnexpectedToken) else ""
    if isinstance(error, UnexpectedCharacters):
        found = text[error.pos_in_stream]
    span = Span(file, line, column, line, column + max(1, len(found.split("\n")[0])))
    if opened and (opened.opening.startswith('"') or not found):
        return opened
    previous = text[: _offset(text, line, column)].split()
    if found in NOT_YET and not (found == "n" and previous[-1:] != ["ask"] and _is_name(error)):
        return problems.NotYet(span=span, word=found)
    if previous[-1:] == ["|>"] and found == "sql":
        return problems.NotYet(span=span, word=found)
    if previous and previous[-1] in ("sample", "repeat"):
        word = previous[-1]
        at = text.rfind(word, 0, _offset(text, line, column))
        start = at - (text.rfind("\n", 0, at) + 1) + 1
        number = text.count("\n", 0, at) + 1
        place = Span(file, number, start, number, start + len(word))
        return problems.NotYet(span=place, word=word)
    if found == "=" and previous and previous[-1] in RESERVED:
        return problems.ReservedWord(span=span, word=previous[-1])
    expected = _expected(error)
    return problems.UnexpectedWord(
        span=span,
        found=found if len(found) < 40 else found[:36] + " …",
        expected=expected,
        advice=_advice(found, expected),
    )


def _is_name(error: UnexpectedInput) -> bool:
    return isinstance(error, UnexpectedToken) and "NAME" in error.accepts


def _offset(text: str, line: int, column: int) -> int:
    return sum(len(part) + 1 for part in text.split("\n")[: line - 1]) + column - 1


_TERMINALS = {
    "NAME": "a name",
    "QUOTED_NAME": "a name",
    "STRING": "a string",
    "LONG_STRING": "a string",
    "NUMBER": "a number",
    "PARAM": "a `$parameter`",
}


def _expected(error: UnexpectedInput) -> tuple[str, ...]:
    """What could have stood at the place, in words of the language."""
    if isinstance(error, UnexpectedToken):
        accepted = error.accepts or error.expected
    elif isinstance(error, UnexpectedCharacters):
        accepted = error.allowed or set()
    else:
        accepted = set()
    patterns = {terminal.name: terminal.pattern.value for terminal in _parser().terminals}
    names = "NAME" in accepted
    words: list[str] = []
    for terminal in sorted(accepted):
        if terminal == "$END":
            continue
        if names and patterns.get(terminal, "") in (*DECLARATIONS, "to", "system", "key"):
            continue
        words.append(_TERMINALS.get(terminal) or f"`{patterns.get(terminal, terminal)}`")
    unique = tuple(dict.fromkeys(words))
    return unique if len(unique) <= 6 else ()


_ADVICE = {
    "'": 'strings stand in double quotes: `"…"`',
    "/": "a comment starts with `#`",
    ";": "a declaration needs no `;`",
    "==": "a setting or a column is given with one `=`",
    "def": "a task is written `task name { … }`",
    "class": "a task is written `task name { … }`",
    "const": "a parameter is written `param name: type = value`",
    "variable": "a parameter is written `param name: type = value`",
    "provider": "a model is declared with `backend name { … }`",
    "model": "a model is declared with `backend name { … }`",
    "import": 'declarations of other files come with `use "…"`, which is not there yet',
    "from": "a table starts from its source: `table t = source |> …`",
    "select": 'a step is written `|> select("…")`',
}


def _advice(found: str, expected: tuple[str, ...]) -> str | None:
    if found in _ADVICE:
        return _ADVICE[found]
    if found.lower() in _ADVICE:
        return _ADVICE[found.lower()]
    if found == "|":
        return "a step starts with `|>`"
    if found in (":", "=") and expected == ("`=`",):
        return "a setting is written `name = value`"
    if expected == ("`:`",):
        return "every column and parameter has a type: `name: type`"
    words = [word.strip("`") for word in expected] or list(DECLARATIONS)
    near = nearest(found, [word for word in words if word.isalpha()]) if found.isalpha() else None
    return f"did you mean `{near}`?" if near else None


_SIGNIFICANT = re.compile(r'"""(?:"?"?[^"])*"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*|`[^`\n]*`|[][(){}"]')
_CLOSING = {"{": "}", "(": ")", "[": "]"}


def _unclosed(text: str, file: str) -> problems.Unclosed | None:
    """The last string or bracket that is opened and not closed."""
    stack: list[tuple[str, int]] = []
    for match in _SIGNIFICANT.finditer(text):
        sign = match.group()
        if sign in _CLOSING:
            stack.append((sign, match.start()))
        elif sign in _CLOSING.values():
            if stack and _CLOSING[stack[-1][0]] == sign:
                stack.pop()
        elif sign == '"' or (sign == '""' and text.startswith('"""', match.start())):
            opening = '"""' if text.startswith('"""', match.start()) else '"'
            stack.append((opening, match.start()))
            break
    if not stack:
        return None
    opening, at = stack[-1]
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    span = Span(file, line, column, line, column + len(opening))
    return problems.Unclosed(span=span, opening=opening, closing=_CLOSING.get(opening, opening))


class _Reader:
    """Lark's tree → the nodes of `ast`; collects the problems that single words have."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def declarations(self, tree: Tree[Token]) -> list[ast.Declaration]:
        return [self._declaration(child) for child in _trees(tree)]

    def _span(self, node: Tree[Token] | Token) -> Span:
        place = node if isinstance(node, Token) else node.meta
        return Span(
            self.file,
            place.line or 1,
            place.column or 1,
            place.end_line or 1,
            place.end_column or 1,
        )

    def _declaration(self, node: Tree[Token]) -> ast.Declaration:
        span = self._span(node)
        match node.data:
            case "param":
                return self._parameter(node)
            case "backend" | "embedder":
                name, *settings = _trees(node)
                kind = ast.Backend if node.data == "backend" else ast.Embedder
                return kind(self._name(name), tuple(map(self._setting, settings)), span)
            case "task":
                return self._task(node)
            case "table":
                name, source, *steps = _trees(node)
                return ast.Table(
                    self._name(name), self._source(source), tuple(map(self._step, steps)), span
                )
            case _:
                table, path = _trees(node)
                return ast.Export(self._name(table), self._string(path), span)

    def _name(self, node: Tree[Token]) -> ast.Name:
        token = _token(node)
        span = self._span(token)
        if token.startswith("`"):
            return ast.Name(token[1:-1], span)
        if token in ("sample", "repeat"):
            self.problems.append(problems.NotYet(span=span, word=str(token)))
        elif token in RESERVED:
            self.problems.append(problems.ReservedWord(span=span, word=str(token)))
        return ast.Name(str(token), span)

    def _string(self, node: Tree[Token]) -> ast.String:
        literal = str(_token(node))
        span = self._span(node)
        try:
            text, offsets = decode(literal)
        except BadEscape as error:
            column = span.column + error.offset
            place = Span(self.file, span.line, column, span.line, column + len(error.escape))
            self.problems.append(problems.BadEscape(span=place, escape=error.escape))
            text, offsets = literal[1:-1], tuple(range(1, len(literal)))
        return ast.String(text, span, literal, offsets)

    def _number(self, node: Tree[Token] | Token) -> ast.Literal:
        token = node if isinstance(node, Token) else _token(node)
        value = int(token) if re.fullmatch(r"-?\d+", token) else float(token)
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
            self._value(default[0]) if default else None,
            self._span(node),
        )

    def _column(self, node: Tree[Token]) -> ast.Column:
        name, type_ = _trees(node)
        return ast.Column(self._name(name), self._type(type_), self._span(node))

    def _type(self, node: Tree[Token]) -> ast.TypeExpression:
        span = self._span(node)
        match node.data:
            case "named_type":
                name = self._name(_trees(node)[0])
                return ast.NamedType(name, name.span)
            case "choice":
                values = [
                    self._string(v) if v.data == "string" else self._number(v) for v in _trees(node)
                ]
                return ast.ChoiceType(tuple(values), span)
            case "list_type":
                size = next((int(float(c)) for c in node.children if isinstance(c, Token)), None)
                return ast.ListType(self._type(_trees(node)[0]), size, span)
            case "maybe_type":
                return ast.MaybeType(self._type(_trees(node)[0]), span)
            case _:
                return ast.RecordType(tuple(map(self._column, _trees(node))), span)

    def _task(self, node: Tree[Token]) -> ast.Task:
        name, *rest = _trees(node)
        groups: dict[str, list[Tree[Token]]] = {}
        for child in rest:
            groups.setdefault(child.data, []).append(child)
        parameters = [p for group in groups.get("parameters", []) for p in _trees(group)]
        made = [child for child in rest if child.data in ("let", "out")]
        description = groups.get("string")
        return ast.Task(
            self._name(name),
            self._string(description[0]) if description else None,
            tuple(map(self._parameter, parameters)),
            tuple(self._column(_trees(child)[0]) for child in groups.get("input", [])),
            tuple(map(self._produce, made)),
            self._span(node),
        )

    def _produce(self, node: Tree[Token]) -> ast.Produce:
        target, producer = _trees(node)
        tuple_ = target.data == "columns"
        columns = _trees(target) if tuple_ else [target]
        return ast.Produce(
            node.data,
            tuple(map(self._column, columns)),
            tuple_,
            self._producer(producer),
            self._span(node),
        )

    def _producer(self, node: Tree[Token]) -> ast.Producer:
        span = self._span(node)
        if node.data == "sql":
            return ast.Sql(self._string(_trees(node)[0]), span)
        if node.data != "ask":
            return self._value(node)
        template, *options = _trees(node)

        def said(option: str) -> list[Tree[Token]]:
            return [_trees(child)[0] for child in options if child.data == option]

        return ast.Ask(
            self._string(template),
            tuple(map(self._string, said("system"))),
            tuple(map(self._name, said("using"))),
            tuple(map(self._name, said("contract"))),
            span,
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
            place = self._span(node)
            word = Span(
                self.file, place.line, place.column, place.line, place.column + len("where")
            )
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
        value = self._value(node)
        return ast.Argument(None, value, value.span)

    def _step(self, node: Tree[Token]) -> ast.Step:
        call, *modifiers = _trees(node)

        def said(modifier: str) -> tuple[ast.Name, ...]:
            return tuple(self._name(_trees(m)[0]) for m in modifiers if m.data == modifier)

        return ast.Step(self._call(call), said("using"), said("alias"), self._span(node))


def _trees(node: Tree[Token]) -> list[Tree[Token]]:
    return [child for child in node.children if isinstance(child, Tree)]


def _token(node: Tree[Token]) -> Token:
    return next(child for child in node.children if isinstance(child, Token))
