"""A database looked at beside a scratch one: what it holds already, and none of it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from synthc.compiler import plan
from synthc.compiler.types import Field
from synthc.runtime.backends.sizes import IMAGE
from synthc.runtime.store import arrow, schema
from synthc.runtime.store.store import (
    STAGING,
    Counts,
    StoredAnswer,
    check_format,
    check_simulated,
    connect,
    is_empty,
    stored,
    unusable,
)

LOOKED_AT = 20_000
"""Calls, about, that averages are made of: more say nothing new."""
EXAMPLES = 20
"""Answers of each ask that stand in for those that are not there yet."""

_KEPT = '"·kept"'


@dataclass(frozen=True, slots=True)
class Held:
    """What a database has of a table: made of what, by which run, its counts, and its status: `done`,
    `partial`, or `stale` where rows of it are to be asked anew."""

    fingerprint: str
    status: str
    run_id: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Answered:
    """What the answers of an ask were like so far.

    `input_tokens` were counted by the server for prompts of `prompt_characters`, `output_tokens` is the
    mean of an answer (both None where no server said), `examples` are some of the answers.
    """

    calls: int
    prompt_characters: int
    input_tokens: int | None
    output_tokens: float | None
    examples: tuple[str, ...]


class Kept:
    """`with Kept(database, readable) as kept:`: what is kept, and a scratch database to plan in.

    A database that is not there holds nothing. Raises RunError where there is one that cannot be used.
    """

    def __init__(self, path: Path, readable: Sequence[Path]) -> None:
        there = path.exists() and _checked(path)
        self.connection = duckdb.connect(
            ":memory:", config={"python_enable_replacements": False, "threads": 2}
        )
        execute = self.connection.execute
        try:
            if there:
                quoted = str(path).replace("'", "''")
                execute(f"ATTACH '{quoted}' AS {_KEPT} (READ_ONLY)")
            else:
                execute(f"ATTACH ':memory:' AS {_KEPT}")
                execute(f"USE {_KEPT}")
                execute(schema.create())
                execute("USE memory")
            execute(schema.create())
            execute(f"ATTACH ':memory:' AS {STAGING}")
            execute("SET enable_progress_bar = false")
            execute("SET allowed_paths = ?", [[str(file) for file in readable]])
            execute("SET enable_external_access = false")
            execute("SET lock_configuration = true")
        except duckdb.Error as error:
            self.connection.close()
            raise unusable(path, error) from None

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_rest: object) -> None:
        self.connection.close()

    # What is there

    def tables(self) -> dict[str, Held]:
        """The tables that a run made, or began to make, and that are still there."""
        rows = self._all(
            "SELECT t.table_name, fingerprint, status, run_id, rows_in, kept, dropped, failed, not_asked"
            f" FROM {_KEPT}.synth.tables AS t SEMI JOIN duckdb_tables() AS d"
            " ON d.table_name = t.table_name AND d.database_name = '·kept'"
        )
        return {
            name: Held(fingerprint, status, run_id, Counts(*counts))
            for name, fingerprint, status, run_id, *counts in rows
        }

    def plan_of(self, run_id: int) -> plan.Plan | None:
        """The plan of a run, None where it cannot be read any more."""
        found = self._all(f"SELECT plan FROM {_KEPT}.synth.runs WHERE run_id = ?", [run_id])
        try:
            return plan.decode(found[0][0].encode()) if found else None
        except msgspec.DecodeError:  # another version of synthc made it
            return None

    def began(self, run_id: int) -> Any:
        """When a run began, in UTC; None where that is not known."""
        found = self._all(f"SELECT started_at FROM {_KEPT}.synth.runs WHERE run_id = ?", [run_id])
        return found[0][0] if found else None

    def answers(self, digests: Sequence[bytes]) -> dict[bytes, StoredAnswer]:
        """The answers that are there, by call identity."""
        self.connection.register("synth_wanted", arrow.binary_column("digest", list(digests)))
        rows = self._all(
            f"SELECT digest, answer, model, finish_reason FROM {_KEPT}.synth.calls"
            " SEMI JOIN synth_wanted USING (digest) WHERE superseded_by IS NULL"
        )
        self.connection.unregister("synth_wanted")
        return {bytes(digest): StoredAnswer(*rest) for digest, *rest in rows}

    def answered(self) -> dict[tuple[str, str, str], Answered]:
        """What the answers so far were like, by (table, column, backend)."""
        calls = f"{_KEPT}.synth.calls"
        step = 1 + self._all(f"SELECT count(*) FROM {calls}")[0][0] // LOOKED_AT
        texts = "list_sum(list_transform(json_extract_string(c, '$[*].text'), lambda t: length(t)))"
        pictures = "len(json_extract_string(c, '$[*].sha256'))"
        characters = (
            "list_sum(list_transform(json_extract(request, '$[*].content'), lambda c: CASE json_type(c)"
            f" WHEN 'ARRAY' THEN coalesce({texts}, 0) + {IMAGE} * {pictures}"
            " ELSE length(c->>'$') END))"
        )
        # By what is counted of a call, so that a server that says nothing spoils no mean.
        rows = self._all(
            'SELECT table_name, "column", backend, count(*),'
            f" coalesce(sum({characters}) FILTER (input_tokens IS NOT NULL), 0)::BIGINT,"
            " sum(input_tokens)::BIGINT, avg(output_tokens),"
            f" (list(answer ORDER BY digest) FILTER (reask = 0))[:{EXAMPLES}]"
            f" FROM {calls} WHERE rowid % {step} = 0 GROUP BY ALL"
        )
        return {
            (table, column, backend): Answered(calls_, read, input_, output, tuple(texts or ()))
            for table, column, backend, calls_, read, input_, output, texts in rows
        }

    # The scratch database

    def show(self, table: plan.Table) -> None:
        """Let a finished table be seen where a plan's SQL looks for it."""
        self.connection.execute(
            f"CREATE OR REPLACE VIEW {stored(table)} AS FROM {_KEPT}.{stored(table)}"
        )
        self.connection.execute(
            f"INSERT INTO synth.rows FROM {_KEPT}.synth.rows WHERE table_name = ?", [table.name]
        )

    def lay_down(
        self, table: plan.Table, keys: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Put rows where a plan's SQL looks for the table."""
        fields = tuple(Field(output.name, output.type) for output in table.outputs)
        columns = schema.columns(fields)
        self.connection.execute(f"CREATE OR REPLACE TABLE {stored(table)} ({columns})")
        cells = [[row[field.name] for row in rows] for field in fields]
        batch = arrow.table(cells, fields, arrow.schema(self.connection, fields))
        self._insert(stored(table), batch)
        self.connection.execute(
            "INSERT INTO synth.rows SELECT $name, unnest($keys), unnest(range(len($keys))),"
            " unnest(range(len($keys))), 'kept'",
            {"name": table.name, "keys": list(keys)},
        )

    def _insert(self, target: str, batch: Any) -> None:
        self.connection.register("synth_batch", batch)
        self.connection.execute(f"INSERT INTO {target} FROM synth_batch")
        self.connection.unregister("synth_batch")

    def _all(self, query: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, values).fetchall()


def _checked(path: Path) -> bool:
    """Whether a database has something to look at. Raises RunError where it is not a real run's."""
    with connect(path, read_only=True) as looking:
        if is_empty(looking):
            return False
        check_format(looking, path)
        check_simulated(looking, path, simulated=False)
        return True
