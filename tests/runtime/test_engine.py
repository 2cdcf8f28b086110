"""Tables as rows walk through them: what is asked, what is kept, in which order, and what is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.answers import Seen
from bench.faults import FAULTS, Fault
from bench.server import serving
from synthc.runtime.engine.engine import Progress
from synthc.runtime.engine.gate import Limit
from synthc.runtime.errors import RunError
from tests.runtime.helpers import (
    BACKEND,
    SURE,
    WRITE,
    answering,
    column,
    lines,
    made,
    prompts,
    rows,
    topics,
)

ASK_INT = """
task judge { in topic: text  out score: int = ask "Judge {{ topic }}" }
"""
READ = 'table t = read("topics.jsonl") '


def counts(progress: Progress) -> tuple[int, int, int, int, int]:
    """rows in, kept, dropped, failed, not asked"""
    c = progress.counts()
    assert c.rows_in == c.kept + c.dropped + c.failed + c.not_asked
    return c.rows_in, c.kept, c.dropped, c.failed, c.not_asked


# Rows in = kept + dropped + failed + not asked


def test_rows_are_counted_whatever_becomes_of_them(tmp_path: Path) -> None:
    lines(
        tmp_path,
        "topics.jsonl",
        [
            {"n": 1, "topic": "good"},
            {"n": 2, "topic": "broken"},
            {"n": 3, "topic": None},
            {"n": 4, "topic": "dropped"},
            {"n": 0, "topic": "divided"},
            {"n": 6, "topic": "refused"},
            {"n": 7, "topic": "good too"},
        ],
    )

    def answer(prompt: str) -> str | Fault:
        if "refused" in prompt:
            return FAULTS["422"]
        return "no number" if "broken" in prompt else '{"score": 7}'

    spec = f"""{BACKEND.replace("attempts = 2", "reasks = 0")} {ASK_INT}
    task divide {{ in n: int  out part: int = sql "CAST(12 // n AS BIGINT)" }}
    {READ} |> where("topic IS NULL OR topic <> 'dropped'") |> divide |> judge"""
    with serving(answering(answer)) as server:
        report = made(spec, tmp_path, server)
    assert counts(report.tables["t"]) == (7, 2, 1, 4, 0)
    assert rows(tmp_path, "SELECT topic, score, part FROM t") == [
        ("good", 7, 12),
        ("good too", 7, 1),
    ]
    statuses = "SELECT status FROM synth.rows WHERE table_name = 't' ORDER BY ordinal"
    assert column(tmp_path, statuses) == ["kept", "failed", "failed", "dropped"] + [
        "failed"
    ] * 2 + ["kept"]
    reasons = 'SELECT reason, "column", stops_row, place FROM synth.failures ORDER BY reason'
    found = rows(tmp_path, reasons)
    assert [row[0] for row in found] == ["contract", "http_422", "null", "sql"]
    assert all(row[2] for row in found)
    assert all(row[3].startswith("x.synth:") for row in found)


def test_sql_that_raises_on_one_row_fails_that_row_alone(tmp_path: Path) -> None:
    lines(tmp_path, "t.jsonl", ({"n": n, "text": "x" if n == 700 else str(n)} for n in range(3000)))
    spec = """
    task number { in text: text  out value: int = sql "CAST(text AS BIGINT)" }
    table t = read("t.jsonl") |> number |> where("CAST(text AS BIGINT) % 2 = 0")"""
    report = made(spec, tmp_path, "http://127.0.0.1:9")
    assert counts(report.tables["t"]) == (3000, 1499, 1500, 1, 0)
    ((reason, detail, key),) = rows(tmp_path, "SELECT reason, detail, row_key FROM synth.failures")
    assert reason == "sql"
    assert "Could not convert string 'x'" in detail
    assert [key] == column(tmp_path, "SELECT row_key FROM synth.rows WHERE ordinal = 700")


def test_a_nullable_answer_becomes_null_and_the_row_goes_on(tmp_path: Path) -> None:
    topics(tmp_path, 6)

    def answer(prompt: str) -> str | Fault:
        if "topic 2" in prompt:
            return FAULTS["422"]
        if "topic 4" in prompt:
            return '{"score": "none", "why": "because"}'
        return "no JSON" if "topic 3" in prompt or "used" in prompt else '{"score": 1, "why": "w"}'

    spec = f"""{BACKEND}
    task judge {{ in topic: text  out (score: int?, why: text?) = ask "Judge {{{{ topic }}}}" }}
    {READ} |> judge as j |> select("n, j.score AS score, j.why AS why")"""
    with serving(answering(answer)) as server:
        report = made(spec, tmp_path, server)
    assert counts(report.tables["t"]) == (6, 6, 0, 0, 0)
    assert rows(tmp_path, "SELECT score, why FROM t") == [
        (1, "w"),
        (1, "w"),
        (None, None),
        (None, None),
        (None, "because"),
        (1, "w"),
    ]
    failures = "SELECT reason, stops_row, detail FROM synth.failures ORDER BY reason, detail"
    found = rows(tmp_path, failures)
    assert [(reason, stops) for reason, stops, _ in found] == [
        ("contract", False),
        ("contract", False),
        ("http_422", False),
    ]


def test_a_broken_answer_is_asked_for_again_and_told_why(tmp_path: Path) -> None:
    topics(tmp_path, 2)

    def answer(seen: Seen) -> str:
        return '{"score": 5}' if len(seen.body["messages"]) == 5 else "Five!"

    with serving(answer) as server:
        report = made(BACKEND + ASK_INT + READ + "|> judge", tmp_path, server)
        assert counts(report.tables["t"]) == (2, 2, 0, 0, 0)
        assert server.count == 6
        told = server.requests[-1].body["messages"]
    assert [message["role"] for message in told] == ["user", *["assistant", "user"] * 2]
    assert "there is no JSON object in it" in told[-1]["content"]
    assert column(tmp_path, "SELECT reask FROM synth.calls ORDER BY reask") == [0, 0, 1, 1, 2, 2]


def test_a_cut_off_answer_says_what_to_raise(tmp_path: Path) -> None:
    topics(tmp_path, 1)
    spec = BACKEND.replace("attempts = 2", "reasks = 0") + ASK_INT + READ + "|> judge"
    cut = {"finish_reason": "length", "message": {"role": "assistant", "content": '{"sco'}}
    with serving(lambda _: Fault(edit=lambda c: c["choices"][0].update(cut))) as server:
        report = made(spec, tmp_path, server)
    assert counts(report.tables["t"]) == (1, 0, 0, 1, 0)
    assert "raise `max_tokens`" in column(tmp_path, "SELECT detail FROM synth.failures")[0]


# Order and limits


def test_rows_are_stored_in_their_order_whatever_the_latencies(tmp_path: Path) -> None:
    topics(tmp_path, 300)
    with serving(latency_s=(0.0, 0.05)) as server:
        made(BACKEND + WRITE + READ + "|> write", tmp_path, server)
        assert prompts(server) != sorted(prompts(server))
    assert column(tmp_path, "SELECT n FROM t") == list(range(300))
    positions = "SELECT position FROM synth.rows WHERE table_name = 't' ORDER BY ordinal"
    assert column(tmp_path, positions) == list(range(300))


@pytest.mark.parametrize("wanted", [0, 1, 7, 40])
def test_limit_takes_the_first_rows_and_asks_no_other(tmp_path: Path, wanted: int) -> None:
    topics(tmp_path, 40)
    with serving(latency_s=(0.0, 0.02)) as server:
        report = made(BACKEND + WRITE + READ + f"|> write |> limit({wanted})", tmp_path, server)
        assert server.count == wanted
    assert counts(report.tables["t"]) == (40, wanted, 0, 0, 40 - wanted)
    assert column(tmp_path, "SELECT n FROM t") == list(range(wanted))


def test_limit_behind_a_filter_asks_no_row_that_could_not_be_needed(tmp_path: Path) -> None:
    topics(tmp_path, 200)
    spec = BACKEND + WRITE + READ + '|> where("n % 3 = 0") |> write |> limit(10)'
    found = set()
    for n in range(3):
        with serving(latency_s=(0.0, 0.02)) as server:
            report = made(spec, tmp_path, server, database=f"{n}.duckdb")
            assert server.count == 10
        found.add(counts(report.tables["t"]))
        assert column(tmp_path, "SELECT n FROM t", f"{n}.duckdb") == list(range(0, 30, 3))
    assert found == {(200, 10, 18, 0, 172)}  # dropped: between the first and the tenth


def test_limit_behind_a_filter_on_answers_never_asks_more_than_could_be_needed(
    tmp_path: Path,
) -> None:
    topics(tmp_path, 60)

    def answer(prompt: str) -> str:
        return "yes" if int(prompt.rsplit(maxsplit=1)[-1]) % 2 else "no"

    spec = BACKEND + WRITE + READ + "|> write |> where(\"answer = 'yes'\") |> limit(8)"
    with serving(answering(answer), latency_s=(0.0, 0.02)) as server:
        report = made(spec, tmp_path, server)
        assert (
            server.count == 16
        )  # the eighth yes is row 15, and until then each row could be needed
        assert server.peak <= 8
    assert counts(report.tables["t"]) == (60, 8, 8, 0, 44)


def test_two_limits_and_a_failure_between(tmp_path: Path) -> None:
    topics(tmp_path, 50)

    def answer(prompt: str) -> str:
        return "nothing" if prompt == "Judge topic 1" else '{"score": 3}'

    spec = f"""{BACKEND.replace("attempts = 2", "reasks = 0")} {WRITE} {ASK_INT}
    {READ} |> where("n <> 2") |> limit(20) |> judge |> limit(5) |> write"""
    with serving(answering(answer), latency_s=(0.0, 0.01)) as server:
        report = made(spec, tmp_path, server)
        assert server.count == 6 + 5
    assert counts(report.tables["t"]) == (50, 5, 1, 1, 43)
    assert column(tmp_path, "SELECT n FROM t") == [0, 3, 4, 5, 6]


def test_a_row_that_a_limit_counts_does_not_fail_by_an_ask_before_it(tmp_path: Path) -> None:
    topics(tmp_path, 9)

    def answer(prompt: str) -> str | Fault:
        return FAULTS["422"] if prompt == "First topic 1" else prompt

    spec = f"""{BACKEND}
    task two {{
      in topic: text
      out first: text = ask "First {{{{ topic }}}}"
      out second: text = ask "Second {{{{ topic }}}}"
    }}
    {READ} |> two |> limit(3)"""
    with serving(answering(answer), latency_s=(0.0, 0.02)) as server:
        report = made(spec, tmp_path, server)
        assert server.count == 2 * 4
    assert counts(report.tables["t"]) == (9, 3, 0, 1, 5)
    assert column(tmp_path, "SELECT n FROM t") == [0, 2, 3]


def test_a_limit_lets_rows_in_by_their_numbers_alone() -> None:
    async def in_turn() -> None:
        gate = Limit(2)
        assert await gate.wanted(0)
        assert await gate.wanted(1)
        third = asyncio.create_task(gate.wanted(2))
        fourth = asyncio.create_task(gate.wanted(3))
        late = gate.enter(1)
        await asyncio.sleep(0)
        assert not third.done()
        left = gate.leave(0)
        assert await left
        assert await late
        assert await third
        assert not fourth.done()
        assert await gate.enter(2)
        assert not await fourth  # full
        assert not await gate.leave(3)

    async def gone_before_wanted() -> None:
        gate = Limit(1)
        second = asyncio.create_task(gate.wanted(2))
        await asyncio.sleep(0)
        gone = gate.leave(1)
        await asyncio.sleep(0)
        assert not second.done()
        gate.leave(0)
        assert await second
        assert await gone
        assert await gate.enter(2)
        assert gate.full
        assert not await gate.enter(3)
        assert not await gate.leave(4)
        assert await gate.leave(2)  # it has been here

    async def cancelled() -> None:
        gate = Limit(1)
        waiting = asyncio.ensure_future(gate.enter(1))
        waiting.cancel()
        gate.enter(0)
        assert gate.full

    with asyncio.Runner() as runner:
        for part in (in_turn, gone_before_wanted, cancelled):
            runner.run(asyncio.wait_for(part(), 5))


# Independent asks


def test_independent_asks_of_a_row_are_in_flight_together(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    spec = f"""{BACKEND}
    task both {{
      in topic: text
      out a: text = ask "A {{{{ topic }}}}"
      out b: text = ask "B {{{{ topic }}}}"
      out c: text = ask "C {{{{ topic }}}} {{{{ a }}}}"
    }}
    {READ} |> limit(1) |> both"""
    with serving(latency_s=0.05) as server:
        made(spec, tmp_path, server)
        assert server.count == 3
        assert server.peak == 2
        assert prompts(server)[2].startswith("C topic 0 answer ")


def test_filters_come_before_asks(tmp_path: Path) -> None:
    topics(tmp_path, 10)
    with serving() as server:
        made(BACKEND + WRITE + READ + '|> write |> where("n < 4")', tmp_path, server)
        assert server.count == 4


# Columns


def test_a_struct_holds_what_a_step_adds(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    spec = f"""{BACKEND} {WRITE}
    {READ} |> write as w |> select("n, w, upper(w.answer) AS loud")"""
    with serving(answering(lambda prompt: prompt.lower())) as server:
        made(spec, tmp_path, server)
    assert rows(tmp_path, "SELECT w, loud FROM t") == [
        ({"answer": f"about topic {n}", "model_name": "m"}, f"ABOUT TOPIC {n}") for n in range(2)
    ]


def test_values_of_all_types_go_through_a_row(tmp_path: Path) -> None:
    lines(
        tmp_path,
        "t.jsonl",
        [{"a": 1.5, "b": True, "c": ["x", None], "d": {"e": [1, 2]}, "f": "2024-01-02", "g": None}],
    )
    spec = 'table t = read("t.jsonl") |> select("*, d.e[1] + 1 AS two, f + INTERVAL 1 DAY AS next")'
    made(spec, tmp_path, "")
    found = rows(
        tmp_path, "SELECT a, b, c, d, CAST(f AS VARCHAR), g, two, CAST(next AS DATE) FROM t"
    )
    assert found[0][:5] == (1.5, True, ["x", None], {"e": [1, 2]}, "2024-01-02")
    assert found[0][5:7] == (None, 2)
    assert str(found[0][7]) == "2024-01-03"


def test_strange_text_comes_through(tmp_path: Path) -> None:
    strange = ["\x00 nul", "😀 \U0010ffff", "\u2028\r\n\t.", '"; DROP TABLE t; --', "{{ 7 * 7 }}"]
    lines(tmp_path, "topics.jsonl", ({"topic": text} for text in strange))
    with serving(answering(lambda prompt: prompt.removeprefix("About "))) as server:
        report = made(BACKEND + WRITE + READ + "|> write", tmp_path, server)
    assert counts(report.tables["t"]) == (5, 5, 0, 0, 0)
    assert rows(tmp_path, "SELECT topic, answer FROM t") == [(text, text) for text in strange]


# Which calls are one


def test_equal_prompts_are_one_call_where_nothing_is_sampled(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": f"topic {n % 3}"} for n in range(30)))
    with serving(latency_s=0.05) as server:
        report = made(SURE + WRITE + READ + "|> write", tmp_path, server)
        assert server.count == 3  # they were all in flight together
    assert counts(report.tables["t"]) == (30, 30, 0, 0, 0)
    assert (report.backends["b"].sent, report.backends["b"].from_store) == (3, 27)


def test_each_row_has_its_own_answer_where_something_is_sampled(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": "the same"} for n in range(10)))
    with serving() as server:
        made(BACKEND + WRITE + READ + "|> write", tmp_path, server)
        assert server.count == 10


def test_equal_prompts_that_fail_fail_every_row_at_its_own_place(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": "the same"} for n in range(4)))
    spec = f"""{SURE} {WRITE}
    task two {{ in topic: text  out other: text = ask "About {{{{ topic }}}}" }}
    {READ} |> write
    table u = read("topics.jsonl") |> two"""
    with serving(lambda _: FAULTS["422"], latency_s=0.05) as server:
        report = made(spec, tmp_path, server)
        assert server.count == 1
    assert counts(report.tables["t"]) == counts(report.tables["u"]) == (4, 0, 0, 4, 0)
    places = 'SELECT DISTINCT table_name, "column", place FROM synth.failures ORDER BY ALL'
    (first, second) = rows(tmp_path, places)
    assert first[0] == "t"
    assert second[0] == "u"
    assert first[2] != second[2]


def test_tables_of_the_same_source_and_task_share_their_calls(tmp_path: Path) -> None:
    topics(tmp_path, 8)
    spec = BACKEND + WRITE + READ + '|> write\ntable u = read("topics.jsonl") |> write as w'
    with serving(latency_s=0.02) as server:
        made(spec, tmp_path, server)
        assert server.count == 8
    assert column(tmp_path, "SELECT answer FROM t") == column(tmp_path, "SELECT w.answer FROM u")


def test_asking_twice_gives_two_answers(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    with serving() as server:
        made(BACKEND + WRITE + READ + "|> write as a |> write as b", tmp_path, server)
        assert server.count == 6


def test_a_rename_asks_nothing_again(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    first = BACKEND + WRITE + READ + "|> write"
    second = """
    # everything has another name, and stands elsewhere
    task compose { in topic: text  out words: text = ask "About {{ topic }}" }
    table pieces = read("topics.jsonl") |> compose as c
    backend other { url = env("SYNTH_URL")  model = "m"  attempts = 4  concurrency = 7 }"""
    with serving() as server:
        made(first, tmp_path, server)
        report = made(second, tmp_path, server)
        assert server.count == 5
    assert report.backends["other"].from_store == 5
    assert column(tmp_path, "SELECT answer FROM t") == column(
        tmp_path, "SELECT c.words FROM pieces"
    )


@pytest.mark.parametrize(
    "other",
    [
        BACKEND.replace('"m"', '"n"'),
        BACKEND.replace("attempts = 2", "max_tokens = 9"),
        SURE,
    ],
)
def test_what_changes_an_answer_asks_again(tmp_path: Path, other: str) -> None:
    topics(tmp_path, 2)
    with serving() as server:
        for backend in (BACKEND, other):
            made(backend + WRITE + READ + "|> write", tmp_path, server)
        assert server.count == 4


# Tables of tables


def test_tables_stand_on_tables(tmp_path: Path) -> None:
    topics(tmp_path, 20)
    spec = f"""{BACKEND} {WRITE}
    {READ} |> write |> where("n % 2 = 0")
    table u = t |> where("n > 4") |> select("n, n * 10 AS ten")
    table v = sql "SELECT count(*) AS n, max(ten) AS top FROM u"
    table w = sql "SELECT t.n, u.ten FROM t JOIN u USING (n)" key n"""
    with serving() as server:
        report = made(spec, tmp_path, server)
    assert counts(report.tables["u"]) == (10, 7, 3, 0, 0)
    assert rows(tmp_path, "FROM v") == [(7, 180)]
    assert column(tmp_path, "SELECT n FROM w") == list(range(6, 20, 2))
    kept = "SELECT row_key FROM synth.rows WHERE table_name = '{}' AND status = 'kept'"
    assert set(column(tmp_path, kept.format("u"))) < set(column(tmp_path, kept.format("t")))


def test_rows_are_numbered(tmp_path: Path) -> None:
    spec = (
        BACKEND + 'task make { out text: text = ask "Make something" }\ntable t = rows(4) |> make'
    )
    with serving() as server:
        made(spec, tmp_path, server)
        assert server.count == 4
        made(spec.replace("rows(4)", "rows(6)"), tmp_path, server)
        assert server.count == 6
    assert column(tmp_path, "SELECT row_key FROM synth.rows ORDER BY ordinal") == list("123456")


def test_a_failure_of_one_table_ends_the_run_and_not_later(tmp_path: Path) -> None:
    topics(tmp_path, 2000)
    lines(tmp_path, "keys.jsonl", [{"k": 1}, {"k": 1}])
    spec = BACKEND + WRITE + READ + '|> write\ntable k = read("keys.jsonl", key = k)'
    with serving(latency_s=0.2) as server, pytest.raises(RunError, match="stands twice"):
        made(spec, tmp_path, server)
    assert column(tmp_path, "SELECT status FROM synth.runs") == ["stopped"]
