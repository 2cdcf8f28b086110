"""A plan as a picture: its tables as nodes and what reads what as arrows, in text or for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from synthc.compiler import plan
from synthc.runtime.planning.picture import FILE, made_from, outside
from synthc.runtime.store.fingerprint import parents

Label = Mapping[str, str]
"""What stands beside a node, by its name."""

Node = tuple[str, bool]
"""A name, and whether it is a table's (else a file's)."""


def tree(plan_: plan.Plan) -> Iterator[tuple[str, str, str]]:
    """Each node on a line: what draws the arrow to it, its name, and what else it reads.

    A table stands below the last of those it reads, so that what it needs stands above it.
    """
    roots: dict[str, list[str]] = {}
    below: dict[str, list[Node]] = {}
    also: dict[str, str] = {}
    for table in plan_.tables:
        reads = list(dict.fromkeys(parents(table)))
        if reads:
            order = [t.name for t in plan_.tables]
            *others, last = sorted(reads, key=order.index)
            below.setdefault(last, []).append((table.name, True))
            if others:
                also[table.name] = f"also reads {', '.join(others)}"
        else:
            roots.setdefault(outside(table.source), []).append(table.name)
    for export in plan_.exports:
        below.setdefault(export.table, []).append((export.path, False))
    for root, tables in roots.items():
        if root:
            yield "", root, ""
            yield from _branches([(name, True) for name in tables], below, also, "")
        else:
            for name in tables:
                yield "", name, also.get(name, "")
                yield from _branches(below.get(name, []), below, also, "")


def _branches(
    nodes: Sequence[Node], below: Mapping[str, Sequence[Node]], also: Mapping[str, str], margin: str
) -> Iterator[tuple[str, str, str]]:
    for at, (name, is_table) in enumerate(nodes, 1):
        last = at == len(nodes)
        yield margin + ("└▶ " if last else "├▶ "), name, also.get(name, "") if is_table else ""
        inner = margin + ("   " if last else "│  ")
        yield from _branches(below.get(name, ()) if is_table else (), below, also, inner)


def dot(plan_: plan.Plan, beside: Label) -> str:
    """The picture as Graphviz takes it."""
    hidden = {table.name for table in plan_.tables if table.hidden}
    lines = ["digraph plan {", "  rankdir=LR", '  node [shape=box, fontname="sans-serif"]']
    edges: list[str] = []
    for name, sources in made_from(plan_).items():
        if name.startswith(FILE):
            label, style = name.removeprefix(FILE), "shape=note"
        else:
            label = "\n".join(filter(None, (name, beside.get(name, ""))))
            style = 'style="rounded,dashed"' if name in hidden else 'style="rounded"'
        lines.append(f"  {_quoted(name)} [label={_quoted(label)}, {style}]")
        edges += [f"  {_quoted(source)} -> {_quoted(name)}" for source in sources]
    return "\n".join([*lines, *edges, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
