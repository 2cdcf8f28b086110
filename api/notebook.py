"""What a notebook shows of tables: a few rows, long values by their beginning, and all of it as text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

ROWS = 10
CHARACTERS, OF_VECTORS = 300, 40
"""Characters of a value that are shown: what there is of a vector or a picture would fill screens."""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as HTML: texts to the left, numbers to the right."""
    titles = "".join(f'<th style="text-align: left">{escape(title)}</th>' for title in head)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def show_relations() -> None:
    """Have IPython, where it runs, show DuckDB's relations so: by itself it shows each vector whole."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if shell:
        import duckdb

        shell.display_formatter.mimebundle_formatter.for_type(duckdb.DuckDBPyRelation, _relation)


def _relation(found: duckdb.DuckDBPyRelation) -> dict[str, str]:
    """The first rows, for what shows text and for what shows HTML."""
    # DuckDB casts, so that every type is shown as its SQL writes it.
    texts = found.limit(ROWS + 1).project(f"left(CAST(COLUMNS(*) AS VARCHAR), {CHARACTERS + 1})")
    rows = texts.fetchall()
    most = [
        OF_VECTORS if str(t).startswith(("FLOAT[", "DOUBLE[")) else CHARACTERS for t in found.types
    ]
    shown = table(found.columns, [list(map(_brief, row, most)) for row in rows[:ROWS]])
    more = f"<p>the first {ROWS} rows</p>" if len(rows) > ROWS else ""
    return {"text/plain": str(found), "text/html": shown + more}


def _brief(text: str | None, most: int) -> str:
    if text is None:
        return "NULL"
    return text if len(text) <= most else f"{text[:most]}…"


def _cell(value: Any) -> str:
    side = "left" if isinstance(value, str) else "right"
    return f'<td style="text-align: {side}">{escape(str(value))}</td>'
