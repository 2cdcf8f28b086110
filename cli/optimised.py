"""What each pass of the optimiser did to a plan, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synthc.compiler import plan
from synthc.compiler.optimise import PASSES
from synthc.runtime.ops import costs
from synthc.runtime.planning.words import named


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a pass did to a table."""

    done_by: str
    table: str
    words: str


def changes(lowered: plan.Plan) -> list[Change]:
    """What was done to a plan that no pass has seen, in the order of the passes."""
    found: list[Change] = []
    before = lowered
    for improve in PASSES:
        after = improve(before)
        name = improve.__name__
        found += (Change(name, table, words) for table, words in _compared(before, after))
        before = after
    return found


def _compared(before: plan.Plan, after: plan.Plan) -> Iterator[tuple[str, str]]:
    there = {table.name: table for table in after.tables}
    for table in before.tables:
        left = there.get(table.name)
        if left is None:
            yield table.name, f"`{table.name}` is not made: nothing needs it"
        elif left is not table:
            for words in _in_table(table, left):
                yield table.name, words


def _in_table(before: plan.Table, after: plan.Table) -> Iterator[str]:
    gone = _gone(before.ops, after.ops)
    yield from (_dropped(op) for op in gone if not isinstance(op, plan.Constant))
    yield from _moved(before, after)


def _gone(before: Sequence[plan.Op], after: Sequence[plan.Op]) -> Iterator[plan.Op]:
    """The operations that are no longer there; of a loop that does less, those of its rounds."""
    kept = {id(op) for op in after}
    loops = {op.write: op for op in after if isinstance(op, plan.Repeat)}
    for op in before:
        if id(op) in kept:
            continue
        if isinstance(op, plan.Repeat) and op.write in loops:
            yield from _gone(op.ops, loops[op.write].ops)
        else:
            yield op


def _dropped(op: plan.Op) -> str:
    done = {
        plan.Ask: "asked",
        plan.Repeat: "done",
        plan.Embed: "embedded",
        plan.Sample: "drawn",
        plan.Draw: "drawn",
    }.get(type(op), "made")
    return f"{named(op)} is never {done}: nothing needs it"


def _moved(before: plan.Table, after: plan.Table) -> Iterator[str]:
    """What stands before something that costs, and stood behind it."""
    was = {id(op): at for at, op in enumerate(before.ops)}
    order = [op for op in after.ops if id(op) in was]
    for at, op in enumerate(order):
        if isinstance(op, plan.Require | plan.Constant):
            continue
        passed = [o for o in order[at + 1 :] if costs(o) and was[id(o)] < was[id(op)]]
        if passed:
            yield f"{named(op)} moved before {_listed([named(o) for o in passed])}"


def _listed(names: list[str]) -> str:
    if len(names) < 3:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"
