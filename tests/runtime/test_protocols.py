"""What a chat completion says and carries, and what a model thought before it answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bench.answers import Seen
from bench.faults import Fault
from bench.server import Server, serving
from synthc.runtime.backends.open import open_backends
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import Answer, Message, Request
from tests.runtime.helpers import column, compiled, made, rows
from tests.runtime.loopback import Loopback, Said, listening

FAST = Pace(backoff_s=0.01)
SPEC = """
backend b {
  url = env("SYNTH_URL")  api_key = env("SYNTH_API_KEY", "")  model = "m"
  temperature = 0.5  top_p = 0.9  max_tokens = 50  seed = 7  stop = ["END", "STOP"]
  extra {
    top_k = 20
    ignore_eos = true
    presence_penalty = -0.5
    guided_choice = ["a", "b"]
    chat_template_kwargs { enable_thinking = false }
  }
  headers { `X-Team` = "blue"  `X-Trace` = env("TRACE")  Authorization = env("OTHER", "") }
}
task write {
  out (answer: text, sure: bool) = ask "About rain"
}
table t = rows(1) |> write
"""
ENV = {"SYNTH_API_KEY": "sk-very-secret", "TRACE": "trace-secret"}


def test_all_that_a_backend_says_is_in_the_request(tmp_path: Path) -> None:
    with serving() as server:
        made(SPEC, tmp_path, server, env=ENV)
    (sent,) = server.requests
    assert {name: value for name, value in sent.body.items() if name != "response_format"} == {
        "model": "m",
        "messages": [{"role": "user", "content": "About rain"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 50,
        "seed": 7,
        "stop": ["END", "STOP"],
        "top_k": 20,
        "ignore_eos": True,
        "presence_penalty": -0.5,
        "guided_choice": ["a", "b"],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    wanted = sent.body["response_format"]
    assert (wanted["type"], wanted["json_schema"]["strict"]) == ("json_schema", True)
    schema = wanted["json_schema"]["schema"]
    assert schema["required"] == ["answer", "sure"]
    assert schema["additionalProperties"] is False
    assert sent.headers["x-team"] == "blue"
    assert sent.headers["x-trace"] == "trace-secret"
    assert sent.headers["authorization"] == "Bearer sk-very-secret"
    for file in tmp_path.iterdir():
        assert not {s for s in ENV.values() if s.encode() in file.read_bytes()}


MANY = """
backend b { url = env("SYNTH_URL")  model = "m" }
task name { out names: text[] = ask "Names. {{ output_format }}" }
task judge { out score: int = ask "A number. {{ output_format }}" }
table names = rows(3) |> name
table scores = names |> judge
"""


def test_a_schema_that_is_refused_costs_no_other_its_schema(tmp_path: Path) -> None:
    def answer(seen: Seen) -> str | Fault:
        schema = seen.body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema and schema["type"] == "array":  # as OpenAI says it
            said = "Invalid schema for response_format 'answer': schema must be of type 'object'"
            return Fault(400, body=json.dumps({"error": {"message": said}}))
        return '{"score": 7}' if schema else '["Ann", "Bo"]'

    with serving(answer) as server:
        made(MANY.replace('"m" }', '"m"  concurrency = 1 }'), tmp_path, server)
    asked = ["response_format" in seen.body for seen in server.requests]
    assert asked == [True, False, False, False, True, True, True]
    assert rows(tmp_path, "SELECT names, score FROM scores") == [(["Ann", "Bo"], 7)] * 3


def test_a_header_of_the_spec_is_sent_in_the_place_of_the_protocols(tmp_path: Path) -> None:
    with serving() as server:
        made(SPEC, tmp_path, server, env={**ENV, "OTHER": "Basic abcd"})
    assert server.requests[0].headers["authorization"] == "Basic abcd"


def answered(server: Server | Loopback) -> Answer:
    """What one question is answered."""
    plan = compiled('backend b { url = env("U")  model = "m" }', Path())
    env = {"U": server.url}

    async def ask() -> Answer:
        async with open_backends(plan.backends, env=env, base=Path(), pace=FAST) as backends:
            return await backends["b"].complete(Request((Message("user", "Why?"),)))

    return asyncio.run(ask())


def message(finish_reason: str = "stop", **parts: Any) -> Fault:
    changes = {"message": {"role": "assistant", **parts}, "finish_reason": finish_reason}
    return Fault(edit=lambda completion: completion["choices"][0].update(changes))


@pytest.mark.parametrize(
    ("parts", "text", "reasoning"),
    [
        ({"content": "Because."}, "Because.", None),
        ({"content": "B", "reasoning_content": "Hm."}, "B", "Hm."),
        ({"content": "B", "reasoning": "Hm."}, "B", "Hm."),
        ({"content": "B", "reasoning_content": "", "reasoning": None}, "B", None),
        ({"content": "B", "reasoning": ["Hm."]}, "B", None),
        ({"content": "<think>Hm.\n</think>\n\nB"}, "B", "Hm."),
        ({"content": " \n<think>\n\n</think>\n\nB"}, "B", None),
        ({"content": "<think>Hm. <think>?</think>B</think>"}, "B</think>", "Hm. <think>?"),
        ({"content": "Not at the start: <think>Hm.</think>"}, None, None),
        ({"content": "<thinking>Hm.</thinking>B"}, None, None),
        ({"content": "<think>One.</think>B", "reasoning": "Two."}, "B", "Two.\n\nOne."),
    ],
)
def test_thoughts_are_no_part_of_the_answer(
    parts: dict[str, Any], text: str | None, reasoning: str | None
) -> None:
    with serving(faults=[message(**parts)]) as server:
        answer = answered(server)
    assert (answer.text, answer.reasoning) == (
        parts["content"] if text is None else text,
        reasoning,
    )


@pytest.mark.parametrize(
    "parts",
    [{"content": "<think>Hm, that is"}, {"content": None, "reasoning_content": "Hm, that is"}],
)
def test_thoughts_that_were_cut_off_are_no_answer(parts: dict[str, Any]) -> None:
    with serving(faults=[message("length", **parts)]) as server:
        answer = answered(server)
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("", "Hm, that is", "length")


def stream(*chunks: dict[str, Any]) -> str:
    """Chunks as transformers' server sends them."""
    common = {"id": "req_0", "created": 1795276888, "object": "chat.completion.chunk"}
    return "".join(f"data: {json.dumps(common | chunk)}\n\n" for chunk in chunks)


