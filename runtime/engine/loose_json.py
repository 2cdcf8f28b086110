"""JSON as models write it: read with its small faults, in one pass, and never evaluated.

    {'a': True, b: "he said "no"", }     is read as     {"a": true, "b": "he said \\"no\\""}

Forgiven are trailing commas, Python's and JavaScript's spellings, comments, line breaks and quotes
inside of texts, and closing brackets that are missing after a whole value. What was cut off in the
middle of a value is not: half an answer would pass for a whole one.
"""

from __future__ import annotations

import re
from typing import Any

MAX_DEPTH = 100
"""How deep JSON may be nested: no real answer is, and what reads it later is recursive."""

_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_CLOSING = {'"': '"', "'": "'", "“": "”"}
_INSIDE = {closing: re.compile(rf"[\\{closing}]") for closing in _CLOSING.values()}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""} | {
    char: char for char in "\"'\\/”"
}

# Possessive (`*+`): what follows is looked for once, so that all of this is linear.
_BETWEEN = re.compile(r"(?:\s|//[^\n]*+|#[^\n]*+|/\*.*?\*/)*+", re.DOTALL)
_AFTER_TEXT = re.compile(r"[ \t]*+(?:\r?\n|\Z)|\s*+(?:[,:\]}]|//)")
_NUMBER = re.compile(r"[-+]?(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?(?=[\s,\]}/#])")
_NAME = re.compile(r"[^\W\d][\w-]*+")
_HEX = re.compile(r"[0-9a-fA-F]{4}")


class NotJson(ValueError):
    """No JSON begins here. `at` is how far it was read."""

    def __init__(self, at: int) -> None:
        super().__init__(f"no JSON at {at}")
        self.at = at


def decode(text: str, start: int) -> tuple[Any, int]:
    """The object or array that begins at a place, and where it ends. Raises NotJson."""
    reader = _Reader(text, start)
    try:
        value = reader.value(0)
    except NotJson:
        raise
    except ValueError:  # a number of more digits than Python reads
        raise NotJson(reader.at) from None
    return value, reader.at


class _Reader:
    """Reads forward only: `at` never goes back."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at

    def value(self, depth: int) -> Any:
        match self._next():
            case "{" if depth < MAX_DEPTH:
                return self._object(depth + 1)
            case "[" if depth < MAX_DEPTH:
                return self._array(depth + 1)
            case '"' | "'" | "“":
                return self._text()
            case _:
                return self._number_or_word()

    def _next(self) -> str:
        """The next character that says something, which is not passed; empty at the end."""
        between = _BETWEEN.match(self.text, self.at)
        self.at = between.end() if between else self.at
        return self.text[self.at : self.at + 1]

    def _array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.at += 1
        more = True
        while not self._closed("]", more=more):
            items.append(self.value(depth))
            more = self._comma()
        return items

    def _object(self, depth: int) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        self.at += 1
        more = True
        while not self._closed("}", more=more):
            key = self._key()
            if self._next() != ":":
                raise NotJson(self.at)
            self.at += 1
            parts[key] = self.value(depth)
            more = self._comma()
        return parts

    def _closed(self, bracket: str, *, more: bool) -> bool:
        """Whether an array or object ends here; it may end with the text, unless more was to come."""
        found = self._next()
        if found == bracket:
            self.at += 1
            return True
        if not found and more:
            raise NotJson(self.at)
        return not found

    def _comma(self) -> bool:
        if self._next() != ",":
            return False
        self.at += 1
        return True

    def _key(self) -> str:
        if self._next() in _CLOSING:
            return self._text()
        name = _NAME.match(self.text, self.at)
        if name is None:
            raise NotJson(self.at)
        self.at = name.end()
        return name[0]

    def _text(self) -> str:
        closing = _CLOSING[self.text[self.at]]
        parts: list[str] = []
        self.at += 1
        while True:
            found = _INSIDE[closing].search(self.text, self.at)
            if found is None:
                raise NotJson(len(self.text))
            parts.append(self.text[self.at : found.start()])
            self.at = found.end()
            if found[0] == "\\":
                parts.append(self._escaped())
            elif _AFTER_TEXT.match(self.text, self.at):
                return "".join(parts)
            else:  # a quote in the middle of a text
                parts.append(closing)

    def _escaped(self) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if char == "u" and (code := _HEX.match(self.text, self.at)):
            self.at = code.end()
            return chr(int(code[0], 16))
        return _ESCAPES.get(char, f"\\{char}")

    def _number_or_word(self) -> Any:
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            digits = number[0].removeprefix("+")
            return int(digits) if digits.removeprefix("-").isdecimal() else float(digits)
        word = _NAME.match(self.text, self.at)
        if word is None or word[0] not in _WORDS:
            raise NotJson(self.at)
        self.at = word.end()
        return _WORDS[word[0]]
