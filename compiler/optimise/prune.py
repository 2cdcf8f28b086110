"""Drops operations whose slots nothing reads: a `let` that is not used, a column that is not selected.

let hint: text = ask "…"        ← never asked where no prompt, SQL or column uses `hint`
"""

from __future__ import annotations

import msgspec

from synthc.compiler import plan
from synthc.compiler.plan import Plan, Table


def prune(before: Plan) -> Plan:
    """The plan without operations that nobody needs; the same object where there are none."""
    tables = tuple(_prune_table(table) for table in before.tables)
    unchanged = all(a is b for a, b in zip(tables, before.tables, strict=True))
    return before if unchanged else msgspec.structs.replace(before, tables=tables)


def _prune_table(table: Table) -> Table:
    needed = {slot for output in table.outputs for slot in plan.slots(output.value)}
    kept: list[plan.Op] = []
    for op in reversed(table.ops):
        made = plan.writes(op)
        # A fork decides how many rows there are, as filters and gates (which make nothing) do.
        if made and not made & needed and not isinstance(op, plan.Unnest):
            continue
        needed |= plan.reads(op)
        kept.append(op)
    if len(kept) == len(table.ops):
        return table
    return msgspec.structs.replace(table, ops=tuple(reversed(kept)))
