"""Rows that are asked again, on purpose: what failed, and what was answered and is not good enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import Server, serving
from synthc.runtime.errors import RunError, Stopped
from synthc.runtime.store.aside import Again
from tests.runtime.helpers import BACKEND, SURE, WRITE, column, lines, made, prompts, rows, topics

JUDGE = """
task judge { in topic: text  out score: int = ask "Judge {{ topic }}" }
"""
TABLE = 'table t = read("topics.jsonl") |> judge'
SPEC = BACKEND.replace("attempts = 2", "attempts = 2  reasks = 1") + JUDGE + TABLE
CHAIN = BACKEND + WRITE + JUDGE + 'table t = read("topics.jsonl") |> write |> judge'


def asked(server: Server) -> list[str]:
    """What was asked since this was called last."""
    said = prompts(server)
    server.requests.clear()
    return said


# What failed


def test_only_what_failed_is_asked_again(tmp_path: Path) -> None:
    topics(tmp_path, 10)

    def faulty(seen: Seen) -> str | Fault:
        if "topic 3" in str(seen.body):
            return "no number"
        return FAULTS["400"] if seen.prompt == "Judge topic 7" else default_answer(seen)

    with serving(faulty) as server:
        report = made(SPEC, tmp_path, server)
        assert report.tables["t"].failed == 2
        asked(server)
        report = made(SPEC, tmp_path, server)
        assert (report.skipped, asked(server)) == (["t"], [])

        report = made(SPEC, tmp_path, server, retry_failed=True)
        again = asked(server)  # the broken answer was asked for a second time, in a conversation
        assert sorted(again)[:2] == ["Judge topic 3", "Judge topic 7"]
        assert len(again) == 3
        assert report.tables["t"].failed == 2

        server.answer = default_answer
        report = made(SPEC, tmp_path, server, retry_failed=True)
        assert sorted(asked(server)) == ["Judge topic 3", "Judge topic 7"]
        assert report.tables["t"].kept == 10
        assert report.notes == ["--retry-failed: 2 answers were set aside; t is made again"]
        made(SPEC, tmp_path, server)
        assert asked(server) == []
    assert column(tmp_path, "SELECT n FROM t") == list(range(10))
    assert rows(tmp_path, "FROM synth.failures") == []
    paid = "SELECT count(*) FROM synth.calls WHERE request LIKE '%topic 3%'"
    assert column(tmp_path, paid) == [5]
    assert column(tmp_path, f"{paid} AND superseded_by IS NULL") == [1]


def test_what_is_null_for_want_of_an_answer_is_asked_again(tmp_path: Path) -> None:
    topics(tmp_path, 4)
    spec = SPEC.replace("score: int", "score: int?") + '\ntable u = t |> select("n, score")'
    with serving(lambda seen: "?" if "topic 2" in str(seen.body) else '{"score": 4}') as s:
        made(spec, tmp_path, s)
        assert column(tmp_path, "SELECT n FROM u WHERE score IS NULL") == [2]
        asked(s)
        s.answer = lambda _: '{"score": 4}'
        made(spec, tmp_path, s, retry_failed=True)
        assert asked(s) == ["Judge topic 2"]
    assert column(tmp_path, "SELECT n FROM u WHERE score IS NULL") == []


def test_a_row_that_stopped_behind_its_asks_is_asked_anew_as_a_whole(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    spec = (
        CHAIN
        + """ |> late
