"""Vectors of which none is similar to one before it: first come, first kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BLOCK = 512
"""Vectors that are compared with all others at once: reading those from memory is what takes time."""

_PART = 8_192
"""Vectors of a part of those that are kept: similarities to one part are in memory at a time."""

_ROUNDING = 1e-6
"""By so much the similarity of equal directions can be below 1, since vectors are float32."""


class Distinct:
    """The vectors so far that are similar to none before them, as unit vectors: parts of float32 (rows, n).

    Whether two are similar never depends on which others are compared beside them: what a product of
    matrices, whose sums are rounded in any order, leaves open, is computed exactly.
    """

    def __init__(self, similar: float) -> None:
        """Vectors are similar whose cosine similarity is `similar` or more."""
        self._least = similar - _ROUNDING
        self._parts: list[np.ndarray] = []
        self._last = 0  # rows of the last part

    def add(self, vectors: Sequence[bytes]) -> list[bool]:
        """For each vector (its n float32 as bytes) whether it is similar to none so far, and so kept.

        No bytes, a vector of zeros or one that is not finite have no direction: they are similar to none.
        """
        units, has_direction = _units(vectors)
        directed = np.flatnonzero(has_direction)
        if not len(directed):
            return [True] * len(vectors)
        fresh = self._unlike_before(units[directed])
        kept = np.ones(len(vectors), bool)
        kept[directed] = False
        firsts = self._unlike_each_other(units[directed[fresh]])
        kept[directed[fresh][firsts]] = True
        self._keep(units[directed[fresh]][firsts])
        return kept.tolist()

    def _unlike_before(self, block: np.ndarray) -> np.ndarray:
        """Which rows of a block (rows, n) are similar to none that is kept: their numbers."""
        left = np.arange(len(block))
        for number, part in enumerate(self._parts):
            rows = part[: self._last] if number == len(self._parts) - 1 else part
            some = block[left]
            similar = self._similar(some @ rows.T, some, rows).any(axis=1)
            left = left[~similar]
            if not len(left):
                break
        return left

    def _unlike_each_other(self, block: np.ndarray) -> np.ndarray:
        """The rows of a block (rows, n) that are similar to none kept before them in it: their numbers."""
        similar = self._similar(np.tril(block @ block.T, -1), block, block)
        kept = np.zeros(len(block), bool)
        for number in range(len(block)):
            kept[number] = not similar[number, :number][kept[:number]].any()
        return np.flatnonzero(kept)

    def _similar(self, found: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether each of some unit vectors (a, n) is similar to each of others (b, n): (a, b).

        `found` (a, b) are their products, as a product of matrices has them.
        """
        # The error of a sum of n products of unit vectors, in whatever order, is below this.
        error = some.shape[1] * float(np.finfo(np.float32).eps)
        similar = found >= self._least - error
        if similar.any():
            for one, other in np.argwhere(similar & (found < self._least + error)):
                products = some[one].astype(np.float64) * others[other]  # exact, of float32
                similar[one, other] = math.fsum(products) >= self._least
        return similar

    def _keep(self, units: np.ndarray) -> None:
        while len(units):
            if not self._parts or self._last == _PART:
                self._parts.append(np.empty((_PART, units.shape[1]), np.float32))
                self._last = 0
            some, units = units[: _PART - self._last], units[_PART - self._last :]
            self._parts[-1][self._last : self._last + len(some)] = some
            self._last += len(some)


def _units(vectors: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors as unit vectors (rows, n), float32, and which of them have a direction: (rows,)."""
    size = max(map(len, vectors), default=0)
    blank = bytes(size)
    joined = b"".join(vector or blank for vector in vectors)
    found = np.frombuffer(joined, np.float32).reshape(len(vectors), -1).astype(np.float64)
    norms = np.sqrt((found * found).sum(axis=1))
    has_direction = np.isfinite(norms) & (norms > 0)
    norms[~has_direction] = 1
    return (found / norms[:, None]).astype(np.float32), has_direction
