"""What a database says of its runs: its tables, the plans they were made by, who was asked, what it cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import msgspec

from synthc.compiler import plan
from synthc.runtime.store.store import Counts, first

_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Made:
    """A table as it stands in a database: by which run it was made, and what became of its rows.

    `status` is `done`, `partial`, or `stale` where rows of it are to be asked anew.
    """

    name: str
    run_id: int
    status: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that was asked through a backend: how often, and how many tokens it took."""

    backend: str
    model: str
    calls: int
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an ask sends: `column` as `synth.calls` has it, the texts as the spec writes them."""

    table: str
    column: str
    backend: str
    system: str | None
    texts: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What stands for the texts, in hexadecimal."""
        content = _encoder.encode((self.system, self.texts))
        return hashlib.blake2b(content, digest_size=16).hexdigest()


def made(connection: duckdb.DuckDBPyConnection) -> tuple[Made, ...]:
    """The tables of the spec that are there, in the order of their names."""
    rows = connection.execute(
        "SELECT table_name, run_id, status, rows_in, kept, dropped, failed, not_asked"
        " FROM synth.tables SEMI JOIN (SELECT table_name FROM duckdb_tables()"
        " WHERE database_name = current_database() AND schema_name = 'main') USING (table_name)"
        " ORDER BY table_name"
    ).fetchall()
    return tuple(Made(name, run, status, Counts(*counts)) for name, run, status, *counts in rows)


def is_simulated(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the answers were made up."""
    return first(connection, "SELECT simulated FROM synth.meta") == (True,)


def plan_of(connection: duckdb.DuckDBPyConnection, run_id: int) -> plan.Plan | None:
    """The plan of a run; None where another version of synthc wrote it in another way."""
    row = first(connection, "SELECT plan FROM synth.runs WHERE run_id = ?", [run_id])
    try:
        found = plan.decode(row[0].encode()) if row else None
    except msgspec.DecodeError:
        return None
    return found if found and found.version == plan.VERSION else None


def last_run(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The number of the last run that was to make tables."""
    row = first(connection, "SELECT max(run_id) FROM synth.runs WHERE status <> 'preview'")
    return row[0] if row else None


def prompts(table: plan.Table) -> Iterator[Prompt]:
    """What the asks of a table send, in its order; nothing for those that continue a conversation."""
    for ask in plan.asks(table.ops):
        match ask.prompt:
            case plan.Template(text):
                texts = (text,)
            case plan.OneOf(prompts=several):
                texts = tuple(mutation.template for mutation in several)
            case plan.Conversation():
                texts = ()
        if texts or ask.system:
            yield Prompt(table.name, ask.what, ask.backend, ask.system, texts)


def asked(connection: duckdb.DuckDBPyConnection) -> tuple[Asked, ...]:
    """Who was asked, and how often; answers that were set aside since were paid for too."""
    rows = connection.execute(
        "SELECT backend, model, count(*), sum(input_tokens)::BIGINT, sum(output_tokens)::BIGINT"
        " FROM synth.calls GROUP BY ALL ORDER BY 3 DESC, 1, 2"
    ).fetchall()
    return tuple(Asked(*row) for row in rows)


def cost(connection: duckdb.DuckDBPyConnection) -> float | None:
    """US dollars for all that was asked, None where no backend that was asked has a price."""
    row: Any = first(connection, "SELECT sum(cost_usd) FROM synth.costs")
    return row[0] if row else None
