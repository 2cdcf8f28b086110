"""A run that ended early, in every way it can, and the run after it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import defaultdict
from pathlib import Path

import duckdb
import pytest

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
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
        (kept,) = column(tmp_path, "SELECT count(*) FROM t")  # what is whole can be looked at
        assert kept == 12
        assert column(tmp_path, "SELECT status FROM synth.tables") == ["partial"]
        assert column(tmp_path, "SELECT status FROM synth.runs") == ["stopped"]
        asked = server.count
        server.answer = default_answer
        made(spec, tmp_path, server)
        assert server.count == asked + 18
    assert column(tmp_path, "SELECT n FROM t") == list(range(30))


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


class Times:
    """When which prompt was answered, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: defaultdict[str, list[float]] = defaultdict(list)
        self.rng = random.Random(7)

    def answer(self, seen: Seen) -> str | Fault:
        # What is asked a third time is answered, so that no call runs out of its attempts.
        self.asked[seen.digest].append(time.monotonic())
        if seen.occurrence < 2 and self.rng.random() < 0.05:
            self.asked[seen.digest].pop()
            return FAULTS[self.rng.choice(["500", "drop", "503"])]
        return default_answer(seen)


class Disk:
    """`with Disk(folder) as disk:` notes the longest time that the disk takes, meanwhile, for a page."""

    def __init__(self, folder: Path) -> None:
        self.worst_s = 0.0
        self._file = (folder / "page").open("wb", buffering=0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *_rest: object) -> None:
        self._over.set()
        self._thread.join()
        self._file.close()

    def _measure(self) -> None:
        while not self._over.wait(0.1):
            started = time.monotonic()
            self._file.write(bytes(4096))
            os.fsync(self._file.fileno())
            self.worst_s = max(self.worst_s, time.monotonic() - started)


def wait_for(server: Server, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many requests came, or the process ended."""
    while server.count < count and process.poll() is None:
        time.sleep(0.002)


def test_kill_at_any_moment_and_run_again(tmp_path: Path) -> None:
    topics(tmp_path, 700)
    (tmp_path / "x.synth").write_text(CHAIN)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    topics(undisturbed, 700)
    rng = random.Random(3)
    times = Times()
    kills: list[float] = []
    with serving(times.answer, latency_s=(0.01, 0.06)) as server, Disk(undisturbed) as disk:
        for number in range(12):
            process = started(tmp_path, "run", SYNTH_URL=server.url)
            if number % 4 == 3:  # at any time, also while it starts
                threading.Event().wait(rng.uniform(0.05, 0.6))
            else:
                wait_for(server, server.count + rng.randint(1, 150), process)
            process.kill()
            process.communicate(timeout=30)
            while server.in_flight:  # requests that were sent, and which the server sees only now
                time.sleep(0.002)
            kills.append(time.monotonic())
        status, said = finished(started(tmp_path, "run", SYNTH_URL=server.url))
        assert status == 0, said
        asked = server.count
        made(CHAIN, tmp_path, server)
        assert server.count == asked

        repeated = [when for whens in times.asked.values() for when in whens[:-1]]
        for when in repeated:
            killed = min((kill for kill in kills if kill >= when), default=0)
            # An answer was sent at most 0.06 s after its request came; a busy disk is not ours.
            allowed_s = 1.0 + 2 * 0.06 + 2 * disk.worst_s
            assert killed - when < allowed_s, f"asked again {killed - when:.2f} s before the kill"
        assert len(times.asked) <= 2 * 700
        made(CHAIN, undisturbed, server)
    for table in ("t", "u"):
        found = rows(tmp_path, f"FROM {table}")
        assert found == rows(undisturbed, f"FROM {table}")
        assert found
    assert column(tmp_path, "SELECT count(DISTINCT digest) - count(*) FROM synth.calls") == [0]
    assert column(tmp_path, "SELECT rows_in FROM synth.tables WHERE table_name = 't'") == [700]


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
