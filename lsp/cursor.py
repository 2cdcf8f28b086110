"""What stands before a cursor: the words of the line, the brackets that are open, the string it is in."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from synthc.compiler.parse.place import CLOSING
from synthc.lsp.pieces import Piece, piece_at
from synthc.lsp.text import Position, offset

_TOKEN = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<text>"""(?:"{0,2}[^"])*"""|(?!""")"(?:[^"\\\n]|\\.)*")'
    r'|(?P<open>"""|")|`[^`\n]+`|\$?[A-Za-z_]\w*|-?\d+(?:\.\d+)?|\|>|\S',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Sign:
    """A word, a string or a sign of a text, and where it starts."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a declaration.

    `signs` stand before it, without the word that is being written, which is `prefix`, and without the
    `path` before that, as in `evol.`; `opened` are the places among them of the brackets that are open.
    In a string, `string` is its text up to the cursor, and `flavour` what it holds: `sql`, `template`,
    `use`, or "". `offset` counts from the start of the piece's text.
    """

    piece: Piece
    offset: int
    signs: tuple[Sign, ...]
    opened: tuple[int, ...]
    prefix: str
    path: str
    string: str | None
    flavour: str
    comment: bool

    def last(self, number: int = 1) -> str:
        """The last sign before the cursor, or an earlier one."""
        return self.signs[-number].text if len(self.signs) >= number else ""

    @property
    def bracket(self) -> str:
        """The innermost bracket that is open."""
        return self.signs[self.opened[-1]].text if self.opened else ""

    @property
    def callee(self) -> str:
        """The name before the innermost bracket, `evol.instruct`; "" where that is none."""
        if self.bracket != "(":
            return ""
        return self.path_before(self.opened[-1])

    def path_before(self, index: int) -> str:
        """The words joined by dots that end before a sign."""
        words: list[str] = []
        while index and (not words or self.signs[index - 1].text == "."):
            index -= 1 if not words else 2
            if index < 0:
                break
            words.insert(0, self.signs[index].text)
        return ".".join(words)

    @property
    def argument(self) -> str:
        """The name of the argument whose value is being written; "" where there is none."""
        return self.last(2) if self.last() == "=" else ""

    @property
    def step(self) -> Sign | None:
        """The `|>` that the cursor's step starts with."""
        return next((sign for sign in reversed(self.signs) if sign.text == "|>"), None)

    @property
    def on_new_line(self) -> bool:
        """Whether nothing stands before the cursor on its line but the word being written."""
        end = self.signs[-1].start + len(self.signs[-1].text) if self.signs else 0
        return not self.signs or "\n" in self.piece.text[end : self.offset]


def cursor(text: str, place: Position) -> Cursor:
    """What stands before a position of a text, which need not be a spec."""
    piece = piece_at(text, place.line)
    at = offset(piece.text, Position(place.line - piece.line, place.column))
    before = piece.text[:at]
    signs: list[Sign] = []
    opened: list[int] = []
    string: str | None = None
    comment = False
    for found in _TOKEN.finditer(before):
        if found["comment"]:
            comment = found.end() == at
        elif found["open"]:
            string = before[found.end() :]
            break
        else:
            sign = found.group()
            if sign in CLOSING:
                opened.append(len(signs))
            elif opened and CLOSING[signs[opened[-1]].text] == sign:
                opened.pop()
            signs.append(Sign(sign, found.start()))
    if string is not None:
        here = Cursor(piece, at, tuple(signs), tuple(opened), "", "", string, "", comment)
        flavour = _flavour(here)
        prefix = re.search(r"\$?\w*$", string) if flavour in ("sql", "template") else None
        return replace(here, flavour=flavour, prefix=prefix[0] if prefix else string)
    prefix, path = "", ""
    if _adjoining(signs, at) and re.fullmatch(r"\$?[A-Za-z_]\w*|\$", signs[-1].text):
        prefix = signs.pop().text
    while _adjoining(signs, at - len(prefix) - len(path)) and signs[-1].text == ".":
        path = signs.pop().text + path
        if not _adjoining(signs, at - len(prefix) - len(path)) or not signs[-1].text.isidentifier():
            break
        path = signs.pop().text + path
    return Cursor(piece, at, tuple(signs), tuple(opened), prefix, path, None, "", comment)


def _adjoining(signs: list[Sign], at: int) -> bool:
    """Whether the last sign ends at an offset."""
    return bool(signs) and signs[-1].start + len(signs[-1].text) == at


def _flavour(place: Cursor) -> str:
    last = place.last()
    if last == "use":
        return "use"
    if last in ("sql", "where", "until") or place.callee in ("where", "select"):
        return "sql"
    if place.callee:
        return ""
    kind = place.piece.kind
    if last in ("ask", "system") or (kind == "mutations" and place.opened):
        return "template"
    return "template" if kind == "task" and last == "=" and place.bracket == "{" else ""
