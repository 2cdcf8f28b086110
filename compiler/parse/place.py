"""Where reading a spec stopped: the signs before it, what stands there, what could have stood."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from synthc.compiler.parse.words import DECLARATIONS, RESERVED
from synthc.compiler.span import Span

_SIGN = re.compile(
    r'"""(?:"{0,2}[^"])*"""|"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*|`[^`\n]+`'
    r"|\$?[A-Za-z_]\w*|-?\d+(?:\.\d+)?|\|>|\S"
)
_PATTERN = re.compile(r"/(?:[^/\\\n]|\\.)+/[a-z]*")
CLOSING = {"{": "}", "(": ")", "[": "]"}
"""Each opening bracket with the one that closes it."""

_STARTS = re.compile(rf"\n(?={'|'.join(DECLARATIONS)})\w+ +\w+ *[={{(:]")


@dataclass(frozen=True, slots=True)
class Sign:
    """A word, a string or a bracket of the text, and where it starts."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def signs(text: str) -> Iterator[Sign]:
    """The signs of a text that need not be a spec, without its comments."""
    # With an odd number of triple quotes one string is open: it ends before the next declaration.
    open_string = text.count('"""') % 2 == 1
    at = 0
    before = ""
    while match := _SIGN.search(text, at):
        if before in ("(", ",", "=") and (pattern := _PATTERN.match(text, match.start())):
            match = pattern  # what stands in a pattern opens and closes nothing
        sign = before = match.group()
        at = match.end()
        if open_string and sign.startswith('"""') and _STARTS.search(sign):
            sign, at = '"""', match.start() + 3
        if not sign.startswith("#"):
            yield Sign(sign, match.start())


def pieces(text: str) -> list[tuple[int, str]]:
    """The text cut where declarations start, with the number of lines before each piece.

    A declaration starts in the first column. A word that starts none is taken for a misspelt one
    where it stands in the first column after an empty line, outside of all brackets.
    """
    lines = text.split("\n")
    depth = 0
    starts = [0]
    at_line = at = 0
    for sign in signs(text):
        at_line += text.count("\n", at, sign.start)
        at = sign.start
        if at_line and (sign.start == 0 or text[sign.start - 1] == "\n"):
            word = sign.text
            known = word in DECLARATIONS
            stray = word.isidentifier() and word not in RESERVED
            if known or (stray and depth == 0 and not lines[at_line - 1].strip()):
                starts.append(at_line)
                depth = 0
        if sign.text in CLOSING:
            depth += 1
        elif sign.text in CLOSING.values():
            depth = max(0, depth - 1)
    return [
        (start, "\n".join(lines[start:end]))
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


def renamed(text: str, place: Span) -> str:
    """The text with a name of the same length instead of the word at a place."""
    lines = text.split("\n")
    line = lines[place.line - 1]
    start, end = place.column - 1, place.end_column - 1
    lines[place.line - 1] = line[:start] + "_" * (end - start) + line[end:]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading stopped: what stands there, what stood before it, and what could have stood."""

    file: str
    text: str
    at: int
    found: str
    before: tuple[Sign, ...]
    opened: tuple[Sign, ...]
    accepted: frozenset[str]
    patterns: dict[str, str]

    @classmethod
    def of(cls, error: UnexpectedInput, text: str, file: str, parser: Lark) -> Place:
        at = len(text.rstrip())
        found = ""
        accepted: set[str] = set()
        if isinstance(error, UnexpectedToken):
            accepted = set(error.accepts or ())
            if error.token.type != "$END":
                at, found = error.token.start_pos or 0, str(error.token)
                # A keyword may be only the beginning of the word that stands there: `as` of `ask`.
                if word := re.match(r"[A-Za-z_]\w*|\|>|=>|:=", text[at:]):
                    found = word.group()
        elif isinstance(error, UnexpectedCharacters):
            at = error.pos_in_stream
            if text[at] == ">" and text[at - 1 : at] == "=":
                at -= 1
            found = _stretch(text, at)
            reading = parser.parse_interactive(text)
            try:
                reading.exhaust_lexer()
            except UnexpectedInput:
                accepted = reading.accepts()
        before = tuple(sign for sign in signs(text) if sign.start < at)
        opened: list[Sign] = []
        for sign in before:
            if sign.text in CLOSING:
                opened.append(sign)
            elif opened and CLOSING[opened[-1].text] == sign.text:
                opened.pop()
        patterns = {terminal.name: terminal.pattern.value for terminal in parser.terminals}
        return cls(
            file, text, at, found, before, tuple(opened), frozenset(accepted - {"$END"}), patterns
        )

    def last(self, number: int = 1) -> str:
        """The last sign before the place, or an earlier one."""
        return self.before[-number].text if len(self.before) >= number else ""

    @property
    def kind(self) -> str:
        """The word that the declaration starts with."""
        return self.before[0].text if self.before else ""

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

    def of_sign(self, sign: Sign) -> Span:
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
    match = re.match(
        r"'''|'[^'\n]*'|[-=]>|<-|(<{7}|={7}|>{7})|([^\w\s])\2*|.", text[at:], re.DOTALL
    )
    return match.group() if match else ""
