"""OpenAI's chat/completions, which nearly every server speaks, each with an accent."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

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

PATH = "/chat/completions"


class _Message(Struct):
    """What the model said. Servers differ in what else than text they put there."""

    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(Struct):
    message: _Message
    finish_reason: Any = None


class _Completion(Struct):
    """A chat completion, as far as it is read: to read just that is twice as quick as all of it."""

    choices: list[_Choice]
    model: Any = None
    usage: Any = None


_completion = msgspec.json.Decoder(_Completion)


class OpenAI:
    """Chat completions of one model, sampled in one way."""

    def __init__(self, model: str, sampling: Sampling) -> None:
        self._model = model
        self._fixed: dict[str, Any] = {"model": model}
        for name in ("temperature", "max_tokens", "top_p", "seed"):
            if (value := getattr(sampling, name)) is not None:
                self._fixed[name] = value
        if sampling.stop:
            self._fixed["stop"] = sampling.stop
        self._fixed |= sampling.extra

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The key, as a bearer token."""
        return bearer(api_key)

    def build(self, request: Request) -> tuple[str, bytes]:
        """The request as JSON; a schema becomes a `response_format`."""
        messages = [{"role": m.role, "content": _content(m.content)} for m in request.messages]
        body = {**self._fixed, "messages": messages}
        if request.schema is not None:
            wanted = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return PATH, msgspec.json.encode(body)

    def read(self, reply: Reply) -> Answer:
        """The first choice. Raises CallFailed where the reply is no chat completion."""
        try:
            if _streamed(reply):
                completion = msgspec.convert(_joined(reply.body), _Completion)
            else:
                completion = _completion.decode(reply.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._no_completion(reply) from None
        if not completion.choices:
            raise self._no_completion(reply)
        choice = completion.choices[0]
        finish, usage = choice.finish_reason, completion.usage
        return Answer(
            text=_text(choice.message, finish),
            model=model_of(completion.model, self._model),
            finish_reason=finish if isinstance(finish, str) else "",
            input_tokens=count(usage, "prompt_tokens"),
            output_tokens=count(usage, "completion_tokens"),
            reasoning=_reasoning(choice.message),
        )

    def _no_completion(self, reply: Reply) -> CallFailed:
        """What a reply of status 2xx is instead."""
        match _joined(reply.body) if _streamed(reply) else decoded(reply.body):
            case {"error": {"code": int(code)}} if 400 <= code <= 599:
                # Routers that only learn of a failure when the status is sent put it in the body.
                return self.classify(Reply(code, reply.headers, reply.body))
            case {"choices": []}:
                return unreadable("it has no choices")
            case {"error": _}:
                return unreadable(said(reply.body))
            case _:
                return unreadable(f"it is no chat completion: {said(reply.body)}")

    def classify(self, reply: Reply) -> CallFailed:
        """What an error means: mostly its status, sometimes its words."""
        words = words_of(reply)
        wait_s = retry_after_s(reply.headers)
        if reply.status in {400, 422} and re.search(r"response_format|json_?schema", words, re.I):
            return SchemaRefused(
                Verdict.ROW,
                f"http_{reply.status}",
                words,
                status=reply.status,
                retry_after_s=wait_s,
            )
        failed = failure(reply.status, words, wait_s)
        if reply.status == 429 and "insufficient_quota" in reply.body.decode(errors="replace"):
            # The credit is used up: no waiting brings it back.
            failed.verdict, failed.detail = Verdict.STOP, f"gives no more: {words}"
            failed.hint = "top up the account"
        if reply.status == 403 and re.search(r"moderat|flagged|content.policy|safety", words, re.I):
            failed.verdict = Verdict.ROW  # it is the prompt that is refused, not the key
        return failed


def _content(content: Content) -> Any:
    """What a message says: text, or a list of its parts where it shows pictures."""
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = f"data:{part.media_type};base64,{part.base64()}"
    return {"type": "image_url", "image_url": {"url": url}}


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that carries a key; none where there is no key."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def _streamed(reply: Reply) -> bool:
    return reply.headers.get("content-type", "").startswith("text/event-stream")


def _joined(body: bytes) -> Any:
    """The completion that the chunks of a stream make up: some servers only stream.

    An event that is no chunk is what the server had to say instead.
    """
    message: dict[str, str] = {}
    whole: dict[str, Any] = {}
    finish = None
    for line in body.splitlines():
        chunk = decoded(line.removeprefix(b"data:")) if line.startswith(b"data:") else None
        match chunk:
            case {"choices": [{"delta": dict(delta)} as choice, *_]}:
                for name in ("content", "refusal", "reasoning_content", "reasoning"):
                    if isinstance(part := delta.get(name), str):
                        message[name] = message.get(name, "") + part
                finish = choice.get("finish_reason") or finish
                whole |= {"choices": [{"message": message, "finish_reason": finish}]}
            case {"error": _}:
                return chunk
            case _:
                pass
        if isinstance(chunk, dict):
            whole |= {name: chunk[name] for name in ("model", "usage") if chunk.get(name)}
    return whole


def _text(message: _Message, finish: object) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    if isinstance(message.refusal, str) and message.refusal:
        said_no = f"the model refuses: {message.refusal}"
        raise CallFailed(Verdict.ROW, "refused", said_no, status=200)
    if finish == "content_filter":
        raise CallFailed(Verdict.ROW, "content_filter", "the server withholds it", status=200)
    if finish == "length":
        return ""  # all tokens went into thinking: an answer that was cut off, and paid for
    raise unreadable("its content is null")


def _reasoning(message: _Message) -> str | None:
    """What the model thought first, where a server tells it apart: under one of two names."""
    for told in (message.reasoning_content, message.reasoning):
        if isinstance(told, str) and told:
            return told
    return None
