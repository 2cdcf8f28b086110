"""Gates while planning: who passes them is not always known, but how many can at most, and do at least."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from synthc.compiler import plan

_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=str)


@dataclass(slots=True)
class Row:
    """A row on its way: what is in its slots, which of those only stand in for what nobody knows yet,
    and whether it is `sure` that the row comes so far. `rounds` are those of the loops around it."""

    key: str
    slots: dict[str, Any]
    unknown: set[str] = field(default_factory=set)
    sure: bool = True
    rounds: tuple[int, ...] = ()

    def put(self, slot: str, value: Any, *, unknown: bool = False) -> None:
        """Fill a slot."""
        self.slots[slot] = value
        if unknown:
            self.unknown.add(slot)
        else:
            self.unknown.discard(slot)

    def value(self, ref: plan.Ref) -> Any:
        """The value of a slot, or of a struct put together from slots."""
        if isinstance(ref, str):
            return self.slots[ref]
        return {name: self.slots[slot] for name, slot in ref.items()}

    def values(self, reads: dict[str, plan.Ref]) -> dict[str, Any]:
        """The values that an operation reads, by the names it has for them."""
        return {name: self.value(ref) for name, ref in reads.items()}

    def open(self, ref: plan.Ref) -> bool:
        """Whether nobody knows yet what stands there."""
        return not self.unknown.isdisjoint(plan.slots(ref))


class Gate(Protocol):
    """What lets rows through or not, in row order."""

    def wanted(self, row: Row, planned: Counter[bytes], stretch: int) -> str:
        """Whether the row is to set out now: `yes`, `maybe` (if not all before it pass), `later`, `no`.

        `planned` counts those that set out beside it, which may be `stretch` times as many as have to.
        """
        ...

    def enter(self, row: Row) -> bool:
        """Whether the row may pass, which can make it unsure."""
        ...


class Places:
    """The places of a limit. `ahead` says that a row's label is known before it costs anything."""

    def __init__(self, op: plan.Limit, share: float, *, ahead: bool) -> None:
        self._op = op
        self._count = round(op.count * share) or min(op.count, 1)
        self._cap = None if op.labels is None else self._count * op.labels
        self._ahead = ahead or op.per is None
        self._sure: Counter[bytes] = Counter()
        self._passed: Counter[bytes] = Counter()

    def wanted(self, row: Row, planned: Counter[bytes], stretch: int) -> str:
        label = self._label(row) if self._ahead else None
        if label is None:
            if self._cap is None:
                return "yes"
            left, maybe = self._cap - self._sure.total(), self._cap - self._passed.total()
        else:
            left, maybe = self._count - self._sure[label], self._count - self._passed[label]
        if left <= 0:
            return "no"
        out = planned[label or b""]
        if out >= left * stretch:
            return "later"
        planned[label or b""] += 1
        return "yes" if out < maybe else "maybe"

    def enter(self, row: Row) -> bool:
        label = self._label(row)
        if label is None:
            row.sure = False
            if self._cap is not None and self._passed.total() >= self._cap:
                return False
            self._passed[b"?"] += 1
            return True
        self._sure[label] += row.sure
        if self._passed[label] >= self._count:
            return False
        self._passed[label] += 1
        return True

    def _label(self, row: Row) -> bytes | None:
        """What the places are counted by, None where that is not known."""
        if self._op.per is None:
            return b""
        return None if row.open(self._op.per) else _encoder.encode(row.slots[self._op.per])


class Firsts:
    """Lets the first of rows with equal values pass, and each whose values are not known.

    How similar vectors are is not looked at: each may pass.
    """

    def __init__(self, op: plan.Dedup) -> None:
        self._op = op
        self._met: set[bytes] = set()
        self._open = False

    def wanted(self, row: Row, planned: Counter[bytes], stretch: int) -> str:
        del row, planned, stretch
        return "yes"

    def enter(self, row: Row) -> bool:
        if self._op.similar is not None or any(row.open(r) for r in self._op.reads.values()):
            row.sure = row.sure and not self._open and not self._met
            self._open = True
            return True
        values = _encoder.encode(row.values(self._op.reads))
        if values in self._met:
            return False
        self._met.add(values)
        row.sure = row.sure and not self._open
        return True
