"""Moves a `where` before the asks and embeddings that it does not need, so that dropped rows cost nothing.

answer |> where("topic != 'x'")   →   where("topic != 'x'") |> answer
"""

from __future__ import annotations

import msgspec

from synthc.compiler import plan
from synthc.compiler.plan import Ask, Embed, Filter, Limit, Plan, Require, Table


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
    """Move the filter at a position, and what it needs, before the first model that can wait."""
    needed = set(plan.reads(ops[at]))
    wanted = {at}
    first = None
    for earlier in range(at - 1, -1, -1):
        op = ops[earlier]
        model = isinstance(op, Ask | Embed)
        # A limit counts rows: a filter on its other side would change which are counted.
        if isinstance(op, Limit) or (model and plan.writes(op) & needed):
            break
        # What checks a value goes along, so that the row that fails there still does.
        checks = isinstance(op, Require) and plan.reads(op) & needed
        if plan.writes(op) & needed or checks:
            needed |= plan.reads(op)
            wanted.add(earlier)
        elif model:
            first = earlier
    if first is None:
        return False
    moved = [ops[i] for i in range(first, at + 1) if i in wanted]
    ops[first : at + 1] = moved + [ops[i] for i in range(first, at) if i not in wanted]
    return True
