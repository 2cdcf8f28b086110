"""Lines → text: guards and comments on lines that follow each other are aligned."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from synthc.compiler.format.doc import Printed
from synthc.compiler.format.layout import KEPT

COMMENTS = 42
"""The column where comments behind a line start, if it is shorter."""

_LONG = 60
"""A longer line does not move the comments of those around it."""


def aligned(lines: list[Printed]) -> str:
    """The text of lines, with a newline at its end."""
    for run in _runs(lines, lambda line: line.guard is not None):
        _align_guards(run)
    for run in _runs(lines, lambda line: line.comment is not None):
        _align_comments(run)
    return "".join(line.text + "\n" for line in lines)


def _runs(lines: list[Printed], has: Callable[[Printed], bool]) -> Iterator[list[Printed]]:
    run: list[Printed] = []
    for line in [*lines, Printed("", 0)]:
        if has(line):
            run.append(line)
        elif run:
            yield run
            run = []


def _align_guards(run: list[Printed]) -> None:
    """Two spaces before the guard of the longest line, where there are several and all stay short."""
    columns = [line.guard or 0 for line in run]
    at = max(columns) + 1
    rests = [line.text[column:] for line, column in zip(run, columns, strict=True)]
    if len(run) == 1 or at + max(map(len, rests)) > KEPT:
        return
    for line, column, rest in zip(run, columns, rests, strict=True):
        line.text = line.text[:column].ljust(at) + rest


def _align_comments(run: list[Printed]) -> None:
    lengths = [len(line.text) + 2 for line in run if len(line.text) <= _LONG]
    at = max([COMMENTS, *lengths])
    for line in run:
        line.text = line.text.ljust(max(at, len(line.text) + 2)) + (line.comment or "")
