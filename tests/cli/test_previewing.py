"""`synthc preview`: a few rows end to end, nothing hidden, and nothing paid for twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench.answers import Seen
from bench.faults import FAULTS, Fault
from bench.server import serving
from tests.cli.conftest import TOPICS, Synthc, without_codes

CHAIN = """\
backend b { url = env("SYNTH_URL")  model = "m"  api_key = env("SYNTH_KEY", "")  attempts = 1 }
mutations ways { in topic: text  one "One way: {{ topic }}"  other "Another way: {{ topic }}" }
task write { in topic: text
  let tone: "kind" | "rude" = sample
  let way: text = ask one of ways
  out (score: int, why: text) = ask "{{ tone }}: {{ way }} {{ output_format }}" system "You are {{ tone }}."
}
table topics = read("topics.jsonl")
table t = topics |> write |> where("score > 3")
"""


@pytest.fixture
def chain(folder: Path) -> Path:
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "chain.synth"
    path.write_text(CHAIN, encoding="utf-8")
    return path


def scored(seen: Seen) -> str | Fault:
    """A way for each topic; of two topics a good score, of the others a bad one."""
    if "way:" in seen.prompt and "JSON" not in seen.prompt:
        return f"the way of {seen.prompt}"
    return json.dumps({"score": 9 if "topic 1" in seen.prompt else 2, "why": "so"})


def document(done: Any) -> dict[str, Any]:
    assert done.status == 0, done.err
    return json.loads(done.out)


def rows_of(found: dict[str, Any], table: str) -> list[dict[str, Any]]:
    return next(t["rows"] for t in found["tables"] if t["name"] == table)


def test_each_row_shows_what_was_drawn_asked_answered_and_read(chain: Path, call: Synthc) -> None:
    with serving(scored) as server:
        found = document(call("preview", chain, "-n", "2", "--json", SYNTH_URL=server.url))
        assert server.count == 4
    assert found["ok"] is True
    dropped, kept = rows_of(found, "t")
    (drawn,) = kept["drawn"]
    assert drawn["column"] == "write.tone"
    way, score = kept["asked"]
    assert way["prompt"] in ("one", "other")
    assert way["messages"] == [
        ["user", f"{'One' if way['prompt'] == 'one' else 'Another'} way: topic 1"]
    ]
    assert way["values"] == {"way": way["answer"]}
    assert score["messages"][0] == ["system", f"You are {drawn['value']}."]
    assert score["messages"][1][1].startswith(f"{drawn['value']}: the way of")
    assert score["answer"] == '{"score": 9, "why": "so"}'
    assert score["values"] == {"score": 9, "why": "so"}
    assert score["sent"] is True
    assert kept["status"] == "kept"
    assert kept["columns"] == {"topic": "topic 1", "score": 9, "why": "so", "model_name": "m"}
    assert (dropped["status"], dropped["why"]) == ("dropped", "the `where` of line 9")
    assert dropped["columns"] is None


def test_the_run_after_it_does_not_pay_again(chain: Path, call: Synthc) -> None:
    with serving(scored) as server:
        call("preview", chain, "-n", "2", SYNTH_URL=server.url)
        assert server.count == 4
        again = document(call("preview", chain, "-n", "2", "--json", SYNTH_URL=server.url))
        assert server.count == 4
        assert not any(ask["sent"] for row in rows_of(again, "t") for ask in row["asked"])
        assert call("run", chain, SYNTH_URL=server.url).status == 0
        assert server.count == 10
    with duckdb.connect(str(chain.with_suffix(".duckdb")), read_only=True) as connection:
        calls = connection.sql(
            "SELECT count(*), count(DISTINCT digest) FROM synth.calls"
        ).fetchall()
        assert calls == [(10, 10)]
        statuses = connection.sql("SELECT status FROM synth.runs ORDER BY run_id").fetchall()
        assert statuses == [("preview",), ("preview",), ("done",)]


def test_a_complete_table_stays_as_it_is(chain: Path, call: Synthc) -> None:
    database = chain.with_suffix(".duckdb")
    query = "SELECT table_name, status, run_id, kept FROM synth.tables ORDER BY ALL"
    with serving(scored) as server:
        call("run", chain, SYNTH_URL=server.url)
        with duckdb.connect(str(database), read_only=True) as connection:
            before = connection.sql(query).fetchall()
        call("preview", chain, "-n", "1", SYNTH_URL=server.url)
        assert server.count == 10
    with duckdb.connect(str(database), read_only=True) as connection:
        assert connection.sql(query).fetchall() == before
        assert connection.sql("SELECT count(*) FROM topics").fetchall() == [(5,)]


def test_a_page(chain: Path, call: Synthc) -> None:
    with serving(scored) as server:
        done = call("preview", chain, "-n", "2", "--table", "t", SYNTH_URL=server.url)
    assert done.status == 0, done.err
    page = done.out[done.out.index("t, row 2 of 2") :]
    assert "    drawn write.tone = " in page
    assert "  write.way (by the prompt " in page
    assert "  system\n  │ You are " in page
    assert '  answer of m\n  │ {"score": 9, "why": "so"}\n    read score = 9\n' in page
    assert "  kept\n    topic       topic 1\n    score       9\n" in page
    assert "  dropped, by the `where` of line 9\n" in done.out
    assert "4 calls sent, 0 answered from the store; they are kept\n" in done.err
    assert done.err.endswith(f"next: synthc run {chain}\n")


def test_an_answer_that_breaks_its_contract_is_shown_with_what_came_after(
    chain: Path, call: Synthc
) -> None:
    def answer(seen: Seen) -> str:
        return "no JSON" if len(seen.body["messages"]) == 2 else '{"score": 7, "why": "so"}'

    with serving(answer) as server:
        found = document(call("preview", chain, "-n", "1", "--json", SYNTH_URL=server.url))
        page = call("preview", chain, "-n", "1", SYNTH_URL=server.url).out
    (row,) = rows_of(found, "t")
    _, first, second = row["asked"]
    assert first["values"] is None
    assert first["problems"]
    assert (second["reask"], second["values"]["score"]) == (1, 7)
    assert len(second["messages"]) == 4
    assert "  nothing could be read of it\n" in page
    assert "asked again" in page


def test_a_row_that_fails_says_why(chain: Path, call: Synthc) -> None:
    def answer(seen: Seen) -> str | Fault:
        return FAULTS["400"] if "topic 0" in seen.prompt else scored(seen)

    with serving(answer) as server:
        found = document(call("preview", chain, "-n", "2", "--json", SYNTH_URL=server.url))
        page = call("preview", chain, "-n", "1", SYNTH_URL=server.url).out
    row = rows_of(found, "t")[0]
    assert row["status"] == "failed"
    assert row["asked"][0]["answer"] is None
    assert row["asked"][0]["failed"].startswith("http_400")
    assert row["faults"][0]["column"] == "write.way"
    assert "  failed at write.way (chain.synth:5:3): " in page


def test_a_server_that_is_not_there_ends_it_with_a_message(chain: Path, call: Synthc) -> None:
    done = call("preview", chain, SYNTH_URL="http://127.0.0.1:9/v1")
    assert done.status == 3
    assert "stopped: backend `b`" in done.err
    assert "Traceback" not in done.err


def test_simulated(chain: Path, call: Synthc) -> None:
    done = call("preview", chain, "-n", "1", "--simulate")
    assert done.status == 0, done.err
    assert "answer of simulated" in done.out
    assert done.err.endswith(f"next: synthc run {chain} --simulate\n")
    assert chain.with_name("chain.simulated.duckdb").exists()
    assert not chain.with_name("chain.duckdb").exists()


def test_secrets_are_not_shown(chain: Path, call: Synthc) -> None:
    with serving(scored, key="sesame-open") as server:
        done = call(
            "preview", chain, "-n", "1", "--json", SYNTH_URL=server.url, SYNTH_KEY="sesame-open"
        )
        wrong = call("preview", chain, SYNTH_URL=server.url, SYNTH_KEY="sesame-shut")
    assert done.status == 0, done.err
    assert "sesame" not in done.out + done.err
    assert wrong.status != 0
    assert "sesame" not in wrong.out + wrong.err


def test_what_a_model_writes_cannot_steer_a_terminal(chain: Path, call: Synthc) -> None:
    with serving(
        lambda seen: "\x1b[2Jgone" if "JSON" not in seen.prompt else scored(seen)
    ) as server:
        done = call("preview", chain, "-n", "1", SYNTH_URL=server.url)
    assert "\\x1b[2Jgone" in done.out
    assert "\x1b" not in done.out


def test_rows_that_others_come_from_stand_before_them(folder: Path, call: Synthc) -> None:
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "x.synth"
    path.write_text(
        'backend b { url = env("SYNTH_URL")  model = "m" }\n'
        'task list_them { in topic: text  out parts: text[] = ask "{{ topic }} {{ output_format }}" }\n'
        'task write { in part: text  out answer: text = ask "{{ part }}" }\n'
        'table t = read("topics.jsonl") |> list_them |> unnest(parts as part) |> write\n',
        encoding="utf-8",
    )
    with serving(lambda seen: '["a", "b"]' if "topic" in seen.prompt else "fine") as server:
        rows = rows_of(
            document(call("preview", path, "-n", "2", "--json", SYNTH_URL=server.url)), "t"
        )
    statuses = [(row["key"].partition("/")[2], row["status"]) for row in rows]
    assert statuses == [("", "unnested"), ("1", "kept"), ("2", "kept")] * 2


def test_rows_are_drawn_from_all_of_a_table_that_costs_nothing(folder: Path, call: Synthc) -> None:
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "x.synth"
    path.write_text(
        'backend b { url = env("SYNTH_URL")  model = "m" }\n'
        'task write { in shots: {topic: text}[]  out answer: text = ask "{{ shots }}" }\n'
        'table gold = read("topics.jsonl")\n'
        "table t = rows(4) |> draw(3, from = gold) as shots |> write\n",
        encoding="utf-8",
    )
    with serving() as server:
        found = document(call("preview", path, "-n", "1", "--json", SYNTH_URL=server.url))
        assert server.count == 1
        assert call("run", path, SYNTH_URL=server.url).status == 0
        assert server.count == 4
    gold = next(t for t in found["tables"] if t["name"] == "gold")
    assert (len(gold["rows"]), gold["total"]) == (1, 5)
    assert found["notes"] == []


def test_sql_over_few_rows_is_said(folder: Path, call: Synthc) -> None:
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "x.synth"
    path.write_text(
        'backend b { url = env("SYNTH_URL")  model = "m" }\n'
        'task write { in topic: text  out answer: text = ask "{{ topic }}" }\n'
        'table a = read("topics.jsonl") |> write\n'
        'table n = sql "SELECT count(*) AS n FROM a"\n',
        encoding="utf-8",
    )
    with serving() as server:
        found = document(call("preview", path, "-n", "2", "--json", SYNTH_URL=server.url))
    assert rows_of(found, "n")[0]["columns"] == {"n": 2}
    assert found["notes"] == [
        "`n` saw only these rows of `a`: in a run it sees all of them, and what it asks may differ"
    ]


def test_a_table_that_is_not_there_is_named_with_the_nearest(chain: Path, call: Synthc) -> None:
    done = call("preview", chain, "--table", "topic", "--simulate")
    assert done.status == 2
    assert "did you mean `topics`?" in done.err


@pytest.mark.parametrize("columns", [80, 140])
def test_a_page_fits_a_terminal(chain: Path, terminal: Callable[..., str], columns: int) -> None:
    env = {"NO_COLOR": "1", "TERM": "dumb"}
    shown = without_codes(terminal(columns, "preview", str(chain), "--simulate", env=env))
    *lines, following = shown.rstrip().splitlines()
    assert following.startswith("next:")  # a command is never broken
    assert max(map(len, lines)) <= columns
