"""The two kinds of strings: in plain quotes with escapes, in triple quotes raw and dedented."""

from __future__ import annotations

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "/": "/"}


class BadEscape(ValueError):
    """A backslash that starts no escape, at an offset of the literal."""

    def __init__(self, offset: int, escape: str) -> None:
        super().__init__(escape)
        self.offset = offset
        self.escape = escape


def decode(literal: str) -> tuple[str, tuple[int, ...]]:
    """The text of a string literal, and the offset in the literal of each character and of the end.

    Raises BadEscape.
    """
    return _raw(literal) if literal.startswith('"""') else _escaped(literal)


def _escaped(literal: str) -> tuple[str, tuple[int, ...]]:
    if "\\" not in literal:
        return literal[1:-1], tuple(range(1, len(literal)))
    characters: list[str] = []
    offsets: list[int] = []
    at = 1
    while at < len(literal) - 1:
        offsets.append(at)
        if literal[at] != "\\":
            characters.append(literal[at])
            at += 1
            continue
        escape = literal[at + 1]
        if escape in _ESCAPES:
            characters.append(_ESCAPES[escape])
            at += 2
        elif escape == "u":
            digits = literal[at + 2 : at + 6]
            if len(digits) < 4 or not all(c in "0123456789abcdefABCDEF" for c in digits):
                raise BadEscape(at, "\\u")
            code = int(digits, 16)
            if (
                0xD800 <= code <= 0xDFFF
            ):  # half of a pair is no character, and no file could hold it
                raise BadEscape(at, literal[at : at + 6])
            characters.append(chr(code))
            at += 6
        else:
            raise BadEscape(at, "\\" + escape)
    return "".join(characters), (*offsets, len(literal) - 1)


def _raw(literal: str) -> tuple[str, tuple[int, ...]]:
    """Drop the first line if it is blank, the last line's indent, and the indent all lines share."""
    body = literal[3:-3]
    lines: list[tuple[int, str]] = []
    at = 3
    for line in body.split("\n"):
        lines.append((at, line))
        at += len(line) + 1
    first_is_blank = len(lines) > 1 and not lines[0][1].strip()
    if first_is_blank:
        lines = lines[1:]
    indented = lines if first_is_blank else lines[1:]
    indents = [len(text) - len(text.lstrip(" \t")) for _, text in indented if text.strip()]
    indent = min(indents, default=0)

    pieces: list[str] = []
    offsets: list[int] = []
    for number, (start, line) in enumerate(lines):
        skip = 0 if number == 0 and not first_is_blank else indent
        last = number == len(lines) - 1
        kept = "" if not line.strip() and (last or len(line) < skip) else line[skip:]
        pieces.append(kept)
        offsets += range(start + skip, start + skip + len(kept))
        if not last:
            pieces.append("\n")
            offsets.append(start + len(line))
    text = "".join(pieces)
    if first_is_blank and text.endswith("\n"):  # the closing quotes' own line
        text = text[:-1]
        offsets.pop()
    return text, (*offsets, len(literal) - 3)
