"""The database: whose it is, what happens to one that is not ours, and to one that cannot be written."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from bench.answers import default_answer
from bench.faults import FAULTS
from bench.server import serving
from synthc.runtime.errors import RunError, Stopped
from synthc.runtime.store.aside import Again
from synthc.runtime.store.journal import Journal
from synthc.runtime.store.records import Call, Drawn, Failure, Mutation
from synthc.runtime.store.schema import (
    CALL_COLUMNS,
    DRAW_COLUMNS,
    FAILURE_COLUMNS,
    FORMAT,
    MUTATION_COLUMNS,
)
from synthc.runtime.store.seen import BYTES, Seen
from synthc.runtime.store.store import Store, StoredAnswer, connect
from tests.runtime.helpers import BACKEND, SYNTHC, WRITE, column, made, rows, topics

SPEC = BACKEND + WRITE + 'table t = read("topics.jsonl") |> write'


def test_records_are_rows_of_their_tables() -> None:
    for record, columns in (
        (Call, CALL_COLUMNS),
        (Failure, FAILURE_COLUMNS),
        (Mutation, MUTATION_COLUMNS),
        (Drawn, DRAW_COLUMNS),
    ):
        assert [column.name for column in columns] == list(record.__struct_fields__)


def refused(path: Path) -> RunError:
    """What is said of a file that cannot be used, which must not be changed."""
    before = path.read_bytes()
    with pytest.raises(RunError) as caught:
        Store(path)
    assert path.read_bytes() == before
    return caught.value


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.duckdb"
    path.write_text("my notes\n" * 5000)
    assert "notes.duckdb is no DuckDB database" in refused(path).message


def test_somebody_elses_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "mine.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
    assert "is no database of synthc's" in refused(path).message


def test_not_even_the_log_of_somebody_elses_database_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "mine.duckdb"
    log = tmp_path / "mine.duckdb.wal"
    code = f"""
