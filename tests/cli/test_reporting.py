"""`synthc report`: the page that it writes, and what it says where there is none to write."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from synthc.cli.report.asking import shown
from synthc.cli.report.vectors import alike, project
from tests.cli.conftest import SYNTHC, Synthc

SPEC = """
backend small {
  url = env("SYNTH_URL", "")  model = "m"  api_key = env("SYNTH_KEY", "")  attempts = 1
}
task name_it { in n: int  out title: text = ask "A title for {{ n }}" }
task rate { in n: int  out score: 1 | 2 | 3 = ask "Rate {{ n }} {{ output_format }}" }
table named = sql \"\"\"
  SELECT range AS n, if(range % 3 = 0, NULL, 'tag ' || range % 3) AS tag, range / 7 AS share,
         CAST([cos(range), sin(range), 1] AS FLOAT[3]) AS v
  FROM range(3000)
\"\"\" key n
  |> name_it |> rate |> where("score > 1")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "x.synth").write_text(SPEC, encoding="utf-8")
    subprocess.run([SYNTHC, "run", "--simulate"], cwd=folder, capture_output=True, check=True)
    return folder / "x.simulated.duckdb"


@pytest.fixture
def simulated(folder: Path, made: Path) -> Path:
    return Path(shutil.copy(made, folder))


def data(page: Path) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(
        r'<script type="application/json" id="data">([^<]*)</script>', page.read_text()
    )
    assert found
    return json.loads(found[1])


def text(page: Path) -> str:
    """What stands in the page outside of its script and style, roughly."""
    body = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_page_stands_beside_the_database_and_says_what_is_there(
    simulated: Path, call: Synthc
) -> None:
    done = call("report")
    page = simulated.with_suffix(".html")
    assert done.status == 0
    assert "wrote " in done.err
    with duckdb.connect(simulated, read_only=True) as connection:
        ((rows, tagged, low, high),) = connection.execute(
            "SELECT count(*), count(tag), min(score), max(score) FROM named"
        ).fetchall()
    said = text(page)
    for told in (
        "Simulated. No model was asked",
        f"3,000 {rows:,} {3000 - rows:,} 0",  # in, kept, dropped, failed
        f"tag text filled {int(1000 * tagged / rows) / 10:g} % {rows - tagged:,} null",
        f"from, to {low} to {high}",
        "asks small for name_it.title x.synth:",
        "Nothing failed.",
    ):
        assert told in said, told


def test_what_is_a_sample_says_so(simulated: Path, call: Synthc) -> None:
    call("report", "-o", "one.html")
    found = data(Path("one.html"))
    (reading,) = found["readings"]
    kept = [row["position"] for row in reading["rows"] if row["status"] == "kept"]
    assert kept[:200] == list(range(200))
    assert len(kept) == 500
    assert kept == sorted(set(kept))
    said = r"500 of [0-9,]+ rows: the first, and others drawn by the run's seed; 50 of [0-9,]+ that were"
    assert re.match(said, reading["sample"])
    (map_,) = found["maps"]
    of = map_["of"]
    assert len(map_["points"]) == min(of, 2000)
    call("report", "-o", "two.html")
    assert data(Path("two.html")) == found  # the same rows each time


def test_a_row_has_its_prompts_and_answers(simulated: Path, call: Synthc) -> None:
    call("report")
    (reading,) = data(simulated.with_suffix(".html"))["readings"]
    row = reading["rows"][0]
    values = dict(zip(reading["columns"], row["values"], strict=True))
    rating, title = row["events"]  # rows that are dropped get no title: it is asked for last
    assert (title["kind"], title["column"], title["place"]) == (
        "call",
        "name_it.title",
        "x.synth:5",
    )
    assert title["prompt"] == [["user", f"A title for {row['key']}"]]
    assert title["answer"] == values["title"]
    assert rating["column"] == "rate.score"
    assert json.loads(rating["answer"])["score"] == int(values["score"])


