"""What a report needs of a database: questions in SQL, answers as rows, and texts that are safe to show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from synthc.cli.console import visible
from synthc.cli.report.contents import Texted
from synthc.cli.rows import plain
from synthc.runtime.store.results import Rows

Query = Callable[[str], Rows]
"""Answers one SELECT. Raises duckdb.Error."""

CUT = 20_000
"""Characters of a text that are shown at most: a page is for reading."""

_RARE = re.compile(r"[^\n\t\x20-\x7e]")


def rows(query: Query, sql: str) -> list[tuple[Any, ...]]:
    """All rows of a small result."""
    found = query(sql)
    return [
        row
        for batch in found.batches
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]


def shown(text: str) -> str:
    """A text with every character visible that has no shape of its own, or turns others around."""
    return _RARE.sub(lambda found: visible(found[0]), text)


def brief(text: str, most: int = 200) -> str:
    """The beginning of a text."""
    return shown(text if len(text) <= most else text[: most - 2].rstrip() + " …")


def texted(value: Any, length: int | None = None) -> Texted:
    """A value as a report shows it: JSON where it has parts. `length` is that of a text cut before."""
    if value is None:
        return None
    text = value if isinstance(value, str) else _written(value)
    full = max(len(text), length or 0)
    return shown(text) if full <= CUT else (shown(text[:CUT]), full)


def _written(value: Any) -> str:
    if isinstance(value, bool | list | dict):
        text = json.dumps(plain(value), ensure_ascii=False, default=str)
        if len(text) > 80:
            text = json.dumps(plain(value), ensure_ascii=False, default=str, indent=2)
        return text
    return value.hex() if isinstance(value, bytes) else str(value)


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def listed(texts: list[str]) -> str:
    """Texts as SQL writes a list; of none, one that equals nothing."""
    return ", ".join(map(literal, texts)) or "NULL"
