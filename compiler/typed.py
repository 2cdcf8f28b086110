"""A spec that was checked: every name is resolved, every column has its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthc.compiler import ast, plan
from synthc.compiler.check.sql import Bound
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

Path = tuple[str, ...]
"""A column, or one part of a column that is a struct: `("answer",)`, `("a", "answer")`."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a task. `has_default` tells a default of null from none."""

    name: str
    type: Type
    has_default: bool
    default: Any
    span: Span


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a task."""

    name: str
    type: Type
    span: Span


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a model. `backend` is None where the step says which; `reads` are names of the task's scope."""

    template: str
    system: str | None
    backend: str | None
    contract: str
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sql:
    """SQL over one row of the task."""

    bound: Bound


@dataclass(frozen=True, slots=True)
class Copy:
    """Another column, or a parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal."""

    value: Any


@dataclass(frozen=True, slots=True)
class Template:
    """A template without a model."""

    template: str
    reads: tuple[str, ...]


Producer = Ask | Sql | Copy | Constant | Template


@dataclass(frozen=True, slots=True)
class Produce:
    """A `let` or `out`: its columns and what makes them."""

    public: bool
    columns: tuple[Column, ...]
    producer: Producer
    span: Span


@dataclass(frozen=True, slots=True)
class Task:
    """A task whose prompts and SQL hold. `constants` are the spec's parameters that it uses."""

    name: str
    span: Span
    parameters: tuple[Parameter, ...]
    inputs: tuple[Column, ...]
    produces: tuple[Produce, ...]

    @property
    def asks(self) -> bool:
        """Whether it needs a model: then it adds `model_name`."""
        return any(isinstance(p.producer, Ask) for p in self.produces)

    @property
    def needs_backend(self) -> bool:
        """Whether an ask of it leaves open which backend."""
        return any(isinstance(p.producer, Ask) and not p.producer.backend for p in self.produces)

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns that a step of it adds, `model_name` not among them."""
        return tuple(c for p in self.produces if p.public for c in p.columns)


@dataclass(frozen=True, slots=True)
class Given:
    """What an argument gives: a column of the table, or a value known now."""

    path: Path | None = None
    value: Any = None


@dataclass(frozen=True, slots=True)
class TaskStep:
    """A task over each row."""

    task: Task
    given: Mapping[str, Given]
    backend: str | None
    alias: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class Where:
    """Keep rows for which the SQL is true."""

    bound: Bound
    span: Span


@dataclass(frozen=True, slots=True)
class Select:
    """The columns of the SQL instead of those that were there."""

    bound: Bound
    span: Span


@dataclass(frozen=True, slots=True)
class Embed:
    """A vector of a text column."""

    path: Path
    embedder: str
    dimensions: int
    column: str
    span: Span


@dataclass(frozen=True, slots=True)
class Limit:
    """The first `count` rows."""

    count: int
    span: Span


Step = TaskStep | Where | Select | Embed | Limit


@dataclass(frozen=True, slots=True)
class Query:
    """SQL over whole tables."""

    bound: Bound
    key: str | None
    span: Span


Source = plan.Read | plan.Rows | plan.From | Query


@dataclass(frozen=True, slots=True)
class Table:
    """A table: where its rows come from, what happens to them, which columns it has in the end."""

    name: str
    span: Span
    source: Source
    source_columns: tuple[Field, ...]
    steps: tuple[Step, ...]
    columns: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Test:
    """A task tried without a model.

    `replies` holds by column what the ask that makes it is answered, a None for a call that fails;
    `repeats` names the columns whose one reply answers every time. `fails` says that the row must stop.
    """

    title: str
    step: TaskStep
    replies: Mapping[str, tuple[str | None, ...]]
    repeats: frozenset[str]
    expected: Mapping[str, Any]
    fails: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole spec that holds: `tables` stand after those they read."""

    file: str
    constants: Mapping[str, tuple[Any, Type]]
    backends: tuple[plan.Backend, ...]
    embedders: tuple[plan.Embedder, ...]
    tables: tuple[Table, ...]
    exports: tuple[ast.Export, ...] = field(default=())
    tests: tuple[Test, ...] = field(default=())