KINDS = """
table kinds = sql \"\"\"
  SELECT range AS rowid, 'é漢 👩‍🔬' AS text, '' AS empty,
    if(range = 1, 'nan'::DOUBLE, if(range = 2, '-inf'::DOUBLE, range)) AS odd, 1e300 * range AS large,
    if(range = 0, -9223372036854775808, 9223372036854775807 - range) AS far, NULL AS missing,
    'a\\x00\\xFF'::BLOB AS bytes, DATE '2024-01-02' AS day, INTERVAL 3 MONTH AS span,
    {'a': 1, 'b': ['x', NULL]} AS parts, MAP {'k': 1} AS map, '{"a": 1}'::JSON AS json,
    [{'t': 'x', 'v': [1, 2, 3, 4]::FLOAT[4]}] AS listed, if(range = 3, NULL, {'q': range}) AS maybe
  FROM range(20)
\"\"\"
table none = kinds |> where("rowid > 99")
"""


def test_every_kind_of_value_is_shown(folder: Path, call: Synthc) -> None:
    (folder / "kinds.synth").write_text(KINDS, encoding="utf-8")
    assert call("run").status == 0
    assert call("report").status == 0
    page = folder / "kinds.html"
    said = text(page)
    for told in (
        "empty text filled 100 % distinct 1 characters 0 empty 20 ",
        "from, to 0 to 19 mean, median 10.39, 10.5 infinite, or no number 2",
        "from, to 0 to 1.9e+301",
        "from, to -9,223,372,036,854,775,808 to 9,223,372,036,854,775,806",
        "filled 0 % 20 null",
        "2024-01-02 20",
        "maybe.q int filled 95 % 1 null",
        "none 0 rows No rows. Its columns are rowid, text,",
    ):
        assert told in said, told
    kinds, nothing = data(page)["readings"]
    values = dict(zip(kinds["columns"], kinds["rows"][3]["values"], strict=True))
    assert values["rowid"] == "3"
    assert values["text"] == "é漢 👩‍🔬"
    assert (values["missing"], values["maybe"]) == (None, None)
    assert (values["bytes"], values["span"]) == ("a\\x00\\xFF", "3 months")
    assert json.loads(values["listed"]) == [{"t": "x", "v": "[1.0, 2.0, 3.0, … 4 in all]"}]
    assert {row["status"] for row in nothing["rows"]} == {"dropped"}
    assert nothing["sample"] == "no rows; 20 of 20 that were dropped"


def test_answers_that_were_set_aside_are_told_apart(simulated: Path, call: Synthc) -> None:
    (simulated.parent / "x.synth").write_text(SPEC, encoding="utf-8")
    again = call("run", "--simulate", "--table", "named", "--again", "n = 1 OR n = 2")
    assert again.status == 0, again.err
    call("report")
    (reading,) = data(simulated.with_suffix(".html"))["readings"]
    aside = [e for row in reading["rows"] for e in row["events"] if e.get("setAside")]
    assert {event["setAside"] for event in aside} == {2}
    assert {event["column"] for event in aside} == {"rate.score", "name_it.title"}


HIDDEN = """
backend small { url = env("SYNTH_URL", "")  model = "m" }
task pick { out word: "a" | "b" = ask "Pick {{ output_format }}" }
table counted = rows(30) |> pick |> sql "SELECT word, count(*) AS n FROM this GROUP BY word ORDER BY word"
"""


def test_rows_that_only_sql_reads_are_there_with_their_calls(folder: Path, call: Synthc) -> None:
    (folder / "x.synth").write_text(HIDDEN, encoding="utf-8")
    assert call("run", "--simulate").status == 0
    assert call("report").status == 0
    page = folder / "x.simulated.html"
    behind, counted = data(page)["readings"]
    assert [len(row["events"]) for row in behind["rows"]] == [1] * 30
    assert [len(row["events"]) for row in counted["rows"]] == [0, 0]
    said = text(page)
    assert f"{behind['table']} 30 rows, for the SQL of the table behind" in said
    assert "asks small for pick.word x.synth:3 · 30 calls" in said
    assert "Overview rows kept 2 " in said


