"""`synthc diff`: two databases of real runs, told to a person and to a program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench.answers import Seen
from bench.server import serving
from tests.cli.conftest import Synthc
from tests.runtime.helpers import lines, made

SPEC = """
backend b {
  url = env("SYNTH_URL")  model = "m"  temperature = 0  attempts = 1
  price { input_usd_per_mtok = 1000  output_usd_per_mtok = 1000 }
}
task grade {
  in  topic: text
  out (score: float, advice: text) = ask \"\"\"
    Grade {{ topic }}.
    Be fair.
    {{ output_format }}
  \"\"\" system "You are strict."
}
table graded = read("topics.jsonl", key = topic) |> grade as g
table best = graded |> where("g.score > 2") |> select("topic, g.score AS score, [g.score]::FLOAT[1] AS v")
"""
LONG = "the same beginning, which is long and says nothing about what is different; " * 3


def grades(seen: Seen) -> str:
    """A better score for those who are kind; one topic has none."""
    asked = seen.body["messages"][1]["content"]
    number = int(asked.partition("topic ")[2][0])
    if number == 5:
        return "no"
    kind = "kind" in asked
    advice = f"{LONG}{'B' if kind and number == 0 else 'A'}\x1b[31m"
    return json.dumps({"score": number + 1.5 * kind, "advice": advice})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two databases: in the second the prompt is another, a topic is gone, and one is new."""
    folder = tmp_path_factory.mktemp("runs")
    lines(folder, "topics.jsonl", ({"topic": f"topic {n}"} for n in range(6)))
    with serving(grades) as server:
        made(SPEC, folder, server, database="a.duckdb")
        lines(folder, "topics.jsonl", ({"topic": f"topic {n}"} for n in (0, 2, 3, 4, 5, 6)))
        other = SPEC.replace("Be fair.", "Be kind.\n    Be short.")
        other += "\ntable few = graded |> limit(2)"
        made(other, folder, server, database="b.duckdb")
    return folder


@pytest.fixture
def two(runs: Path, folder: Path) -> Path:
    for name in ("a.duckdb", "b.duckdb"):
        shutil.copy(runs / name, folder)
    return folder


def document(call: Synthc, *arguments: str) -> dict[str, Any]:
    done = call("diff", "a.duckdb", "b.duckdb", "--json", *arguments)
    assert (done.status, done.err) == (0, "")
    return json.loads(done.out)


def test_a_page_tells_what_is_different(two: Path, call: Synthc) -> None:
    done = call("diff", "a.duckdb", "b.duckdb")
    assert (done.status, done.err) == (0, "")
    page = done.out
    assert page.startswith(
        "A  a.duckdb: x.synth, seed 42\nB  b.duckdb: x.synth, seed 42\n\n"
        "graded  4 rows in both, 1 only in A, 1 only in B\n"
        "  the prompt of `g.score` changed\n"
        "      Grade {{ topic }}.\n"
        "    - Be fair.\n"
        "    + Be kind.\n"
        "    + Be short.\n"
        "      {{ output_format }}\n"
    )
    assert "  g.advice: different in 1 of 4 rows\n" in page
    assert "\n    - …" in page  # what both begin with is left out
    assert "  g.score: mean 2 → 4.5, deviation 1.581 → 2.236, median 2 → 4.5, range 0 to 4" in page
    assert "    of rows in both 4 higher, 0 lower, 0 equal, +1.5 on average\n" in page
    assert "    0: 1 → 0; 1: 1 → 0; 1.5: 0 → 1; 2: 1 → 0;" in page
    assert "\nbest  2 rows in both, 2 only in B\n" in page
    assert "  1 row: dropped → kept\n" in page
    assert "\nfew  only in B: 2 rows\n" in page
    assert "\x1b" not in page
    assert max(map(len, page.splitlines())) <= 100
    costs = [
        duckdb.connect(f"{name}.duckdb", read_only=True)
        .execute("SELECT sum(cost_usd) FROM synth.costs")
        .fetchall()[0][0]
        for name in "ab"
    ]
    assert f"  cost ${costs[0]:.4f} → ${costs[1]:.4f}\n" in page


def test_a_program_is_told_all_of_it(two: Path, call: Synthc) -> None:
    found = document(call)
    assert found["differs"]
    graded, best, few = found["tables"]
    assert (graded["name"], best["name"], few["name"]) == ("graded", "best", "few")
    assert (graded["both"], graded["only_before"], graded["only_after"]) == (4, 1, 1)
    (prompt,) = graded["prompts"]
    assert "Be fair." in prompt["before"]["texts"][0]
    assert prompt["before"]["digest"] != prompt["after"]["digest"]
    (score,) = graded["numbers"]
    assert score["after"]["quartiles"][1] == 4.5
    assert (score["higher"], score["mean_change"]) == (4, 1.5)
    changed = {column["name"]: column["changed"] for column in graded["columns"]}
    assert changed == {"topic": 0, "g.score": 4, "g.advice": 1, "g.model_name": 0}
    assert graded["failures"] == [["contract", 1, 1]]
    assert few["before"] is None
    assert [side["asked"][0]["calls"] for side in (found["before"], found["after"])] == [8, 8]
    assert [table["name"] for table in document(call, "--table", "best")["tables"]] == ["best"]


def test_the_exit_status_is_for_scripts(two: Path, call: Synthc) -> None:
    shutil.copy("a.duckdb", "c.duckdb")
    done = call("diff", "a.duckdb", "c.duckdb", "--exit-code")
    assert done.status == 0
    assert "graded  equal: 5 rows in both\n" in done.out
    assert done.out.endswith("the tables are equal, and what they are made of is the same\n")
    assert call("diff", "a.duckdb", "b.duckdb").status == 0
    assert call("diff", "a.duckdb", "b.duckdb", "--exit-code").status == 1
    with duckdb.connect("c.duckdb") as connection:
        connection.execute("UPDATE best SET score = 'nan'::DOUBLE WHERE score = 3")
    done = call("diff", "a.duckdb", "c.duckdb", "--exit-code", "--table", "best")
    assert done.status == 1
    assert "missing 0 → 1" in done.out


def test_columns_that_come_and_go(two: Path, call: Synthc) -> None:
    with duckdb.connect("b.duckdb") as connection:
        connection.execute("ALTER TABLE best ALTER topic TYPE BLOB USING topic::BLOB")
        connection.execute("ALTER TABLE best DROP v")
        connection.execute("ALTER TABLE best ADD more INTEGER")
    page = call("diff", "a.duckdb", "b.duckdb", "--table", "best").out
    assert "  topic: its type is BLOB, and was VARCHAR\n" in page
    assert "  v: only in A\n" in page
    assert "  more: only in B\n" in page


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.duckdb", "a.duckdb"], "are one database"),
        (["a.duckdb", "./a.duckdb"], "are one database"),
        (["a.duckdb", "c.duckdb"], "there is no database c.duckdb"),
        (["a.duckdb", "."], ". is a folder, not a database"),
        (["a.duckdb", "text"], "text is no DuckDB database"),
        (["a.duckdb", "other.duckdb"], "other.duckdb is no database of synthc's"),
        (["a.duckdb", "b.duckdb", "--table", "bst"], "neither database has a table `bst`"),
        (["a.duckdb"], "Missing argument"),
    ],
)
def test_what_cannot_be_compared(two: Path, call: Synthc, arguments: list[str], told: str) -> None:
    Path("text").write_text("no database at all")
    with duckdb.connect("other.duckdb") as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    done = call("diff", *arguments)
    assert (done.status, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err
