"""The tables of the schema `synth`: what a database knows of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from synthc.compiler import types
from synthc.compiler.types import Field

FORMAT = 4
"""The version of the schema. A database of another one is never touched."""

_BIG, _INTEGER, _TEXT = types.Int(), types.Other("INTEGER"), types.Text()
_TIME, _BYTES = types.Other("TIMESTAMP"), types.Other("BLOB")

# What the rows of the next five mean: `records.py`.
CALL_COLUMNS = (
    Field("digest", _BYTES),
    Field("run_id", _INTEGER),
    Field("table_name", _TEXT),
    Field("row_key", _TEXT),
    Field("column", _TEXT),
    Field("rounds", _TEXT),
    Field("index", _INTEGER),
    Field("backend", _TEXT),
    Field("model", _TEXT),
    Field("request", _TEXT),
    Field("answer", _TEXT),
    Field("reasoning", _TEXT),
    Field("finish_reason", _TEXT),
    Field("input_tokens", _BIG),
    Field("output_tokens", _BIG),
    Field("latency_s", types.Float()),
    Field("attempts", _INTEGER),
    Field("reask", _INTEGER),
    Field("answered_at", _TIME),
)

FAILURE_COLUMNS = (
    Field("run_id", _INTEGER),
    Field("table_name", _TEXT),
    Field("row_key", _TEXT),
    Field("column", _TEXT),
    Field("reason", _TEXT),
    Field("detail", _TEXT),
    Field("stops_row", types.Bool()),
    Field("place", _TEXT),
    Field("calls", types.ListOf(_BYTES)),
)

MUTATION_COLUMNS = (
    Field("run_id", _INTEGER),
    Field("table_name", _TEXT),
    Field("row_key", _TEXT),
    Field("column", _TEXT),
    Field("round", _INTEGER),
    Field("set", _TEXT),
    Field("mutation", _TEXT),
    Field("value", _TEXT),
)
VECTOR_COLUMNS = (
    Field("digest", _BYTES),
    Field("run_id", _INTEGER),
    Field("embedder", _TEXT),
    Field("vector", types.Other("FLOAT[]")),
)
DRAW_COLUMNS = (
    Field("run_id", _INTEGER),
    Field("table_name", _TEXT),
    Field("row_key", _TEXT),
    Field("column", _TEXT),
    Field("round", _INTEGER),
    Field("value", _TEXT),
)
_TABLES = {
    "meta": (Field("format", _INTEGER), Field("simulated", types.Bool())),
    "runs": (
        Field("run_id", _INTEGER),
        Field("spec", _TEXT),
        Field("seed", _BIG),
        Field("plan", _TEXT),
        Field("started_at", _TIME),
        Field("ended_at", _TIME),
        Field("status", _TEXT),
    ),
    "prices": (
        Field("run_id", _INTEGER),
        Field("backend", _TEXT),
        Field("input_usd_per_mtok", types.Float()),
        Field("output_usd_per_mtok", types.Float()),
    ),
    "tables": (
        Field("table_name", _TEXT),
        Field("fingerprint", _TEXT),
        Field("status", _TEXT),
        Field("run_id", _INTEGER),
        Field("rows_in", _BIG),
        Field("kept", _BIG),
        Field("dropped", _BIG),
        Field("failed", _BIG),
        Field("not_asked", _BIG),
    ),
    "rows": (
        Field("table_name", _TEXT),
        Field("row_key", _TEXT),
        Field("ordinal", _BIG),
        Field("position", _BIG),
        Field("status", _TEXT),
    ),
    "calls": (*CALL_COLUMNS, Field("superseded_by", _INTEGER)),
    "vectors": VECTOR_COLUMNS,
    "failures": FAILURE_COLUMNS,
    "mutations": MUTATION_COLUMNS,
    "draws": DRAW_COLUMNS,
    "expectations": (
        Field("run_id", _INTEGER),
        Field("name", _TEXT),
        Field("holds", types.Bool()),
        Field("violations", _BIG),
    ),
}

OF_ONE_TABLE = ("failures", "mutations", "draws")
"""What is known of a table's rows, and forgotten when it is made again."""

_COSTS_BY = {
    "run": "run_id",
    "backend": "backend",
    # A column is called after the step that makes it, which is called as its task or as it wants to be.
    "task": """table_name, regexp_replace("column", '[.][^.]*$', '') AS task""",
    "column": 'table_name, "column"',
}
_VIEWS = {
    "costs": """
        SELECT run_id, backend, table_name, "column", count(*) AS calls,
            sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
            sum(coalesce(input_tokens, 0) * input_usd_per_mtok
                + coalesce(output_tokens, 0) * output_usd_per_mtok) / 1e6 AS cost_usd
        FROM synth.calls LEFT JOIN synth.prices USING (run_id, backend)
        GROUP BY run_id, backend, table_name, "column"
        ORDER BY ALL
    """,
    **{
        f"costs_by_{what}": f"""
        SELECT {by}, sum(calls)::BIGINT AS calls, sum(input_tokens)::BIGINT AS input_tokens,
            sum(output_tokens)::BIGINT AS output_tokens, sum(cost_usd) AS cost_usd
        FROM synth.costs GROUP BY ALL ORDER BY cost_usd DESC NULLS LAST, calls DESC
    """
        for what, by in _COSTS_BY.items()
    },
}
"""What was paid for answers, also for those that were set aside since. Without a price, the cost is null."""

OURS = frozenset({*_TABLES, *_VIEWS})
"""Names that no table of a plan has in the schema."""


def create() -> str:
    """The SQL that makes the schema."""
    made = [f"CREATE TABLE synth.{name} ({columns(fields)})" for name, fields in _TABLES.items()]
    views = [f"CREATE VIEW synth.{name} AS {query}" for name, query in _VIEWS.items()]
    return ";\n".join(["CREATE SCHEMA synth", *made, *views])


def columns(fields: Sequence[Field]) -> str:
    """Columns as CREATE TABLE takes them."""
    return ", ".join(f"{types.quote(field.name)} {types.sql(field.type)}" for field in fields)
