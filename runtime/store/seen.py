"""Which calls may have been made before, told without a look into the database."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

_WORDS = 19
"""The filter has 2 to this power words of 64 bits: 4 MiB."""

BYTES = 6
"""Of a digest, the bytes that count: bits for the word, and four times six for bits in it."""

_PLACE = (1 << _WORDS) - 1


class Seen:
    """Digests seen so far. What it does not know was never seen; what it knows probably was.

    A Bloom filter that looks at one word for each digest, of which it sets four bits (F. Putze, P. Sanders
    and J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007), of 4 MiB whatever it holds:
    with 200,000 digests one in 40,000 that are new passes for seen, with a million one in 1,300, and
    costs a look into the database, which reads much of it.
    """

    def __init__(self, prefixes: Iterable[int] = ()) -> None:
        """`prefixes` are the first BYTES bytes of digests, as numbers (big-endian)."""
        self._words = array("Q", bytes(8 << _WORDS))
        for prefix in prefixes:
            self._add(prefix)

    def add(self, digest: bytes) -> bool:
        """Whether a digest may have been seen before; from now on it was."""
        return self._add(int.from_bytes(digest[:BYTES], "big"))

    def _add(self, prefix: int) -> bool:
        at, rest = prefix & _PLACE, prefix >> _WORDS
        bits = (
            1 << (rest & 63)
            | 1 << (rest >> 6 & 63)
            | 1 << (rest >> 12 & 63)
            | 1 << (rest >> 18 & 63)
        )
        word = self._words[at]
        if word & bits == bits:
            return True
        self._words[at] = word | bits
        return False
