"""docs/queries.md: each column is told, and each query finds something in the database of a real run."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import serving
from synthc.runtime.store import schema
from synthc.runtime.store.aside import Again
from tests.docs.blocks import blocks, files
from tests.runtime.helpers import made, rows

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
TEXT = PAGE.read_text(encoding="utf-8")
QUERIES = re.findall(r"^```sql\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)

TOPICS = ("bread", "crust", "sky", "wind", "hail", "salty", "tides")


def answer(seen: Seen) -> str | Fault:
    """Mutations that keep their topic; one reply that is no JSON, one that is cut off."""
    said = str(seen.body["messages"])
    if "1 to 5" not in said:
        topic = next(topic for topic in TOPICS if topic in said)
        return f"Prompt: Say more about {topic}: {seen.digest}"
    if seen.occurrence == 0 and "tides" in said:
        return FAULTS["length"]
    return "I would rather not." if "wind" in said else default_answer(seen)


def test_each_query_finds_something(tmp_path: Path) -> None:
    for name, content in files(PAGE).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (spec,) = blocks(PAGE)
    with serving(answer=answer, faults=["500"]) as server:
        made(spec.text, tmp_path, server)
        made(spec.text, tmp_path, server, again=Again("r.score <= 5", "answers"))
    assert len(QUERIES) > 20
    assert [query for query in QUERIES if not rows(tmp_path, query)] == []


def test_each_column_of_each_table_is_told() -> None:
    told: list[tuple[str, str, str]] = []
    for part in TEXT.split("\n### `synth.")[1:]:
        name = part.partition("`")[0]
        told += [
            (name, *row) for row in re.findall(r"^\| `(\w+)` \| (\S+) \| \S.* \|$", part, re.M)
        ]
    with duckdb.connect() as connection:
        connection.execute(schema.create())
        there = connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns()"
            " WHERE schema_name = 'synth' ORDER BY table_name, column_index"
        ).fetchall()
    assert sorted(told, key=lambda row: row[0]) == there
