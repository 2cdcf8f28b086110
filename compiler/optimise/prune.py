"""Drops operations whose slots nothing reads: a `let` that is not used, a column that is not selected.

let hint: text = ask "…"             ← never asked where no prompt, SQL or column uses `hint`
answer |> sql "SELECT topic FROM …"  ← never asked where the SQL uses none of its columns
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from synthc.compiler import plan, types
from synthc.compiler.needed import needed, same
from synthc.compiler.optimise.columns_read import columns_read, is_of
from synthc.compiler.plan import (
    Ask,
    Constant,
    Embed,
    Op,
    Output,
    Plan,
    Query,
    Repeat,
    Table,
)
from synthc.compiler.types import Type


def prune(before: Plan) -> Plan:
    """The plan without operations that nobody needs; the same object where there are none."""
    by_name = {table.name: table for table in before.tables}
    queries = (table.source for table in before.tables if isinstance(table.source, Query))
    behind = {name: query for query in queries for name in query.tables}
    tables: list[Table] = []
    for table in before.tables:
        read = None
        # DuckDB is asked only where something could be spared.
        if table.hidden and any(isinstance(op, Ask | Repeat | Embed) for op in table.ops):
            read = columns_read(table.name, behind[table.name], by_name)
        tables.append(_prune_table(table, read))
    if same(tables, before.tables):
        return before
    return msgspec.structs.replace(before, tables=tuple(tables))


def _prune_table(table: Table, read: frozenset[str] | None) -> Table:
    """`read` is what is needed of its columns, where that is not all of them."""
    ops = needed(table.ops, _shown(table, read))
    if same(ops, table.ops):
        return table
    gone = _made(table.ops) - _made(ops)
    if gone.isdisjoint(_shown(table, None)):
        return msgspec.structs.replace(table, ops=ops)
    # A column that is not read is null, and stays: SQL may name it all the same (`* EXCLUDE (answer)`),
    # or tell columns by their places.
    null = _fresh(table)
    nothing = Constant(span=table.span, value=None, write=null)
    outputs = tuple(_without(output, gone, null) for output in table.outputs)
    return msgspec.structs.replace(table, ops=(*ops, nothing), outputs=outputs)


def _made(ops: Sequence[Op]) -> set[str]:
    return {slot for op in ops for slot in plan.writes(op)}


def _shown(table: Table, read: frozenset[str] | None) -> set[str]:
    """The slots of a table's columns, of those that are read where that is known."""
    every = {slot for output in table.outputs for slot in plan.slots(output.value)}
    if read is None:
        return every
    # A null costs nothing, and is perhaps there because this was done before.
    shown = {op.write for op in table.ops if isinstance(op, Constant)} & every
    for output in table.outputs:
        for part, slot in _parts(output):
            if any(is_of(name, part) or is_of(part, name) for name in read):
                shown.add(slot)
    return shown


def _parts(output: Output) -> list[tuple[str, str]]:
    """A column, or the parts that it is put together from, and their slots."""
    if isinstance(output.value, str):
        return [(output.name, output.value)]
    return [(f"{output.name}.{part}", slot) for part, slot in output.value.items()]


def _without(output: Output, gone: set[str], null: str) -> Output:
    """A column that is null, or whose parts are, where it showed what is gone."""
    if gone.isdisjoint(plan.slots(output.value)):
        return output
    if isinstance(output.value, str):
        return Output(output.name, types.maybe(output.type), null)
    lost = {part for part, slot in output.value.items() if slot in gone}
    value = {part: null if part in lost else slot for part, slot in output.value.items()}
    return Output(output.name, _with_nulls(output.type, lost), value)


def _with_nulls(record: Type, lost: set[str]) -> Type:
    assert isinstance(record, types.Record)
    fields = [
        types.Field(f.name, types.maybe(f.type)) if f.name in lost else f for f in record.fields
    ]
    return types.Record(tuple(fields))


def _fresh(table: Table) -> str:
    """A slot that nothing else in a table is called."""
    taken = _shown(table, None).union(*(plan.reads(op) | plan.writes(op) for op in table.ops))
    slot = "null"
    while slot in taken:
        slot += "#"
    return slot
