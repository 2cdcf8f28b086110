"""A chain, taken apart before any row walks it: at its forks, with the gates of each part.

source ── ask ── limit ── unnest ── ask ── dedup ── limit
       └── segment 0 ──┘        └───── segment 1 ─────┘

A gate counts the rows of its own segment: those that the fork before it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthc.compiler import plan
from synthc.runtime.engine.gate import (
    Firsts,
    FirstsOfSimilar,
    Gate,
    LabelLimit,
    LabelPaces,
    Limit,
    Numbers,
    Pace,
)
from synthc.runtime.ops import costs, every


@dataclass(frozen=True, slots=True)
class Segment:
    """The operations up to the next `fork`.

    `gates` are those among them, `paces` those that hold calls back, both by the id of an operation:
    the gate itself, and the one that waits; with the limit whose label has to be known there, if there
    is one. `numbers` numbers the rows that the fork makes, where a gate follows it.
    """

    ops: tuple[plan.Op, ...]
    fork: plan.Unnest | None
    gates: dict[int, Gate]
    paces: dict[int, tuple[tuple[plan.Limit | None, Gate], ...]]
    numbers: Numbers | None


def segments(ops: Sequence[plan.Op]) -> tuple[Segment, ...]:
    """The segments of a chain, with new gates."""
    parts: list[list[plan.Op]] = [[]]
    forks: list[plan.Unnest | None] = []
    for op in ops:
        if isinstance(op, plan.Unnest):
            forks.append(op)
            parts.append([])
        else:
            parts[-1].append(op)
    forks.append(None)
    gated = [any(isinstance(op, plan.Limit | plan.Dedup) for op in part) for part in parts]
    return tuple(
        _segment(tuple(part), fork, numbered=any(gated[at + 1 :]))
        for at, (part, fork) in enumerate(zip(parts, forks, strict=True))
    )


def _segment(ops: tuple[plan.Op, ...], fork: plan.Unnest | None, *, numbered: bool) -> Segment:
    first_cost = next((at for at, op in enumerate(ops) if costs(op)), len(ops))
    gates: dict[int, Gate] = {}
    paces: list[tuple[plan.Limit | None, Gate]] = []
    for at, op in enumerate(ops):
        since_cost = ops[first_cost:at]
        match op:
            case plan.Limit(per=None):
                gates[id(op)] = Limit(op.count)
                if since_cost:
                    paces.append((None, gates[id(op)]))
            case plan.Limit():
                gates[id(op)] = _label_limit(op, since_cost)
                if since_cost:
                    paces.append((op if _label_known(op, since_cost) else None, gates[id(op)]))
            case plan.Dedup(similar=None):
                gates[id(op)] = Firsts()
            case plan.Dedup(similar=float() as similar):
                gates[id(op)] = FirstsOfSimilar(similar)
            case _:
                pass
    return Segment(
        ops,
        fork,
        gates,
        {id(ops[first_cost]): tuple(paces)} if paces else {},
        Numbers() if numbered else None,
    )


def _label_limit(op: plan.Limit, since_cost: Sequence[plan.Op]) -> LabelLimit:
    """The gate of a limit per label, behind the operations since the first that costs something."""
    if not since_cost:
        return LabelLimit(op.count, op.labels, None, "not_asked")
    if _label_known(op, since_cost):
        return LabelLimit(op.count, op.labels, LabelPaces(op.count), "not_asked")
    pace = None if op.labels is None else Pace(op.count * op.labels)
    return LabelLimit(op.count, op.labels, pace, "dropped")


def _label_known(op: plan.Limit, since_cost: Sequence[plan.Op]) -> bool:
    """Whether a limit's label is there before the first operation that costs something."""
    return not any(op.per in plan.writes(before) for before in since_cost)


def limits_behind(parts: Sequence[Segment]) -> dict[int, tuple[Gate, ...]]:
    """For each operation that costs something (by its id, in loops too) the limits behind it.

    Once one of them is full, the operation would be for nothing.
    """
    behind: tuple[Gate, ...] = ()
    found: dict[int, tuple[Gate, ...]] = {}
    for part in reversed(parts):
        for op in reversed(part.ops):
            if isinstance(op, plan.Limit):
                behind = (part.gates[id(op)], *behind)
            elif behind and costs(op):
                found |= {id(inner): behind for inner in every((op,)) if costs(inner)}
    return found


def ahead(ops: Sequence[plan.Op]) -> frozenset[int]:
    """The asks (by id) beside which a later one can run, and what stands between the two and needs them.

    Loops that ask are asks here, and in loops the same is said of their own operations. What decides
    whether a row goes on (a filter, a gate, a null check) ends the search: nothing behind it may be
    asked before it did.
    """
    found: set[int] = set()
    for at, op in enumerate(ops):
        if isinstance(op, plan.Repeat):
            found |= ahead(op.ops)
        if not _asks(op):
            continue
        waiting = set(plan.writes(op))
        waiters = {id(op)}
        for later in ops[at + 1 :]:
            needs = bool(plan.reads(later) & waiting)
            if isinstance(later, plan.Filter | plan.Limit | plan.Dedup) or (
                isinstance(later, plan.Require | plan.Unnest) and needs
            ):
                break
            if needs:
                waiting |= plan.writes(later)
                waiters.add(id(later))
            elif _asks(later):
                found |= waiters
    return frozenset(found)


def _asks(op: plan.Op) -> bool:
    return bool(plan.asks((op,)))
