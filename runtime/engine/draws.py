"""What is drawn: samples, prompts of a set, rows of a table.

A draw is a function of the seed, the row, the round, and of what is drawn from: the same on every
machine, in any order, and after any stop. All randomness is `random.Random.random`, the one sequence
that Python promises not to change.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, assert_never

import msgspec

from synthc.compiler import plan, types
from synthc.runtime.engine.scope import Place
from synthc.runtime.errors import RowFailed

T = TypeVar("T")

_encoder = msgspec.json.Encoder(order="deterministic")
_TRIES = 1_000
"""How often, for each different value that is wanted, one is drawn at most."""


class Draws:
    """Draws for the rows of a run. `lines` holds the lines of each file that is drawn from."""

    def __init__(self, seed: int, lines: Mapping[str, Sequence[str]]) -> None:
        self._seed = seed
        self._lines = lines
        self._unique = {path: tuple(dict.fromkeys(found)) for path, found in lines.items()}
        self._digests: dict[int, tuple[object, bytes]] = {}

    def sample(self, op: plan.Sample, place: Place) -> Any:
        """The value, or the list of different ones, of a `sample`.

        Raises RowFailed where more different ones are wanted than there are.
        """
        digest = self._digest(op.source, lambda: self._content(op.source))
        rng = self._rng("sample", digest, op.ordinal, place.row_key, place.rounds)
        type_ = types.required(op.field.type)
        if op.least is None or op.most is None:
            return self._one(op.source, type_, rng)
        element = types.required(type_.element) if isinstance(type_, types.ListOf) else type_
        wanted = op.least + int(rng() * (op.most - op.least + 1))
        return self._several(op.source, element, wanted, rng)

    def prompt(self, op: plan.OneOf, place: Place) -> plan.Mutation:
        """The prompt of a set."""
        digest = self._digest(op, lambda: _digest(op.prompts))
        rng = self._rng("mutation", digest, op.ordinal, place.row_key, place.rounds, place.index)
        return _weighted(op.prompts, [prompt.weight for prompt in op.prompts], rng)

    def rows(self, op: plan.Draw, content: bytes, there: int, place: Place) -> list[int]:
        """Which rows of a table of `there` rows, whose content has a digest.

        Raises RowFailed where more are wanted.
        """
        if op.count > there:
            rows = "1 row is" if op.count == 1 else f"{op.count} rows are"
            raise RowFailed("draw", f"{rows} wanted from `{op.table}`, which has {there}")
        rng = self._rng("draw", content, op.ordinal, place.row_key, place.rounds)
        return _different(there, op.count, rng)

    def _rng(self, *where: Any) -> Callable[[], float]:
        hashed = hashlib.blake2b(_encoder.encode((self._seed, *where)), digest_size=16)
        return random.Random(int.from_bytes(hashed.digest())).random

    def _digest(self, what: object, digest: Callable[[], bytes]) -> bytes:
        """What stands for something that is drawn from, made once."""
        found = self._digests.get(id(what))
        if found is None:  # it is kept, so that nothing else gets its id
            found = self._digests[id(what)] = (what, digest())
        return found[1]

    def _content(self, source: plan.Distribution) -> bytes:
        if isinstance(source, plan.Lines):
            return _digest(self._lines[source.path])
        return _digest(source)

    def _one(self, source: plan.Distribution, type_: types.Type, rng: Callable[[], float]) -> Any:
        whole = isinstance(type_, types.Int)
        match source:
            case plan.Choices(values, weights):
                return _weighted(values, weights, rng)
            case plan.Lines(path):
                lines = self._lines[path]
                return lines[int(rng() * len(lines))]
            case plan.Uniform(low, high):
                if whole:
                    first, last = math.ceil(low), math.floor(high)
                    return first + int(rng() * (last - first + 1))
                return low + rng() * (high - low)
            case plan.Normal(mean, deviation):
                drawn = mean + deviation * _normal(rng)
                # Mathematical libraries differ in a number's last digit: it is left off.
                return round(drawn) if whole else float(f"{drawn:.12g}")
            case plan.Poisson(mean):
                return _poisson(mean, rng)
            case _:
                assert_never(source)

    def _several(
        self, source: plan.Distribution, type_: types.Type, wanted: int, rng: Callable[[], float]
    ) -> list[Any]:
        match source:
            case plan.Choices(values, weights):
                return _weighted_different(values, weights, wanted, rng)
            case plan.Lines(path):
                lines = self._unique[path]
                return [lines[at] for at in _different(len(lines), wanted, rng)]
            case plan.Uniform(low, high) if isinstance(type_, types.Int):
                first, last = math.ceil(low), math.floor(high)
                return [first + at for at in _different(last - first + 1, wanted, rng)]
            case _:
                found: dict[Any, None] = {}
                for _ in range(wanted * _TRIES):
                    if len(found) == wanted:
                        break
                    found[self._one(source, type_, rng)] = None
                if len(found) < wanted:
                    raise _too_few(wanted, len(found))
                return list(found)


def _digest(what: Any) -> bytes:
    return hashlib.blake2b(_encoder.encode(what), digest_size=16).digest()


def _too_few(wanted: int, there: int) -> RowFailed:
    return RowFailed("draw", f"{wanted} different values are wanted, and there are {there}")


def _weighted(values: Sequence[T], weights: Sequence[float], rng: Callable[[], float]) -> T:
    left = rng() * sum(weights)
    for value, weight in zip(values, weights, strict=True):
        left -= weight
        if left < 0:
            return value
    drawn = [value for value, weight in zip(values, weights, strict=True) if weight > 0]
    if not drawn:
        raise RowFailed("draw", "nothing is there to be drawn: no weight is more than 0")
    return drawn[-1]  # floats do not always add up


def _weighted_different(
    values: Sequence[T], weights: Sequence[float], wanted: int, rng: Callable[[], float]
) -> list[T]:
    left = [(value, weight) for value, weight in zip(values, weights, strict=True) if weight > 0]
    if wanted > len(left):
        raise _too_few(wanted, len(left))
    found: list[T] = []
    for _ in range(wanted):
        at = _weighted(range(len(left)), [weight for _, weight in left], rng)
        found.append(left.pop(at)[0])
    return found


def _different(there: int, wanted: int, rng: Callable[[], float]) -> list[int]:
    """Some of the first whole numbers, in the order they were drawn (a shuffle by Fisher and Yates)."""
    if wanted > there:
        raise _too_few(wanted, max(there, 0))
    moved: dict[int, int] = {}  # what a shuffled list of all would have at its changed places
    found: list[int] = []
    for at in range(wanted):
        other = at + int(rng() * (there - at))
        found.append(moved.get(other, other))
        moved[other] = moved.get(at, at)
    return found


def _normal(rng: Callable[[], float]) -> float:
    """A number of the standard normal distribution (Marsaglia's polar method)."""
    while True:
        x, y = 2 * rng() - 1, 2 * rng() - 1
        square = x * x + y * y
        if 0 < square < 1:
            return x * math.sqrt(-2 * math.log(square) / square)


def _poisson(mean: float, rng: Callable[[], float]) -> int:
    """A count of the Poisson distribution: Knuth's product of uniform numbers where the mean is small,
    else Hörmann's transformed rejection (PTRS, 1993)."""
    if mean < 10:
        count, product, least = 0, rng(), math.exp(-mean)
        while product > least:
            product *= rng()
            count += 1
        return count
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    ratio = 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = rng() - 0.5, 1 - rng()  # v is never 0
        us = 0.5 - abs(u)
        count = math.floor((2 * a / us + b) * u + mean + 0.43) if us else -1
        if us >= 0.07 and v <= ratio:
            return count
        if count < 0 or (us < 0.013 and v > us):
            continue
        accepted = math.log(v * inverse_alpha / (a / (us * us) + b))
        if accepted <= count * math.log(mean) - mean - math.lgamma(count + 1):
            return count