import duckdb, os
connection = duckdb.connect({str(path)!r})
connection.execute("CREATE TABLE mine AS SELECT 1 AS a")
connection.execute("CHECKPOINT")
connection.execute("INSERT INTO mine VALUES (2)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    before = log.read_bytes()
    assert before
    assert "is no database of synthc's" in refused(path).message
    assert log.read_bytes() == before


def test_a_database_of_another_format_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    Store(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE synth.meta SET format = 999")
    said = refused(path)
    assert (
        said.message == f"old.duckdb has the format 999, and this version of synthc writes {FORMAT}"
    )
    assert "--fresh" in (said.hint or "")


def test_a_database_in_use_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    Store(path).close()
    code = f"import duckdb; c = duckdb.connect({str(path)!r}); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(RunError, match=rf"in use by another process \({other.pid}\)"):
            Store(path)
        other.communicate("\n")
    Store(path).close()


@pytest.mark.parametrize(
    ("share", "told"), [(0.0, "no DuckDB database, or it is damaged"), (0.5, "x.duckdb is damaged")]
)
def test_a_damaged_database_is_said_to_be(tmp_path: Path, share: float, told: str) -> None:
    """Damaged where it begins, it cannot be opened; damaged behind that, the run comes upon it."""
    topics(tmp_path, 400)
    with serving() as server:
        made(SPEC, tmp_path, server)
        path = tmp_path / "x.duckdb"
        content = bytearray(path.read_bytes())
        start = 4096 + int(share * len(content))
        content[start : start + 20_000] = b"x" * 20_000
        path.write_bytes(content)
        with pytest.raises(RunError, match=told):
            made(SPEC.replace("About", "On"), tmp_path, server)


def test_a_damaged_log_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    code = f"""
import os
from pathlib import Path
from synthc.runtime.store.store import Store
store = Store(Path({str(path)!r}))
store.connection.execute("INSERT INTO synth.rows SELECT 't', range, range, range, 'kept' FROM range(9000)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    log = tmp_path / "x.duckdb.wal"
    content = bytearray(log.read_bytes())
    content[-300:] = b"x" * 300
    log.write_bytes(content)
    assert refused(path).message == "x.duckdb.wal, the log of x.duckdb, is damaged"
    assert log.read_bytes() == content


UNPRIVILEGED = """
import ctypes, subprocess, sys
for capability in (1, 2):  # to write and to read what the permissions of a file forbid
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    topics(folder, 5)
    (folder / "x.synth").write_text(SPEC)

    def run(url: str) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, str(SYNTHC), "run"],
            cwd=folder,
            env={**os.environ, "SYNTH_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in ran.stderr
        return ran.returncode, ran.stderr

    with serving() as server:
        folder.chmod(0o555)
        status, said = run(server.url)
        assert status == 1
        assert said.startswith("error: x.duckdb cannot be written: permission denied\n")
        folder.chmod(0o755)
        made(SPEC, folder, server, limit=2)
        folder.chmod(0o555)
        status, said = run(server.url)  # the database can be, and its log cannot
        assert status == 3
        assert said.startswith("stopped: x.duckdb cannot be written: ")
        assert "let x.duckdb and its folder be written to" in said
        assert server.count == 2
        folder.chmod(0o755)
        (folder / "x.duckdb").chmod(0o444)
        assert run(server.url)[0] == 1
        (folder / "x.duckdb").chmod(0o644)
        assert run(server.url)[0] == 0
        assert server.count == 5


def test_a_clock_that_jumped_back_changes_nothing(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    with serving(lambda s: FAULTS["400"] if s.number == 3 else default_answer(s)) as server:
        made(SPEC, tmp_path, server)
        with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
            for table, column_ in (("calls", "answered_at"), ("runs", "started_at")):
                connection.execute(
                    f"UPDATE synth.{table} SET {column_} = {column_} + INTERVAL 20 YEAR"
                )
        assert made(SPEC, tmp_path, server).skipped == ["t"]
        made(SPEC, tmp_path, server, retry_failed=True)
        assert server.count == 6
        made(SPEC, tmp_path, server, again=Again("n = 1"))
        made(SPEC, tmp_path, server, again=Again("n = 1"))
        assert server.count == 8
        assert made(SPEC, tmp_path, server).skipped == ["t"]
    assert column(tmp_path, "SELECT n FROM t") == list(range(5))


def test_a_run_that_was_killed_as_it_began_leaves_a_database_that_can_be_used(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.duckdb"
    connect(path).close()  # the file is there, and nothing in it
    Store(path).close()
    assert column(tmp_path, "FROM synth.meta") == [FORMAT]


def test_a_table_gone_from_the_database_is_made_again(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    with serving() as server:
        made(SPEC, tmp_path, server)
        with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
            connection.execute("DROP TABLE t")
        report = made(SPEC, tmp_path, server)
        assert server.count == 3
    assert not report.skipped
    assert column(tmp_path, "SELECT n FROM t") == [0, 1, 2]


# The journal


def call(number: int, **changes: Any) -> Call:
    known = Call(
        digest=digest(number),
        run_id=1,
        table_name="t",
        row_key=str(number),
        column="c",
        backend="b",
        model="m",
        request="[]",
        answer="a",
        finish_reason="stop",
        input_tokens=1,
        output_tokens=1,
        latency_s=0.1,
        attempts=1,
        answered_at=0,
    )
    return msgspec.structs.replace(known, **changes)


ANSWER = StoredAnswer("a", "m", "stop")


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_many_small_runs_do_not_leave_many_small_pieces(tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    for run in range(20):
        store = Store(path)
        store.append("synth.calls", CALL_COLUMNS, [msgspec.structs.astuple(call(run))])
        store.close()
    with connect(path) as connection:
        query = "SELECT count(DISTINCT row_group_id), max(count) FROM pragma_storage_info('synth.calls')"
        assert connection.execute(query).fetchone() == (1, 20)


def test_commits_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    async def check() -> None:
        async with Journal(Store(tmp_path / "x.duckdb")) as journal:
            for number in range(100):
                journal.call(call(number), ANSWER)
                if number % 7 == 0:
                    await asyncio.gather(*(journal.flush() for _ in range(4)))
        journal.store.close()

    asyncio.run(check())
    assert column(tmp_path, "SELECT count(DISTINCT row_key) FROM synth.calls") == [100]
    assert column(tmp_path, "SELECT count(*) FROM synth.calls") == [100]


def test_a_commit_that_waits_is_not_lost_when_the_run_is_cancelled(tmp_path: Path) -> None:
    async def check() -> None:
        store = Store(tmp_path / "x.duckdb")
        free = threading.Event()
        async with Journal(store) as journal:
            busy = asyncio.create_task(journal.do(free.wait))
            journal.call(call(1), ANSWER)
            commits = [asyncio.create_task(journal.flush()) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for commit in commits:
                commit.cancel()
            asyncio.get_running_loop().call_soon(free.set)
        await asyncio.gather(busy, *commits, return_exceptions=True)
        store.close()

    asyncio.run(asyncio.wait_for(check(), 10))
    assert column(tmp_path, "SELECT row_key FROM synth.calls") == ["1"]


def test_what_cannot_be_written_ends_everything_that_follows(tmp_path: Path) -> None:
    async def check() -> None:
        store = Store(tmp_path / "x.duckdb")
        journal = Journal(store)
        with pytest.raises(UnicodeEncodeError):
            async with journal:
                journal.call(call(1, answer="\ud800"), ANSWER)
                with pytest.raises(UnicodeEncodeError):
                    await journal.flush()
                await asyncio.wait_for(journal.room(), 5)
                with pytest.raises(UnicodeEncodeError):  # and a table is not published after it
                    await journal.flush()
                with pytest.raises(UnicodeEncodeError):
                    journal.call(call(2), ANSWER)
        store.close()

    asyncio.run(asyncio.wait_for(check(), 10))
    assert column(tmp_path, "SELECT row_key FROM synth.calls") == []


def test_who_waits_for_room_hears_of_a_failure(tmp_path: Path) -> None:
    async def check() -> None:
        store = Store(tmp_path / "x.duckdb")
        free = threading.Event()
        told = False
        with pytest.raises(UnicodeEncodeError):
            async with Journal(store) as journal:
                busy = asyncio.create_task(journal.do(free.wait))
                await asyncio.sleep(0)
                journal.call(call(0, answer="\ud800"), ANSWER)
                for number in range(1, 5_000):
                    journal.call(call(number), ANSWER)
                waiting = asyncio.create_task(journal.room())
                await asyncio.sleep(0)
                assert not waiting.done()
                free.set()
                await busy
                with pytest.raises(UnicodeEncodeError):
                    await waiting
                told = True
        assert told
        store.close()

    asyncio.run(asyncio.wait_for(check(), 10))


FULL = """
import resource, signal, sys
from pathlib import Path
from synthc.runtime.errors import Stopped
from tests.runtime.helpers import made
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, url, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    made(folder.joinpath("x.synth").read_text(), folder, url)
except Stopped as stopped:
    print(stopped.message)
    sys.exit(3)
"""


@pytest.mark.parametrize("size", [700_000, 1_200_000])
def test_a_full_disk_ends_the_run_in_words_and_loses_nothing(tmp_path: Path, size: int) -> None:
    topics(tmp_path, 400)
    (tmp_path / "x.synth").write_text(SPEC)
    with serving(lambda seen: f"{seen.digest} " * 150, latency_s=(0.1, 0.25)) as server:
        ran = subprocess.run(
            [sys.executable, "-c", FULL, str(tmp_path), server.url, str(size)],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        assert ran.returncode == 3, ran.stderr[-3000:]
        assert "x.duckdb cannot be written" in ran.stdout
        asked = server.count
        (stored,) = column(tmp_path, "SELECT count(*) FROM synth.calls")
        report = made(SPEC, tmp_path, server)
        assert report.tables["t"].kept == 400
        assert 0 < stored <= asked
        assert server.count == asked + 400 - stored
    assert column(tmp_path, "SELECT n FROM t") == list(range(400))


def test_what_was_seen_is_known_and_what_is_new_is_hardly_ever_taken_for_it() -> None:
    digests = [hashlib.blake2b(b"%d" % n, digest_size=16).digest() for n in range(60_000)]
    old, new = digests[:40_000], digests[40_000:]
    seen = Seen(int.from_bytes(digest[:BYTES], "big") for digest in old[:20_000])
    assert sum(seen.add(digest) for digest in old[20_000:]) < 5
    assert all(seen.add(digest) for digest in old)
    assert sum(seen.add(digest) for digest in new) < 5


def test_a_stopped_run_says_so(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    with serving(key="right") as server, pytest.raises(Stopped, match="refuses the key"):
        made(SPEC, tmp_path, server)
    assert rows(tmp_path, "SELECT status, ended_at IS NULL FROM synth.runs") == [("stopped", False)]
