"""OpenAI's chat/completions, which nearly every server speaks, each with an accent."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from synthc.compiler.plan import Sampling
from synthc.runtime.backends.http import failure, retry_after_s
from synthc.runtime.backends.protocol import (
    Answer,
    CallFailed,
    Reply,
    Request,
    SchemaRefused,
    Verdict,
)

PATH = "/chat/completions"
SHOWN = 300  # characters of a server's message: enough for a sentence, not for a page of HTML


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

    def headers(self, api_key: str) -> dict[str, str]:
        """The key, as a bearer token."""
        return {"authorization": f"Bearer {api_key}"}

    def build(self, request: Request) -> tuple[str, bytes]:
        """The request as JSON; a schema becomes a `response_format`."""
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        body = {**self._fixed, "messages": messages}
        if request.schema is not None:
            wanted = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return PATH, msgspec.json.encode(body)

    def read(self, reply: Reply) -> Answer:
        """The first choice. Raises CallFailed where the reply is no chat completion."""
        content = _json(reply.body)
        match content:
            case {"choices": [{"message": dict(message)} as choice, *_]}:
                pass
            case {"error": {"code": int(code)}} if 400 <= code <= 599:
                # Routers that only learn of a failure when the status is sent put it in the body.
                raise self.classify(Reply(code, reply.headers, reply.body))
            case {"choices": []}:
                raise _bad("it has no choices")
            case {"error": _}:
                raise _bad(said(reply.body))
            case _:
                raise _bad(f"it is no chat completion: {said(reply.body)}")
        finish = choice.get("finish_reason")
        usage = content.get("usage")
        model = content.get("model")
        return Answer(
            text=_text(message, finish),
            model=model if isinstance(model, str) and model else self._model,
            finish_reason=finish if isinstance(finish, str) else "",
            input_tokens=_count(usage, "prompt_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
        )

    def classify(self, reply: Reply) -> CallFailed:
        """What an error means: mostly its status, sometimes its words."""
        words = said(reply.body)
        if location := reply.headers.get("location"):
            words = f"to {location}"
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
        if reply.status == 403 and re.search(r"moderat|flagged|content.policy|safety", words, re.I):
            failed.verdict = Verdict.ROW  # it is the prompt that is refused, not the key
        return failed


def said(body: bytes) -> str:
    """What a server says went wrong, in one printable line of at most SHOWN characters."""
    match _json(body):
        case {"error": {"message": str(words)}} | {"error": str(words)}:
            pass
        case {"message": str(words)} | {"detail": str(words)}:
            pass
        case _:
            words = re.sub(r"<[^>]*>", " ", body[: 20 * SHOWN].decode(errors="replace"))
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    if not line:
        return "it said nothing"
    return line if len(line) <= SHOWN else line[:SHOWN] + "…"


def served_models(body: bytes) -> tuple[str, ...]:
    """The ids in the answer to GET /models; none where it is something else."""
    match _json(body):
        case {"data": [*entries]}:
            ids = (entry.get("id") for entry in entries if isinstance(entry, dict))
            return tuple(id_ for id_ in ids if isinstance(id_, str))
        case _:
            return ()


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _bad(why: str) -> CallFailed:
    return CallFailed(Verdict.RETRY, "bad_answer", f"the answer cannot be read: {why}", status=200)


def _text(message: dict[str, Any], finish: object) -> str:
    match message.get("content"):
        case str(text):
            return text
        case [*parts]:
            texts = (part.get("text") for part in parts if isinstance(part, dict))
            return "".join(text for text in texts if isinstance(text, str))
        case _:
            pass
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        raise CallFailed(Verdict.ROW, "refused", f"the model refuses: {refusal}", status=200)
    if finish == "content_filter":
        raise CallFailed(Verdict.ROW, "content_filter", "the server withholds it", status=200)
    if finish == "length":
        return ""  # all tokens went into thinking: an answer that was cut off, and paid for
    raise _bad("its content is null")


def _count(usage: object, name: str) -> int | None:
    value = cast("dict[str, object]", usage).get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else None
