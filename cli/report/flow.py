"""The plan as a picture: tables and files as boxes in layers, each to the right of what it is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from synthc.cli.picture import outside
from synthc.cli.report.asking import brief, shown
from synthc.cli.report.contents import Edge, Node, Picture, Step
from synthc.cli.steps import in_words, source_in_words
from synthc.compiler import plan
from synthc.runtime.store.fingerprint import parents

WIDTH, HEIGHT = 168, 46
"""Of a box, in pixels; CSS sets its text in 13 of them."""
_ACROSS, _DOWN = 56, 18
_NAME = 22
_FILE = "file "


def picture(made: plan.Plan, below: Mapping[str, str]) -> Picture:
    """The boxes and arrows of a plan; `below` is what stands below a table's name."""
    reads = _reads(made)
    depths: dict[str, int] = {}
    for name, sources in reads.items():  # a table stands after those it reads
        depths[name] = max((depths[source] + 1 for source in sources), default=0)
    layers: dict[int, list[str]] = {}
    for name, depth in depths.items():
        layers.setdefault(depth, []).append(name)
    tallest = max(map(len, layers.values()), default=0)
    height = tallest * (HEIGHT + _DOWN) - _DOWN
    places: dict[str, tuple[int, int]] = {}
    for depth, names in layers.items():
        top = (height - (len(names) * (HEIGHT + _DOWN) - _DOWN)) // 2
        for at, name in enumerate(names):
            places[name] = depth * (WIDTH + _ACROSS), top + at * (HEIGHT + _DOWN)
    nodes = [
        Node(
            brief(name.removeprefix(_FILE), _NAME),
            "file" if name.startswith(_FILE) else below.get(name, "not made yet"),
            "file" if name.startswith(_FILE) else "table",
            x,
            y,
        )
        for name, (x, y) in places.items()
    ]
    edges = [
        Edge(places[source][0] + WIDTH, places[source][1] + HEIGHT // 2, x, y + HEIGHT // 2)
        for name, (x, y) in places.items()
        for source in reads[name]
    ]
    said = [
        f"{name.removeprefix(_FILE)} from {', '.join(s.removeprefix(_FILE) for s in sources)}"
        for name, sources in reads.items()
        if sources
    ]
    return Picture(
        len(layers) * (WIDTH + _ACROSS) - _ACROSS,
        max(height, 0),
        tuple(nodes),
        tuple(edges),
        shown("; ".join(said)),
    )


def steps(table: plan.Table, calls: Mapping[str, int]) -> tuple[Step, ...]:
    """What a table is made by, in order; `calls` are how many each ask took, by its name."""
    source = Step(0, shown(source_in_words(table.source)), _line(table.source), 0)
    return (source, *_steps(table.ops, calls, 0))


def _steps(ops: tuple[plan.Op, ...], calls: Mapping[str, int], depth: int) -> Iterator[Step]:
    for op in ops:
        if isinstance(op, plan.Constant | plan.Require):
            continue  # they say nothing that the steps around them do not
        count = calls.get(op.what, 0) if isinstance(op, plan.Ask) else 0
        yield Step(depth, brief(in_words(op), 300), _line(op), count)
        if isinstance(op, plan.Repeat):
            yield from _steps(op.ops, calls, depth + 1)


def places(table: plan.Table) -> dict[str, str]:
    """Where in the spec each column of a table is made: `file:line`, by the name that the store has."""
    found: dict[str, str] = {}

    def walk(ops: tuple[plan.Op, ...]) -> None:
        for op in ops:
            if isinstance(op, plan.Ask | plan.Sample | plan.Draw):
                found.setdefault(op.what, _line(op))
            if isinstance(op, plan.Repeat):
                walk(op.ops)

    walk(table.ops)
    return found


def _line(op: plan.Op | plan.Source | plan.Table) -> str:
    return f"{shown(op.span.file)}:{op.span.line}"


def _reads(made: plan.Plan) -> dict[str, list[str]]:
    """What each box is made from, with boxes after those they read. Names of files are marked."""
    reads: dict[str, list[str]] = {}
    for table in made.tables:
        file = outside(table.source)
        if file:
            reads.setdefault(_FILE + file, [])
        reads[table.name] = [*([_FILE + file] if file else []), *dict.fromkeys(parents(table))]
    for export in made.exports:
        name = _FILE + export.path
        if name in reads:  # read as well as written: one box would make a circle
            name += " "
        reads[name] = [export.table]
    return reads
