"""A database while a run writes it: the run answers for it, and nothing that asks can harm the run."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import Server, serving
from synthc.runtime.store.live import sockets
from tests.cli.conftest import SYNTHC, Synthc
from tests.cli.test_querying import VALUES

SPEC = """
backend b { url = env("SYNTH_URL")  model = "m" }
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
table t = read("topics.jsonl") |> write
"""
ANSWERED = 20
ENDLESS = b'{"sql": "SELECT count(*) FROM range(1000000000000) AS a(n) WHERE n % 7 = 8"}\n'


def half(seen: Seen) -> str | Fault:
    """An answer to the first few rows; the others wait for theirs."""
    number = int(seen.body["messages"][-1]["content"].removeprefix("About topic "))
    return default_answer(seen) if number < ANSWERED else FAULTS["drip"]


@dataclass(frozen=True)
class Held:
    """A run that does not go on before its server does, and its database."""

    process: subprocess.Popen[str]
    server: Server
    database: Path

    def ended(self) -> tuple[int, str]:
        """Interrupt it: its exit status, and what it said."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


Start = Callable[..., Held]


@pytest.fixture
def start(folder: Path, call: Synthc) -> Iterator[Start]:
    """Starts runs that stand still when the first few of 40 rows are answered, and in the database."""
    (folder / "x.synth").write_text(SPEC, encoding="utf-8")
    topics = (json.dumps({"n": n, "topic": f"topic {n}"}) + "\n" for n in range(40))
    (folder / "topics.jsonl").write_text("".join(topics), encoding="utf-8")
    begun: list[subprocess.Popen[str]] = []
    with serving(half) as server:

        def started(*, answers: bool = True, **env: str) -> Held:
            asked = server.count
            process = subprocess.Popen(
                [SYNTHC, "run"],
                cwd=folder,
                env={**os.environ, "SYNTH_URL": server.url, **env},
                stderr=subprocess.PIPE,
                text=True,
            )
            begun.append(process)
            server.wait_for(asked + 40 - min(asked, ANSWERED))
            while answers and call("sql", "FROM synth.calls", "--csv").out.count("\n") <= ANSWERED:
                assert process.poll() is None
            return Held(process, server, folder / "x.duckdb")

        yield started
        for process in begun:
            process.kill()
            process.communicate()


@pytest.fixture
def held(start: Start) -> Held:
    return start()


