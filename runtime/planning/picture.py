"""The plan as a picture: tables and files as boxes, each to the right of what it is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import chain, pairwise

from synthc.compiler import plan
from synthc.runtime.store.fingerprint import parents

FILE = "file "
"""How the names of files begin where they stand among those of tables."""

_WIDTH, _HEIGHT = 168, 46
"""Of a box, in pixels; text is set in 13 of them."""
_ACROSS, _DOWN = 56, 18
_NAME = 22
"""Characters of a name for which a box has room."""

Reads = Mapping[str, list[str]]
Place = tuple[int, int]
"""The upper left corner of a box."""


def svg(made: plan.Plan, below: Mapping[str, str]) -> str:
    """The picture as markup that stands in a page; `below` is what stands below the name of a table.

    It has the colour of the text around it, unless the page has rules for its classes. Whatever a spec
    has for names is text in it.
    """
    reads = made_from(made)
    boxes, lanes = _layout(reads)
    taken = [*boxes.values(), *chain.from_iterable(lanes.values())]
    width = max((x + _WIDTH for x, _ in taken), default=0)
    height = max((y + _HEIGHT for _, y in taken), default=0)
    words = "; ".join(
        f"{_plain(name)} from {', '.join(map(_plain, sources))}"
        for name, sources in reads.items()
        if sources
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" class="picture"'
        f' width="{width + 4}" height="{height + 4}" viewBox="-2 -2 {width + 4} {height + 4}"'
        ' role="img" aria-label="The tables and files of the plan, and what is made from what"'
        ' font-family="sans-serif" font-size="13" text-anchor="middle">',
        f"<desc>{escape(words)}</desc>",
        *(
            _arrow([boxes[source], *between, boxes[name]])
            for (source, name), between in lanes.items()
        ),
        *(_box(name, place, below) for name, place in boxes.items()),
        "</svg>",
    ]
    return "\n".join(parts)


def made_from(made: plan.Plan) -> dict[str, list[str]]:
    """The tables and files of a plan, and what each is made from, which stands before it."""
    reads: dict[str, list[str]] = {}
    for table in made.tables:
        file = outside(table.source)
        if file:
            reads.setdefault(FILE + file, [])
        reads[table.name] = [*([FILE + file] if file else []), *dict.fromkeys(parents(table))]
    for export in made.exports:
        name = FILE + export.path
        if name in reads:  # read as well as written: one box would make a circle
            name += " "
        reads[name] = [export.table]
    return reads


def outside(source: plan.Source) -> str:
    """The files that a table's rows come from; empty where they come from none."""
    return source.path if isinstance(source, plan.Read | plan.Files) else ""


def _layout(reads: Reads) -> tuple[dict[str, Place], dict[tuple[str, str], list[Place]]]:
    """Where each box is; and of each arrow, the free places by which it passes other boxes."""
    depths: dict[str, int] = {}
    for name, sources in reads.items():
        depths[name] = max((depths[source] + 1 for source in sources), default=0)
    layers: dict[int, list[str | tuple[str, str]]] = {}
    for name, sources in reads.items():
        layers.setdefault(depths[name], []).append(name)
        for source in sources:
            for depth in range(depths[source] + 1, depths[name]):
                layers.setdefault(depth, []).append((source, name))
    tallest = max(map(len, layers.values()), default=0)
    boxes: dict[str, Place] = {}
    lanes: dict[tuple[str, str], list[Place]] = {
        (source, name): [] for name, sources in reads.items() for source in sources
    }
    for depth, layer in sorted(layers.items()):
        top = (tallest - len(layer)) * (_HEIGHT + _DOWN) // 2
        for at, what in enumerate(layer):
            place = depth * (_WIDTH + _ACROSS), top + at * (_HEIGHT + _DOWN)
            if isinstance(what, str):
                boxes[what] = place
            else:
                lanes[what].append(place)
    return boxes, lanes


def _arrow(places: Sequence[Place]) -> str:
    """From the first place through those between to the last."""
    middle = _HEIGHT // 2
    path = f"M{places[0][0] + _WIDTH} {places[0][1] + middle}"
    for (x, y), (to_x, to_y) in pairwise(places):
        turn = to_x - _ACROSS // 2
        path += f"H{x + _WIDTH}C{turn} {y + middle} {turn} {to_y + middle} {to_x} {to_y + middle}"
    x, y = places[-1]
    return (
        f'<path class="edge" d="{path}" fill="none" stroke="currentColor"/>'
        f'<path class="head" d="M{x} {y + middle}l-7 -4v8z" fill="currentColor"/>'
    )


def _box(name: str, place: Place, below: Mapping[str, str]) -> str:
    x, y = place
    file = name.startswith(FILE)
    kind, corner, weight = ("file", 23, "normal") if file else ("table", 6, "bold")
    whole = _plain(name)
    brief = whole if len(whole) <= _NAME else f"{whole[: _NAME - 1].rstrip()}…"
    tip = f"<title>{escape(whole)}</title>" if brief != whole else ""
    text = f'<text x="{x + _WIDTH // 2}" fill="currentColor"'
    return (
        f'<g class="{kind}">{tip}<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}"'
        f' rx="{corner}" fill="none" stroke="currentColor"/>'
        f'{text} y="{y + 20}" font-weight="{weight}">{escape(brief)}</text> '
        f'{text} y="{y + 36}" font-size="11" class="below">'
        f"{'file' if file else escape(below.get(name, ''))}</text></g>"
    )


def _plain(name: str) -> str:
    """A name without its mark, and with characters that cannot be seen as their codes."""
    name = name.removeprefix(FILE)
    return name if name.isprintable() else repr(name)[1:-1]
