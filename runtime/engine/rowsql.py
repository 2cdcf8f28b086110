"""SQL over single rows, run in bulk: the rows that are ready together are one query.

It runs in an in-memory DuckDB of its own that can reach no file and no table.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.store import arrow
from synthc.runtime.store.store import is_query

_ROW = "row"
_NUMBER = "·n"


class RowSql:
    """The connection that all row-wise SQL of a run shares, on a thread of its own.

    It is opened when it is first needed: many a spec has no SQL on rows, and to open it takes 20 ms.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "row-sql")

    def close(self) -> None:
        """End the thread and forget the connection."""
        self._thread.shutdown(wait=True)
        if "_connection" in vars(self):
            self._connection.close()

    @functools.cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(
            ":memory:",
            config={
                "python_enable_replacements": False,
                "enable_external_access": False,
                "threads": 1,
            },
        )
        connection.execute("SET lock_configuration = true")
        return connection

    def expression(self, op: plan.Compute) -> Batcher[Mapping[str, Any], tuple[Any, ...]]:
        """What computes an operation's fields for a row's values."""
        return self._batcher(op, op.sql, op.fields)

    def condition(self, op: plan.Filter) -> Batcher[Mapping[str, Any], tuple[Any, ...]]:
        """What tells whether a row is kept: a tuple of one, true, false or null."""
        sql = f"SELECT ({op.sql}\n) AS kept FROM {_ROW}"
        return self._batcher(op, sql, (Field("kept", types.Bool()),))

    def _batcher(
        self, op: plan.Compute | plan.Filter, sql: str, outputs: tuple[Field, ...]
    ) -> Batcher[Mapping[str, Any], tuple[Any, ...]]:
        if not is_query(self._connection, sql):  # a plan can be edited by hand
            raise RunError(f"`{op.what}` is no single query", span=op.span)
        inputs = op.inputs
        numbered = (Field(_NUMBER, types.Int()), *inputs)  # a table needs a column to have rows
        schema = arrow.schema(self._connection, numbered)
        readers = [
            (output.name, output.type if arrow.has_json(output.type) else None)
            for output in outputs
        ]

        def compute(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...] | Exception]:
            try:
                given = [range(len(rows)), *([row[f.name] for row in rows] for f in inputs)]
                self._connection.register(_ROW, arrow.table(given, numbered, schema))
                result = self._connection.sql(sql).to_arrow_table()
                columns = [arrow.values(result.column(name)) for name, _ in readers]
            except Exception as error:  # noqa: BLE001 - of one row: the others must not share it
                if len(rows) == 1:
                    return [RowFailed("sql", str(error).split("\n")[0])]
                half = len(rows) // 2
                return compute(rows[:half]) + compute(rows[half:])
            made = [
                values if json_type is None else [arrow.from_cell(v, json_type) for v in values]
                for values, (_, json_type) in zip(columns, readers, strict=True)
            ]
            return list(zip(*made, strict=True))

        async def run(
            rows: Sequence[Mapping[str, Any]],
        ) -> Sequence[tuple[Any, ...] | Exception]:
            return await asyncio.get_running_loop().run_in_executor(self._thread, compute, rows)

        return Batcher(run)
