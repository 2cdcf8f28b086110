"""Rows of a query, written to stdout: as a table for a person, as JSON or CSV for a program."""

from __future__ import annotations

import csv
import datetime
import json
import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from synthc.cli.console import counted, say, visible, wrapped

if TYPE_CHECKING:
    from synthc.runtime.store.results import Rows

SHOWN_ROWS = 100
SHOWN_CHARACTERS = 200
SHOWN_LINES = 5
"""Lines of a cell, about, where columns share a narrow terminal."""
SHOWN_FLOATS = 3
WIDTH = 120
"""Columns of a table that goes to no terminal."""
NARROW = 12
"""Columns of a terminal that a column of a table has at least, where it has more to show."""
GAP = 3

Row = tuple[Any, ...]


def write(found: Rows, form: str | None) -> None:
    """Write the rows of a query: `json`, `csv`, or a table. Raises duckdb.Error."""
    names = list(found.names)
    rows = _rows(found)
    match form:
        case "json":
            _write_json(names, rows)
        case "csv":
            _write_csv(names, rows)
        case _:
            _write_table(names, rows)


def _rows(found: Rows) -> Iterator[Row]:
    for batch in found.batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes in hexadecimal, null for what is no number, times as DuckDB writes."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case bytes():
            return value.hex()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case datetime.date() | datetime.time() | datetime.timedelta():
            return str(value)
        case _:
            return value


def _json(value: Any) -> str:
    """JSON on one line. What could steer a terminal is escaped, which changes no value."""
    text = json.dumps(plain(value), ensure_ascii=False, default=str)
    return text if visible(text) == text else json.dumps(plain(value), default=str)


def _write_json(names: list[str], rows: Iterator[Row]) -> None:
    sys.stdout.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    # An object has a name once: a second `a` is `a_1`.
    unique = [f"{n}_{k}" if (k := names[:i].count(n)) else n for i, n in enumerate(names)]
    separator = "\n"
    sys.stdout.write("[")
    for row in rows:
        sys.stdout.write(separator + _json(dict(zip(unique, row, strict=True))))
        separator = ",\n"
    sys.stdout.write("\n]\n")


def _write_csv(names: list[str], rows: Iterator[Row]) -> None:
    sys.stdout.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    shown = visible if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(shown, names))
    for row in rows:
        writer.writerow("" if value is None else shown(_text(value)) for value in row)


def _text(value: Any) -> str:
    """A value as text: JSON where it has parts."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.hex()
        case list() | tuple() | dict():
            return _json(value)
        case _:
            return str(value)


def _write_table(names: list[str], rows: Iterator[Row]) -> None:
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in islice(rows, SHOWN_ROWS)]
    total = len(cells) + sum(1 for _ in rows)
    heads = [visible(name) for name in names]
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=WIDTH)
    natural = [
        max(cell_len(line) for text in (head, *column) for line in (*text.split("\n"), ""))
        for head, column in zip(heads, zip(*cells, strict=True) if cells else heads, strict=True)
    ]
    fitting = _fitting(natural, console.width)
    most = min(SHOWN_CHARACTERS, SHOWN_LINES * console.width // fitting)
    cut = any(len(text) > most for row in cells for text in row[:fitting])
    # Rows of several lines run together without a line between them.
    tall = sum(natural[:fitting]) + GAP * (fitting - 1) > console.width
    tall = tall or any("\n" in text for row in cells for text in row[:fitting])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, leading=1 if tall else 0)
    for head in heads[:fitting]:
        table.add_column(Text(head), overflow="fold")
    for row in cells:
        # Text, not markup: what a model wrote is shown, never obeyed.
        table.add_row(*(Text(_shortened(text, most)) for text in row[:fitting]))
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())
    notes = [counted(total, "row")]
    if total > SHOWN_ROWS:
        notes.append(f"the first {SHOWN_ROWS} shown")
    if fitting < len(heads):
        notes.append(f"no room for {', '.join(heads[fitting:])}")
    if cut or fitting < len(heads):
        notes.append("--json shows everything")
    say("\n".join(wrapped("; ".join(notes))))


def _fitting(natural: list[int], width: int) -> int:
    """How many columns fit beside each other when each may shrink to a readable width."""
    used = -GAP
    for number, column in enumerate(natural):
        used += min(column, NARROW) + GAP
        if used > width:
            return max(number, 1)
    return len(natural)


def _cell(value: Any) -> str:
    """A value in a few words; vectors by their beginning."""
    match value:
        case None:
            return "null"
        case float():
            return f"{value:.6g}" if abs(value) < 1e6 else str(value)
        case list() | dict():
            return visible(brief(value))
        case _:
            return visible(_text(value)).strip("\n")


def brief(value: Any) -> str:
    """A value as JSON, but for vectors, wherever they stand in it: they are shown by their beginning."""
    match value:
        case list() if len(value) > 8 and all(isinstance(item, float) for item in value):
            start = ", ".join(f"{item:.3f}" for item in value[:SHOWN_FLOATS])
            return f"[{start}, … {len(value)} in all]"
        case list():
            return f"[{', '.join(map(brief, value))}]"
        case dict():
            return f"{{{', '.join(f'{brief(str(key))}: {brief(v)}' for key, v in value.items())}}}"
        case _:
            return json.dumps(plain(value), ensure_ascii=False, default=str)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 2] + " …"
