"""Which calls may have been made before, told without a look into the database."""

from __future__ import annotations

from collections.abc import Iterable

_BITS = 24
BYTES = _BITS // 8
"""Of a digest, the bytes that count."""


class Seen:
    """Digests seen so far. What it does not know was never seen; what it knows probably was.

    A Bloom filter of one hash (B. H. Bloom, 1970), 2 MiB whatever it holds: with 200,000 digests one in
    80 that are new passes for seen, and costs its row a look into the database.
    """

    def __init__(self, prefixes: Iterable[int] = ()) -> None:
        """`prefixes` are the first BYTES bytes of digests, as numbers (big-endian)."""
        self._bits = bytearray(1 << (_BITS - 3))
        for at in prefixes:
            self._bits[at >> 3] |= 1 << (at & 7)

    def add(self, digest: bytes) -> bool:
        """Whether a digest may have been seen before; from now on it was."""
        at = int.from_bytes(digest[:BYTES], "big")
        byte, bit = at >> 3, 1 << (at & 7)
        if self._bits[byte] & bit:
            return True
        self._bits[byte] |= bit
        return False
