"""Texts become vectors on a server that speaks OpenAI's embeddings: `POST …/embeddings`."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np

from synthc.compiler import plan
from synthc.runtime.backends.budget import Budget
from synthc.runtime.backends.local import LocalServers
from synthc.runtime.backends.open import PACE, open_backend
from synthc.runtime.backends.openai import OpenAI
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import (
    Answer,
    Backend,
    CallFailed,
    Message,
    Reply,
    Request,
    Verdict,
)
from synthc.runtime.backends.replies import count, decoded, model_of, said, unreadable
from synthc.runtime.engine.asking import Calls
from synthc.runtime.errors import RowFailed
from synthc.runtime.store.records import Call
from synthc.runtime.store.store import StoredAnswer

PATH = "/embeddings"
TEXTS = 32  # a request: some servers take no more, and it is below what others take of long texts


class Vectors(Answer, frozen=True):
    """The vectors of some texts: float32 of shape (len(texts), dimensions), in their order."""

    vectors: Any = None


class Embeddings:
    """The embeddings of one model, as a protocol: each message is a text, and the answer is Vectors."""

    def __init__(self, model: str, dimensions: int) -> None:
        self._model = model
        self._dimensions = dimensions
        self._chat = OpenAI(model, plan.Sampling())

    def headers(self, api_key: str | None) -> dict[str, str]:
        """The key, as a bearer token."""
        return self._chat.headers(api_key)

    def build(self, request: Request) -> tuple[str, bytes]:
        """The request as JSON. Vectors are wanted in base64, which is less than half as long."""
        texts = [message.content for message in request.messages]
        body = {"model": self._model, "input": texts, "encoding_format": "base64"}
        return PATH, msgspec.json.encode(body)

    def read(self, reply: Reply) -> Vectors:
        """The vectors, by their `index`. Raises CallFailed where they are no such, or too few."""
        content = decoded(reply.body)
        match content:
            case {"data": [*entries]}:
                pass
            case _:
                raise unreadable(f"it holds no embeddings: {said(reply.body)}")
        found = {_index(entry): _vector(entry) for entry in entries}
        if not found or set(found) != set(range(len(entries))):
            raise unreadable("its `index` does not count the texts")
        for vector in found.values():
            if len(vector) != self._dimensions:
                raise CallFailed(
                    Verdict.STOP,
                    "dimensions",
                    f"gives vectors of {len(vector)} dimensions, not {self._dimensions}",
                    hint=f"write `dimensions = {len(vector)}`",
                    status=reply.status,
                )
        return Vectors(
            text="",
            model=model_of(content.get("model"), self._model),
            finish_reason="",
            input_tokens=count(content.get("usage"), "prompt_tokens"),
            output_tokens=None,
            vectors=np.stack([found[place] for place in range(len(found))]),
        )

    def classify(self, reply: Reply) -> CallFailed:
        """What an error means, as it does of a chat."""
        failed = self._chat.classify(reply)
        if reply.status in {404, 405}:
            failed.hint = "check `model` and `url`: the url ends before /embeddings, often in /v1"
        return failed


def _index(entry: Any) -> int:
    match entry:
        case {"index": int(index)}:
            return index
        case _:
            raise unreadable("a vector has no `index`")


def _vector(entry: Any) -> np.ndarray:
    """A vector given as numbers, or as little-endian float32 in base64."""
    try:
        match entry:
            case {"embedding": str(text)}:
                vector = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
            case {"embedding": [*numbers]}:
                vector = np.array(numbers).astype(np.float32, casting="same_kind")
            case _:
                raise unreadable("an entry has no `embedding`")
    except (binascii.Error, ValueError, TypeError):
        raise unreadable("an `embedding` is no list of numbers") from None
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise unreadable("an `embedding` is no list of finite numbers")
    return vector.astype(np.float32)


class RemoteEmbedder:
    """Embeds texts on a server, many requests at once. Vectors are kept among the calls of a run."""

    def __init__(self, spec: plan.Embedder, identity: str, backend: Backend, calls: Calls) -> None:
        """`identity` says, with the dimensions and a text, which vector it is."""
        self._spec = spec
        self._identity = identity
        self._backend = backend
        self._calls = calls

    async def embed(self, texts: Sequence[str]) -> Sequence[np.ndarray | Exception]:
        """A vector for each text, or RowFailed where it has none; equal texts are sent once, ever.

        Raises Stopped where none will be embedded any more.
        """
        texts = [(self._spec.prompt or "") + text for text in texts]
        digests = {text: self._digest(text) for text in texts}
        stored = await self._calls.answers(list(digests.values()))
        vectors: dict[str, np.ndarray | Exception] = {
            text: answer if isinstance(answer, Exception) else _decoded(answer.text)
            for text, answer in zip(digests, stored, strict=True)
            if answer is not None
        }
        missing = [text for text in digests if text not in vectors]
        parts = [missing[start : start + TEXTS] for start in range(0, len(missing), TEXTS)]
        for part in await asyncio.gather(*map(self._embed, parts)):
            vectors |= part
        return [_own(vectors[text]) for text in texts]

    async def _embed(self, texts: Sequence[str]) -> dict[str, np.ndarray | Exception]:
        """The vectors of one request. Where it is refused, its halves are sent: it may be one text."""
        try:
            answer = await self._send(texts)
        except RowFailed as failed:
            if len(texts) == 1:
                return {texts[0]: failed}
            middle = len(texts) // 2
            return await self._embed(texts[:middle]) | await self._embed(texts[middle:])
        for place, text in enumerate(texts):
            self._keep(text, place, answer)
        return dict(zip(texts, answer.vectors, strict=True))

    async def _send(self, texts: Sequence[str]) -> Vectors:
        messages = tuple(Message("user", text) for text in texts)
        answer = await self._backend.complete(Request(messages))
        assert isinstance(answer, Vectors)
        if (came := len(answer.vectors)) != len(texts):
            raise RowFailed("bad_answer", f"{came} vectors came for {len(texts)} texts")
        return answer

    def _keep(self, text: str, place: int, answer: Vectors) -> None:
        digest = self._digest(text)
        encoded = base64.b64encode(answer.vectors[place].astype("<f4").tobytes()).decode()
        first = place == 0  # what is known of the request as a whole is noted once
        record = Call(
            digest=digest,
            run_id=self._calls.run_id,
            backend=self._spec.name,
            model=answer.model,
            request=msgspec.json.encode(text).decode(),
            answer=encoded,
            finish_reason=answer.finish_reason,
            input_tokens=answer.input_tokens if first else 0,
            latency_s=answer.latency_s,
            attempts=answer.attempts,
            answered_at=time.time_ns() // 1_000,
        )
        self._calls.call(record, StoredAnswer(encoded, answer.model, answer.finish_reason))

    def _digest(self, text: str) -> bytes:
        known = msgspec.json.encode(("embedding", self._identity, self._spec.dimensions, text))
        return hashlib.blake2b(known, digest_size=16).digest()


def _decoded(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def _own(vector: np.ndarray | Exception) -> np.ndarray | Exception:
    """Each row has a failure of its own: the engine adds where it was."""
    return RowFailed(vector.reason, vector.detail) if isinstance(vector, RowFailed) else vector


@asynccontextmanager
async def open_remote(
    spec: plan.Embedder,
    *,
    identity: str,
    env: Mapping[str, str],
    local: LocalServers,
    calls: Calls,
    pace: Pace = PACE,
    budget: Budget | None = None,
) -> AsyncIterator[RemoteEmbedder]:
    """The embedder of a server, for as long as the block runs; `calls` is where vectors are kept.

    A `budget` is what it may spend, together with the backends.
    Raises RunError where a setting is missing or makes no sense.
    """
    backend = plan.Backend(
        name=spec.name, span=spec.span, model=spec.model, url=spec.url, api_key=spec.api_key
    )
    opening = open_backend(
        backend,
        env=env,
        local=local,
        pace=pace,
        budget=budget,
        kind="embedder",
        speaks=lambda model, _sampling: Embeddings(model, spec.dimensions),
    )
    async with opening as opened:
        yield RemoteEmbedder(spec, identity, opened, calls)
