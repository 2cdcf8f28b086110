"""Every node of an AST, and an AST with nodes replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from synthc.compiler import ast

Node = TypeVar("Node")


def nodes(node: Any) -> Iterator[Any]:
    """The node and every node in it, each before what it holds."""
    if isinstance(node, tuple):
        for part in node:
            yield from nodes(part)
    elif dataclasses.is_dataclass(node):
        yield node
        for part in _parts(node).values():
            yield from nodes(part)


def rewritten(node: Node, change: Callable[[Any], Any]) -> Node:
    """The node with `change` made to it and to every node in it, to what a node holds before it."""
    if isinstance(node, tuple):
        return tuple(rewritten(part, change) for part in node)  # pyright: ignore[reportReturnType]
    if not dataclasses.is_dataclass(node):
        return node
    parts = {name: rewritten(part, change) for name, part in _parts(node).items()}
    return change(dataclasses.replace(node, **parts))  # pyright: ignore[reportArgumentType]


def _parts(node: Any) -> dict[str, Any]:
    """What a node holds that may be or hold nodes; of a string nothing, for its offsets are many."""
    if isinstance(node, ast.String):
        return {}
    parts = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return {
        name: part
        for name, part in parts.items()
        if isinstance(part, tuple) or dataclasses.is_dataclass(part)
    }
