"""A run that ended early, in every way it can, and the run after it."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import duckdb
import pytest

from bench.answers import default_answer
from bench.faults import FAULTS, Fault
from bench.kill import disturbed
from bench.server import Server, serving
from synthc.runtime.errors import Stopped
from tests.runtime.helpers import (
    BACKEND,
    SURE,
    WRITE,
    column,
    finished,
    lines,
    made,
    prompts,
    rows,
    started,
    topics,
)

TABLE = 'table t = read("topics.jsonl") |> write'
SPEC = BACKEND + WRITE + TABLE
CHAIN = """
backend b { url = env("SYNTH_URL")  model = "m"  concurrency = 32 }
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
task judge { in answer: text  out score: int = ask "Judge {{ answer }}" }
table t = read("topics.jsonl") |> write |> judge |> where("score > 2")
table u = sql "SELECT score, count(*) AS n, list(n ORDER BY n) AS which FROM t GROUP BY score" key score
"""


def test_a_second_run_sends_nothing(tmp_path: Path) -> None:
    topics(tmp_path, 20)
    with serving() as server:
        made(CHAIN, tmp_path, server)
        asked = server.count
        first = rows(tmp_path, "FROM t"), rows(tmp_path, "FROM u")
        report = made(CHAIN, tmp_path, server)
        assert server.count == asked
    assert report.skipped == ["t", "u"]
    assert (rows(tmp_path, "FROM t"), rows(tmp_path, "FROM u")) == first


def test_a_changed_prompt_asks_only_what_depends_on_it(tmp_path: Path) -> None:
    topics(tmp_path, 6)
    judge = 'task judge { in topic: text  out grade: text = ask "Judge {{ topic }}" }\n'
    spec = SPEC + "\n" + judge + 'table j = read("topics.jsonl") |> judge\ntable c = t |> judge\n'
    with serving() as server:
        made(spec, tmp_path, server)
        asked = server.count
        report = made(spec.replace("Judge {{", "Rate {{"), tmp_path, server)
        assert all(prompt.startswith("Rate") for prompt in prompts(server)[asked:])
        assert server.count == asked + 6  # j and c share their calls
    assert report.skipped == ["t"]


def test_a_new_line_asks_for_that_line_alone(tmp_path: Path) -> None:
    records = [{"topic": f"topic {n}"} for n in range(10)] + [{"topic": "topic 3"}]
    lines(tmp_path, "topics.jsonl", records)
    with serving() as server:
        made(SPEC, tmp_path, server)
        keys = column(tmp_path, "SELECT row_key FROM synth.rows ORDER BY ordinal")
        assert keys[10] == f"{keys[3]}#2"
        records.insert(2, {"topic": "new"})
        lines(tmp_path, "topics.jsonl", records)
        made(SPEC, tmp_path, server)
        assert prompts(server)[11:] == ["About new"]
    assert column(tmp_path, "SELECT topic FROM t") == [record["topic"] for record in records]


EDITED = """
backend b { url = env("SYNTH_URL")  model = "m" }
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
task judge { in answer: text  out score: int = ask "Judge {{ answer }}" }
table t = read("topics.jsonl", key = n) |> write |> judge |> where("score > 2")
table u = t |> select("n, score")
"""


@pytest.mark.parametrize(
    ("old", "new", "asked"),
    [
        ([("write", "compose")], [], []),
        ([("backend b ", "backend small ")], [], []),
        ([("table t ", "table judged "), ("u = t ", "u = judged ")], [], []),
        ([("score > 2", "score > 4")], [], []),
        ([("\ntask write", "\n# about topics\ntask write")], [], []),
        ([("|> judge ", '|> judge |> select("*, n + 1 AS next") ')], [], []),
        ([("env(", "env ("), ('model = "m"', 'concurrency = 3  model = "m"')], [], []),
        ([], [(3, "changed")], ["About changed", "Judge"]),
        ([], [(99, "added")], ["About added", "Judge"]),
        ([("Judge {{", "Rate {{")], [], ["Rate"] * 9),
        ([("Judge {{", "Rate {{")], [(3, "changed")], ["About changed", *["Rate"] * 9]),
    ],
)
def test_an_edit_asks_only_what_depends_on_it(
    tmp_path: Path, old: list[tuple[str, str]], new: list[tuple[int, str]], asked: list[str]
) -> None:
    """`old` and `new` are what is edited in the spec, and in the rows: by their declared keys."""
    content = {n: f"topic {n}" for n in range(9)}
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": t} for n, t in content.items()))
    spec = EDITED
    with serving() as server:
        made(spec, tmp_path, server)
        count = server.count
        for was, is_ in old:
            assert was in spec
            spec = spec.replace(was, is_)
        content.update(new)
        lines(tmp_path, "topics.jsonl", ({"n": n, "topic": t} for n, t in content.items()))
        made(spec, tmp_path, server)
        told = sorted(prompts(server)[count:])
    assert [prompt[: len(start)] for prompt, start in zip(told, asked, strict=True)] == asked


def test_a_few_rows_are_nothing_done(tmp_path: Path) -> None:
    topics(tmp_path, 10)
    with serving() as server:
        report = made(SPEC, tmp_path, server, limit=3)
        assert report.tables["t"].kept == 3
        assert server.count == 3
        assert column(tmp_path, "SELECT status FROM synth.tables") == ["partial"]
        report = made(SPEC, tmp_path, server)
        assert server.count == 10
    assert not report.skipped
    assert column(tmp_path, "SELECT n FROM t") == list(range(10))


@pytest.mark.parametrize("status", ["401", "404"])
def test_a_server_that_refuses_stops_the_run_and_it_goes_on(tmp_path: Path, status: str) -> None:
    topics(tmp_path, 30)
    with serving() as server:
        server.answer = lambda seen: FAULTS[status] if seen.number >= 12 else default_answer(seen)
        spec = SPEC.replace("attempts = 2", "attempts = 2  concurrency = 4")
        with pytest.raises(Stopped) as stopped:
            made(spec, tmp_path, server)
        assert stopped.value.exit_code == 3
        assert column(tmp_path, "SELECT count(*) FROM synth.calls") == [12]
        (kept,) = column(tmp_path, "SELECT count(*) FROM t")  # what is whole can be looked at
        assert 12 - 4 <= kept <= 12
        assert column(tmp_path, "SELECT status FROM synth.tables") == ["partial"]
        assert column(tmp_path, "SELECT status FROM synth.runs") == ["stopped"]
        asked = server.count
        server.answer = default_answer
        made(spec, tmp_path, server)
        assert server.count == asked + 18
    assert column(tmp_path, "SELECT n FROM t") == list(range(30))


def test_a_finished_table_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    topics(tmp_path, 20)
    spec = SPEC.replace("attempts = 2", "attempts = 2  concurrency = 4")
    bad = FAULTS["400"]
    with serving(lambda seen: bad if seen.prompt.endswith("7") else default_answer(seen)) as server:
        made(spec, tmp_path, server)
        first = [rows(tmp_path, f"FROM {t}") for t in ("t", "synth.rows", "synth.failures")]
        assert len(first[2]) == 2
        asked = server.count
        changed = spec.replace("About", "On")
        faults = {asked: bad, **dict.fromkeys(range(asked + 12, asked + 30), FAULTS["401"])}
        server.answer = lambda seen: faults.get(seen.number) or default_answer(seen)
        with pytest.raises(Stopped):
            made(changed, tmp_path, server)
        assert [rows(tmp_path, f"FROM {t}") for t in ("t", "synth.rows", "synth.failures")] == first
        assert column(tmp_path, "SELECT status FROM synth.tables") == ["done"]
        assert made(spec, tmp_path, server).skipped == ["t"]  # back to the old prompt
        server.answer = default_answer
        made(changed, tmp_path, server)
    assert column(tmp_path, "SELECT n FROM t") == list(range(20))
    assert rows(tmp_path, "FROM synth.failures") == []
    assert set(column(tmp_path, "SELECT answer FROM t")).isdisjoint(row[2] for row in first[0])


def test_a_server_that_goes_away_stops_the_run_and_it_goes_on(tmp_path: Path) -> None:
    topics(tmp_path, 40)
    spec = SPEC.replace("attempts = 2", "attempts = 1  concurrency = 8")
    with serving() as server:
        server.answer = lambda seen: (
            Fault(wire="drop") if seen.number >= 10 else default_answer(seen)
        )
        with pytest.raises(Stopped, match="does not answer"):
            made(spec, tmp_path, server)
        assert column(tmp_path, "SELECT count(*) FROM t") == [10]
        server.answer = default_answer
        server.requests.clear()
        made(spec, tmp_path, server)
        assert len(server.requests) == 30
    assert column(tmp_path, "SELECT n FROM t") == list(range(40))


def test_no_server_at_all(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    with serving() as server:
        gone = server.url
    with pytest.raises(Stopped, match="cannot be reached"):
        made(SPEC.replace("attempts = 2", "attempts = 1"), tmp_path, gone)


# Signals, in a process of its own


def wait_for(server: Server, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many requests came, or the process ended."""
    while server.count < count and process.poll() is None:
        time.sleep(0.002)


