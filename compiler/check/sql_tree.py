"""What DuckDB's own tree of a query says: its places, tables, parameters and columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from synthc.compiler import ast, types
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

Node = dict[str, Any]


class Places:
    """Byte offsets of DuckDB's in a query → places in the spec."""

    def __init__(self, text: ast.String, before: int) -> None:
        self._text = text
        self._before = before
        self._bytes = text.text.encode()
        self.size = before + len(self._bytes)

    def characters(self, offset: int, length: int) -> tuple[int, int]:
        """Start and length in characters of the spec's string."""
        start = offset - self._before
        first = len(self._bytes[: max(0, start)].decode(errors="ignore"))
        last = len(self._bytes[: max(0, start + length)].decode(errors="ignore"))
        return first, last - first

    def at(self, offset: int, length: int) -> Span:
        """The place of some bytes of the query."""
        start, count = self.characters(offset, length)
        return self._text.at(start, max(1, count))

    @property
    def whole(self) -> Span:
        """The place of the whole string."""
        return self._text.span

    def shown(self, offset: int, length: int) -> str:
        """What stands at some bytes of the query."""
        start, count = self.characters(offset, length)
        return self._text.text[start : start + count]

    def find(self, name: str) -> Span:
        """Where the name stands for the first time, whatever its case."""
        at = self._text.text.lower().find(name.lower())
        return self._text.at(at, len(name)) if at >= 0 else self._text.span

    def of(self, node: Node) -> Span:
        """The place of a node of DuckDB's tree."""
        offset = node.get("query_location", 2**63)
        if offset >= 2**63:  # DuckDB's word for "nowhere"
            return self._text.span
        return self.at(offset, node.get("query_location_length", 1))


def nodes(tree: Any, *, into_subqueries: bool = True) -> Iterator[Node]:  # any JSON
    """Every node of a tree, from the outside in."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        children: Iterable[Any] = part
        if isinstance(part, dict):
            yield part
            if part.get("class") == "SUBQUERY" and not into_subqueries:
                continue
            children = part.values()
        waiting += reversed([child for child in children if isinstance(child, dict | list)])


def base_tables(tree: Any, hidden: frozenset[str] = frozenset()) -> Iterator[Node]:  # any JSON
    """The tables that a query names and does not make itself (by `WITH`)."""
    children: Iterable[Any] = tree
    if isinstance(tree, dict):
        for entry in tree.get("cte_map", {}).get("map", []):
            name = entry["key"].lower()
            recursive = any(
                node.get("type") == "RECURSIVE_CTE_NODE"
                and node.get("cte_name", "").lower() == name
                for node in nodes(entry["value"])
            )
            yield from base_tables(entry["value"], hidden | {name} if recursive else hidden)
            hidden |= {name}
        if tree.get("type") == "BASE_TABLE" and (
            tree["schema_name"] or tree["table_name"].lower() not in hidden
        ):
            yield tree
        children = [child for key, child in tree.items() if key != "cte_map"]
    for child in children:
        if isinstance(child, dict | list):
            yield from base_tables(child, hidden)


def is_list_over(tree: Node, table: str) -> bool:
    """Whether the query is nothing but a list of expressions over the table."""
    return (
        tree.get("type") == "SELECT_NODE"
        and not tree["modifiers"]
        and not tree["cte_map"]["map"]
        and tree["where_clause"] is None
        and not tree["group_expressions"]
        and tree["having"] is None
        and tree["sample"] is None
        and tree["qualify"] is None
        and tree["from_table"].get("type") == "BASE_TABLE"
        and tree["from_table"].get("table_name", "") == table
        and not tree["from_table"]["alias"]
        and tree["from_table"]["sample"] is None
    )


def parameters(tree: list[Node], places: Places) -> tuple[tuple[str, int, int], ...]:
    """Name, start and length of every `$name`."""
    return tuple(
        (
            node["identifier"],
            *places.characters(node["query_location"], len(node["identifier"].encode()) + 1),
        )
        for node in tree
        if node.get("class") == "PARAMETER"
    )


def _parts(type_: Type) -> dict[str, str]:
    """The parts of a struct by their names in lower case."""
    inner = types.required(type_)
    fields = inner.fields if isinstance(inner, types.Record) else ()
    return {field.name.lower(): field.name for field in fields}


def paths(tree: list[Node], scope: Mapping[str, Type]) -> tuple[tuple[str, ...], ...]:
    """Which columns are read: a part of a struct alone where only that is named."""
    names = {name.lower(): name for name in scope}
    found: set[tuple[str, ...]] = set()
    for node in tree:
        if node.get("class") == "STAR":
            found.update((name,) for name in scope)
        if node.get("class") != "COLUMN_REF":
            continue
        first, *rest = node["column_names"]
        name = names.get(first.lower())
        if name is None:
            continue
        part = _parts(scope[name]).get(rest[0].lower()) if rest else None
        found.add((name, part) if part else (name,))
    whole = {path for path in found if len(path) == 1}
    kept = whole | {path for path in found if (path[0],) not in whole}
    order = list(scope)
    return tuple(sorted(kept, key=lambda path: (order.index(path[0]), path)))


def plain(
    tree: Node, fields: tuple[Field, ...], scope: Mapping[str, Type]
) -> dict[str, tuple[str, ...]]:
    """Which columns of the result only repeat one of the scope, where that can be told."""
    names = {name.lower(): name for name in scope}
    found: dict[str, tuple[str, ...]] = {}
    position = 0
    for item in tree["select_list"]:
        if item["class"] == "STAR":
            # `v.*` stands for the parts of a struct, others for something else than the columns.
            changed = ("relation_name", "columns", "replace_list", "rename_list")
            if any(item[key] for key in (*changed, "qualified_exclude_list")):
                return {}
            left_out = {name.lower() for name in item["exclude_list"]}
            for name in scope:
                if name.lower() not in left_out:
                    found[fields[position].name] = (name,)
                    position += 1
            continue
        if item["class"] == "COLUMN_REF":
            first, *rest = item["column_names"]
            name = names.get(first.lower())
            part = _parts(scope[name]).get(rest[0].lower()) if name and len(rest) == 1 else None
            if name and not rest:
                found[fields[position].name] = (name,)
            elif name and part:
                found[fields[position].name] = (name, part)
        position += 1
    return found
