"""docs/recipes.md: its specs do what it says of them, and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import duckdb
import pytest

from bench.answers import Seen, default_answer
from bench.server import serving
from tests.cli.conftest import Synthc, call, folder
from tests.docs.blocks import Block, blocks, files
from tests.runtime.helpers import made, rows

__all__ = ("call", "folder")
PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
RECIPES = blocks(PAGE)[1:]


def recipe(table: str) -> Block:
    """The recipe that makes a table."""
    (found,) = [block for block in RECIPES if f"table {table} =" in block.text]
    return found


def write_files(base: Path) -> None:
    for name, content in files(PAGE).items():
        (base / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("block", RECIPES, ids=lambda block: str(block.line))
def test_each_recipe_makes_its_tables(block: Block, tmp_path: Path) -> None:
    write_files(tmp_path)
    with serving() as server:
        report = made(block.text, tmp_path, server)
    for name, table in report.tables.items():
        assert table.kept and not table.failed, (name, table)


def test_what_is_said_twice_is_dropped_and_clusters_hold_what_is_alike(tmp_path: Path) -> None:
    write_files(tmp_path)
    with serving() as server:
        made(recipe("clusters").text, tmp_path, server)
    assert rows(tmp_path, "SELECT id FROM distinct_questions") == [(1,), (3,), (4,), (5,), (6,)]
    found = rows(tmp_path, "SELECT id, leader FROM clusters ORDER BY id")
    assert found[0][1] == found[1][1] == "Why does bread rise?"
    assert len({leader for _, leader in found}) > 2


def test_only_the_unsure_are_asked_twice(tmp_path: Path) -> None:
    def answer(seen: Seen) -> str:
        if "sure" in seen.prompt:
            return f'{{"first": "one", "sure": {"false" if "sky" in seen.prompt else "true"}}}'
        return "two"

    write_files(tmp_path)
    with serving(answer=answer) as server:
        made(recipe("careful_replies").text, tmp_path, server)
        assert server.count == 7
    told = rows(tmp_path, "SELECT id, answer FROM careful_replies WHERE asked_twice")
    assert told == [(3, "two")]


def test_the_best_of_several_is_one_a_question(tmp_path: Path) -> None:
    write_files(tmp_path)
    with serving() as server:
        made(recipe("best").text, tmp_path, server)
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT id) FROM best") == [(6, 6)]


def test_the_commands_run(folder: Path, call: Synthc) -> None:
    write_files(folder)
    spec = recipe("replies").text
    (folder / "recipes.synth").write_text(spec, encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).splitlines()
    assert len(lines) > 5
    with serving(answer=lambda seen: default_answer(seen)) as server:
        for line in lines:
            _, *arguments = shlex.split(line)
            done = call(*arguments, SYNTH_URL=server.url)
            assert done.status == 0, (line, done.err)
    with duckdb.connect(str(folder / "recipes.duckdb"), read_only=True) as connection:
        kept = connection.execute("SELECT count(*) FROM replies").fetchall()
    assert kept == [(6,)]