def test_kill_at_any_moment_and_run_again(tmp_path: Path) -> None:
    found = disturbed(tmp_path, rows=700, kills=12)
    assert found.rows_in == found.expected == 700, found.said
    assert found.different == ()
    assert found.worst_s < found.allowed_s
    assert found.duplicates == 0
    assert found.asked_when_done == 0


def test_control_c_keeps_what_was_answered(tmp_path: Path) -> None:
    topics(tmp_path, 300)
    (tmp_path / "x.synth").write_text(SPEC)
    with serving(latency_s=0.05) as server:
        process = started(tmp_path, "run", SYNTH_URL=server.url)
        wait_for(server, 200, process)
        process.send_signal(signal.SIGINT)
        status, said = finished(process)
        assert status == 130
        assert "interrupted" in said
        assert "Traceback" not in said
        (kept,) = column(tmp_path, "SELECT count(*) FROM t")
        (calls,) = column(tmp_path, "SELECT count(*) FROM synth.calls")
        assert 64 <= kept == calls <= 200
        assert column(tmp_path, "SELECT status FROM synth.runs") == ["interrupted"]
        assert not (tmp_path / "x.duckdb.wal").exists()
        asked = server.count
        status, said = finished(started(tmp_path, "run", SYNTH_URL=server.url))
        assert status == 0, said
        assert server.count == asked + 300 - kept
    assert column(tmp_path, "SELECT n FROM t") == list(range(300))


def test_a_stopped_run_has_status_3(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    (tmp_path / "x.synth").write_text(SPEC)
    with serving(key="right") as server:
        status, said = finished(started(tmp_path, "run", SYNTH_URL=server.url))
    assert status == 3
    assert "refuses the key" in said


def test_one_call_for_equal_prompts_also_after_a_stop(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": "the same"} for n in range(20)))
    with serving() as server:
        made(SURE + WRITE + TABLE, tmp_path, server, limit=2)
        with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
            connection.execute("DELETE FROM synth.tables")
        made(SURE + WRITE + TABLE, tmp_path, server)
        assert server.count == 1


def test_a_run_with_a_limit_leaves_no_table_done_that_reads_another(tmp_path: Path) -> None:
    topics(tmp_path, 6)
    spec = (
        BACKEND
        + WRITE
        + """
table a = read("topics.jsonl") |> write
table b = a |> select("n")
"""
    )
    with serving() as server:
        made(spec, tmp_path, server, limit=2)
        made(spec, tmp_path, server)
    assert column(tmp_path, "SELECT count(*) FROM b") == [6]
