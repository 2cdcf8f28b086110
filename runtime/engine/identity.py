"""Call identity: the digest of all that can change an answer. Equal identities are asked once, ever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from synthc.compiler import plan
from synthc.runtime.backends.protocol import Content, Message
from synthc.runtime.engine.scope import Place

_encoder = msgspec.json.Encoder(order="deterministic")


def _said(content: Content) -> Any:
    """What a message says: a picture is its bytes, whatever file they are in."""
    if isinstance(content, str):
        return content
    return [part if isinstance(part, str) else {"sha256": part.digest} for part in content]


class Identity:
    """Makes the digests of one backend's calls.

    `model` is the name it is asked by. Where the backend samples (its temperature is not 0), the run's
    seed, the row, the rounds of its loops, which of several at once it is, and which of several equal
    questions are part of the identity too; otherwise equal prompts are one call.
    """

    def __init__(self, backend: plan.Backend, model: str, seed: int) -> None:
        self._backend = _encoder.encode((backend.protocol, model, backend.sampling))
        self._samples = backend.sampling.temperature != 0
        self._seed = seed

    def digest(
        self,
        messages: Sequence[Message],
        schema: dict[str, Any] | None,
        place: Place,
        ordinal: int,
    ) -> bytes:
        """16 bytes (BLAKE2b) that stand for the call."""
        said = [(message.role, _said(message.content)) for message in messages]
        hashed = hashlib.blake2b(self._backend, digest_size=16)
        hashed.update(_encoder.encode((said, schema, self._where(place, ordinal))))
        return hashed.digest()

    def _where(self, place: Place, ordinal: int) -> tuple[Any, ...]:
        if not self._samples:
            return ()
        if place.rounds or place.index is not None:
            return (self._seed, place.row_key, ordinal, place.rounds, place.index)
        return (self._seed, place.row_key, ordinal)
