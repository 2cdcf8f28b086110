"""What all protocols read alike: JSON that may be none, a server's words, counts, thoughts."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec.structs import replace

from synthc.runtime.backends.protocol import Answer, CallFailed, Reply, Verdict

SHOWN = 300  # characters of a server's message: enough for a sentence, not for a page of HTML
_OPENING, _CLOSING = "<think>", "</think>"


def decoded(body: bytes) -> Any:
    """The JSON in a body, None where it holds none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def said(body: bytes) -> str:
    """What a server says went wrong, in one printable line of at most SHOWN characters."""
    match decoded(body):
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


def words_of(reply: Reply) -> str:
    """What an error says, or where it sends who asks."""
    location = reply.headers.get("location")
    return f"to {location}" if location else said(reply.body)


def model_of(told: object, asked: str) -> str:
    """The model that answered: the one that was asked, where the server has not told."""
    return told if isinstance(told, str) and told else asked


def unreadable(why: str) -> CallFailed:
    """What is raised for a reply of status 2xx that holds no answer: the next one may."""
    return CallFailed(Verdict.RETRY, "bad_answer", f"the answer cannot be read: {why}", status=200)


def count(usage: object, name: str) -> int | None:
    """A number of tokens in a reply's `usage`, None where it has none."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else None


def served_models(body: bytes) -> tuple[str, ...]:
    """The ids in the answer to GET /models; none where it is something else."""
    match decoded(body):
        case {"data": [*entries]}:
            ids = (entry.get("id") for entry in entries if isinstance(entry, dict))
            return tuple(id_ for id_ in ids if isinstance(id_, str))
        case _:
            return ()


def without_thoughts(answer: Answer) -> Answer:
    """The answer with the `<think>…</think>` that it begins with moved to its `reasoning`.

    Thoughts that do not end are all there is: the answer was cut off before it began.
    """
    text = answer.text.lstrip()
    if not text.startswith(_OPENING):
        return answer
    thoughts, _, rest = text.removeprefix(_OPENING).partition(_CLOSING)
    told = [part for part in (answer.reasoning, thoughts.strip()) if part]
    return replace(answer, text=rest.lstrip(), reasoning="\n\n".join(told) or None)