def found(call: Synthc, query: str) -> list[dict[str, object]]:
    done = call("sql", query, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_a_run_answers_and_shows_the_rows_so_far(held: Held, call: Synthc) -> None:
    assert found(call, "SELECT n FROM t") == [{"n": n} for n in range(ANSWERED)]
    assert found(call, "SELECT count(*) AS n FROM synth.calls") == [{"n": ANSWERED}]
    assert found(call, "SELECT status FROM synth.runs") == [{"status": "running"}]
    status, said = held.ended()
    assert status == 130
    assert "Traceback" not in said


def test_rows_look_the_same_with_and_without_a_run(held: Held, call: Synthc) -> None:
    queries = [
        VALUES.replace('CREATE TABLE "values" AS ', "").replace("timestamp_ns", "TIMESTAMP_NS"),
        "SELECT 1 AS a, 2 AS a, 3 AS b",
        "FROM range(250)",
        "FROM range(0)",
        "SHOW TABLES",
        "FROM nope",
    ]
    cases = [*itertools.product(queries, ([], ["--json"], ["--csv"]))]

    def answers() -> list[object]:
        return [call("sql", query, *form) for query, form in cases]

    live = answers()
    held.ended()
    # The table is in its place now.
    for (query, form), was, now in zip(cases, live, answers(), strict=True):
        if query != "SHOW TABLES":
            assert was == now, (query, form)


def test_a_report_is_made_while_a_run_writes(held: Held, call: Synthc) -> None:
    done = call("report")
    assert (done.status, held.process.poll()) == (0, None), done.err
    page = held.database.with_suffix(".html").read_text(encoding="utf-8")
    assert "A run writes this database" in page
    assert f"process {held.process.pid}, x.synth" in page
    assert f"<small>{ANSWERED} rows</small>" in page
    held.ended()


def test_a_second_run_says_who_writes_and_stops(held: Held, call: Synthc) -> None:
    for arguments in (["run"], ["run", "--fresh"], ["plan"], ["export", "--to", "set"]):
        done = call(*arguments, SYNTH_URL=held.server.url)
        assert done.status == 1, arguments
        assert done.err.startswith(
            f"error: a run of x.synth writes x.duckdb (process {held.process.pid}, since 2"
        )
        assert "`synthc sql` works meanwhile" in done.err
    Path("old.duckdb").write_bytes(b"\0" * 8 + b"DUCK")
    done = call("diff", "x.duckdb", "old.duckdb")
    assert (done.status, done.out) == (2, "")
    assert f"a run of x.synth writes x.duckdb (process {held.process.pid}, since 2" in done.err
    Path("old.duckdb").unlink()
    assert held.server.count == 40
    assert held.process.poll() is None


def test_a_run_exports_the_rows_so_far(held: Held, call: Synthc) -> None:
    values = VALUES.replace('CREATE TABLE "values" AS ', "")
    for ending in ("parquet", "jsonl", "csv"):
        done = call("export", "t", f"t.{ending}")
        assert (done.status, done.out) == (0, ""), done.err
        so_far = "a run of x.synth goes on: these are the rows so far\n"
        assert done.err == f"exported {ANSWERED} rows to t.{ending}\n{so_far}"
        assert call("export", values, f"live.{ending}").status == 0
    with duckdb.connect() as connection:
        found = connection.execute("SELECT count(*), max(n) FROM 't.parquet'").fetchall()
    assert found == [(ANSWERED, ANSWERED - 1)]
    assert held.ended()[0] == 130
    for ending in ("parquet", "jsonl", "csv"):
        assert call("export", values, f"later.{ending}").status == 0
        assert Path(f"live.{ending}").read_bytes() == Path(f"later.{ending}").read_bytes()


REFUSED = {
    "DELETE FROM synth.calls": "one SELECT at a time",
    "SELECT 1; DROP TABLE t": "one SELECT at a time",
    "COMMIT": "one SELECT at a time",
    "ATTACH 'other.duckdb'": "one SELECT at a time",
    "EXPLAIN ANALYZE DELETE FROM synth.calls": "one SELECT at a time",
    "FROM read_text('/etc/passwd')": "disabled by configuration",
    "FROM 'x.synth.csv'": "x.synth.csv",
    "FROM batches": "batches does not exist",
    "SELECT 'x'::INTEGER": "Could not convert",
    "FROM force_checkpoint()": "Cannot",
}


def test_nothing_but_the_database_can_be_asked_for(held: Held, call: Synthc) -> None:
    Path("x.synth.csv").write_text("a\nhunter2\n", encoding="utf-8")
    for query, told in REFUSED.items():
        done = call("sql", query)
        assert (done.status, done.out) == (2, ""), query
        assert told in done.err
        assert "Traceback" not in done.err
        assert "hunter2" not in done.err
    assert found(call, "SELECT count(*) AS n FROM synth.calls") == [{"n": ANSWERED}]


def test_who_asks_and_goes_away_harms_nothing(held: Held, call: Synthc) -> None:
    (path,) = (path for path in sockets(held.database) if path.exists())
    for sent in (ENDLESS, b"", b"\n", b"{", b"[" * 5000, b"\xff\n", b'{"sql": 1}\n', ENDLESS):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(sent)
    client = subprocess.Popen([SYNTHC, "sql", "SELECT count(*) FROM range(1000000000000)"])
    client.send_signal(signal.SIGINT)
    assert client.wait(timeout=30) != 0
    assert found(call, "SELECT count(*) AS n FROM t") == [{"n": ANSWERED}]
    held.server.answer = default_answer
    status, said = held.ended()
    assert status == 130
    assert "Traceback" not in said


def test_a_run_ends_while_it_is_asked(held: Held) -> None:
    (path,) = (path for path in sockets(held.database) if path.exists())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(ENDLESS)
        status, _ = held.ended()
        assert status == 130
        assert client.recv(1) == b""
    assert not path.exists()
    assert not held.database.with_name("x.duckdb.wal").exists()


def test_a_query_without_an_end_holds_up_nothing(folder: Path) -> None:
    (folder / "x.synth").write_text(SPEC.replace('"m" }', '"m"  concurrency = 2 }'))
    topics = "".join(f'{{"topic": "topic {n}"}}\n' for n in range(60))
    (folder / "topics.jsonl").write_text(topics, encoding="utf-8")
    database = folder / "x.duckdb"
    with serving(latency_s=0.05) as server:
        process = subprocess.Popen(
            [SYNTHC, "run"],
            env={**os.environ, "SYNTH_URL": server.url},
            stderr=subprocess.PIPE,
            text=True,
        )
        server.wait_for(10)
        (path,) = (path for path in sockets(database) if path.exists())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(ENDLESS)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
            assert server.count == 60
            assert client.recv(1) == b""


def test_nobody_else_can_connect(held: Held) -> None:
    (path,) = (path for path in sockets(held.database) if path.exists())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(path)) <= 103


def test_a_socket_that_a_kill_left_is_replaced(start: Start, call: Synthc) -> None:
    first = start()
    first.process.kill()
    first.process.wait()
    (left,) = (path for path in sockets(first.database) if path.exists())
    assert found(call, "SELECT count(*) AS n FROM synth.calls") == [{"n": ANSWERED}]
    second = start(answers=False)
    assert found(call, "SELECT status FROM synth.runs ORDER BY run_id") == [
        {"status": "running"},
        {"status": "running"},
    ]
    assert second.ended()[0] == 130
    assert not left.exists()


def test_a_run_that_cannot_listen_runs_all_the_same(
    start: Start, folder: Path, call: Synthc
) -> None:
    long = folder / ("x" * 100)
    long.mkdir()
    held = start(answers=False, XDG_RUNTIME_DIR=str(long), TMPDIR=str(long))
    done = call("sql", "FROM t")
    assert done.status == 1
    assert done.err.startswith(
        f"error: x.duckdb is in use by another process ({held.process.pid})\n"
    )
    assert held.ended()[0] == 130


def test_a_finished_table_is_seen_until_the_new_one_is(start: Start, call: Synthc) -> None:
    with serving() as server:
        assert call("run", SYNTH_URL=server.url).status == 0
    spec = Path("x.synth")
    spec.write_text(spec.read_text().replace("About", "On"), encoding="utf-8")
    held = start(answers=False)
    assert found(call, "SELECT count(*) AS n FROM t") == [{"n": 40}]
    status, said = held.ended()
    assert status == 130
    assert "t stays as it was, complete" in said
    assert found(call, "SELECT count(*) AS n FROM t") == [{"n": 40}]
    assert found(call, "SELECT answer = 'x' AS a FROM t LIMIT 1") == [{"a": False}]
