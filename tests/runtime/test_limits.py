"""What a run may spend, how fast, and who is asked in the place of a backend that is out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import Server, serving
from synthc.compiler.plan import Sampling
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import Answer
from synthc.runtime.errors import RunError, Stopped
from synthc.runtime.run import Options, Report, run
from tests.runtime.helpers import WRITE, column, compiled, finished, made, rows, started, topics
from tests.runtime.test_backends import ManualClock, ask, in_loop, opened, outcomes, refused_url

QUICK = Pace(backoff_s=0.01, backoff_max_s=0.05, patience_s=5.0, grace_s=0.2)
PRICE = "price { input_usd_per_mtok = 1000  output_usd_per_mtok = 2000 }"
BACKEND = 'backend b { url = env("SYNTH_URL")  model = "m"  attempts = 2 }\n'
TABLE = 'table t = read("topics.jsonl") |> write'
SPEC = BACKEND + WRITE + TABLE


def spend(
    text: str, base: Path, server: Server | str, notes: list[str] | None = None, **options: Any
) -> Report:
    """What a run of a spec reports."""
    report = Report()
    env = {"SYNTH_URL": server if isinstance(server, str) else server.url} | options.pop("env", {})
    told = Options(base / "x.duckdb", base, env, pace=QUICK, **options)
    run(compiled(text, base), told, report, (notes if notes is not None else []).append)
    return report


# A minute


class Sent:
    """When requests came, by a clock that is set by hand: right where they come one at a time."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.at: list[float] = []

    def answer(self, seen: Seen) -> str:
        self.at.append(self._clock.now_s)
        return default_answer(seen)

    def most_a_minute(self) -> int:
        """The most requests in any minute."""
        return max(sum(start <= at < start + 60 for at in self.at) for start in self.at)


def paced() -> tuple[ManualClock, Pace]:
    clock = ManualClock()
    return clock, Pace(clock=clock.clock, sleep=clock.sleep, rng=lambda: 0.5)


@pytest.mark.parametrize("a_minute", [1, 30, 600])
@in_loop
async def test_no_minute_has_more_requests_than_are_allowed(a_minute: int) -> None:
    clock, pace = paced()
    sent = Sent(clock)
    count = min(3 * a_minute, 200)
    with serving(sent.answer) as server:
        async with opened(
            server, pace=pace, requests_per_minute=a_minute, concurrency=1
        ) as backend:
            ends = await outcomes(backend, count)
    assert all(isinstance(end, Answer) for end in ends)
    assert server.count == count
    assert sent.most_a_minute() <= a_minute + 1
    assert clock.now_s <= 1.05 * 60 * count / a_minute  # and hardly fewer


@in_loop
async def test_no_minute_has_more_tokens_than_are_allowed() -> None:
    clock, pace = paced()
    sent = Sent(clock)
    with serving(sent.answer) as server:
        async with opened(server, pace=pace, tokens_per_minute=100, concurrency=1) as backend:
            await backend.complete(ask())  # 3 tokens: from now on it is known what a call takes
            begun, sent.at = clock.now_s, []
            await outcomes(backend, 100)  # "row 7" and its answer: 4 tokens
    assert sent.most_a_minute() * 4 <= 100 + 2 * 4
    assert clock.now_s - begun <= 1.1 * 60 * 400 / 100


@in_loop
async def test_a_call_that_takes_less_than_was_thought_lets_the_next_go_sooner() -> None:
    clock, pace = paced()
    sampling = Sampling(max_tokens=400)
    with serving() as server:
        async with opened(
            server, pace=pace, tokens_per_minute=100, concurrency=1, sampling=sampling
        ) as backend:
            await outcomes(backend, 2)
    assert clock.now_s < 10  # and not the four minutes that 400 tokens are worth


@in_loop
async def test_a_clock_that_jumps_changes_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = paced()
    sent = Sent(clock)
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 * (-1) ** next(jumps))
    with serving(sent.answer, faults=[None] * 5 + [Fault(429, retry_after_s=30)]) as server:
        async with opened(server, pace=pace, requests_per_minute=60, concurrency=1) as backend:
            await outcomes(backend, 20)
    assert len(sent.at) == 20
    assert 19 + 30 - 2 <= clock.now_s <= 1.05 * (20 + 30)


@in_loop
async def test_calls_that_wait_for_their_turn_heed_retry_after() -> None:
    asked_at: list[float] = []

    def answer(_: Seen) -> str | Fault:
        asked_at.append(time.monotonic())
        return "fine" if len(asked_at) > 1 else Fault(429, retry_after_s=0.5)

    refused = asyncio.Event()

    async def sleep(seconds: float) -> None:
        refused.set()
        await asyncio.sleep(seconds)

    with serving(answer) as server:
        async with opened(server, pace=Pace(sleep=sleep), requests_per_minute=6000) as backend:
            first = asyncio.create_task(backend.complete(ask()))
            await refused.wait()
            await outcomes(backend, 5)
            await first
    assert len(asked_at) == 7
    assert min(asked_at[1:]) - asked_at[0] >= 0.5