task late { in score: int  out more: int = sql "if(score < 0, NULL, score + 1)" }
"""
    )
    bad = '{"score": -1}'
    with serving(lambda s: bad if s.prompt == "Judge topic 1" else default_answer(s)) as server:
        report = made(spec, tmp_path, server)
        assert report.tables["t"].failed == 1
        asked(server)
        server.answer = default_answer
        report = made(spec, tmp_path, server, retry_failed=True)
        assert sorted(asked(server)) == ["About topic 1", "Judge topic 1"]
        assert report.tables["t"].failed == 0


def test_equal_prompts_that_failed_are_asked_again_once(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": "the same"} for n in range(6)))
    spec = SURE.replace("attempts = 2", "reasks = 0") + JUDGE + TABLE
    with serving(lambda _: "no number") as server:
        assert made(spec, tmp_path, server).tables["t"].failed == 6
        assert server.count == 1
        # The row that asked is gone: the answer is the others' failure all the same.
        lines(tmp_path, "topics.jsonl", ({"n": n, "topic": "the same"} for n in range(3, 6)))
        assert made(spec, tmp_path, server).tables["t"].failed == 3
        server.answer = default_answer
        assert made(spec, tmp_path, server, retry_failed=True).tables["t"].kept == 3
        assert server.count == 2


def test_a_retry_that_was_stopped_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    topics(tmp_path, 12)
    spec = SPEC.replace("reasks = 1", "reasks = 0  concurrency = 1")
    with serving(lambda _: "no number") as server:
        assert made(spec, tmp_path, server).tables["t"].failed == 12
        asked(server)
        first = server.count
        server.answer = lambda seen: (
            default_answer(seen) if seen.number < first + 5 else FAULTS["401"]
        )
        with pytest.raises(Stopped):
            made(spec, tmp_path, server, retry_failed=True)
        assert column(tmp_path, "SELECT status FROM synth.tables") == ["stale"]
        asked(server)
        server.answer = default_answer
        made(spec, tmp_path, server, retry_failed=True)
        assert len(asked(server)) == 7
    assert column(tmp_path, "SELECT n FROM t") == list(range(12))


def test_nothing_failed(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    with serving() as server:
        made(SPEC, tmp_path, server)
        report = made(SPEC, tmp_path, server, retry_failed=True)
        assert server.count == 2
    assert report.skipped == ["t"]
    assert report.notes == ["--retry-failed: nothing that failed is in a complete table"]


# What was answered


def test_chosen_rows_are_asked_anew(tmp_path: Path) -> None:
    topics(tmp_path, 8)
    spec = CHAIN + '\ntable u = t |> select("n, score")'
    with serving() as server:
        made(spec, tmp_path, server)
        before = dict(rows(tmp_path, "SELECT n, answer FROM t"))
        asked(server)
        server.answer = lambda seen: '{"score": 77}' if "Judge" in seen.prompt else "anew"
        again = Again("n IN (2, 5) AND answer IS NOT NULL -- those")
        report = made(spec, tmp_path, server, again=again)
        assert sorted(asked(server)) == sorted(
            f"{verb} topic {n}" for verb in ("About", "Judge") for n in (2, 5)
        )
        assert report.notes == ["--again: 4 answers were set aside, of 2 rows of t"]
        made(spec, tmp_path, server, again=Again("n = 3", column="score"))
        assert asked(server) == ["Judge topic 3"]
        made(spec, tmp_path, server)
        assert asked(server) == []
    now = dict(rows(tmp_path, "SELECT n, answer FROM t"))
    assert {n for n in now if now[n] != before[n]} == {2, 5}
    assert column(tmp_path, "SELECT n FROM u WHERE score = 77") == [2, 3, 5]
    # What was paid for is there, and says which run set it aside.
    assert rows(
        tmp_path, "SELECT superseded_by, count(*) FROM synth.calls GROUP BY ALL ORDER BY 1"
    ) == [(2, 4), (3, 1), (None, 16)]


def test_a_table_that_was_renamed_has_its_answers(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    with serving() as server:
        made(SPEC, tmp_path, server)
        renamed = SPEC.replace("table t =", "table grades =")
        made(renamed, tmp_path, server)
        assert server.count == 3
        made(renamed, tmp_path, server, again=Again("n = 1"))
        assert server.count == 4


@pytest.mark.parametrize(
    ("again", "told"),
    [
        (Again("nope = 1"), '"nope" not found'),
        (Again("n ="), "`n =` is no condition in SQL"),
        (Again("true); DROP TABLE t; SELECT (1"), "no condition in SQL"),
        (Again("n > 99"), "no row of `t` satisfies `n > 99`"),
        (Again("n = 1", "nope"), "there is no table `nope` that asks"),
        (Again("n = 1", column="nope"), "`t` asks for no column `nope`"),
    ],
)
def test_a_choice_that_makes_no_sense(tmp_path: Path, again: Again, told: str) -> None:
    topics(tmp_path, 3)
    with serving() as server:
        made(SPEC, tmp_path, server)
        with pytest.raises(RunError, match=told):
            made(SPEC, tmp_path, server, again=again)
        assert made(SPEC, tmp_path, server).skipped == ["t"]
        assert server.count == 3


def test_which_table_is_meant_has_to_be_said(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    spec = SPEC + '\ntable v = read("topics.jsonl") |> judge'
    with serving() as server:
        made(spec, tmp_path, server, database="y.duckdb")
        with pytest.raises(RunError) as error:
            made(spec, tmp_path, server, database="y.duckdb", again=Again("n = 1"))
        assert error.value.message == "several tables ask: which is meant?"
        assert error.value.hint == "name it: --table t or v"
        with pytest.raises(RunError, match="no complete table `t`"):
            made(spec, tmp_path, server, again=Again("n = 1", "t"))


def test_rows_without_answers_of_their_own(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": "the same"} for n in range(6)))
    with serving() as server:
        made(SURE + JUDGE + TABLE, tmp_path, server)
        (first,) = column(
            tmp_path,
            "SELECT ordinal FROM synth.rows JOIN synth.calls USING (row_key) LIMIT 1",
        )
        with pytest.raises(RunError, match="no answers of their own"):
            made(SURE + JUDGE + TABLE, tmp_path, server, again=Again(f"n <> {first}"))
        assert made(SURE + JUDGE + TABLE, tmp_path, server).skipped == ["t"]
        made(SURE + JUDGE + TABLE, tmp_path, server, again=Again("true"))
        assert server.count == 2


# What it costs


def test_what_was_paid_for_stands_in_the_costs(tmp_path: Path) -> None:
    topics(tmp_path, 4)
    price = "price { input_usd_per_mtok = 2.0  output_usd_per_mtok = 10.0 }"
    spec = CHAIN.replace("attempts = 2", f"attempts = 2  {price}")
    with serving() as server:
        made(spec, tmp_path, server)
        cheaper = spec.replace("10.0", "5.0")
        made(cheaper, tmp_path, server, again=Again("n = 1", column="score"))
        made(CHAIN.replace("About", "On"), tmp_path, server)  # a price is nobody's duty
    costs = rows(
        tmp_path,
        'SELECT run_id, backend, table_name, "column", calls, input_tokens, output_tokens,'
        " round(cost_usd, 9) FROM synth.costs",
    )
    tokens = rows(tmp_path, "SELECT input_tokens, output_tokens FROM synth.calls LIMIT 1")
    ((given, got),) = tokens
    usd = [round(n * (2 * given + out * got) / 1e6, 9) for n, out in ((4, 10), (1, 5))]
    assert costs == [
        (1, "b", "t", "judge.score", 4, 4 * given, 4 * got, usd[0]),
        (1, "b", "t", "write.answer", 4, 4 * given, 4 * got, usd[0]),
        (2, "b", "t", "judge.score", 1, given, got, usd[1]),
        (3, "b", "t", "write.answer", 4, 4 * given, 4 * got, None),
    ]
    by_run = rows(tmp_path, "SELECT run_id, calls, input_tokens FROM synth.costs_by_run")
    assert by_run == [(1, 8, 8 * given), (2, 1, given), (3, 4, 4 * given)]
    assert rows(tmp_path, "SELECT backend, calls FROM synth.costs_by_backend") == [("b", 13)]
    by_task = rows(tmp_path, "SELECT task, calls FROM synth.costs_by_task ORDER BY task")
    assert by_task == [("judge", 5), ("write", 8)]
    by_column = rows(tmp_path, 'SELECT "column", calls FROM synth.costs_by_column ORDER BY 1')
    assert by_column == [("judge.score", 5), ("write.answer", 8)]
