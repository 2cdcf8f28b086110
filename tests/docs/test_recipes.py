"""docs/recipes.md: its specs do what it says of them, and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from bench.answers import Seen, default_answer
from bench.server import serving
from tests.cli.conftest import Synthc, call, folder
from tests.docs.blocks import Block, blocks, files
from tests.runtime.helpers import made, rows

__all__ = ("call", "folder")
PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
RECIPES = blocks(PAGE)[1:]


SAID: dict[str, dict[str, list[tuple[Any, ...]]]] = {
    "careful_replies": {
        "SELECT id FROM careful_replies WHERE asked_twice OR answer <> 'one'": [(3,)],
        "SELECT count(*) FROM synth.calls": [(7,)],
    },
    "shown": {"SELECT DISTINCT len(shots) FROM shown": [(2,)]},
    "best": {
        "SELECT count(*), count(DISTINCT id) FROM best": [(6, 6)],
        """SELECT count(*) FROM synth.calls WHERE "column" = 'several.answers'""": [(18,)],
    },
    "distinct_questions": {"SELECT id FROM distinct_questions": [(1,), (3,), (4,), (5,), (6,)]},
    "clusters": {
        "SELECT id FROM clusters WHERE leader = 'Why does bread rise?' ORDER BY id": [(1,), (2,)],
        "SELECT count(*), count(DISTINCT leader) > 2 FROM clusters": [(6, True)],
    },
    "held_out": {"SELECT count(DISTINCT id) FROM (FROM train UNION ALL FROM held_out)": [(6,)]},
    "alike": {"SELECT id, nearest FROM alike WHERE id < 3": [(1, 2), (2, 1)]},
    "tickets": {"SELECT DISTINCT count(*) FROM tickets GROUP BY label": [(5,)]},
}
"""What queries find, by the last table of a recipe."""


def answer(seen: Seen) -> str:
    """Of all questions only the one about the sky is hard."""
    if "whether you are sure" not in seen.prompt:
        return default_answer(seen)
    return f'{{"first": "one", "sure": {"false" if "sky" in seen.prompt else "true"}}}'


def last_table(recipe: Block) -> str:
    return re.findall(r"^table (\w+)", recipe.text, re.MULTILINE)[-1]


def write_files(base: Path) -> None:
    for name, content in files(PAGE).items():
        (base / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: str(recipe.line))
def test_each_recipe_does_what_it_says(recipe: Block, tmp_path: Path) -> None:
    write_files(tmp_path)
    with serving(answer=answer) as server:
        report = made(recipe.text, tmp_path, server)
    for name, table in report.tables.items():
        assert table.kept and not table.failed, name
    for query, expected in SAID.get(last_table(recipe), {}).items():
        assert rows(tmp_path, query) == expected, query


def test_what_is_said_is_about_recipes() -> None:
    assert {last_table(recipe) for recipe in RECIPES} >= set(SAID)


def test_the_commands_run(folder: Path, call: Synthc) -> None:
    write_files(folder)
    (spec,) = [recipe.text for recipe in RECIPES if "table replies =" in recipe.text]
    (folder / "recipes.synth").write_text(spec, encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).splitlines()
    assert len(lines) > 5
    with serving() as server:
        for line in lines:
            _, *arguments = shlex.split(line)
            done = call(*arguments, SYNTH_URL=server.url)
            assert done.status == 0, (line, done.err)
    assert rows(folder, "SELECT count(*) FROM replies", "recipes.duckdb") == [(6,)]
