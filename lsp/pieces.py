"""A text cut into its declarations, and the part of it that one of them needs.

An editor asks about one place at a time. What stands there depends on its own declaration and on those
that it names: the text with all others blanked says the same about it, at the same lines, and is
compiled in a fraction of the time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from synthc.compiler.parse.place import pieces
from synthc.compiler.parse.words import DECLARATIONS

_WORD = re.compile(r"[A-Za-z_]\w*")
_HEAD = re.compile(r"(\w+)[ \t]+(?:`([^`\n]+)`|([A-Za-z_]\w*))?")
_USE = re.compile(r'use\s+"([^"\n]*)"(?:\s+as\s+(\w+))?')
_ALWAYS = ("backend", "embedder")
"""Kept whole: a step that names none takes the only one that there is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The text from the start of one declaration to that of the next; `line` is its first, from 0."""

    line: int
    text: str

    @property
    def kind(self) -> str:
        """The word it starts with; "" where that starts no declaration."""
        word = _head(self.text)[0]
        return word if word in DECLARATIONS else ""

    @property
    def name(self) -> str:
        """What it declares; of a `use` the name that stands before what it brings."""
        return _head(self.text)[1]

    @property
    def words(self) -> frozenset[str]:
        """Every word in it, those of strings too."""
        return _words(self.text)

    @property
    def end(self) -> int:
        """The line behind its last, from 0."""
        return self.line + self.text.count("\n") + 1


@functools.lru_cache(maxsize=20_000)
def _head(text: str) -> tuple[str, str]:
    if used := _USE.match(text):
        path, name = used.groups()
        return "use", name or path.rsplit("/", maxsplit=1)[-1].removesuffix(".synth")
    found = _HEAD.match(text)
    return (found[1], found[2] or found[3] or "") if found else ("", "")


@functools.lru_cache(maxsize=20_000)
def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


@functools.lru_cache(maxsize=8)
def outline(text: str) -> tuple[Piece, ...]:
    """The declarations of a text, whether or not they can be read."""
    return tuple(Piece(line, piece) for line, piece in pieces(text))


def piece_at(text: str, line: int) -> Piece:
    """The declaration that a line (from 0) belongs to."""
    found = outline(text)[0]
    for piece in outline(text):
        if piece.line > line:
            break
        found = piece
    return found


def needed(text: str, chosen: Iterable[Piece]) -> set[int]:
    """The first lines of the declarations that some of them need, themselves among them."""
    named: dict[str, list[Piece]] = {}
    everything = outline(text)
    for piece in everything:
        if piece.name:
            named.setdefault(piece.name.lower(), []).append(piece)
    waiting = [*chosen, *(piece for piece in everything if piece.kind in _ALWAYS)]
    kept: set[int] = set()
    while waiting:
        piece = waiting.pop()
        if piece.line in kept:
            continue
        kept.add(piece.line)
        for word in piece.words & named.keys():
            waiting += [p for p in named[word] if p.kind not in ("expect", "export", "test")]
    return kept


def sliced(text: str, chosen: Iterable[Piece], instead: dict[int, str] | None = None) -> str:
    """The text with only what those declarations need, in its lines; the others are blank.

    `instead` are texts that stand for those of declarations, by their first lines; they may be shorter.
    """
    kept = needed(text, chosen)
    parts: list[str] = []
    for piece in outline(text):
        lines = piece.text.count("\n")
        own = (instead or {}).get(piece.line, piece.text) if piece.line in kept else ""
        parts.append(own + "\n" * (lines - own.count("\n")))
    return "\n".join(parts)
