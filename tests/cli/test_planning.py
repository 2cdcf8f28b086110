"""`synthc plan`: what a run would do, shown before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.server import serving
from tests.cli.conftest import SPEC, TOPICS, Synthc, without_codes

PIPELINE = """\
backend b {
  url = env("SYNTH_URL", "http://localhost:9/v1")  model = "m"  max_tokens = 50
  price { input_usd_per_mtok = 1.0  output_usd_per_mtok = 10.0 }
}
task write { in topic: text
  let hint: text = ask "A hint about {{ topic }}"
  out answer: text = ask "About {{ topic }}" }
table topics = read("topics.jsonl")
table t = topics |> write |> where("length(topic) > 3")
table words = t |> sql "SELECT topic, count(*) AS n FROM this GROUP BY ALL"
table both = sql "SELECT topic, answer, n FROM t JOIN words USING (topic)"
export both to "both.jsonl"
"""


@pytest.fixture
def pipeline(folder: Path) -> Path:
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "pipeline.synth"
    path.write_text(PIPELINE, encoding="utf-8")
    return path


def test_a_page_says_what_a_run_would_do(pipeline: Path, call: Synthc) -> None:
    done = call("plan", pipeline)
    assert done.status == 0, done.err
    assert (
        done.out
        == """\
pipeline.synth: 5 tables to make

  topics.jsonl
  └▶ topics                     missing, 5 rows
     └▶ t                       missing, 5 rows, 5 calls
        └▶ words.1              missing, 5 rows
           └▶ words             missing, about 5 rows
              └▶ both           missing, about 5 rows, also reads t
                 └▶ both.jsonl

topics  missing
  reads topics.jsonl                            5 rows
  keeps                                         5 rows

t  missing
  reads topics                                  5 rows
  where length(topic) > 3
  asks b for write.answer                       5 calls, 16 tokens in, 250 out
  keeps                                         5 rows

words.1 (rows for the SQL behind)  missing
  reads t                                       5 rows
  keeps                                         5 rows

words  missing
  waits for all of words.1: SQL                 about 5 rows
  keeps                                         about 5 rows

both  missing
  waits for all of t, words: SQL                about 5 rows
  keeps                                         about 5 rows

optimised
  t: `write.hint` is never asked: nothing needs it  (prune)
  t: the `where` of line 9 moved before `write.answer`  (move_filters)

in all
  b     5 calls to send, 0 answered by the store
        16 tokens in (estimated at 4 characters a token)
        250 tokens out (`max_tokens` is 50)
        $0.0025 at most
  At most: as if every row passed each filter whose answer is not there yet, and loops went on to
  their last round. An answer that breaks its contract is asked for again, which is not counted.
