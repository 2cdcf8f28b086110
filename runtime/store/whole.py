"""A finished table, read whole: rows that others are given as examples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import msgspec

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.store import arrow
from synthc.runtime.store.store import KEY, keyed

_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=str)


@dataclass(frozen=True, slots=True)
class WholeTable:
    """The rows of a table in the order of their keys, and what stands for all of it.

    Not in their own order: it would be another draw where somebody sorted the file they came from.
    """

    keys: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    digest: bytes


def whole(
    connection: duckdb.DuckDBPyConnection, table: plan.Table, fields: Sequence[Field]
) -> WholeTable:
    """Some columns of a finished table."""
    columns = "".join(f", {types.quote(field.name)}" for field in fields)
    query = f'SELECT "{KEY}"{columns} {keyed(table)} ORDER BY "{KEY}"'
    found = connection.sql(query).to_arrow_table()
    keys, *cells = [column.to_pylist() for column in found.columns]
    for at, field in enumerate(fields):
        if arrow.has_json(field.type):
            cells[at] = [arrow.from_cell(cell, field.type) for cell in cells[at]]
    names = [field.name for field in fields]
    rows = tuple(dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True))
    content = _encoder.encode((keys, cells))  # not the names: to rename a column changes nothing
    return WholeTable(tuple(keys), rows, hashlib.blake2b(content, digest_size=16).digest())
