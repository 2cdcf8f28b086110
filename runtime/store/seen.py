"""Which calls may have been made before, told without a look into the database."""

from __future__ import annotations

from collections.abc import Iterable

_BITS = 24
BYTES = 2 * _BITS // 8
"""Of a digest, the bytes that count."""

_LOW = (1 << _BITS) - 1


class Seen:
    """Digests seen so far. What it does not know was never seen; what it knows probably was.

    A Bloom filter of two hashes (B. H. Bloom, 1970), 2 MiB whatever it holds: with 200,000 digests one
    in 1,800 that are new passes for seen, with a million one in 80, and costs a look into the database.
    """

    def __init__(self, prefixes: Iterable[int] = ()) -> None:
        """`prefixes` are the first BYTES bytes of digests, as numbers (big-endian)."""
        self._bits = bytearray(1 << (_BITS - 3))
        for prefix in prefixes:
            self._add(prefix)

    def add(self, digest: bytes) -> bool:
        """Whether a digest may have been seen before; from now on it was."""
        return self._add(int.from_bytes(digest[:BYTES], "big"))

    def _add(self, prefix: int) -> bool:
        bits = self._bits
        at, other = prefix >> _BITS, prefix & _LOW
        byte, other_byte = bits[at >> 3], bits[other >> 3]
        bit, other_bit = 1 << (at & 7), 1 << (other & 7)
        if byte & bit and other_byte & other_bit:
            return True
        bits[at >> 3] |= bit
        bits[other >> 3] |= other_bit
        return False