"""
    )
    assert done.err == f"next: synthc run {pipeline}\n"
    assert not pipeline.with_suffix(".duckdb").exists()


def test_after_a_run_nothing_is_to_be_made(pipeline: Path, call: Synthc) -> None:
    with serving() as server:
        assert call("run", pipeline, SYNTH_URL=server.url).status == 0
        asked = server.count
        done = call("plan", pipeline)
    assert server.count == asked
    assert done.out.startswith("pipeline.synth: nothing to make, 5 there already\n")
    assert "t  done: 5 rows in = 5 kept + 0 dropped + 0 failed\n" in done.out
    assert "in all" not in done.out


def test_what_is_stale_is_said_with_the_change_that_made_it_so(
    pipeline: Path, call: Synthc
) -> None:
    with serving() as server:
        call("run", pipeline, SYNTH_URL=server.url)
    pipeline.write_text(PIPELINE.replace("About", "On"), encoding="utf-8")
    done = call("plan", pipeline)
    assert "pipeline.synth: 4 tables to make, 1 there already\n" in done.out
    assert "  stale: the prompt of `write.answer` changed\n" in done.out
    assert "  stale: it reads `t`, which is stale\n" in done.out


def test_a_document(pipeline: Path, call: Synthc) -> None:
    document = json.loads(call("plan", pipeline, "--json").out)
    tables = {table["name"]: table for table in document["tables"]}
    assert list(tables) == ["topics", "t", "words.1", "words", "both"]
    assert tables["both"]["after"] == ["t", "words"]
    assert tables["words.1"]["hidden"] is True
    (ask,) = (step for step in tables["t"]["steps"] if step["kind"] == "ask")
    assert ask["place"] == "pipeline.synth:7:3"
    assert ask["calls"]["sent"] == {"least": 5, "most": 5, "guessed": False}
    assert document["backends"]["b"]["output_limit"] == 250
    assert document["cost_usd"]["highest"] == pytest.approx((16 + 250 * 10) / 1e6)
    assert document["optimised"][0] == {
        "done_by": "prune",
        "table": "t",
        "words": "`write.hint` is never asked: nothing needs it",
    }


def test_a_picture_for_graphviz(pipeline: Path, call: Synthc) -> None:
    out = call("plan", pipeline, "--dot").out
    assert out.startswith("digraph plan {\n")
    assert '  "t" [label="t\\nmissing, 5 rows, 5 calls", style="rounded"]\n' in out
    assert '  "words" -> "both"\n' in out
    assert '  "file topics.jsonl" -> "topics"\n' in out
    assert out.endswith("}\n")


def test_a_plan_file_is_planned_as_it_is(pipeline: Path, call: Synthc) -> None:
    call("compile", pipeline)
    done = call("plan", pipeline.with_suffix(".plan.json"))
    assert done.status == 0, done.err
    assert "5 calls" in done.out
    assert "optimised" not in done.out  # it was, when it was compiled


def test_parameters_count(spec: Path, call: Synthc) -> None:
    done = call("plan", spec, "-p", "count=2", "--seed", "7")
    assert "asks small for name_it.title                  2 calls" in done.out
    assert done.err == f"next: synthc run {spec} -p count=2 --seed 7\n"


def test_a_spec_with_errors_is_no_plan(folder: Path, call: Synthc) -> None:
    path = folder / "x.synth"
    path.write_text('table t = nothing |> where("x")\n', encoding="utf-8")
    done = call("plan", path)
    assert done.status == 1
    assert done.out == ""
    assert "error[" in done.err


def test_what_is_missing_is_said_at_its_place(spec: Path, call: Synthc) -> None:
    (spec.parent / "topics.jsonl").rename(spec.parent / "others.jsonl")
    call("compile", spec)
    spec.write_text(
        SPEC.replace('model = "bench-model"', 'model = env("NO_MODEL")'), encoding="utf-8"
    )
    (spec.parent / "others.jsonl").rename(spec.parent / "topics.jsonl")
    spec.write_text(
        spec.read_text(encoding="utf-8").replace("{{ $flavour }}", "{{ flavour }}"),
        encoding="utf-8",
    )
    done = call("plan", spec)
    assert done.status == 1
    assert "needs the environment variable NO_MODEL, which is not set" in done.err
    assert "  --> titles.synth:3:1" in done.err


def test_what_is_no_database_is_refused(spec: Path, call: Synthc) -> None:
    done = call("plan", spec, "-d", spec.parent / "topics.jsonl")
    assert done.status == 2
    assert "is no DuckDB database" in done.err


def test_graphviz_and_json_are_not_both(spec: Path, call: Synthc) -> None:
    done = call("plan", spec, "--dot", "--json")
    assert done.status == 2
    assert "not as both" in done.err


@pytest.mark.parametrize("columns", [80, 140])
def test_a_page_fits_a_terminal(pipeline: Path, terminal: Callable[..., str], columns: int) -> None:
    shown = without_codes(terminal(columns, "plan", str(pipeline), env={"NO_COLOR": "1"}))
    *lines, following = shown.rstrip().splitlines()
    assert following.startswith("next:")  # a command is never broken
    assert max(map(len, lines)) <= columns


def test_what_could_steer_a_terminal_is_escaped(folder: Path, call: Synthc) -> None:
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "x.synth"
    path.write_text(
        'backend b { model = "m" }\n'
        'task w { in topic: text  out a: text = ask "{{ topic }}" }\n'
        'table t = read("topics.jsonl") |> where("topic <> \'\x1b[31m\'") |> w\n',
        encoding="utf-8",
    )
    assert "\x1b" not in call("plan", path).out


def test_of_numbers_it_counts_the_lists(folder: Path, call: Synthc) -> None:
    (folder / "codes.synth").write_text(
        'embedder codes { model = "codes.onnx"  input = "vector"  dimensions = 2 }\n'
        'table t = sql "SELECT [1.0, 2.0] AS pixels" |> embed(pixels) using codes\n',
        encoding="utf-8",
    )
    assert "embed(pixels) with codes                      1 list\n" in call("plan").out
