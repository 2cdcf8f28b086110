"""`synthc run`: specs and plans, databases, what it says at its end."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench.answers import Seen, default_answer
from bench.faults import FAULTS
from bench.server import serving
from synthc.cli.running import environment
from tests.cli.conftest import SYNTHC, Synthc

SECRET = "sk-very-secret-0123456789"


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_a_run_says_what_became_of_everything(spec: Path, synthc: Synthc) -> None:
    with serving() as server:
        done = synthc("run", SYNTH_URL=server.url)
    assert (done.status, done.out) == (0, "")
    lines = done.err.splitlines()
    assert lines[0] == "topics  5 rows in = 3 kept + 0 dropped + 0 failed + 2 not asked"
    assert lines[1] == "titles  3 rows in = 3 kept + 0 dropped + 0 failed"
    assert re.fullmatch(
        r"small   3 calls sent, 0 answered from the store, \d+ tokens in, \d+ out", lines[2]
    )
    assert lines[3] == "exported 3 rows to titles.csv"
    assert re.fullmatch(r"\d+\.\d s; the database is titles\.duckdb", lines[4])
    assert lines[5] == 'next: synthc sql "FROM titles" -d titles.duckdb'
    next_ = shlex.split(lines[5].removeprefix("next: synthc "))
    assert "topic 0" in synthc(*next_).out


def test_a_second_run_says_what_was_there(spec: Path, call: Synthc) -> None:
    with serving() as server:
        call("run", SYNTH_URL=server.url)
        done = call("run", SYNTH_URL=server.url)
        assert server.count == 3
    assert done.status == 0
    assert done.err.count("(was there already)") == 2
    assert "calls sent" not in done.err


def test_one_of_a_thing_is_said_in_the_singular(spec: Path, call: Synthc) -> None:
    with serving(faults=["length"]) as server:
        done = call("run", "-p", "count=1", SYNTH_URL=server.url)
    assert "1 row in = 1 kept" in done.err
    assert "1 call sent, " in done.err
    assert "1 answer was cut off at `max_tokens`" in done.err
    assert "exported 1 row to titles.csv" in done.err


def test_rows_that_failed_are_counted_and_shown(spec: Path, call: Synthc) -> None:
    with serving(faults=["400"]) as server:
        done = call("run", SYNTH_URL=server.url)
    assert done.status == 0
    assert "3 rows in = 2 kept + 0 dropped + 1 failed" in done.err
    assert 'failures: synthc sql "FROM synth.failures" -d titles.duckdb' in done.err


def test_events_and_the_summary_as_json(
    spec: Path, call: Synthc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthc.cli.events.EVERY_S", 0.01)
    with serving(faults=["400"], latency_s=0.1) as server:
        done = call("run", "--json", SYNTH_URL=server.url)
    assert (done.status, done.err) == (0, "")
    *events, document = map(json.loads, done.out.splitlines())
    assert {event["event"] for event in events} == {"progress"}
    assert events[0]["tables"]["titles"]["kept"] == 0
    assert events[-1]["backends"]["small"]["sent"] >= 2
    assert document["event"] == "end"
    assert document["ok"] is True
    assert document["error"] is None
    assert document["database"] == "titles.duckdb"
    titles = document["tables"]["titles"]
    assert titles["rows_in"] == 3 == titles["kept"] + titles["dropped"] + titles["failed"]
    assert document["exports"] == {"titles.csv": 2}
    assert document["cost_usd"] is None


@pytest.mark.parametrize("as_json", [False, True])
def test_a_server_that_is_not_there_ends_with_3(spec: Path, call: Synthc, as_json: bool) -> None:
    url = "http://127.0.0.1:9/v1"
    text = spec.read_text(encoding="utf-8")
    spec.write_text(text.replace("small {", "small { attempts = 1 "), encoding="utf-8")
    done = call("run", *(["--json"] if as_json else []), SYNTH_URL=url)
    assert done.status == 3, done.err
    assert "stopped: " in done.err
    assert " --> titles.synth:" in done.err
    assert "run the same command again, and it continues" in done.err
    assert "Traceback" not in done.err
    if as_json:
        document = json.loads(done.out.splitlines()[-1])
        assert document["ok"] is False
        assert document["error"]["message"] in done.err
        assert document["error"]["place"].startswith("titles.synth:")
    else:
        assert done.out == ""
    assert not (spec.parent / "titles.csv").exists()
    with serving() as server:
        assert call("run", SYNTH_URL=server.url).status == 0


def test_a_variable_that_is_not_set_is_no_traceback(spec: Path, call: Synthc) -> None:
    done = call("run")
    assert done.status in (1, 2, 3)
    assert " --> titles.synth:" in done.err
    assert "fault of synthc's" not in done.err


def test_what_failed_is_asked_again_on_demand(spec: Path, call: Synthc) -> None:
    with serving(faults=["400"]) as server:
        assert "1 failed" in call("run", SYNTH_URL=server.url).err
        done = call("run", "--retry-failed", SYNTH_URL=server.url)
        assert done.status == 0, done.err
        assert "titles  3 rows in = 3 kept" in done.err
        assert "small   1 call sent, 2 answered from the store" in done.err
        assert "--retry-failed: 0 answers were set aside; titles is made again" in done.err
        assert server.count == 4


def test_chosen_rows_are_asked_anew(spec: Path, call: Synthc) -> None:
    with serving() as server:
        call("run", SYNTH_URL=server.url)
        done = call(
            "run", "--again", "topic = 'topic 1'", "--column", "title", SYNTH_URL=server.url
        )
        assert done.status == 0, done.err
        assert "small   1 call sent, 2 answered from the store" in done.err
        assert "--again: 1 answer was set aside, of 1 row of titles" in done.err
        assert call("run", SYNTH_URL=server.url).status == 0
        assert server.count == 4
    costs = query(spec.parent / "titles.duckdb", "SELECT run_id, calls, cost_usd FROM synth.costs")
    assert costs == [(1, 3, None), (2, 1, None)]


def test_what_is_asked_anew_goes_on_after_a_stop(spec: Path, call: Synthc) -> None:
    path = spec.with_name("titles.synth")
    path.write_text(path.read_text() + 'table short = titles |> select("title")\n')
    with serving() as server:
        call("run", SYNTH_URL=server.url)
        server.answer = lambda _: FAULTS["401"]
        done = call("run", "--again", "topic <> 'topic 1'", SYNTH_URL=server.url)
        assert done.status == 3
        assert "titles stays as it was, complete" in done.err
        assert "run without `--again`, and it continues" in done.err
        planned = call("plan").out
        assert "rows of it are to be asked anew" in planned
        assert "it reads `titles`, which is stale" in planned
        server.answer = default_answer
        server.requests.clear()
        done = call("run", SYNTH_URL=server.url)
        assert done.status == 0, done.err
        assert "small   2 calls sent, 1 answered from the store" in done.err
        assert "nothing to make" in call("plan").out


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--again", "tpic = 1"], 1, "cannot be asked of `titles`: Referenced column"),
        (["--again", "topic ="], 1, "`topic =` is no condition in SQL"),
        (["--again", "true", "--table", "topics"], 1, "there is no table `topics` that asks"),
        (["--again", "true", "--column", "tite"], 1, "`titles` asks for no column `tite`"),
        (["--again", "false"], 1, "no row of `titles` satisfies `false`"),
        (["--again", "true", "--limit", "1"], 2, "no `--fresh`, no `--limit`"),
        (["--retry-failed", "--fresh"], 2, "no `--fresh`, no `--limit`"),
        (["--table", "titles"], 2, "say what `--again` is about"),
    ],
)
def test_what_cannot_be_asked_again(
    spec: Path, call: Synthc, arguments: list[str], status: int, told: str
) -> None:
    with serving() as server:
        call("run", SYNTH_URL=server.url)
        done = call("run", *arguments, SYNTH_URL=server.url)
        assert (done.status, done.out) == (status, "")
        assert told in done.err
        assert "(was there already)" in call("run", SYNTH_URL=server.url).err
        assert server.count == 3


def test_a_limit_marks_nothing_as_done(spec: Path, call: Synthc) -> None:
    with serving() as server:
        done = call("run", "--limit", "2", SYNTH_URL=server.url)
        assert done.status == 0
        assert "titles  2 rows in = 2 kept + 0 dropped + 0 failed\n" in done.err
        assert "--limit: nothing is marked as done, and nothing is exported" in done.err
        assert not (spec.parent / "titles.csv").exists()
        assert call("run", "--limit", str(10**30), SYNTH_URL=server.url).status == 0
        done = call("run", SYNTH_URL=server.url)
        assert "1 call sent, 2 answered" not in done.err  # all three were asked before
        assert server.count == 3
    assert (spec.parent / "titles.csv").exists()


def test_specs_plans_and_databases_with_odd_names(spec: Path, call: Synthc) -> None:
    odd = spec.parent / "mein ordner é$"
    odd.mkdir()
    (odd / "topics.jsonl").write_bytes((spec.parent / "topics.jsonl").read_bytes())
    (odd / "a 'b' é.synth").write_bytes(spec.read_bytes())
    with serving() as server:
        done = call("run", odd / "a 'b' é.synth", SYNTH_URL=server.url)
        assert done.status == 0, done.err
        assert (odd / "a 'b' é.duckdb").is_file()
        assert (odd / "titles.csv").is_file()
        next_ = done.err.splitlines()[-1].removeprefix("next: synthc ")
        assert call(*shlex.split(next_)).status == 0
        assert call("compile", odd / "a 'b' é.synth").status == 0
        done = call("run", odd / "a 'b' é.plan.json", "-d", "ü x.db", SYNTH_URL=server.url)
        assert done.status == 0, done.err
        assert (spec.parent / "ü x.db").is_file()


def test_a_plan_runs_without_its_spec(spec: Path, call: Synthc) -> None:
    assert call("compile", "-p", "count=2").status == 0
    spec.unlink()
    with serving() as server:
        done = call("run", "titles.plan.json", SYNTH_URL=server.url)
    assert done.status == 0
    assert "titles  2 rows in = 2 kept" in done.err


@pytest.mark.parametrize("arguments", [["-p", "count=2"], ["--seed", "1"]])
def test_a_plan_takes_no_parameters(spec: Path, call: Synthc, arguments: list[str]) -> None:
    call("compile")
    done = call("run", "titles.plan.json", *arguments)
    assert done.status == 2
    assert "a plan has its parameters and its seed in it" in done.err


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"version": "1"}',
        b'{"version": 1}',
        b'{"version": true}',
        b"\xff\xfe",
        b"\x00",
        b"[" * 100_000,
        b'{"a": "\x1b[31m"}',
        b'table a = read("x.jsonl")',
    ],
)
def test_what_is_no_plan(folder: Path, call: Synthc, text: bytes) -> None:
    (folder / "x.plan.json").write_bytes(text)
    done = call("run", "x.plan.json")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: x.plan.json is no plan: ")
    assert "synthc compile" in done.err
    assert "\x1b" not in done.err
    assert [path.name for path in folder.iterdir()] == ["x.plan.json"]


def test_a_plan_of_another_version(spec: Path, call: Synthc) -> None:
    call("compile")
    path = spec.with_name("titles.plan.json")
    plan = json.loads(path.read_bytes())
    path.write_text(json.dumps({**plan, "version": 999}), encoding="utf-8")
    done = call("run", path.name)
    assert done.status == 2
    assert "titles.plan.json is a plan of version 999, and this synthc runs" in done.err
    assert "compile the spec again" in done.err
    assert call("run", "nope.json").err == "error: there is no file nope.json\n"
    (spec.parent / "folder.json").mkdir()
    assert call("run", "folder.json").status == 2


@pytest.mark.parametrize(
    ("database", "told"),
    [
        (".", ". is a folder, not a database"),
        ("nope/x.duckdb", "there is no folder nope for the database"),
        ("titles.synth", "titles.synth is no DuckDB database"),
        ("topics.jsonl", "topics.jsonl is no DuckDB database"),
        ("topics.jsonl/x", "there is no folder topics.jsonl for the database"),
        ("empty", "empty is no DuckDB database"),
    ],
)
@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_what_is_no_place_for_a_database(
    spec: Path, call: Synthc, database: str, told: str, fresh: list[str]
) -> None:
    (spec.parent / "empty").touch()
    before = {path.name: path.read_bytes() for path in spec.parent.iterdir()}
    done = call("run", "-d", database, *fresh)
    assert (done.status, done.out) == (2, "")
    assert told in done.err
    assert {path.name: path.read_bytes() for path in spec.parent.iterdir()} == before


def test_names_that_mean_something_to_duckdb_are_files(folder: Path, call: Synthc) -> None:
    (folder / "a.synth").write_text('table a = rows(3) |> select("1 AS x")\n', encoding="utf-8")
    for name in (":memory:", "md:x", "new.csv"):
        assert call("run", "-d", name).status == 0
        assert query(folder / name, "SELECT count(*) FROM a") == [(3,)]
        assert json.loads(call("sql", "SELECT 1 AS x", "-d", name, "--json").out) == [{"x": 1}]


def test_a_database_of_something_else_is_not_touched(spec: Path, call: Synthc) -> None:
    with duckdb.connect(str(spec.parent / "mine.duckdb")) as connection:
        connection.execute("CREATE TABLE titles (a INTEGER)")
    done = call("run", "-d", "mine.duckdb", SYNTH_URL="http://127.0.0.1:9")
    assert done.status in (1, 2)
    assert "mine.duckdb is no database of synthc's" in done.err
    assert "the database is" not in done.err
    assert query(spec.parent / "mine.duckdb", "FROM titles") == []


def test_a_damaged_database_is_no_traceback(spec: Path, call: Synthc) -> None:
    database = spec.parent / "titles.duckdb"
    with serving() as server:
        assert call("run", SYNTH_URL=server.url).status == 0
        damaged = database.read_bytes()[:5000]
        database.write_bytes(damaged)
        for arguments in (["run"], ["run", "--fresh"], ["sql", "FROM titles"]):
            done = call(*arguments, SYNTH_URL=server.url)
            assert done.status in (1, 2), arguments
            assert "error: titles.duckdb" in done.err
            assert "Traceback" not in done.err
    assert database.read_bytes() == damaged


def test_fresh_keeps_the_old_database_aside(spec: Path, call: Synthc) -> None:
    database = spec.parent / "titles.duckdb"
    with serving() as server:
        assert call("run", "--fresh", SYNTH_URL=server.url).status == 0
        for _ in range(3):  # within one second, likely: no old one replaces another
            done = call("run", "--fresh", "--limit", "1", SYNTH_URL=server.url)
            assert done.status == 0
            assert "the old database is titles.duckdb.2" in done.err
        assert server.count == 6
    kept = sorted(spec.parent.glob("titles.duckdb.*"))
    assert len(kept) == 3
    counts = sorted(query(path, "SELECT count(*) FROM titles")[0][0] for path in kept)
    assert counts == [1, 1, 3]
    assert query(database, "SELECT count(*) FROM titles") == [(1,)]


def test_fresh_keeps_what_a_kill_left_in_the_log(spec: Path, synthc: Synthc) -> None:
    database = spec.parent / "titles.duckdb"
    topics = "".join(f'{{"topic": "topic {number}"}}\n' for number in range(100))
    (spec.parent / "topics.jsonl").write_text(topics, encoding="utf-8")
    with serving(latency_s=0.4) as server:
        env = {**os.environ, "SYNTH_URL": server.url}
        process = subprocess.Popen(
            [SYNTHC, "run", "-p", "count=100"],
            cwd=spec.parent,
            env=env,
            stderr=subprocess.DEVNULL,
        )
        log = database.with_name("titles.duckdb.wal")
        server.wait_for(100)
        while not (log.exists() and b"answer " in log.read_bytes()):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = synthc("run", "--fresh", "--limit", "1", SYNTH_URL=server.url)
    assert done.status == 0, done.err
    (aside,) = (path for path in spec.parent.glob("titles.duckdb.2*") if path.suffix != ".wal")
    ((answers,),) = query(aside, "SELECT count(*) FROM synth.calls")
    assert answers
    assert query(database, "SELECT count(*) FROM synth.calls") == [(1,)]


def test_a_database_in_use_is_left_alone(spec: Path, synthc: Synthc) -> None:
    with serving() as server:
        assert synthc("run", SYNTH_URL=server.url).status == 0
        with duckdb.connect(str(spec.parent / "titles.duckdb")):
            for arguments in (["run"], ["run", "--fresh"], ["sql", "FROM titles"]):
                done = synthc(*arguments, SYNTH_URL=server.url)
                assert done.status in (1, 2), arguments
                assert done.err.startswith("error: titles.duckdb is in use by another process")
                assert "= help: " in done.err
    assert not list(spec.parent.glob("titles.duckdb.*"))


def test_a_model_that_is_not_there_is_shown_at_its_place(spec: Path, call: Synthc) -> None:
    text = spec.read_text(encoding="utf-8")
    spec.write_text(text.replace('"bench-model"', '"no.gguf"'), encoding="utf-8")
    done = call("run")
    assert done.status == 1
    assert "error: there is no model at no.gguf\n  --> titles.synth:3:1\n" in done.err


def test_secrets_of_an_env_file_are_used_and_never_shown(spec: Path, synthc: Synthc) -> None:
    with serving(key=SECRET) as server:
        lines = f"\ufeffSYNTH_URL={server.url}\nSYNTH_KEY='{SECRET}'\nEMPTY\nbroken line\n"
        (spec.parent / ".env").write_text(lines, encoding="utf-8")
        compiled = synthc("compile")
        done = synthc("run")
        assert server.count == 3
        refused = synthc("run", "--fresh", "--json", SYNTH_KEY=f"{SECRET}-wrong")
    assert done.status == 0, done.err
    assert refused.status == 3
    assert "401" in refused.err
    written = [path for path in spec.parent.rglob("*") if path.is_file() and path.name != ".env"]
    shown = [compiled.out, compiled.err, done.out, done.err, refused.out, refused.err]
    for text in [*map(str.encode, shown), *(path.read_bytes() for path in written)]:
        assert SECRET.encode() not in text


def test_the_environment_goes_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("SYNTH_URL=file\nSYNTH_KEY=file\n", encoding="utf-8")
    monkeypatch.setenv("SYNTH_URL", "variable")
    found = environment(folder)
    assert (found["SYNTH_URL"], found["SYNTH_KEY"]) == ("variable", "file")


def test_an_env_file_that_is_no_text(spec: Path, call: Synthc) -> None:
    (spec.parent / ".env").write_bytes(b"SYNTH_KEY=\xff\xfe")
    done = call("run")
    assert (done.status, done.out) == (2, "")
    assert ".env is not text in UTF-8" in done.err


def test_answers_that_steer_a_terminal_are_shown_and_not_obeyed(spec: Path, call: Synthc) -> None:
    hostile = "\x1b]0;title\x07\x1b[31mred\x9b2J [bold]x[/bold] :smile: \u202eevil漢"

    def answer(_seen: Seen) -> str:
        return hostile

    with serving(answer=answer) as server:
        assert call("run", SYNTH_URL=server.url).status == 0
    table = call("sql", "SELECT title FROM titles").out
    assert r"\x1b]0;title\x07\x1b[31mred\x9b2J [bold]x[/bold] :smile: \u202eevil漢" in table
    document = call("sql", "SELECT title FROM titles LIMIT 1", "--json").out
    assert json.loads(document) == [{"title": hostile}]
    for text in (table, document):
        assert not set(text) & set("\x1b\x07\x9b\u202e")


def test_errors_of_servers_are_shown_escaped(spec: Path, call: Synthc) -> None:
    from bench.faults import Fault

    with serving(answer=lambda _seen: Fault(401, body="\x1b[31m[red]no[/red]\x9b")) as server:
        done = call("run", SYNTH_URL=server.url)
    assert done.status == 3
    assert not set(done.err + done.out) & set("\x1b\x9b")
