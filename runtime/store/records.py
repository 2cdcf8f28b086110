"""What a run notes of its rows: the records of the tables in `synth` that grow with them.

The fields of each are the columns of its table (`schema.py`), in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """An answered call: who asked, what was sent, what came back.

    `rounds` says in which rounds of its loops it was made ("2", or "1.3" in a loop in a loop), `index`
    which of several it was, from 0. `reasoning` is what the model thought before it answered, if that
    is told. `answered_at` is in microseconds since 1970, in UTC.
    """

    digest: bytes
    run_id: int
    table_name: str | None = None
    row_key: str | None = None
    column: str | None = None
    rounds: str | None = None
    index: int | None = None
    backend: str
    model: str
    request: str
    answer: str
    reasoning: str | None = None
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None = None
    latency_s: float
    attempts: int
    reask: int = 0
    answered_at: int


class Vector(Struct, frozen=True, kw_only=True):
    """What an embedder on this machine made of a text: float32 of shape (dimensions,)."""

    digest: bytes
    run_id: int
    embedder: str
    vector: np.ndarray


class Failure(Struct, frozen=True, kw_only=True):
    """What a row could not have, and why. `calls` are the digests of the answers that could not be used;
    None where no ask failed."""

    run_id: int
    table_name: str
    row_key: str
    column: str
    reason: str
    detail: str
    stops_row: bool
    place: str
    calls: tuple[bytes, ...] | None


class Mutation(Struct, frozen=True, kw_only=True, gc=False):
    """Which prompt of a set a row was asked by, and the value it was to change."""

    run_id: int
    table_name: str
    row_key: str
    column: str
    round: int | None
    set: str
    mutation: str
    value: str | None


class Drawn(Struct, frozen=True, kw_only=True, gc=False):
    """What was drawn for a row, as JSON."""

    run_id: int
    table_name: str
    row_key: str
    column: str
    round: int | None
    value: str


Note = Failure | Mutation | Drawn
"""What is noted of a row besides its calls."""
