"""The seams: what a backend is to the engine, and what a wire protocol is to a backend.

    Backend.complete(request) -> answer     what the engine sees
    Wire.build, .read, .classify            how one vendor's HTTP says the same

Between the two stand small backends that wrap one another, each a policy in a file of its own:

    Fallback   another backend, once this one is out           where `fallback` is set
    Retrying   ask again, or give up: the row, or the run      always; with the Breaker
    Limited    how many are in flight                          always; with the Limiter
    Paced      how many requests and tokens a minute           where a rate is set
    Budgeted   how many tokens and dollars in all              where the run has a budget
    Once       build, send, read                               always; with the Wire
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum
from typing import Any, Protocol

from msgspec import Struct

from synthc.compiler.plan import Contract


class Image(Struct, frozen=True):
    """A picture in a message, which is what `digest` says: the SHA-256 of its bytes, in hexadecimal.

    `size` counts the bytes, `path` is the file that holds them, if one does, as the spec names it. They are
    not in memory while a call waits for its turn: `load` gives them, and raises CallFailed where they
    are others by now.
    """

    media_type: str
    digest: str
    size: int
    path: str | None
    load: Callable[[], bytes]

    def base64(self) -> str:
        """The bytes in base64. Raises CallFailed as `load` does."""
        return b64encode(self.load()).decode()


Content = str | tuple[str | Image, ...]
"""What a message says: text; of a user's that shows pictures, texts and pictures in their order."""


class Message(Struct, frozen=True):
    """One turn of a conversation: `role` is "system", "user" or "assistant"."""

    role: str
    content: Content


class Request(Struct, frozen=True):
    """What is asked. `schema` is the JSON schema wanted of the answer; not all servers heed it.

    For whoever answers without a model, and never sent: `key` is the call's identity, `contract` what
    the answer has to hold, and `count` how many elements its `per` has.
    """

    messages: tuple[Message, ...]
    schema: dict[str, Any] | None = None
    key: bytes = b""
    contract: Contract | None = None
    count: int | None = None


class Answer(Struct, frozen=True):
    """What came back: `model` and the token counts as the server says, None where it does not.

    `latency_s` is the time of the request that was answered, `attempts` counts it and those that
    failed before it. `reasoning` is what the model thought before it answered, where that is told,
    `backend` who answered where that is another than was asked.
    """

    text: str
    model: str
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float = 0.0
    attempts: int = 1
    reasoning: str | None = None
    backend: str = ""


class Backend(Protocol):
    """Something that answers."""

    def complete(self, request: Request) -> Coroutine[Any, Any, Answer]:
        """The answer to `request`.

        What the engine holds raises RowFailed (this row only) and Stopped (the run); the parts it
        is made of raise CallFailed to one another.
        """
        ...


class Verdict(Enum):
    """What a failed request means for what comes next."""

    RETRY = "ask again: it may pass"
    WAIT = "ask again later: the server is full, which is no fault of the request"
    ROW = "this request is refused; others may be answered"
    STOP = "nothing will be answered until a person changes something"


class CallFailed(Exception):
    """One HTTP request was not answered.

    `reason` is one word (`http_500`, `timeout`, `connection`, `bad_answer`), `detail` a phrase that
    says what happened, `hint` what a person may do, `status` what HTTP said, if it said anything,
    `retry_after_s` how long the server wants to be left alone.
    """

    def __init__(
        self,
        verdict: Verdict,
        reason: str,
        detail: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.detail = detail
        self.hint = hint
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def overload(self) -> bool:
        """Whether fewer requests at once would have helped."""
        return self.reason == "timeout" or self.status in {408, 429, 503, 504, 524, 529}


class SchemaRefused(CallFailed):
    """The server cannot be asked for JSON of a schema."""


class Reply(Struct, frozen=True):
    """An HTTP response, read whole: the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire(Protocol):
    """One vendor's way to say it over HTTP."""

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The headers of every request: those that carry the key, where there is one."""
        ...

    def build(self, request: Request) -> tuple[str, bytes]:
        """Where to POST what: a path below the backend's url, and a JSON body."""
        ...

    def read(self, reply: Reply) -> Answer:
        """The answer in a reply of status 2xx; raises CallFailed where there is none."""
        ...

    def classify(self, reply: Reply) -> CallFailed:
        """What a reply of any other status means."""
        ...
