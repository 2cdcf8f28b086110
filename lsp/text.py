"""Places in a text: as the compiler counts them, as editors do, and as offsets."""

from __future__ import annotations

import re
from typing import NamedTuple

from synthc.compiler.span import Span

_WORD = re.compile(r"[A-Za-z_]\w*")


class Position(NamedTuple):
    """A line and a character of it, both from 0, in characters of Unicode."""

    line: int
    column: int


def plain(text: str) -> str:
    """The text as the compiler reads it: no byte order mark, lines end in LF."""
    return text.replace("\r\n", "\n").removeprefix("\ufeff")


def units(text: str, encoding: str) -> int:
    """How many units an editor counts in a text: `encoding` is `utf-8`, `utf-16` or `utf-32`."""
    match encoding:
        case "utf-8":
            return len(text.encode(errors="surrogatepass"))
        case "utf-32":
            return len(text)
        case _:
            return len(text) + sum(character > "\uffff" for character in text)


def column(line: str, count: int, encoding: str) -> int:
    """The character of a line before which so many units stand; the line's end if there are fewer."""
    if line.isascii():
        return min(count, len(line))
    at = 0
    for index, character in enumerate(line):
        if at >= count:
            return index
        at += units(character, encoding)
    return len(line)


def offset(text: str, position: Position) -> int:
    """Where a position stands in the text; the nearest place that there is."""
    start = 0
    for _ in range(position.line):
        newline = text.find("\n", start)
        if newline < 0:
            return len(text)
        start = newline + 1
    end = text.find("\n", start)
    return min(start + position.column, len(text) if end < 0 else end)


def position(text: str, at: int) -> Position:
    """The position of an offset."""
    return Position(text.count("\n", 0, at), at - (text.rfind("\n", 0, at) + 1))


def holds(span: Span, place: Position) -> bool:
    """Whether a position is in a stretch, or at its end."""
    here = place.line + 1, place.column + 1
    return (span.line, span.column) <= here <= (span.end_line, span.end_column)


def word_at(text: str, at: int) -> tuple[str, int]:
    """The word around an offset, and where it starts; ("", at) where there is none."""
    start = at
    while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    found = _WORD.match(text, start)
    return (found.group(), start) if found else ("", at)