def test_what_is_not_seen_is_shown_as_its_code() -> None:
    hostile = "a\u202eb\u2028c\x00\ud800\u200b\xad\r"
    assert shown(hostile) == "a\\u202eb\\u2028c\\x00\\ud800\\u200b\\xad\\r"
    kept = "tab\t line\n é漢 👩\u200d🔬 \xa0 <b>"
    assert shown(kept) == kept


def test_a_program_is_told_where_the_page_is(simulated: Path, call: Synthc) -> None:
    done = call("report", "-o", "page.html", "--json")
    told = json.loads(done.out)
    assert told == {
        "file": "page.html",
        "database": str(simulated),
        "bytes": Path("page.html").stat().st_size,
    }
    assert done.err == ""


def test_a_report_is_replaced_and_no_other_file(simulated: Path, call: Synthc) -> None:
    assert call("report").status == 0
    assert call("report").status == 0
    simulated.with_suffix(".html").write_text("<!doctype html>\nmy own", encoding="utf-8")
    done = call("report")
    assert (done.status, simulated.with_suffix(".html").read_text()) == (
        2,
        "<!doctype html>\nmy own",
    )
    assert "is there, and is no report of synthc's" in done.err


def test_mistakes(folder: Path, call: Synthc) -> None:
    assert "there is no .duckdb database in this folder" in call("report").err
    assert "there is no database x.duckdb" in call("report", "-d", "x.duckdb").err
    with duckdb.connect("other.duckdb") as connection:
        connection.execute("CREATE TABLE t AS SELECT 1")
    done = call("report")
    assert done.status == 1
    assert "other.duckdb is no database of synthc's" in done.err
    with duckdb.connect("other.duckdb") as connection:
        connection.execute(
            "CREATE SCHEMA synth; CREATE TABLE synth.meta AS SELECT 99 AS format, true AS s"
        )
        connection.execute("ALTER TABLE synth.meta RENAME s TO simulated")
    assert "has the format 99, and this version of synthc reads" in call("report").err
    assert "there is no folder" in call("report", "-o", "nowhere/page.html").err
    (folder / "taken").mkdir()
    assert "taken is a folder" in call("report", "-o", "taken").err
    assert not list(folder.rglob("*.html"))


def test_a_run_that_failed_at_once_has_a_report(folder: Path, call: Synthc) -> None:
    (folder / "x.synth").write_text(SPEC, encoding="utf-8")
    assert call("run", SYNTH_URL="http://127.0.0.1:9", SYNTH_KEY="very-secret").status == 3
    assert call("report").status == 0
    page = (folder / "x.html").read_text()
    assert "stopped" in text(folder / "x.html")
    assert "very-secret" not in page
    assert "127.0.0.1:9" not in page


def test_places_on_a_map_are_the_principal_components() -> None:
    # A line in five dimensions with a little noise across it: its first component is the line.
    at = np.linspace(-1, 1, 41)
    across = np.tile([0.01, -0.01], 21)[:41]
    matrix = np.outer(at, [1, 2, 0, 0, 2]) + np.outer(across, [2, -1, 0, 0, 0]) + 7
    places, explained = project(matrix.astype(np.float32))
    assert places[:, 0] == pytest.approx((at + 1) / 2, abs=1e-3)
    assert explained == pytest.approx(1)
    flat, all_of_it = project(np.ones((4, 3), np.float32))
    assert (flat == 0).all()
    assert all_of_it == 1


def test_the_rows_most_alike_come_first() -> None:
    matrix = np.array([[1, 0], [0, 2], [3, 0.3], [0, 0], [-1, 0]], np.float32)
    pairs, best = alike(matrix)
    assert [(a, b) for _, a, b in pairs[:2]] == [(0, 2), (1, 2)]
    assert pairs[0][0] == pytest.approx(1 / np.hypot(1, 0.1), abs=1e-6)
    assert best[3] == -1  # without a direction it is like none
