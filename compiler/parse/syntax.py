"""What is wrong where a spec cannot be read: Lark's error → a problem in words of the language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, listed, nearest
from synthc.compiler.parse.words import DECLARATIONS, FORMS, RESERVED
from synthc.compiler.span import Span

_SIGN = re.compile(
    r'"""(?:"?"?[^"])*"""|"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*|`[^`\n]+`'
    r"|\$?[A-Za-z_]\w*|-?\d+(?:\.\d+)?|\|>|\S"
)
_CLOSING = {"{": "}", "(": ")", "[": "]"}
_STARTS = re.compile(rf"\n(?={'|'.join(DECLARATIONS)})\w+ +\w+ *[={{(:]")


@dataclass(frozen=True, slots=True)
class _Sign:
    """A word, a string or a bracket of the text, and where it starts."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def _signs(text: str) -> Iterator[_Sign]:
    """The signs of a text that need not be a spec, without its comments."""
    # With an odd number of triple quotes one string is open: it ends before the next declaration.
    open_string = text.count('"""') % 2 == 1
    at = 0
    while match := _SIGN.search(text, at):
        sign = match.group()
        at = match.end()
        if open_string and sign.startswith('"""') and _STARTS.search(sign):
            sign, at = '"""', match.start() + 3
        if not sign.startswith("#"):
            yield _Sign(sign, match.start())


def pieces(text: str) -> list[tuple[int, str]]:
    """The text cut where declarations start, with the number of lines before each piece.

    A declaration starts in the first column. A word that starts none is taken for a misspelt one
    where it stands in the first column after an empty line, outside of all brackets.
    """
    lines = text.split("\n")
    depth = 0
    starts = [0]
    at_line = at = 0
    for sign in _signs(text):
        at_line += text.count("\n", at, sign.start)
        at = sign.start
        if at_line and (sign.start == 0 or text[sign.start - 1] == "\n"):
            word = sign.text
            known = word in DECLARATIONS
            stray = word.isidentifier() and word not in RESERVED
            if known or (stray and depth == 0 and not lines[at_line - 1].strip()):
                starts.append(at_line)
                depth = 0
        if sign.text in _CLOSING:
            depth += 1
        elif sign.text in _CLOSING.values():
            depth = max(0, depth - 1)
    return [
        (start, "\n".join(lines[start:end]))
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


def problem(error: UnexpectedInput, text: str, file: str, parser: Lark) -> Problem:
    """The problem that kept `text` from being read."""
    place = _Place.of(error, text, file, parser)
    for rule in _RULES:
        if found := rule(place):
            return found
    return _unexpected(place)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where reading stopped: what stands there, what stood before it, and what could have stood."""

    file: str
    text: str
    at: int
    found: str
    before: tuple[_Sign, ...]
    opened: tuple[_Sign, ...]
    accepted: frozenset[str]
    patterns: dict[str, str]

    @classmethod
    def of(cls, error: UnexpectedInput, text: str, file: str, parser: Lark) -> _Place:
        at = len(text.rstrip())
        found = ""
        accepted: set[str] = set()
        if isinstance(error, UnexpectedToken):
            accepted = set(error.accepts or ())
            if error.token.type != "$END":
                at, found = error.token.start_pos or 0, str(error.token)
        elif isinstance(error, UnexpectedCharacters):
            at = error.pos_in_stream
            found = _stretch(text, at)
            reading = parser.parse_interactive(text)
            try:
                reading.exhaust_lexer()
            except UnexpectedInput:
                accepted = reading.accepts()
        before = tuple(sign for sign in _signs(text) if sign.start < at)
        opened: list[_Sign] = []
        for sign in before:
            if sign.text in _CLOSING:
                opened.append(sign)
            elif opened and _CLOSING[opened[-1].text] == sign.text:
                opened.pop()
        patterns = {terminal.name: terminal.pattern.value for terminal in parser.terminals}
        return cls(
            file, text, at, found, before, tuple(opened), frozenset(accepted - {"$END"}), patterns
        )

    def last(self, number: int = 1) -> str:
        """The last sign before the place, or an earlier one."""
        return self.before[-number].text if len(self.before) >= number else ""

    @property
    def callee(self) -> str:
        """The word before the innermost bracket that is open."""
        if not self.opened or self.opened[-1].text != "(":
            return ""
        index = self.before.index(self.opened[-1])
        return self.before[index - 1].text if index else ""

    @property
    def on_new_line(self) -> bool:
        return bool(self.before) and "\n" in self.text[self.before[-1].end : self.at]

    def span(self, start: int | None = None, length: int | None = None) -> Span:
        """A stretch of the text, by default what was found."""
        at = self.at if start is None else start
        width = len(self.found) if length is None else length
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        newline = self.text.find("\n", at, at + width)
        end = at + (width if newline < 0 else newline - at)
        return Span(self.file, line, column, line, column + max(1, end - at))

    def of_sign(self, sign: _Sign) -> Span:
        return self.span(sign.start, len(sign.text))

    @property
    def words(self) -> list[str]:
        """The words of the language that could have stood here."""
        patterns = [self.patterns.get(terminal, "") for terminal in self.accepted]
        return sorted(pattern for pattern in patterns if pattern.isalpha())

    @property
    def declares(self) -> bool:
        """Whether a declaration could have started here."""
        return "EMBEDDER" in self.accepted and "NAME" not in self.accepted


def _stretch(text: str, at: int) -> str:
    """What somebody meant as one sign, where Lark sees a character it does not know."""
    match = re.match(r"'[^'\n]*'|--|-(?=\s)|([^\w\s])\1*|.", text[at:], re.DOTALL)
    return match.group() if match else ""


# What a stumble means, the most telling first. Each gives None where it is about something else.


def _open_string(place: _Place) -> Problem | None:
    opening = next((s for s in _signs(place.text) if s.text in ('"', '"""')), None)
    if opening is None or opening.start > place.at:
        return None
    return problems.Unclosed(
        span=place.of_sign(opening), opening=opening.text, closing=opening.text
    )


def _unquoted_sql(place: _Place) -> Problem | None:
    """`where(size > 3)`, and `select` without its quotes or brackets."""
    if place.callee in ("where", "select") and not place.found.startswith("'"):
        opening = place.opened[-1]
        if place.before[-1].text.startswith('"'):
            return None
        rest = re.match(r'\(\s*([^"\n]*?)\s*\)[ \t]*(?:\n|$)', place.text[opening.start :])
        form = f'{place.callee}("{rest[1]}")' if rest else FORMS[place.callee]
        start = place.before[place.before.index(opening) - 1].start
        end = opening.start + len(rest[0].rstrip()) if rest else place.at
        span = place.span(start, end - start)
        return problems.WrongCall(span=span, callee=place.callee, form=form)
    if place.last() in FORMS and place.last(2) in ("|>", "=") and place.found not in ("", "|>"):
        word = place.last()
        argument = place.found if place.found.startswith('"') or place.found.isdigit() else ""
        form = f"{word}({argument})" if argument and "\n" not in argument else FORMS[word]
        span = place.of_sign(place.before[-1])
        return problems.WrongCall(span=span, callee=word, form=form)
    return None


def _open_bracket(place: _Place) -> Problem | None:
    """A bracket that nothing closes, met by something that cannot stand inside of it."""
    if not place.opened or place.found not in ("", "|>", *_CLOSING.values(), "in", "let", "out"):
        return None
    closing = _CLOSING[place.opened[-1].text]
    depth = 0
    for sign in _signs(place.text[place.at :]):
        if sign.text == place.opened[-1].text:
            depth += 1
        elif sign.text == closing:
            depth -= 1
        if depth < 0:
            return None
    opening = place.opened[-1]
    return problems.Unclosed(span=place.of_sign(opening), opening=opening.text, closing=closing)


def _reserved(place: _Place) -> Problem | None:
    """A reserved word where something else than the language's own use of it follows."""
    if place.found not in RESERVED or "NAME" not in place.accepted:
        return None
    rest = place.text[place.at + len(place.found) :].lstrip()
    as_name = rest[:1] in (":", "=", ",", ")", ".", "]", "{") or place.on_new_line is False
    if not as_name or (place.last() == "ask" and place.on_new_line):
        return None
    return problems.ReservedWord(span=place.span(), word=place.found)


def _misspelt(place: _Place) -> Problem | None:
    """A word before a string that was meant as `ask`, `sql` or `system`."""
    if not place.found.startswith('"') or place.last(2) != "=":
        return None
    if not place.last().isidentifier() or place.last() in ("ask", "sql"):
        return None
    producer = nearest(place.last(), ("ask", "sql"))
    return problems.UnexpectedWord(
        span=place.of_sign(place.before[-1]),
        found=place.last(),
        expected=("`ask`", "`sql`", "a value"),
        advice=f"did you mean `{producer}`?" if producer else 'a prompt is written `ask "…"`',
    )


_RULES: tuple[Callable[[_Place], Problem | None], ...] = (
    _open_string,
    _unquoted_sql,
    _open_bracket,
    _reserved,
    _misspelt,
)


def _unexpected(place: _Place) -> Problem:
    expected = _expected(place)
    shown = place.found.split("\n")[0]
    shown = shown if len(shown) < 40 and shown == place.found else shown[:36] + " …"
    if place.before and expected and "a declaration" not in expected:
        # What is missing at the end of a line is missing there, not where the next line starts.
        word = place.found.isidentifier() or place.found in _CLOSING.values()
        if not place.found or (word and place.on_new_line and len(expected) <= 2):
            last = place.before[-1]
            return problems.UnexpectedWord(
                span=place.of_sign(last),
                found=shown,
                expected=expected,
                after=last.text if len(last.text) < 40 and "\n" not in last.text else "…",
                advice=_advice(place, expected),
            )
    if not place.found:
        place_span = place.span(max(0, place.at - 1), 1)
        return problems.UnexpectedWord(span=place_span, found="", expected=expected)
    return problems.UnexpectedWord(
        span=place.span(), found=shown, expected=expected, advice=_advice(place, expected)
    )


_VALUE = {"STRING", "LONG_STRING", "NUMBER", "DOLLAR_NAME", "LSQB", "NAME"}
_DECLARATION_TERMINALS = {word.upper() for word in DECLARATIONS}
_LINE_TERMINALS = {
    *("TO", "SYSTEM", "KEY", "OF", "TYPE", "EXTENDS", "GIVEN", "REPLY", "EXPECT", "USE"),
    *("MUTATIONS", "WEIGHT", "TAGS", "TIMES", "UNTIL", "PER", "N"),
}
_GROUPS: tuple[tuple[str, set[str]], ...] = (
    ("a value", {*_VALUE, "QUOTED_NAME"}),
    ("a name", {"NAME", "QUOTED_NAME", *_DECLARATION_TERMINALS, *_LINE_TERMINALS}),
    ("a string", {"STRING", "LONG_STRING"}),
    ("a number", {"NUMBER"}),
    ("a `$parameter`", {"DOLLAR_NAME"}),
)


def _expected(place: _Place) -> tuple[str, ...]:
    """What could have stood at the place, in words of the language; () where that is too much to say."""
    left = set(place.accepted)
    words: list[str] = []
    if place.declares:
        left -= _DECLARATION_TERMINALS
        words.append("a declaration")
    for name, terminals in _GROUPS:
        if name == "a value" and not left >= _VALUE:
            continue
        if name == "a name" and "NAME" not in left and "a value" not in words:
            continue
        if left & terminals:
            if name != "a name" or "a value" not in words:
                words.append(name)
            left -= terminals
    signs = [place.patterns.get(terminal, terminal) for terminal in left]
    signs = [sign for sign in signs if sign not in (".", "?", "[")]
    words += [f"`{sign}`" for sign in sorted(signs, key=lambda s: (s.isalpha(), s))]
    return tuple(words) if len(words) <= 5 else ()


_ADVICE = {
    "/": "a comment starts with `#`",
    "//": "a comment starts with `#`",
    "/*": "a comment starts with `#`",
    "--": "a comment starts with `#`",
    ";": "no `;` is needed: a declaration ends where the next one starts",
    "==": "one `=` is enough",
    "|": "a step starts with `|>`",
    ".": "a step starts with `|>`",
    "def": "a task is written `task name { … }`",
    "class": "a task is written `task name { … }`",
    "const": "a parameter is written `param name: type = value`",
    "var": "a parameter is written `param name: type = value`",
    "variable": "a parameter is written `param name: type = value`",
    "provider": "a model is declared with `backend name { … }`",
    "model": "a model is declared with `backend name { … }`",
    "resource": "a model is declared with `backend name { … }`",
    "import": 'declarations of other files come with `use "file"`',
    "include": 'declarations of other files come with `use "file"`',
    "create": 'SQL stands in quotes, as a table: `table name = sql "SELECT …"`',
    "with": 'SQL stands in quotes, as a table: `table name = sql "WITH …"`',
    "select": 'SQL stands in quotes, as a table: `table name = sql "SELECT …"`',
    "from": 'SQL stands in quotes, as a table: `table name = sql "FROM …"`',
}
_KEYWORDS = {"input": "in", "inputs": "in", "output": "out", "outputs": "out"}


def _advice(place: _Place, expected: tuple[str, ...]) -> str | None:
    found, last = place.found, place.last()
    if found.startswith("'"):
        quoted = found.strip("'").replace('"', '\\"')
        return f'text stands in double quotes: `"{quoted}"`' if len(found) < 60 else None
    if found in _ADVICE or found.lower() in _ADVICE:
        return _ADVICE.get(found) or _ADVICE[found.lower()]
    if last.lower() in ("select", "from", "with", "create") and place.last(2) in ("=", ""):
        return _ADVICE[last.lower()]
    if found == "{" and place.text[place.at : place.at + 2] in ("{{", "{%"):
        return "templates stand inside strings; a parameter of the spec is written `$name`"
    if found == "{" and last == "=":
        return f"a group is written without `=`: `{place.last(2)} {{ … }}`"
    if found == "-" and place.opened:
        return "lists of YAML are not known here: a setting is written `name = value`"
    if found in _CLOSING.values():
        return f"nothing is open that this `{found}` could close"
    if found == "," and "COMMA" not in place.accepted:
        return "no comma is needed here"
    if "`,`" in expected and place.opened and found not in _ADVICE:
        return f"a `,` is missing before `{found}`"
    if found.startswith('"') and last in DECLARATIONS:
        return f"names stand without quotes: `{last} {found.strip(chr(34))}`"
    if found in (":", "=") and expected and expected[0] == "`=`":
        return "a setting is written `name = value`"
    if found == ":" and expected == ("`=`", "`{`"):
        return "a setting is written `name = value`"
    if expected == ("`:`",):
        return f"every column and parameter has a type: `{last}: text`"
    if last == "ask" or expected == ("a string",):
        return None
    if expected == ("`=`",) and "out" in (place.last(4), place.last(5), place.last(6)):
        return 'say what makes the column: `= ask "…"`, `= sql "…"` or another column'
    near = _KEYWORDS.get(found) or (nearest(found, place.words) if found.isidentifier() else None)
    if near in place.words:
        return f"did you mean `{near}`?"
    if {"in", "let", "out"} <= set(place.words):
        return "a column of a task starts with `in`, `let` or `out`"
    if "`|>`" in expected and found.isidentifier() and place.on_new_line:
        return "a step starts with `|>`"
    return f"declarations start with {listed(DECLARATIONS)}" if place.declares else None
