"""`import synthc`: what a notebook and a program get."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import pytest

import synthc
from bench.server import serving

SPEC = """
param least: int = 0
backend b { url = env("SYNTH_URL")  model = "m"  concurrency = 1 }
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
table answers = read("topics.jsonl") |> where("n >= $least") |> write
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    lines = (f'{{"n": {number}, "topic": "topic {number}"}}\n' for number in range(20))
    (tmp_path / "topics.jsonl").write_text("".join(lines))
    path = tmp_path / "x.synth"
    path.write_text(SPEC)
    return path


def test_a_spec_is_compiled_run_and_read(spec: Path):
    plan = synthc.compile(spec, least=5)
    assert list(plan.tables) == ["answers"]
    assert plan.tables["answers"]["answer"] == "VARCHAR"
    assert plan.warnings == ()
    with serving() as server:
        results = synthc.run(plan, env={"SYNTH_URL": server.url})
    with results:
        assert results.database == spec.with_suffix(".duckdb")
        assert results.tables == ("answers",)
        assert results.failures == {"answers": 0}
        assert len(results.table("answers")) == server.count == 15
        found = results.sql("SELECT topic FROM answers WHERE n = ?", [7])
        assert found.fetchall() == [("topic 7",)]
        assert re.search(">answers</td><td[^>]*>15</td>", results._repr_html_())
        assert "answers" in repr(results)


def test_a_cell_can_be_run_again(spec: Path):
    first = synthc.run(spec, simulate=True, limit=3)
    assert len(first.table("answers")) == 3
    second = synthc.run(
        spec, simulate=True
    )  # the file is let go of, and what is held opens it anew
    assert len(second.table("answers")) == len(first.table("answers")) == 20
    assert synthc.results(first.database).tables == ("answers",)


def test_it_runs_beside_an_event_loop(spec: Path):
    async def cell() -> synthc.Results:
        return synthc.run(spec, simulate=True)

    assert asyncio.run(cell()).failures == {"answers": 0}


def test_a_plan_can_be_saved(spec: Path):
    synthc.compile(spec, least=18).save(spec.with_name("saved.plan.json"))
    command = Path(sys.executable).with_name("synthc")
    done = subprocess.run(
        [command, "run", "--simulate", "saved.plan.json"],
        cwd=spec.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(synthc.results(spec.with_name("x.simulated.duckdb")).table("answers")) == 2


def test_errors_say_what_the_command_line_says(spec: Path, tmp_path: Path):
    wrong = tmp_path / "wrong.synth"
    wrong.write_text(SPEC.replace("{{ topic }}", "{{ topc }}"))
    with pytest.raises(synthc.CompileError, match="`topc`") as caught:
        synthc.compile(wrong)
    assert caught.value.codes
    assert "wrong.synth:4:" in str(caught.value)
    with pytest.raises(synthc.CompileError, match="no parameter `lest`; its parameters: `least`"):
        synthc.compile(spec, lest=1)
    with pytest.raises(FileNotFoundError):
        synthc.compile(tmp_path / "none.synth")
    with pytest.raises(synthc.RunError, match="there is no database") as missing:
        synthc.results(tmp_path / "none.duckdb")
    assert missing.value.__notes__ == ["help: `synthc.run` makes one"]
    with pytest.raises(synthc.RunError, match="there is no folder"):
        synthc.run(spec, database=tmp_path / "none" / "x.duckdb", simulate=True)
    results = synthc.run(spec, simulate=True)
    with pytest.raises(synthc.RunError, match="has no table `answer`") as near:
        results.table("answer")
    assert near.value.hint == "did you mean `answers`?"
    with pytest.raises(duckdb.Error, match="nothing"):
        results.sql("SELECT * FROM nothing")


def test_what_is_shown_is_escaped(tmp_path: Path):
    path = tmp_path / "x.synth"
    path.write_text('table `<img src=x>` = rows(1) |> select("1 AS one")\n')
    plan = synthc.compile(path)
    for shown in (plan._repr_html_(), synthc.run(plan)._repr_html_()):
        assert "<img" not in shown
        assert "&lt;img src=x&gt;" in shown


BRANCHES = """
table topics = read("topics.jsonl")
table short  = topics |> where("n < 5")
table both   = sql "SELECT t.n FROM topics AS t JOIN short AS s USING (n)"
export both to "both.parquet"
"""


def test_a_plan_is_a_picture(spec: Path):
    spec.write_text(BRANCHES)
    shown = synthc.compile(spec)._repr_html_()
    assert "n BIGINT, topic VARCHAR" in shown
    picture = ElementTree.fromstring(shown[shown.index("<svg") : shown.index("</svg>") + 6])
    svg = "{http://www.w3.org/2000/svg}"
    assert picture.findtext(f"{svg}desc") == (
        "topics from topics.jsonl; short from topics; both from topics, short; both.parquet from both"
    )
    boxes = {
        group.findtext(f"{svg}text"): [int(rect.attrib[a]) for a in ("x", "y", "width", "height")]
        for group in picture.iter(f"{svg}g")
        for rect in group.iter(f"{svg}rect")
    }
    assert list(boxes) == ["topics.jsonl", "topics", "short", "both", "both.parquet"]
    arrows = [path.attrib["d"] for path in picture.iter(f"{svg}path") if "C" in path.attrib["d"]]
    assert len(arrows) == 5
    x, y, _, height = boxes["short"]
    (passed,) = re.findall(rf" {x} (\d+)H", " ".join(arrows))  # from topics to both
    assert not y <= int(passed) <= y + height


CELL = """
import asyncio, sys, synthc

async def cell():
    try:
        synthc.run(sys.argv[1], env={"SYNTH_URL": sys.argv[2]})
    except synthc.RunError as error:
        print("stopped:", error)

asyncio.new_event_loop().run_until_complete(cell())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_a_cell_that_is_interrupted_keeps_what_was_answered(spec: Path):
    with serving(latency_s=0.2) as server:
        cell = subprocess.Popen(
            [sys.executable, "-c", CELL, spec, server.url], stdout=subprocess.PIPE, text=True
        )
        server.wait_for(5)
        os.kill(cell.pid, signal.SIGINT)
        said, _ = cell.communicate(timeout=60)
        assert said == "stopped: interrupted; what was answered is kept\n"
        server.latency_s = 0.0
        synthc.run(spec, env={"SYNTH_URL": server.url})
        assert server.count <= 21  # but for the one that was on its way


def test_importing_it_loads_little():
    loaded = "import sys, synthc; print(*sorted(name for name in sys.modules if 'synthc.' in name))"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
