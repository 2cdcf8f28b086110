"""Vectors that were made before are not made again, in this run or another."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from synthc.runtime.embedding.chat_template import Rendered
from synthc.runtime.embedding.pipeline import NOT_FINITE
from synthc.runtime.errors import RowFailed
from synthc.runtime.store.records import Vector

Text = str | Rendered | bytes
"""What is embedded; numbers are bytes."""

Embedded = np.ndarray | Exception
Compute = Callable[[Sequence[Text]], Awaitable[Sequence[Embedded]]]


class Vectors(Protocol):
    """Where vectors are kept: what embedding needs of the journal."""

    @property
    def run_id(self) -> int:
        """The run that vectors are noted under."""
        ...

    def seen(self, digest: bytes) -> bool:
        """Whether a vector may have been made before; from now on it was."""
        ...

    async def vectors(self, digests: Sequence[bytes]) -> Mapping[bytes, np.ndarray]:
        """The vectors that were made before, by digest."""
        ...

    def vector(self, record: Vector) -> None:
        """Keep a vector."""
        ...


class KeptEmbedder:
    """Embeds texts, each once ever. `computed` and `from_store` count the distinct texts of each batch."""

    def __init__(self, name: str, identity: str, compute: Compute, vectors: Vectors) -> None:
        """`identity` says, with a text, which vector it is."""
        self._name = name
        self._identity = identity
        self._compute = compute
        self._vectors = vectors
        self.computed = self.from_store = 0

    async def embed(self, texts: Sequence[Text]) -> Sequence[Embedded]:
        """A float32 vector of shape (dimensions,) for each text, or why it has none, which is not kept.

        Raises what computing them raises.
        """
        digests = {text: self._digest(text) for text in texts}
        maybe = [digest for digest in digests.values() if self._vectors.seen(digest)]
        found: dict[bytes, Embedded] = {}
        if maybe:
            found.update(await self._vectors.vectors(maybe))
        self.from_store += len(found)
        missing = [text for text, digest in digests.items() if digest not in found]
        if missing:
            for text, vector in zip(missing, await self._compute(missing), strict=True):
                digest = digests[text]
                if not isinstance(vector, Exception) and not np.isfinite(vector).all():
                    vector = RowFailed(*NOT_FINITE)  # noqa: PLW2901
                found[digest] = vector
                if isinstance(vector, Exception):
                    continue
                self.computed += 1
                self._vectors.vector(
                    Vector(
                        digest=digest,
                        run_id=self._vectors.run_id,
                        embedder=self._name,
                        vector=vector,
                    )
                )
        return [_own(found[digests[text]]) for text in texts]

    def _digest(self, text: Text) -> bytes:
        known = msgspec.json.encode(("vector", self._identity, text))
        return hashlib.blake2b(known, digest_size=16).digest()


def _own(result: Embedded) -> Embedded:
    """Each row has a failure of its own: the engine adds where it was."""
    return RowFailed(result.reason, result.detail) if isinstance(result, RowFailed) else result
