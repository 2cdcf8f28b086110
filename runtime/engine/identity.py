"""Call identity: the digest of all that can change an answer. Equal identities are asked once, ever."""

from __future__ import annotations

import hashlib

import msgspec

from synthc.compiler import plan
from synthc.runtime.backends.protocol import Request

_encoder = msgspec.json.Encoder(order="deterministic")


class Identity:
    """Makes the digests of one backend's calls.

    `model` is the name it is asked by. Where the backend samples (its temperature is not 0), the run's
    seed, the row, and which of several equal questions it is are part of the identity too; otherwise
    equal prompts are one call.
    """

    def __init__(self, backend: plan.Backend, model: str, seed: int) -> None:
        self._backend = _encoder.encode((backend.protocol, model, backend.sampling))
        self._samples = backend.sampling.temperature != 0
        self._seed = seed

    def digest(self, request: Request, row_key: str, ordinal: int) -> bytes:
        """16 bytes (BLAKE2b) that stand for the call."""
        messages = [(message.role, message.content) for message in request.messages]
        place = (self._seed, row_key, ordinal) if self._samples else ()
        hashed = hashlib.blake2b(self._backend, digest_size=16)
        hashed.update(_encoder.encode((messages, request.schema, place)))
        return hashed.digest()
