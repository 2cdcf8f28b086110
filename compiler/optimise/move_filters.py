"""Moves a `where` before the asks and embeddings that it does not need, so that dropped rows cost nothing.

answer |> where("topic != 'x'")   →   where("topic != 'x'") |> answer
"""

from __future__ import annotations

import msgspec

from synthc.compiler import plan
from synthc.compiler.plan import Ask, Embed, Filter, Limit, Plan, Table


def move_filters(before: Plan) -> Plan:
    """The plan with its filters as early as they can be; the same object where all are."""
    tables = tuple(_move_in_table(table) for table in before.tables)
    unchanged = all(a is b for a, b in zip(tables, before.tables, strict=True))
    return before if unchanged else msgspec.structs.replace(before, tables=tables)


def _move_in_table(table: Table) -> Table:
    ops = list(table.ops)
    moved = False
    for at, op in enumerate(ops):
        if isinstance(op, Filter):
            moved = _move(ops, at) or moved
    return msgspec.structs.replace(table, ops=tuple(ops)) if moved else table


def _move(ops: list[plan.Op], at: int) -> bool:
    """Move the filter at a position, with the cheap operations that it needs, behind what it waits for."""
    needed = set(plan.reads(ops[at]))
    wanted = {at}
    start = 0
    for earlier in range(at - 1, -1, -1):
        op = ops[earlier]
        # A limit counts rows: a filter on its other side would change which are counted.
        if isinstance(op, Limit) or (plan.writes(op) & needed and isinstance(op, Ask | Embed)):
            start = earlier + 1
            break
        if plan.writes(op) & needed:
            needed |= plan.reads(op)
            wanted.add(earlier)
    behind = [ops[i] for i in range(start, at) if i not in wanted]
    if not any(isinstance(op, Ask | Embed) for op in behind):
        return False
    ops[start : at + 1] = [ops[i] for i in sorted(wanted)] + behind
    return True
