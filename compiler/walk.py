"""Every node of an AST, and an AST with nodes replaced."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from synthc.compiler import ast
from synthc.compiler.span import Span

Node = TypeVar("Node")


def nodes(node: Any) -> Iterator[Any]:
    """The node and every node in it, each before what it holds."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, tuple):
            waiting.extend(reversed(part))
            continue
        names = _parts(type(part))
        if names is not None:
            yield part
            waiting += [getattr(part, name) for name in reversed(names)]


def rewritten(node: Node, change: Callable[[Any], Any]) -> Node:
    """The node with `change` made to it and to every node in it, to what a node holds before it.

    What nothing was changed in is the same object.
    """
    if isinstance(node, tuple):
        items = tuple([rewritten(part, change) for part in node])
        same = all(map(operator.is_, items, node))
        return node if same else items  # pyright: ignore[reportReturnType]
    names = _parts(type(node))
    if names is None:
        return node
    changed: dict[str, Any] = {}
    for name in names:
        part = getattr(node, name)
        new = rewritten(part, change)
        if new is not part:
            changed[name] = new
    made: Any = replace(node, **changed) if changed else node  # pyright: ignore[reportArgumentType]
    return change(made)


@functools.cache
def _parts(kind: type) -> tuple[str, ...] | None:
    """The fields of a kind of node, None of what is none. Of a string none: its offsets are many."""
    if not issubclass(kind, Struct) or kind is Span:
        return None
    return () if kind is ast.String else kind.__struct_fields__
