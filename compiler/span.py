"""Where in a spec something stands."""

from __future__ import annotations

from msgspec import Struct


class Span(Struct, frozen=True, order=True, array_like=True):
    """A stretch of a spec's text: lines and columns from 1, the end exclusive.

    `file` is the name the user gave, never an absolute path of one machine: spans go into plans.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def to(self, other: Span) -> Span:
        """The stretch from this span's start to the other's end."""
        return Span(self.file, self.line, self.column, other.end_line, other.end_column)
