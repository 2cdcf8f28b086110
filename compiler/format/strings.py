"""Long strings are moved as a block: their text stays the same, because it is read without its indent."""

from __future__ import annotations

import functools

from synthc.compiler.parse.strings import decode


@functools.lru_cache(maxsize=1024)
def moved(literal: str, margin: int, indent: int) -> str:
    """A string whose lines are indented by `indent` columns, and whose closing quotes by `margin`.

    It is left as it is where that would change its text.
    """
    if "\n" not in literal:
        return literal
    first, *lines = literal[3:-3].split("\n")
    shared = min((_indent(line) for line in lines if line.strip()), default=0)
    rest = [" " * indent + line[shared:] if len(line) > shared else "" for line in lines]
    if not lines[-1].strip():
        rest[-1] = " " * margin
    new = '"""' + "\n".join([first if first.strip() else "", *rest]) + '"""'
    return new if decode(new)[0] == decode(literal)[0] else literal


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
