"""Moves a `where` before the asks, loops and embeddings it does not need: dropped rows cost nothing.

answer |> where("topic != 'x'")              →   where("topic != 'x'") |> answer
ideas |> unnest(ideas) |> where("size > 3")  →   where("size > 3") |> ideas |> unnest(ideas)

What it needs goes along, an ask too, which is then the only one that the dropped rows are asked:

answer |> rate(topic) |> where("rate > 3")   →   rate(topic) |> where("rate > 3") |> answer

Likewise what makes the label of a `limit(n, per = label)`, but for asks: a row whose label is known to
be full is not asked for.
"""

from __future__ import annotations

import msgspec

from synthc.compiler import plan
from synthc.compiler.needed import same
from synthc.compiler.plan import (
    Ask,
    Dedup,
    Embed,
    Filter,
    Limit,
    Plan,
    Repeat,
    Require,
    Table,
    Unnest,
)


def move_filters(before: Plan) -> Plan:
    """The plan with its filters as early as they can be; the same object where all are."""
    tables = tuple(_move_in_table(table) for table in before.tables)
    return before if same(tables, before.tables) else msgspec.structs.replace(before, tables=tables)


def _move_in_table(table: Table) -> Table:
    ops = list(table.ops)
    moved = False
    for at, op in enumerate(ops):
        if isinstance(op, Filter):
            moved = _move(ops, at, set(plan.reads(op)), {at}) or moved
        elif isinstance(op, Limit) and op.per:
            moved = _move(ops, at, {op.per}, set()) or moved
    return msgspec.structs.replace(table, ops=tuple(ops)) if moved else table


def _move(ops: list[plan.Op], at: int, needed: set[str], wanted: set[int]) -> bool:
    """Move what is wanted, and what makes the slots needed, before the first model that can wait.

    Both stand at a position or before it, and grow here.
    """
    filters = at in wanted
    first = None
    asks = False
    for earlier in range(at - 1, -1, -1):
        op = ops[earlier]
        model = isinstance(op, Ask | Embed | Repeat)
        makes = bool(plan.writes(op) & needed)
        # What checks a value goes along, so that the row that fails there still does.
        checks = isinstance(op, Require) and bool(plan.reads(op) & needed)
        if (
            # A gate looks at more than one row: a filter on its other side would change which.
            isinstance(op, Limit | Dedup)
            # A fork makes others of a row. A filter alone says of the row what it says of them.
            or (isinstance(op, Unnest) and (makes or wanted != {at}))
            # An ask stays behind what may spare it, and is no use before a limit that counts answers.
            or (isinstance(op, Filter | Require) and asks and not checks)
            or (model and makes and not filters)
        ):
            break
        if makes or checks:
            needed |= plan.reads(op)
            wanted.add(earlier)
            asks = asks or model
        elif model:
            first = earlier
    if first is None or not any(first < i for i in wanted):
        return False
    places = range(first, at + 1)
    moved = [ops[i] for i in places if i in wanted]
    ops[first : at + 1] = moved + [ops[i] for i in places if i not in wanted]
    return True
