"""Texts of which not one vector is wanted but those of their parts, and the spans that name them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from synthc.compiler.plan import Parts
from synthc.runtime.errors import RowFailed


class Span(Struct, frozen=True):
    """Characters of a text that have a label: from `start` to the one before `end`, counted from 0."""

    start: int
    end: int
    label: str


class Passage(Struct, frozen=True):
    """A text, and the parts of it that are to be embedded (see plan.Embed): `spans`, where it is these."""

    text: str
    parts: Parts
    spans: tuple[Span, ...] = ()


def passage(text: str, parts: Parts, spans: Any) -> Passage:
    """What is embedded of a text; `spans` are the value of a column, in any form that JSON can have.

    Raises RowFailed, which names the span, where one is none or does not lie in the text.
    """
    if parts != "spans":
        return Passage(text, parts)
    if not isinstance(spans, list | tuple):
        raise RowFailed("spans", "the spans are no list")
    found = tuple(_span(value, number, len(text)) for number, value in enumerate(spans, 1))
    return Passage(text, parts, found)


def _span(value: Any, number: int, length: int) -> Span:
    """A span by its number, from 1, in a text of `length` characters."""
    match value:
        case {"start": int(start), "end": int(end), "label": str(label)} if not (
            isinstance(start, bool) or isinstance(end, bool)
        ):
            span = Span(start, end, label)
        case _:
            problem = "must have a whole number `start`, another `end`, and a text `label`"
            raise RowFailed("spans", f"span {number} {problem}")
    if end <= start:
        raise RowFailed("spans", f"{told(span, number)} has no character")
    if start < 0 or end > length:
        has = f"the text, which has {length} characters"
        raise RowFailed("spans", f"{told(span, number)} does not lie within {has}")
    return span


def told(span: Span, number: int) -> str:
    """A span as a failure names it."""
    return f"span {number} (`{span.label}`, from {span.start} to {span.end})"
