"""The formatter as one function: text → the same spec in the one layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from synthc.compiler import ast
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.format.align import aligned
from synthc.compiler.format.concrete import Source, read
from synthc.compiler.format.doc import printed
from synthc.compiler.format.layout import layout
from synthc.compiler.parse.parse import parse
from synthc.compiler.span import Span


class Unreadable(Exception):
    """A text that is no spec, with what is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(*(problem.message() for problem in problems))
        self.problems = tuple(problems)


class Unfaithful(Exception):
    """The formatter would have changed more than the layout: a fault of synthc's own."""


def format_text(text: str, file: str = "spec.synth") -> str:
    """The spec in `text` in the one layout: the same words and comments in other places.

    Lines end in LF, the last one too, and a byte order mark is dropped. `file` is the name in problems.

    Raises Unreadable where the text cannot be read, and Unfaithful rather than change what it says.
    """
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    spec, problems = parse(text, file)
    if problems:
        raise Unreadable(problems)
    source = read(text)
    formatted = _laid_out(source)
    _make_sure(spec, source, formatted)
    return formatted


def _laid_out(source: Source) -> str:
    return aligned(printed(layout(source)))


def _make_sure(spec: ast.Spec, source: Source, formatted: str) -> None:
    """Raises Unfaithful where the layout of a spec says something else, or is not settled."""
    again, problems = parse(formatted, spec.file)
    if problems or not same_tree(spec, again):
        raise Unfaithful(f"{spec.file}: the layout would have another tree")
    source_again = read(formatted)
    if list(source.comments()) != list(source_again.comments()):
        raise Unfaithful(f"{spec.file}: the layout would have other comments")
    if _laid_out(source_again) != formatted:
        raise Unfaithful(f"{spec.file}: the layout would have another layout")


def same_tree(one: object, other: object) -> bool:
    """Whether two trees differ in nothing but where their words stand, and how strings are indented."""
    return _placeless(one) == _placeless(other)


def _placeless(node: Any) -> object:
    if isinstance(node, tuple):
        return tuple(map(_placeless, node))
    if isinstance(node, Span):
        return None
    if isinstance(node, ast.String):
        return (ast.String, node.text)
    if isinstance(node, Struct):
        return (type(node), *map(_placeless, astuple(node)))
    return (type(node), node)
