"""Which operations of a chain something needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from synthc.compiler import plan
from synthc.compiler.plan import Op, Repeat, Unnest


def needed(ops: Sequence[Op], wanted: Iterable[str]) -> tuple[Op, ...]:
    """The operations that make the slots wanted, what these read, and so on; in loops too.

    What decides which rows there are stays: filters, checks and gates, which make nothing, and forks.
    """
    read = set(wanted)
    kept: list[Op] = []
    for op in reversed(ops):
        made = plan.writes(op)
        if made and not made & read and not isinstance(op, Unnest):
            continue
        kept.append(_round(op, read) if isinstance(op, Repeat) else op)
        read |= plan.reads(kept[-1])
    return tuple(reversed(kept))


def _round(loop: Repeat, read: set[str]) -> Repeat:
    """The loop with what a round needs; the same object where that is all of it."""
    wanted = {*plan.slots(loop.next), *(plan.reads(loop.until) if loop.until else ())}
    models = {ask.model_slot for ask in plan.asks(loop.ops)}  # they are seen from outside
    ops = needed(loop.ops, wanted | models & read)
    return loop if same(ops, loop.ops) else msgspec.structs.replace(loop, ops=ops)


def same(some: Sequence[object], others: Sequence[object]) -> bool:
    """Whether two sequences hold the same objects."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))
