"""Anthropic's messages: what is sent, and what becomes of each documented answer."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthc.compiler.plan import Backend, Env, Sampling
from synthc.compiler.span import Span
from synthc.runtime.backends.open import OpenBackend, open_backends
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import Answer, Message, Request
from synthc.runtime.errors import RowFailed, Stopped
from tests.runtime.helpers import compiled, made, rows
from tests.runtime.loopback import Loopback, Said, Sent, listening

SPAN = Span("pets.synth", 3, 1, 3, 20)
FAST = Pace(backoff_s=0.01, backoff_max_s=0.05, patience_s=5.0)
KEY = "sk-ant-very-secret"
HI = Request((Message("user", "Hi"),))
SCORE = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
}


def message(
    *blocks: dict[str, Any], stop_reason: str = "end_turn", cached: dict[str, int] | None = None
) -> dict[str, Any]:
    """A reply in the documented form."""
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(blocks),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 12, "output_tokens": 6} | (cached or {}),
    }


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def called(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": name, "input": given}


def error(status: int, kind: str, words: str, **headers: str) -> Said:
    """An error in the documented form, with the key in its words."""
    said = {"type": kind, "message": f"{words} (sent with {KEY})"}
    body = {"type": "error", "error": said, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}
    return Said(body, status, headers)


def use(server: Loopback, then: Callable[[OpenBackend], Any], **settings: Any) -> Any:
    """What a coroutine function makes of a backend at a server."""
    spec = Backend(
        name="claude",
        span=SPAN,
        protocol="anthropic",
        url=f"{server.url}/v1",
        model="claude-sonnet-4-5",
        api_key=Env("ANTHROPIC_API_KEY"),
        **settings,
    )

    async def run() -> Any:
        env = {"ANTHROPIC_API_KEY": KEY}
        async with open_backends([spec], env=env, base=Path(), pace=FAST) as backends:
            return await then(backends["claude"])

    return asyncio.run(run())


def ask(server: Loopback, request: Request = HI, **settings: Any) -> Answer:
    return use(server, lambda backend: backend.complete(request), **settings)


def test_a_question_is_sent_as_documented() -> None:
    sampling = Sampling(
        temperature=0.5, max_tokens=100, top_p=0.9, stop=("END",), extra={"top_k": 5}
    )
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello!"),
        Message("system", "Be kind."),
        Message("user", "Who are you?"),
    )
    with listening(lambda _: message(text("A model."))) as server:
        answer = ask(server, Request(turns), sampling=sampling, headers={"anthropic-beta": "x-1"})
    (sent,) = server.requests
    assert sent.path == "/v1/messages"
    assert sent.body == {
        "model": "claude-sonnet-4-5",
        "temperature": 0.5,
        "max_tokens": 100,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "top_k": 5,
        "system": "Be brief.\n\nBe kind.",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Who are you?"},
        ],
    }
    assert sent.headers["x-api-key"] == KEY
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert sent.headers["anthropic-beta"] == "x-1"
    assert "authorization" not in sent.headers
    assert (answer.text, answer.model) == ("A model.", "claude-sonnet-4-5-20250929")
    assert (answer.finish_reason, answer.input_tokens, answer.output_tokens) == ("stop", 12, 6)
    assert answer.reasoning is None


def test_tokens_of_a_cached_prompt_are_counted() -> None:
    usage = {"cache_read_input_tokens": 1000, "cache_creation_input_tokens": 200}
    with listening(lambda _: message(text("A"), cached=usage)) as server:
        assert ask(server).input_tokens == 1212


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_why_it_ended(stop_reason: str, finish_reason: str) -> None:
    with listening(lambda _: message(text("A"), stop_reason=stop_reason)) as server:
        assert ask(server).finish_reason == finish_reason


def test_thoughts_are_split_off() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Who asks?", "signature": "EqQBCgIYAhIM"},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
        {"type": "thinking", "thinking": "A friend.", "signature": "EqQBCgIYAhIM"},
        text("Hello, "),
        text("friend."),
    ]
    with listening(lambda _: message(*blocks)) as server:
        answer = ask(server)
    assert (answer.text, answer.reasoning) == ("Hello, friend.", "Who asks?\n\nA friend.")


def test_a_schema_is_the_input_of_a_tool() -> None:
    blocks = [text("Let me see."), called("answer", {"score": 7})]
    with listening(lambda _: message(*blocks, stop_reason="tool_use")) as server:
        answer = ask(server, Request(HI.messages, SCORE))
    body = server.requests[0].body
    (tool,) = body["tools"]
    assert tool["input_schema"] == SCORE
    assert body["tool_choice"] == {"type": "tool", "name": tool["name"]}
    assert (json.loads(answer.text), answer.finish_reason) == ({"score": 7}, "stop")


def test_an_array_comes_out_of_the_object_that_a_tool_must_have() -> None:
    schema = {"type": "array", "items": {"type": "string"}}

    def answer(sent: Sent) -> dict[str, Any]:
        (tool,) = sent.body["tools"]
        assert tool["input_schema"]["type"] == "object"
        assert tool["input_schema"]["properties"] == {"items": schema}
        return message(called(tool["name"], {"items": ["a", "b"]}), stop_reason="tool_use")

    with listening(answer) as server:
        assert json.loads(ask(server, Request(HI.messages, schema)).text) == ["a", "b"]


def test_a_server_that_calls_no_tool_answers_in_text() -> None:
    with listening(lambda _: message(text('{"score": 3}'))) as server:
        assert json.loads(ask(server, Request(HI.messages, SCORE)).text) == {"score": 3}


def test_a_model_that_thinks_is_asked_without_the_tool_it_may_not_be_made_to_call() -> None:
    words = "Thinking may not be enabled when tool_choice forces tool use."

    def answer(sent: Sent) -> Said | dict[str, Any]:
        if "tools" in sent.body:
            return error(400, "invalid_request_error", words)
        return message(text('{"score": 3}'))

    sampling = Sampling(extra={"thinking": {"type": "enabled", "budget_tokens": 1024}})

    async def twice(backend: OpenBackend) -> list[str]:
        return [(await backend.complete(Request(HI.messages, SCORE))).text for _ in range(2)]

    with listening(answer) as server:
        assert use(server, twice, sampling=sampling) == ['{"score": 3}'] * 2
    assert ["tools" in sent.body for sent in server.requests] == [True, False, False]
    assert server.requests[1].body["thinking"]["budget_tokens"] == 1024


@pytest.mark.parametrize("status", [500, 503, 529, 429])
def test_what_may_pass_is_asked_again(status: int) -> None:
    kinds = {429: "rate_limit_error", 529: "overloaded_error"}
    fault = error(status, kinds.get(status, "api_error"), "Overloaded", **{"retry-after": "0"})
    with listening(lambda _: fault if len(server.requests) < 3 else message(text("A"))) as server:
        answer = ask(server, attempts=3)
    assert (answer.text, len(server.requests)) == ("A", 3)
    assert answer.attempts == (1 if status in {429, 529} else 3)


@pytest.mark.parametrize(
    ("fault", "says", "hint"),
    [
        (error(401, "authentication_error", "invalid x-api-key"), "refuses the key", "ANTHROPIC_"),
        (error(403, "permission_error", "no access"), "refuses the key", "ANTHROPIC_API_KEY"),
        (error(402, "billing_error", "unpaid"), "wants to be paid", "top up"),
        (
            error(400, "invalid_request_error", "Your credit balance is too low"),
            "wants to be paid",
            "top up",
        ),
        (error(404, "not_found_error", "model: claude-x"), "model: claude-x", "before /messages"),
    ],
)
def test_what_no_retry_mends_stops_the_run(fault: Said, says: str, hint: str) -> None:
    with listening(lambda _: fault) as server, pytest.raises(Stopped, match=says) as stopped:
        ask(server)
    assert hint in str(stopped.value.hint)
    shown = "".join(traceback.format_exception(stopped.value)) + str(stopped.value.hint)
    assert KEY not in shown
    assert "sent with ***" in str(stopped.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        (error(400, "invalid_request_error", "prompt is too long"), "http_400", "too long"),
        (error(413, "request_too_large", "Request exceeds"), "http_413", "Request exceeds"),
        (Said(message(stop_reason="refusal")), "refused", "the model refuses"),
        (Said(message(text("I cannot."), stop_reason="refusal")), "refused", "I cannot"),
    ],
)
def test_a_request_that_is_refused_fails_its_row(fault: Said, reason: str, says: str) -> None:
    with listening(lambda _: fault) as server, pytest.raises(RowFailed, match=says) as failed:
        ask(server)
    assert failed.value.reason == reason
    assert len(server.requests) == 1
    assert KEY not in str(failed.value)


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", '{"content": null}', '{"choices": []}', '{"error": "no"}']
)
def test_what_is_no_message_is_no_answer(body: str) -> None:
    with (
        listening(lambda _: Said(body)) as server,
        pytest.raises(RowFailed, match="cannot be read") as failed,
    ):
        ask(server, attempts=2)
    assert failed.value.reason == "bad_answer"
    assert len(server.requests) == 2


SPEC = """
backend claude {
  protocol = "anthropic"
  url = env("SYNTH_URL")  api_key = env("ANTHROPIC_API_KEY")
  model = "claude-sonnet-4-5"
}
task judge {
  in  topic: text
  out (score: int, why: text) = ask "Judge {{ topic }}" system "Be strict."
}
table judged = sql "SELECT 'rain' AS topic" |> judge
"""


def test_a_spec_is_run_and_its_key_and_thoughts_stay_where_they_belong(tmp_path: Path) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Rain is wet.", "signature": "Eq"},
        called("answer", {"score": 4, "why": "wet"}),
    ]
    env = {"ANTHROPIC_API_KEY": KEY}
    with listening(lambda _: message(*blocks, stop_reason="tool_use")) as server:
        made(SPEC, tmp_path, f"{server.url}/v1", env=env)
    assert server.requests[0].body["max_tokens"] == 4096
    assert server.requests[0].headers["x-api-key"] == KEY
    assert rows(tmp_path, "SELECT score, why FROM judged") == [(4, "wet")]
    (call,) = rows(tmp_path, "SELECT answer, reasoning, finish_reason FROM synth.calls")
    assert call == ('{"score":4,"why":"wet"}', "Rain is wet.", "stop")
    assert "Rain is wet" not in str(rows(tmp_path, "FROM judged"))
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_where_a_spec_names_no_url_the_vendor_is_asked(tmp_path: Path) -> None:
    plan = compiled(SPEC.replace('url = env("SYNTH_URL")', ""), tmp_path)

    async def where() -> str:
        env = {"ANTHROPIC_API_KEY": KEY}
        async with open_backends(plan.backends, env=env, base=tmp_path) as backends:
            return backends["claude"].where

    assert asyncio.run(where()) == "https://api.anthropic.com/v1"