def delta(finish_reason: str | None = None, **parts: str) -> dict[str, Any]:
    choice = {"delta": parts, "index": 0} | (
        {"finish_reason": finish_reason} if finish_reason else {}
    )
    return {"model": "tiny@main", "choices": [choice]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}


@pytest.mark.parametrize("done", ["", "data: [DONE]\n\n", ": keep-alive\n\n"])
def test_a_server_that_only_streams_is_read_too(done: str) -> None:
    chunks = [
        delta(role="assistant"),
        delta(reasoning_content="Hm"),
        delta(reasoning_content="."),
        delta(content="Be"),
        delta(content="cause."),
        delta("stop"),
        USAGE,
    ]
    said = Said(
        stream(*chunks) + done, headers={"Content-Type": "text/event-stream; charset=utf-8"}
    )
    with listening(lambda _: said) as server:
        answer = answered(server)
    assert (answer.text, answer.reasoning, answer.model) == ("Because.", "Hm.", "tiny@main")
    assert (answer.finish_reason, answer.input_tokens, answer.output_tokens) == ("stop", 9, 4)


@pytest.mark.parametrize(
    "body",
    [
        stream(),
        stream(delta(role="assistant")),
        'data: {"error": {"message": "out of memory"}}\n\n',
        "data: <html>\n\n",
    ],
)
def test_a_stream_without_an_answer_is_asked_for_again(body: str) -> None:
    headers = {"Content-Type": "text/event-stream"}
    whole = Said(stream(delta(content="B"), delta("stop")), headers=headers)
    with listening(
        lambda _: Said(body, headers=headers) if len(server.requests) < 2 else whole
    ) as server:
        answer = answered(server)
    assert (answer.text, answer.attempts) == ("B", 2)


def test_thoughts_stand_with_the_call_and_in_no_table(tmp_path: Path) -> None:
    parts = {"content": '<think>{"answer": "no"}</think>{"answer": "yes", "sure": true}'}
    with serving(faults=[message(**parts)]) as server:
        made(SPEC, tmp_path, server, env=ENV)
    assert rows(tmp_path, "SELECT answer, sure, model_name FROM t") == [("yes", True, "m")]
    calls = rows(tmp_path, "SELECT answer, reasoning FROM synth.calls")
    assert calls == [('{"answer": "yes", "sure": true}', '{"answer": "no"}')]


def test_thoughts_are_not_sent_back_when_an_answer_is_asked_for_again(tmp_path: Path) -> None:
    wrong = message(content="<think>Hm.</think>What?")
    with serving(faults=[wrong]) as server:
        made(SPEC, tmp_path, server, env=ENV)
    again = server.requests[1].body["messages"]
    assert again[1] == {"role": "assistant", "content": "What?"}
    assert column(tmp_path, "SELECT reasoning FROM synth.calls ORDER BY reask") == ["Hm.", None]
