"""Backends over real sockets on the loopback, against a server that goes wrong in every way."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import Server, serving
from synthc.compiler.plan import Backend, Env, Sampling
from synthc.compiler.span import Span
from synthc.runtime.backends.breaker import Outage, Unanswered
from synthc.runtime.backends.http import retry_after_s
from synthc.runtime.backends.limiter import Limiter
from synthc.runtime.backends.open import OpenBackend, open_backends
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import Answer, Message, Request
from synthc.runtime.backends.settings import Redactor
from synthc.runtime.errors import RowFailed, RunError, Stopped

SPAN = Span("pets.synth", 3, 1, 3, 20)
FAST = Pace(backoff_s=0.01, backoff_max_s=0.05, patience_s=5.0, grace_s=0.2)
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 10}},
    "required": ["score"],
    "additionalProperties": False,
}


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Lets pytest run a coroutine function, in an event loop of its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


def ask(text: str = "hello", schema: dict[str, Any] | None = None) -> Request:
    return Request((Message("user", text),), schema)


@asynccontextmanager
async def opened(
    url: str | Env | Server,
    *,
    env: Mapping[str, str] | None = None,
    pace: Pace = FAST,
    model: str | Env = "m",
    **settings: Any,
) -> AsyncIterator[OpenBackend]:
    address = url.url if isinstance(url, Server) else url
    spec = Backend(name="small", span=SPAN, model=model, url=address, **settings)
    async with open_backends([spec], env=env or {}, base=Path(), pace=pace) as backends:
        yield backends["small"]


async def ask_one(server: Server, **settings: Any) -> Answer:
    async with opened(server, **settings) as backend:
        return await backend.complete(ask())


async def outcomes(backend: OpenBackend, count: int) -> list[Answer | BaseException]:
    calls = (backend.complete(ask(f"row {n}")) for n in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def refused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@in_loop
async def test_an_answer_says_what_it_cost() -> None:
    with serving() as server:
        async with opened(server, sampling=Sampling(temperature=0.5, stop=("END",))) as backend:
            answer = await backend.complete(ask("how are you"))
            stats = backend.stats
    assert answer.text == f"answer {server.requests[0].digest}"
    assert (answer.model, answer.finish_reason, answer.attempts) == ("m", "stop", 1)
    assert (answer.input_tokens, answer.output_tokens) == (3, 2)
    assert answer.latency_s > 0
    assert (stats.calls, stats.input_tokens, stats.output_tokens, stats.limit) == (1, 3, 2, 64)
    sent = server.requests[0].body
    assert (sent["model"], sent["temperature"], sent["stop"]) == ("m", 0.5, ["END"])
    assert "max_tokens" not in sent


@in_loop
async def test_a_schema_is_asked_for() -> None:
    with serving() as server:
        async with opened(server) as backend:
            answer = await backend.complete(ask(schema=SCHEMA))
    assert 1 <= json.loads(answer.text)["score"] <= 10


@pytest.mark.parametrize("status", [400, 422])
@in_loop
async def test_a_server_without_schemas_is_asked_without(status: int) -> None:
    def answer(seen: Seen) -> str | Fault:
        if "response_format" in seen.body:
            return Fault(status, body='{"error": "response_format is not supported"}')
        return "plain"

    with serving(answer) as server:
        async with opened(server) as backend:
            texts = [(await backend.complete(ask(f"{n}", SCHEMA))).text for n in range(3)]
    assert texts == ["plain"] * 3
    assert server.count == 4  # it is tried once


@pytest.mark.parametrize(
    "fault",
    [
        *("429", "429-seconds", "429-date"),
        *("408", "500", "502", "503", "drop", "half"),
        *("wrong_json", "html", "empty_choices", "null_content"),
    ],
)
@in_loop
async def test_what_may_pass_is_asked_again(fault: str) -> None:
    with serving(faults=[fault, fault]) as server:
        async with opened(server, concurrency=8) as backend:
            answer = await backend.complete(ask())
            stats = backend.stats
    assert answer.text.startswith("answer")
    assert server.count == 3
    waited = fault.startswith("429")
    assert answer.attempts == (1 if waited else 3)
    assert (stats.rate_limited, stats.retries) == ((2, 0) if waited else (0, 2))
    assert (stats.limit < 8) == (waited or fault in {"503", "408"})


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "http_500"),
        ("503", "http_503"),
        ("drip", "timeout"),
        ("half", "connection"),
        ("html", "bad_answer"),
        ("wrong_json", "bad_answer"),
        ("empty_choices", "bad_answer"),
    ],
)
@in_loop
async def test_used_up_attempts_fail_the_row(fault: str, reason: str) -> None:
    with serving(faults=[None, fault, fault]) as server:
        async with opened(server, attempts=2, timeout_s=0.3) as backend:
            await backend.complete(ask())
            with pytest.raises(RowFailed, match="2 attempts") as failed:
                await backend.complete(ask())
            assert failed.value.reason == reason
            assert (await backend.complete(ask())).text
            assert backend.stats.failed == 1
    assert server.count == 4


@in_loop
async def test_a_drip_ends_at_the_timeout_however_often_a_byte_comes() -> None:
    with serving(faults=["drip"]) as server:
        async with asyncio.timeout(5):
            answer = await ask_one(server, timeout_s=0.3)
    assert answer.attempts == 2


@pytest.mark.parametrize("fault", ["400", "422"])
@in_loop
async def test_a_refused_request_is_not_sent_again(fault: str) -> None:
    with serving(faults=[fault]) as server:
        async with opened(server) as backend:
            with pytest.raises(RowFailed, match=f"fault {fault}") as failed:
                await backend.complete(ask())
            assert failed.value.reason == f"http_{fault}"
            assert (await backend.complete(ask())).attempts == 1


@in_loop
async def test_odd_answers_are_answers() -> None:
    parts = [{"type": "text", "text": "in "}, {"type": "image"}, {"type": "text", "text": "parts"}]
    odd = Fault(edit=lambda completion: completion["choices"][0]["message"].update(content=parts))
    with serving(faults=["length", "other_model", "no_usage", odd]) as server:
        async with opened(server) as backend:
            length, other, uncounted, joined = [await backend.complete(ask()) for _ in range(4)]
    assert length.finish_reason == "length"
    assert other.model == "another-model"
    assert (uncounted.input_tokens, uncounted.output_tokens) == (None, None)
    assert joined.text == "in parts"


@in_loop
async def test_a_refusal_fails_the_row() -> None:
    message = {"content": None, "refusal": "I would rather not"}
    refusal = Fault(edit=lambda completion: completion["choices"][0].update(message=message))
    with (
        serving(faults=[refusal]) as server,
        pytest.raises(RowFailed, match="rather not") as failed,
    ):
        await ask_one(server)
    assert failed.value.reason == "refused"


@in_loop
async def test_an_error_in_a_body_of_status_200_counts_as_its_code() -> None:
    hidden = Fault(body='{"error": {"message": "slow down", "code": 429}}')
    with serving(faults=[hidden]) as server:
        answer = await ask_one(server)
    assert answer.attempts == 1
    assert server.count == 2


@pytest.mark.parametrize(
    ("fault", "says", "hint"),
    [
        ("401", "refuses the key: fault 401", "SYNTH_API_KEY"),
        ("403", "refuses the key: fault 403", "SYNTH_API_KEY"),
        ("404", "no such address or model: fault 404", "check `model` and `url`"),
        (Fault(402), "wants to be paid", "top up"),
        (Fault(429, body='{"error": {"code": "insufficient_quota"}}'), "quota", "top up"),
        (Fault(429, retry_after_s=3600), "no request for 60 minutes", "wait"),
        (Fault(307, location="http://127.0.0.1:1/"), "redirects", "set `url`"),
    ],
)
@in_loop
async def test_what_no_retry_mends_stops_the_run(fault: str | Fault, says: str, hint: str) -> None:
    with serving(faults=[fault]) as server:
        env = {"SYNTH_API_KEY": "sk-secret-value"}
        async with opened(server, env=env, api_key=Env("SYNTH_API_KEY")) as backend:
            with pytest.raises(Stopped, match=says) as stopped:
                await backend.complete(ask())
            with pytest.raises(Stopped, match=says):
                await backend.complete(ask())
    assert server.count == 1
    assert hint in str(stopped.value.hint)
    assert stopped.value.span == SPAN
    assert_hides(stopped.value, "sk-secret-value")


@in_loop
async def test_a_prompt_that_moderation_refuses_fails_its_row() -> None:
    flagged = Fault(403, body='{"error": {"message": "your input was flagged"}}')
    with serving(faults=[flagged]) as server:
        async with opened(server) as backend:
            with pytest.raises(RowFailed, match="flagged"):
                await backend.complete(ask())
            assert (await backend.complete(ask())).text


@in_loop
async def test_a_server_that_is_not_there_stops_the_run() -> None:
    url = refused_url()
    async with opened(url, attempts=3) as backend:
        ends = await outcomes(backend, 20)
    assert {type(end) for end in ends} == {Outage}
    assert len({str(end) for end in ends}) == 1
    assert f"{url} cannot be reached: Connection refused" in str(ends[0])


@in_loop
async def test_a_server_that_takes_no_connections_counts_as_not_there() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        full = [socket.socket() for _ in range(4)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}/v1"
        async with opened(url, attempts=1, timeout_s=0.3) as backend:
            with pytest.raises(Stopped, match="cannot be reached: no connection in time"):
                await backend.complete(ask())
        for one in full:
            one.close()


@in_loop
async def test_a_server_that_fails_every_call_stops_the_run() -> None:
    with serving(lambda _: FAULTS["500"]) as server:
        async with opened(server, attempts=1, concurrency=1) as backend:
            ends = await outcomes(backend, 30)
    assert [type(end) for end in ends].count(Unanswered) == 9
    assert "10 calls in a row failed, the last with http_500: fault 500" in str(ends[-1])
    assert server.count == 10


@in_loop
async def test_failures_between_answers_stop_nothing() -> None:
    with serving(lambda seen: FAULTS["500"] if seen.number % 3 else "fine") as server:
        async with opened(server, attempts=1, concurrency=1) as backend:
            ends = await outcomes(backend, 60)
    assert [type(end) for end in ends].count(Answer) == 20


@in_loop
async def test_calls_under_way_end_when_the_backend_stops() -> None:
    def answer(seen: Seen) -> str | Fault:
        return FAULTS["401"] if seen.prompt == "row 0" else FAULTS["drip"]

    with serving(answer) as server:
        async with opened(server, timeout_s=60, concurrency=8) as backend, asyncio.timeout(5):
            ends = await outcomes(backend, 20)
    assert {type(end) for end in ends} == {Stopped}


@in_loop
async def test_a_cancelled_call_stays_cancelled_and_gives_its_place_back() -> None:
    with serving(faults=["drip", "drip"]) as server:
        async with opened(server, concurrency=2) as backend:
            calls = [asyncio.create_task(backend.complete(ask(f"{n}"))) for n in range(5)]
            await asyncio.to_thread(server.wait_for, 2)
            for call in calls[:3]:
                call.cancel()
            ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 3 + [Answer] * 2


class ManualClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


@in_loop
async def test_endless_429_stops_the_run() -> None:
    time = ManualClock()
    pace = Pace(clock=time.clock, sleep=time.sleep, rng=lambda: 0.5)
    asked_at: list[float] = []

    def refuse(_: Seen) -> Fault:
        asked_at.append(time.now_s)
        return FAULTS["429"]

    with serving(refuse) as server:
        async with opened(server, pace=pace, attempts=2) as backend:
            with pytest.raises(Stopped, match="“too many requests” for 10 minutes"):
                await backend.complete(ask())
    assert 600 <= time.now_s <= 700
    assert asked_at[:4] == [0.0, 0.5, 1.5, 3.5]
    assert asked_at[-1] - asked_at[-2] == 15.0


@in_loop
async def test_a_request_that_never_fits_fails_its_row_while_others_are_answered() -> None:
    time = ManualClock()
    pace = Pace(clock=time.clock, sleep=time.sleep)
    with serving(lambda seen: FAULTS["429"] if seen.prompt == "row 0" else "fine") as server:
        async with opened(server, pace=pace) as backend:
            huge = asyncio.create_task(backend.complete(ask("row 0")))
            while not huge.done():
                await backend.complete(ask("row 1"))
    with pytest.raises(RowFailed) as failed:
        huge.result()
    assert failed.value.reason == "http_429"


@in_loop
async def test_retry_after_holds_all_calls_back() -> None:
    time = ManualClock()
    pace = Pace(clock=time.clock, sleep=time.sleep, rng=lambda: 0.0)
    with serving(lambda _: str(time.now_s), faults=[Fault(429, retry_after_s=30)]) as server:
        async with opened(server, pace=pace, concurrency=1) as backend:
            ends = await outcomes(backend, 3)
    assert [end.text for end in ends if isinstance(end, Answer)] == ["30.0"] * 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2015 07:28:10 GMT",
                "date": "Wed, 21 Oct 2015 07:28:00 GMT",
            },
            10.0,
        ),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@in_loop
async def test_the_limit_follows_what_the_server_bears() -> None:
    with serving(cap=8, latency_s=0.01) as server:
        async with opened(server, concurrency=64) as backend:
            ends = await outcomes(backend, 600)
            stats = backend.stats
    assert all(isinstance(end, Answer) for end in ends)
    assert 4 <= stats.limit <= 16
    assert server.by_status[200] == 600
    assert stats.rate_limited < 250


@in_loop
async def test_concurrency_is_a_bound() -> None:
    with serving(latency_s=0.02) as server:
        async with opened(server, concurrency=5) as backend:
            await outcomes(backend, 30)
    assert server.peak == 5


@in_loop
async def test_the_limit_falls_to_what_was_let_in_and_grows_faster_and_faster() -> None:
    limiter = Limiter(100, Pace())
    for _ in range(100):
        assert limiter.enter(0.0)
    for _ in range(60):
        limiter.refused()
        limiter.leave()
    assert limiter.limit == 40
    limits: list[int] = []
    for _ in range(12):
        for _ in range(limiter.limit):
            limiter.answered()
        limits.append(limiter.limit)
    assert limits[0] == 40 + 1
    assert limits[3] in range(40 + 9, 40 + 12)  # 1 + 2 + 3 + 4, or a little less
    assert limits[-1] == 100
    for left in range(40, 0, -1):
        limiter.refused()
        assert limiter.limit == max(1, left - 1)
        limiter.leave()


@in_loop
async def test_requests_that_run_out_of_time_together_lower_the_limit_once() -> None:
    clock = ManualClock()
    limiter = Limiter(100, Pace(clock=clock.clock))
    for _ in range(100):
        assert limiter.enter(0.0)
    clock.now_s = 30.0
    for _ in range(10):
        limiter.timed_out(asked_at=0.0)
        limiter.leave()
    assert limiter.limit == 70
    limiter.timed_out(asked_at=30.5)
    assert limiter.limit == 49


@in_loop
async def test_sustained_refusals_are_asked_seldom_and_the_first_answer_ends_that() -> None:
    pace = Pace(rng=lambda: 1.0)
    with serving(lambda _: FAULTS["429"]) as server:
        async with opened(server, concurrency=32, pace=pace) as backend:
            calls = asyncio.gather(*(backend.complete(ask(f"row {n}")) for n in range(200)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(calls, 1.5)
            assert server.count <= 32 + 2  # those under way, then one, and one a second later
            assert backend.stats.limit == 1
            server.answer = default_answer
            ends = await outcomes(backend, 200)
    assert all(isinstance(end, Answer) for end in ends)


@in_loop
async def test_an_answer_under_way_when_the_backend_stops_is_not_lost() -> None:

    def answer(seen: Seen) -> str | Fault:
        if seen.prompt == "row 3":
            return FAULTS["401"]
        return "fine"

    with serving(answer) as server:
        server.wait_s = lambda seen: 0.0 if seen.prompt == "row 3" else 0.15
        async with opened(server, pace=Pace(grace_s=60), concurrency=4) as backend:
            ends = await outcomes(backend, 10)
    assert [type(end) for end in ends] == [Answer] * 3 + [Stopped] * 7
    assert server.count == 4


def assert_hides(error: BaseException, *secrets: str) -> None:
    shown = "".join(traceback.format_exception(error)) + str(getattr(error, "hint", ""))
    for secret in secrets:
        assert secret not in shown


@in_loop
async def test_a_key_that_the_server_echoes_is_not_shown() -> None:
    env = {"SYNTH_API_KEY": "sk-very-secret", "TRACE": "trace secret"}
    headers = {"X-Trace": Env("TRACE")}
    with serving(key="another") as server:
        async with opened(
            server, env=env, api_key=Env("SYNTH_API_KEY"), headers=headers
        ) as backend:
            with pytest.raises(Stopped) as stopped:
                await backend.complete(ask())
    assert server.requests[0].headers["authorization"] == "Bearer sk-very-secret"
    assert server.requests[0].headers["x-trace"] == "trace secret"
    assert "sent with Bearer ***" in str(stopped.value)
    assert_hides(stopped.value, "sk-very-secret", "trace secret")


@in_loop
async def test_an_url_of_the_environment_is_not_shown() -> None:
    url = refused_url().replace("127.0.0.1", "me:hunter22@localhost") + "?token=abcdef"
    async with opened(Env("SYNTH_URL", "http://x/v1"), env={"SYNTH_URL": url}) as backend:
        with pytest.raises(Stopped, match="the url in SYNTH_URL cannot be reached") as stopped:
            await backend.complete(ask())
    assert_hides(stopped.value, url, "hunter22", "abcdef", "localhost")


@in_loop
async def test_an_url_of_the_spec_is_shown_without_its_secrets() -> None:
    url = refused_url()
    secret = url.replace("127.0.0.1", "me:hunter22@127.0.0.1") + "?token=abcdef"
    async with opened(secret) as backend:
        with pytest.raises(Stopped, match=f"{url} cannot be reached") as stopped:
            await backend.complete(ask())
    assert_hides(stopped.value, "hunter22", "abcdef", "me:")


@in_loop
async def test_the_query_of_an_url_stays() -> None:
    with serving() as server:
        async with opened(server.url + "/?api-version=1") as backend:
            assert (await backend.complete(ask())).text


@in_loop
async def test_no_header_is_quoted_that_cannot_be_sent() -> None:
    env = {"KEY": "sk-broken\nsecret"}
    with pytest.raises(RunError, match="cannot be used") as error:
        async with opened("http://127.0.0.1:1/v1", env=env, api_key=Env("KEY")):
            pass
    assert_hides(error.value, "sk-broken", "secret")


def test_the_redactor_hides_other_spellings_and_parts() -> None:
    redactor = Redactor(["abcd", "abcdef", "a/b c", "xyz"])
    assert redactor.clean("abcdef abcd a%2Fb%20c xyz") == "*** *** *** xyz"
    assert Redactor([]).clean("nothing") == "nothing"


@pytest.mark.parametrize(
    ("settings", "says", "hint"),
    [
        ({"url": Env("SYNTH_URL")}, "the environment variable SYNTH_URL", "export SYNTH_URL=…"),
        ({"url": "http://h/v1", "api_key": Env("KEY")}, "`api_key` of backend `small`", ".env"),
        ({"url": "http://h/v1", "headers": {"X-A": Env("A")}}, "the header `X-A`", "export A=…"),
        ({"url": Env("SYNTH_URL", "")}, "has no `url`", "export SYNTH_URL=…"),
        ({"url": None}, "no .gguf file", "http://localhost:8000/v1"),
        ({"url": "localhost:8000/v1"}, "cannot be used: it does not start with http", ""),
        ({"url": "http://h/v1", "protocol": "smoke"}, "`smoke`", "openai"),
        ({"url": "http://h/v1", "model": Env("MODEL", "")}, "`model` of backend", ""),
    ],
)
@in_loop
async def test_a_setting_that_is_missing_is_named(
    settings: dict[str, Any], says: str, hint: str
) -> None:
    with pytest.raises(RunError, match=says) as error:
        async with opened(env={"KEY": "", "SYNTH_URL": " "}, **settings):
            pass
    assert hint in (error.value.hint or "")
    assert error.value.span == SPAN
    assert error.value.exit_code == 1


@in_loop
async def test_a_default_stands_in_for_the_environment() -> None:
    with serving() as server:
        model = Env("MODEL", "by-default")
        url = Env("SYNTH_URL", server.url)
        async with opened(url, env={"SYNTH_URL": ""}, model=model) as backend:
            assert (await backend.complete(ask())).model == "by-default"
            assert backend.where == server.url


@in_loop
async def test_a_proxy_of_the_environment_is_not_asked_for_the_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, refused_url())
    with serving() as server:
        assert (await ask_one(server)).text


@in_loop
async def test_a_gguf_behind_an_url_goes_by_the_name_the_server_gives_it() -> None:
    with serving(models=["the-one"]) as server:
        async with opened(server, model="models/any.gguf") as backend:
            assert backend.model == "the-one"
            await backend.complete(ask())
    assert server.requests[0].body["model"] == "the-one"


@in_loop
async def test_a_gguf_behind_an_url_of_many_models_needs_a_name() -> None:
    with (
        serving(models=["a", "b"]) as server,
        pytest.raises(RunError, match="serves a, b"),
    ):
        async with opened(server, model="models/any.gguf"):
            pass
