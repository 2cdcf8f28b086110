"""Anthropic's messages, which some other servers speak too."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from synthc.compiler.plan import Sampling
from synthc.runtime.backends.http import failure, retry_after_s
from synthc.runtime.backends.protocol import (
    Answer,
    CallFailed,
    Content,
    Image,
    Reply,
    Request,
    SchemaRefused,
    Verdict,
)
from synthc.runtime.backends.replies import count, decoded, model_of, said, unreadable, words_of

PATH = "/messages"
VERSION = "2023-06-01"
# A schema is the input of a tool that the model has to call: older models and other servers know that
# too. The input of a tool is an object, so that an array stands in one, under the name `items`.
OBJECT, ARRAY = "answer", "answer_list"
_FINISHED = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


class Anthropic:
    """Messages of one model, sampled in one way."""

    def __init__(self, model: str, sampling: Sampling) -> None:
        self._model = model
        self._fixed: dict[str, Any] = {"model": model}
        for name in ("temperature", "max_tokens", "top_p"):
            if (value := getattr(sampling, name)) is not None:
                self._fixed[name] = value
        if sampling.stop:
            self._fixed["stop_sequences"] = sampling.stop
        self._fixed |= sampling.extra

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The version of the protocol, and the key where there is one."""
        version = {"anthropic-version": VERSION}
        return version if api_key is None else version | {"x-api-key": api_key}

    def build(self, request: Request) -> tuple[str, bytes]:
        """The request as JSON: system messages stand apart, and a schema becomes a tool."""
        said = [(m.role, _content(m.content)) for m in request.messages]
        system = [content for role, content in said if role == "system" and content]
        turns = [{"role": role, "content": content} for role, content in said if role != "system"]
        body = {**self._fixed, "messages": turns}
        if system:
            body["system"] = "\n\n".join(system)
        if request.schema is not None:
            body["tools"] = [_tool(request.schema)]
            body["tool_choice"] = {"type": "tool", "name": body["tools"][0]["name"]}
        return PATH, msgspec.json.encode(body)

    def read(self, reply: Reply) -> Answer:
        """The text, or what the tool was called with. Raises CallFailed where there is neither."""
        message = decoded(reply.body)
        match message:
            case {"content": [*blocks]}:
                pass
            case {"error": _}:
                raise unreadable(said(reply.body))
            case _:
                raise unreadable(f"it is no message: {said(reply.body)}")
        reason = message.get("stop_reason")
        usage = message.get("usage")
        return Answer(
            text=_text(blocks, reason),
            model=model_of(message.get("model"), self._model),
            finish_reason=_FINISHED.get(reason, reason) if isinstance(reason, str) else "",
            input_tokens=_read_tokens(usage),
            output_tokens=count(usage, "output_tokens"),
            reasoning="\n\n".join(_parts(blocks, "thinking")) or None,
        )

    def classify(self, reply: Reply) -> CallFailed:
        """What an error means: mostly its status, sometimes its words."""
        words = words_of(reply)
        wait_s = retry_after_s(reply.headers)
        kind = f"http_{reply.status}"
        if reply.status in {400, 422} and re.search(r"\btools?\b|tool_choice|input_schema", words):
            return SchemaRefused(
                Verdict.ROW, kind, words, status=reply.status, retry_after_s=wait_s
            )
        failed = failure(reply.status, words, wait_s)
        if reply.status == 529:
            failed.verdict = Verdict.WAIT  # the vendor is overloaded: it says so to everybody
        if reply.status == 400 and "credit balance" in words:
            failed.verdict, failed.detail = Verdict.STOP, f"wants to be paid: {words}"
            failed.hint = "top up the account"
        if reply.status in {404, 405}:
            failed.hint = "check `model` and `url`: the url ends before /messages, often in /v1"
        return failed


def _content(content: Content) -> Any:
    """What a message says: text, or a list of its blocks where it shows pictures."""
    return content if isinstance(content, str) else [_block(part) for part in content]


def _block(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    source = {"type": "base64", "media_type": part.media_type, "data": part.base64()}
    return {"type": "image", "source": source}


def _tool(schema: dict[str, Any]) -> dict[str, Any]:
    name = OBJECT
    if schema.get("type") == "array":
        name = ARRAY
        schema = {"type": "object", "properties": {"items": schema}, "required": ["items"]}
    return {"name": name, "description": "Gives the answer.", "input_schema": schema}


def _text(blocks: list[Any], reason: object) -> str:
    """What the tool was called with as JSON, else the text: not every server makes a model call it."""
    text = "".join(_parts(blocks, "text"))
    if reason == "refusal":
        raise CallFailed(Verdict.ROW, "refused", f"the model refuses: {text or reason}", status=200)
    for block in blocks:
        match block:
            case {"type": "tool_use", "name": name, "input": dict(given)}:
                return msgspec.json.encode(given.get("items") if name == ARRAY else given).decode()
            case _:
                pass
    return text


def _parts(blocks: list[Any], kind: str) -> list[str]:
    """The texts of the blocks of a kind, which name their text as they name themselves."""
    own = [b for b in blocks if isinstance(b, dict) and b.get("type") == kind]
    return [text for block in own if isinstance(text := block.get(kind), str) and text]


def _read_tokens(usage: object) -> int | None:
    """Tokens of the prompt: those that were read from a cache, or written to it, are told apart."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    counts = [count(usage, name) for name in names]
    return None if counts[0] is None else sum(c or 0 for c in counts)