@in_loop
async def test_a_paced_backend_that_refuses_is_asked_more_and_more_seldom() -> None:
    with serving(lambda _: FAULTS["429"]) as server:
        pace = Pace(rng=lambda: 1.0)
        async with opened(server, pace=pace, requests_per_minute=60_000) as backend:
            calls = asyncio.gather(*(backend.complete(ask(f"row {n}")) for n in range(200)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(calls, 1.5)
    assert server.count <= 64 + 2


# In all


def test_a_budget_of_tokens_stops_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    topics(tmp_path, 60)
    with serving(latency_s=0.01) as server:
        with pytest.raises(Stopped, match=r"100 tokens \(--max-tokens\) is used up: 20 calls"):
            spend(SPEC, tmp_path, server, max_tokens=100)
        assert server.count == 20  # of 5 tokens each: 3 words, and 2 of the answer
        assert column(tmp_path, "SELECT count(*) FROM synth.calls") == [20]
        assert column(tmp_path, "SELECT status FROM synth.runs") == ["stopped"]
        with pytest.raises(Stopped, match="20 calls took 100"):  # what was spent before is not its
            spend(SPEC, tmp_path, server, max_tokens=100)
        spend(SPEC, tmp_path, server)
        assert server.count == 60
    assert column(tmp_path, "SELECT n FROM t") == list(range(60))


def test_a_budget_of_dollars_is_kept_within_one_call(tmp_path: Path) -> None:
    topics(tmp_path, 60)
    spec = SPEC.replace("attempts", f"{PRICE} attempts")
    with serving(latency_s=(0.0, 0.02)) as server:
        with pytest.raises(Stopped, match=r"\$0.05 \(--max-usd\) is used up: 8 calls took \$0.056"):
            spend(spec, tmp_path, server, max_usd=0.05)
        assert server.count == 8  # 0.007 each: 3 * 0.001 + 2 * 0.002
        report = spend(spec, tmp_path, server, max_usd=52 * 0.007 + 0.001)
        assert server.count == 60
    assert report.cost(compiled(spec, tmp_path)) == pytest.approx(52 * 0.007)


def test_max_tokens_of_a_backend_bounds_what_is_set_aside(tmp_path: Path) -> None:
    topics(tmp_path, 30)
    spec = SPEC.replace("attempts", "max_tokens = 10  attempts")
    with serving(lambda _: "one two three four five six seven eight nine ten") as server:
        with pytest.raises(Stopped, match="used up"):
            spend(spec, tmp_path, server, max_tokens=100)
        assert server.count == 8  # 13 tokens each


def test_answers_without_counts_are_counted_by_their_length(tmp_path: Path) -> None:
    topics(tmp_path, 100)
    with serving(lambda _: FAULTS["no_usage"]) as server:
        with pytest.raises(Stopped, match="used up"):
            spend(SPEC, tmp_path, server, max_tokens=200)
        assert 10 <= server.count <= 40


def test_calls_that_fail_leave_the_budget_as_it_was(tmp_path: Path) -> None:
    topics(tmp_path, 20)
    spec = SPEC.replace("attempts = 2", "attempts = 20")
    with serving(faults={"500": 0.2, "429": 0.2, "drop": 0.1}) as server:
        spend(spec, tmp_path, server, max_tokens=200)
    assert column(tmp_path, "SELECT count(*) FROM t") == [20]


def test_without_a_price_dollars_cannot_be_counted(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    with serving() as server:
        with pytest.raises(RunError, match="what backend `b` costs is not known") as error:
            spend(SPEC, tmp_path, server, max_usd=1)
        assert server.count == 0
    assert error.value.exit_code == 1
    assert error.value.span


def test_the_command_stops_at_its_budget_and_says_how_to_go_on(tmp_path: Path) -> None:
    topics(tmp_path, 40)
    (tmp_path / "x.synth").write_text(SPEC.replace("attempts", f"{PRICE} attempts"))
    with serving() as server:
        command = started(tmp_path, "run", "--max-usd", "0.05", SYNTH_URL=server.url)
        status, said = finished(command)
        assert status == 3, said
        assert "the budget of $0.05 (--max-usd) is used up: 8 calls took $0.0560" in said
        assert "run the same command again, and it continues" in said
        status, said = finished(started(tmp_path, "run", SYNTH_URL=server.url))
        assert status == 0, said
        assert server.count == 40


# Another backend

TWO = """
backend b { url = env("SYNTH_URL")  model = "m"  attempts = 1  concurrency = 4  fallback = other }
backend other { url = env("OTHER_URL")  model = "n"  attempts = 1 }
"""
FALLING = TWO + WRITE + TABLE + " using b"


def test_another_backend_answers_while_the_first_is_out(tmp_path: Path) -> None:
    topics(tmp_path, 30)
    notes: list[str] = []
    with serving() as server, serving() as other:
        env = {"OTHER_URL": other.url}
        server.answer = lambda seen: FAULTS["drop"] if seen.number >= 10 else default_answer(seen)
        report = spend(FALLING, tmp_path, server, notes, env=env)
        assert other.count == 20
        server.answer = default_answer
        asked = server.count
        made(FALLING, tmp_path, server, env=env)
        assert (server.count, other.count) == (asked, 20)
    assert column(tmp_path, "SELECT n FROM t") == list(range(30))
    found = rows(
        tmp_path, "SELECT backend, model, count(*) FROM synth.calls GROUP BY ALL ORDER BY 1"
    )
    assert found == [("b", "m", 10), ("other", "n", 20)]
    assert column(tmp_path, "SELECT model_name FROM t ORDER BY n").count("n") == 20
    (note,) = [note for note in notes if "from now on `other` is asked" in note]
    assert "does not answer: 10 calls in a row failed" in note
    assert report.notes == ["b: was out, and `other` was asked in its place"]
    assert (report.backends["b"].sent, report.backends["other"].sent) == (10, 20)


def test_the_answers_of_another_backend_are_there_for_the_next_run(tmp_path: Path) -> None:
    topics(tmp_path, 10)
    with serving() as server, serving() as other:
        spend(FALLING, tmp_path, refused_url(), env={"OTHER_URL": other.url}, limit=4)
        spend(FALLING, tmp_path, server, env={"OTHER_URL": other.url})
        assert (server.count, other.count) == (6, 4)


def test_a_refused_key_is_no_outage(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    with serving(key="right") as server, serving() as other:
        with pytest.raises(Stopped, match="refuses the key"):
            spend(FALLING, tmp_path, server, env={"OTHER_URL": other.url})
        assert other.count == 0


def test_fallbacks_of_fallbacks_and_then_the_end(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    third = 'backend third { url = env("THIRD_URL")  model = "o"  attempts = 1 }\n'
    spec = third + FALLING.replace('model = "n"', 'model = "n" fallback = third')
    with serving() as server:
        env = {"OTHER_URL": refused_url(), "THIRD_URL": server.url}
        spend(spec, tmp_path, refused_url(), env=env)
    assert column(tmp_path, "SELECT DISTINCT backend FROM synth.calls") == ["third"]
    env |= {"THIRD_URL": refused_url()}
    with pytest.raises(Stopped, match=r"backend `third`: .* cannot be reached"):
        spend(spec.replace("About", "On"), tmp_path, refused_url(), env=env)


def test_a_fallback_costs_what_it_costs(tmp_path: Path) -> None:
    topics(tmp_path, 40)
    spec = FALLING.replace('model = "m"', 'model = "m" price { }')
    spec = spec.replace('model = "n"', f'model = "n" {PRICE}')
    with serving() as other:
        env = {"OTHER_URL": other.url}
        with pytest.raises(Stopped, match="8 calls took"):
            spend(spec, tmp_path, refused_url(), env=env, max_usd=0.05)
        report = spend(spec, tmp_path, refused_url(), env=env)
    assert report.cost(compiled(spec, tmp_path)) == pytest.approx(32 * 0.007)


def test_a_fallback_of_a_file_that_is_used(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    (tmp_path / "lib.synth").write_text(TWO.replace("other", "spare") + WRITE)
    spec = 'use "lib"\ntable t = read("topics.jsonl") |> lib.write using lib.b'
    assert compiled(spec, tmp_path).backends[0].fallback == "lib.spare"
    with serving() as server:
        spend(spec, tmp_path, refused_url(), env={"OTHER_URL": server.url})
    assert column(tmp_path, "SELECT DISTINCT backend FROM synth.calls") == ["lib.spare"]


def test_what_extends_a_backend_may_be_its_fallback(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    spec = """
    backend b { url = "http://127.0.0.1:1/v1"  model = "m"  requests_per_minute = 9  fallback = big }
    backend big extends b { model = "n" }
    backend judge extends b { model = "o" }
    """
    plan = compiled(spec + WRITE + TABLE + " using judge |> write using b as again", tmp_path)
    found = {b.name: (b.fallback, b.requests_per_minute) for b in plan.backends}
    assert found == {"b": ("big", 9), "big": (None, 9), "judge": ("big", 9)}
