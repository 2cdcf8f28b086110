"""The operations of a plan, however deep they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from synthc.compiler import plan


def every(ops: Sequence[plan.Op]) -> Iterator[plan.Op]:
    """All operations in their order, a loop before those in it (its `until` is the last of them)."""
    for op in ops:
        yield op
        if isinstance(op, plan.Repeat):
            yield from every(op.ops)
            if op.until:
                yield op.until


def models(ops: Sequence[plan.Op]) -> list[str]:
    """The backends and embedders that operations use, once for each use, in order."""
    found: list[str] = []
    for op in every(ops):
        match op:
            case plan.Ask():
                found.append(op.backend)
            case plan.Embed():
                found.append(op.embedder)
            case _:
                pass
    return found


def costs(op: plan.Op) -> bool:
    """Whether an operation asks a backend or an embedder for something."""
    return bool(models((op,)))


def drawn_from(ops: Sequence[plan.Op]) -> tuple[str, ...]:
    """The tables whose rows operations draw."""
    return tuple(op.table for op in every(ops) if isinstance(op, plan.Draw))
