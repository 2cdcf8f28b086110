"""The plan: what the compiler hands to the runtime, and the only thing the two share.

A plan is data. It holds no secret (an `env()` stays a name), no path of one machine (files are
named as the spec names them, relative to the spec), and nothing that depends on when or where it was
made: the same spec gives the same bytes.

A table is a source and a chain of operations. Operations work on *slots*: named values of one row,
each written once. `question` in the spec may be the slot `write.question` in the plan; what an
expression or a template calls a thing, and which slot that is, stands in its `reads`.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Struct

from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

VERSION = 1
LINE_LENGTH = 120


class Env(Struct, frozen=True, tag="env"):
    """A setting read from the environment when the plan runs, and never written down."""

    name: str
    default: str | None = None


Setting = str | Env


class Price(Struct, frozen=True, kw_only=True):
    """What a backend costs, in US dollars a million tokens."""

    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0


class Sampling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model picks its words. None means: whatever the server does by itself."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: dict[str, Any] = {}


class Backend(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that answers, and how it is reached."""

    name: str
    span: Span
    model: Setting
    protocol: str = "openai"
    url: Setting | None = None
    api_key: Setting | None = None
    headers: dict[str, Setting] = {}
    sampling: Sampling = Sampling()
    concurrency: int = 64
    attempts: int = 5
    timeout_s: float = 120.0
    reasks: int = 2
    price: Price | None = None


class Embedder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that turns text into vectors of `dimensions` floats."""

    name: str
    span: Span
    model: Setting
    dimensions: int
    pooling: str | None = None
    normalize: bool | None = None
    max_tokens: int | None = None


class Read(Struct, frozen=True, tag="read"):
    """Rows of files: `path` as the spec writes it, `key` the column that names a row."""

    span: Span
    path: str
    columns: tuple[Field, ...]
    key: str | None


class Rows(Struct, frozen=True, tag="rows"):
    """`count` rows without columns, keyed by their number."""

    span: Span
    count: int


class Query(Struct, frozen=True, tag="query"):
    """A SQL query over whole tables: a barrier."""

    span: Span
    sql: str
    tables: tuple[str, ...]
    columns: tuple[Field, ...]
    key: str | None
    ordered: bool


class From(Struct, frozen=True, tag="from"):
    """The rows of another table of the plan, with their keys."""

    span: Span
    table: str


Source = Read | Rows | Query | From


class Contract(Struct, frozen=True, kw_only=True):
    """How an answer becomes columns: `fields` are named as the spec names them.

    `text` fills its one field with the answer as it is; `json` reads an object with the fields'
    names, or a bare array where the one field is a list.
    """

    kind: str
    fields: tuple[Field, ...]


class Ask(Struct, frozen=True, kw_only=True, tag="ask", omit_defaults=True):
    """Ask a backend, and fill the slots `writes` (one a field of the contract, then the model's name).

    `ordinal` counts the asks of the same template and backend before it in its chain: it keeps two
    answers to one question apart without naming them.
    """

    span: Span
    what: str
    backend: str
    template: str
    system: str | None
    reads: dict[str, str]
    contract: Contract
    writes: tuple[str, ...]
    model_slot: str
    ordinal: int


class Compute(Struct, frozen=True, kw_only=True, tag="compute"):
    """SQL over one row: a list of expressions, a slot each."""

    span: Span
    what: str
    sql: str
    reads: dict[str, str]
    inputs: tuple[Field, ...]
    fields: tuple[Field, ...]
    writes: tuple[str, ...]


class Filter(Struct, frozen=True, kw_only=True, tag="filter"):
    """Keep the row where the SQL is true."""

    span: Span
    what: str
    sql: str
    reads: dict[str, str]
    inputs: tuple[Field, ...]


class Render(Struct, frozen=True, kw_only=True, tag="render"):
    """A template, rendered into a slot: no model."""

    span: Span
    what: str
    template: str
    reads: dict[str, str]
    write: str


class Constant(Struct, frozen=True, kw_only=True, tag="constant"):
    """A literal, in a slot."""

    span: Span
    value: Any
    write: str


class Require(Struct, frozen=True, kw_only=True, tag="require"):
    """Stop the row where one of the slots is null: `slots` maps a name of the spec to its slot."""

    span: Span
    what: str
    slots: dict[str, str]


class Embed(Struct, frozen=True, kw_only=True, tag="embed"):
    """The vector of a text."""

    span: Span
    what: str
    embedder: str
    read: str
    write: str


class Limit(Struct, frozen=True, kw_only=True, tag="limit"):
    """Keep the first `count` rows, in row order, and ask nothing for the rest."""

    span: Span
    count: int


Op = Ask | Compute | Filter | Render | Constant | Require | Embed | Limit


class Output(Struct, frozen=True):
    """A column of a stored table: a slot, or a struct of slots."""

    name: str
    type: Type
    slot: str | None = None
    parts: dict[str, str] | None = None


class Table(Struct, frozen=True, kw_only=True):
    """A named table: where its rows come from, what happens to each, and which columns are stored."""

    name: str
    span: Span
    source: Source
    ops: tuple[Op, ...]
    outputs: tuple[Output, ...]


class Export(Struct, frozen=True):
    """A table written to a file when all tables are done."""

    span: Span
    table: str
    path: str


class Plan(Struct, frozen=True, kw_only=True):
    """Everything a run needs to know: tables stand after the tables they read."""

    version: int
    spec: str
    seed: int
    backends: tuple[Backend, ...]
    embedders: tuple[Embedder, ...]
    tables: tuple[Table, ...]
    exports: tuple[Export, ...]


def encode(plan: Plan) -> bytes:
    """The plan as JSON in one fixed layout, made to be read: what fits on a line stands on one."""
    return (_layout(msgspec.to_builtins(plan), "") + "\n").encode()


def decode(text: bytes) -> Plan:
    """The plan in a file's bytes.

    Raises msgspec.DecodeError (msgspec.ValidationError among them) where the bytes are no plan.
    """
    return msgspec.json.decode(text, type=Plan)


def _layout(value: Any, indent: str) -> str:  # noqa: ANN401 - any JSON value
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= LINE_LENGTH or not value or not isinstance(value, dict | list | tuple):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_layout(part, inner)}" for key, part in value.items()]
        opening, closing = "{", "}"
    else:
        parts = [_layout(part, inner) for part in value]
        opening, closing = "[", "]"
    return opening + "".join(f"\n{inner}{part}," for part in parts)[:-1] + f"\n{indent}{closing}"
