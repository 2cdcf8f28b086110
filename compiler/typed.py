"""A spec that was checked: every name is resolved, every column has its type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from synthc.compiler import ast, plan
from synthc.compiler.check.sql import Bound
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type

Path = tuple[str, ...]
"""A column, or one part of a column that is a struct: `("answer",)`, `("a", "answer")`."""


class Condition(Struct, frozen=True):
    """Part of a guard: a parameter is true, or has a value; or, negated, is not and has not."""

    parameter: str
    negated: bool
    value: Any = True

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds for the parameters' values."""
        return (values[self.parameter] == self.value) is not self.negated

    def __str__(self) -> str:
        if self.value is True:
            return f"not {self.parameter}" if self.negated else self.parameter
        shown = f'"{self.value}"' if isinstance(self.value, str) else str(self.value)
        return f"{self.parameter} {'!=' if self.negated else '=='} {shown}"


Guard = tuple[Condition, ...]
"""What must hold, all of it, for a column to exist; () for one that always does."""


def holds(guard: Guard, values: Mapping[str, Any]) -> bool:
    """Whether a guard holds for the parameters' values."""
    return all(condition.holds(values) for condition in guard)


class FromParameter(Struct, frozen=True):
    """What the parameter of that name is given, where a task is used."""

    name: str


Count = int | FromParameter
Reference = str | FromParameter
"""The name of a declaration."""


class Parameter(Struct, frozen=True):
    """A parameter of a task. `has_default` tells a default of null from none.

    `kind` is "value", or says which declarations it takes: "mutations", "backend". A `constant` one
    decides what a task is made of, so no column can be given for it; a `count` is not below 0. `sees`
    are the columns that the prompts of a set can use which is given for it.
    """

    name: str
    type: Type
    has_default: bool
    default: Any
    span: Span
    kind: str = "value"
    constant: bool = False
    count: bool = False
    sees: Mapping[str, Type] = field(default_factory=dict)


class Column(Struct, frozen=True):
    """A column of a task."""

    name: str
    type: Type
    span: Span
    guard: Guard = ()


class Mutation(Struct, frozen=True):
    """A prompt of a set."""

    name: str
    weight: float
    template: str


class Mutations(Struct, frozen=True):
    """A set of prompts, and the columns that they see."""

    name: str
    span: Span
    inputs: tuple[Column, ...]
    prompts: tuple[Mutation, ...]


class OneOf(Struct, frozen=True):
    """A prompt that is drawn from a set."""

    set: Reference


class Conversation(Struct, frozen=True):
    """The messages in a column."""

    column: str


Prompt = str | OneOf | Conversation
"""A template's text, or what stands for it."""


class Contract(Struct, frozen=True):
    """How an answer becomes columns (see plan.Contract)."""

    kind: str
    pattern: str | None = None
    marks: tuple[str, ...] = ()
    per: str | None = None


class Ask(Struct, frozen=True):
    """Ask a model. `backend` is None where the step says which; `reads` are names of the task's scope.

    `each` is the name for an element and that of the list.
    """

    prompt: Prompt
    system: str | None
    backend: Reference | None
    contract: Contract
    reads: tuple[str, ...]
    where: Bound | None = None
    each: tuple[str, str] | None = None
    count: Count | None = None


class Sql(Struct, frozen=True):
    """SQL over one row of the task."""

    bound: Bound


class Copy(Struct, frozen=True):
    """Another column, or a parameter."""

    name: str


class Constant(Struct, frozen=True):
    """A literal."""

    value: Any


class Template(Struct, frozen=True):
    """A template without a model."""

    template: str
    reads: tuple[str, ...]


class Sample(Struct, frozen=True):
    """A draw: of a distribution, or of the list that a parameter is given. `field` is what is drawn."""

    source: plan.Distribution | FromParameter
    field: Field
    least: Count | None
    most: Count | None
    span: Span


class Repeat(Struct, frozen=True):
    """A loop. `next` makes the variable's next value; with `collect` every round's value is kept."""

    times: Count
    variable: Column
    start: Copy | Constant
    until: Bound | None
    produces: tuple[Produce, ...]
    next: Produce
    collect: bool


Producer = Ask | Sql | Copy | Constant | Template | Sample | Repeat


class Produce(Struct, frozen=True):
    """A `let` or `out`: its columns and what makes them."""

    public: bool
    columns: tuple[Column, ...]
    producer: Producer
    span: Span
    guard: Guard = ()


def asking(produces: tuple[Produce, ...]) -> Iterator[tuple[Produce, Ask]]:
    """Everything that asks, in loops too."""
    for produce in produces:
        match produce.producer:
            case Ask() as ask:
                yield produce, ask
            case Repeat() as loop:
                yield from asking((*loop.produces, loop.next))
            case _:
                pass


class Given(Struct, frozen=True):
    """What an argument gives: a column of the table, a value known now, or one drawn for each row."""

    path: Path | None = None
    value: Any = None
    sample: Sample | None = None


class Task(Struct, frozen=True):
    """A task whose prompts and SQL hold. `filled` are parameters that are given for good."""

    name: str
    span: Span
    parameters: tuple[Parameter, ...]
    inputs: tuple[Column, ...]
    produces: tuple[Produce, ...]
    description: str = ""
    tags: tuple[str, ...] = ()
    filled: Mapping[str, Given] = field(default_factory=dict)

    @property
    def open(self) -> tuple[Parameter, ...]:
        """The parameters that a step can give."""
        return tuple(p for p in self.parameters if p.name not in self.filled)

    @property
    def asks(self) -> bool:
        """Whether it needs a model: then it adds `model_name`."""
        return any(True for _ in asking(self.produces))

    @property
    def needs_backend(self) -> bool:
        """Whether an ask of it leaves open which backend."""
        return any(ask.backend is None for _, ask in asking(self.produces))

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns that a step of it adds, `model_name` not among them."""
        return tuple(c for p in self.produces if p.public for c in p.columns)

    def left_out(self, given: Mapping[str, Given]) -> dict[str, tuple[Guard, ...]]:
        """The columns that guards leave out for what the parameters are given, with their guards."""
        kept = {column.name for column in self.with_given(given).outputs}
        found: dict[str, tuple[Guard, ...]] = {}
        for column in self.outputs:
            if column.name not in kept:
                found[column.name] = (*found.get(column.name, ()), column.guard)
        return found

    def with_given(self, given: Mapping[str, Given]) -> Task:
        """The task for what its parameters are given: without what its guards leave out."""
        values = {name: known.value for name, known in given.items()}
        return replace(self, produces=_kept(self.produces, values))


def _kept(produces: tuple[Produce, ...], values: Mapping[str, Any]) -> tuple[Produce, ...]:
    kept: list[Produce] = []
    for produce in produces:
        columns = tuple(c for c in produce.columns if holds(c.guard, values))
        if not columns or not holds(produce.guard, values):
            continue
        producer = produce.producer
        if isinstance(producer, Repeat):
            producer = replace(producer, produces=_kept(producer.produces, values))
        if isinstance(producer, Ask) and len(columns) < len(produce.columns):
            contract = producer.contract
            there = [column in columns for column in produce.columns]
            marks = tuple(m for m, kept in zip(contract.marks, there, strict=False) if kept)
            producer = replace(producer, contract=replace(contract, marks=marks))
        kept.append(replace(produce, columns=columns, producer=producer))
    return tuple(kept)


class TaskStep(Struct, frozen=True):
    """A task over each row."""

    task: Task
    given: Mapping[str, Given]
    backend: str | None
    alias: str | None
    span: Span


class Where(Struct, frozen=True):
    """Keep rows for which the SQL is true."""

    bound: Bound
    span: Span


class Select(Struct, frozen=True):
    """The columns of the SQL instead of those that were there."""

    bound: Bound
    span: Span


class Embed(Struct, frozen=True):
    """A vector of a column, or those of its `parts` (see plan.Embed)."""

    path: Path
    embedder: str
    dimensions: int
    column: str
    span: Span
    input: plan.Input = "text"
    parts: plan.Parts | None = None
    spans: Path | None = None
    chat: bool = False
    system: Path | None = None

    @property
    def type(self) -> Type:
        """The type of the column."""
        return plan.embedding(self.dimensions, self.parts)


class Elements(Struct, frozen=True):
    """Those of the list at a path: the column that they get, and its type."""

    path: Path
    column: str
    type: Type


class Unnest(Struct, frozen=True):
    """A row for each element of lists."""

    lists: tuple[Elements, ...]
    span: Span


class Draw(Struct, frozen=True):
    """Some rows of another table, as a list of structs in `column`."""

    count: int
    table: str
    column: str
    span: Span


class Dedup(Struct, frozen=True):
    """The first row of those that are equal in these columns, or `similar` in the one (see plan.Dedup)."""

    paths: tuple[Path, ...]
    span: Span
    similar: float | None = None


class Limit(Struct, frozen=True):
    """The first `count` rows, with `per` those of each of its values."""

    count: int
    per: Path | None
    span: Span


class Whole(Struct, frozen=True):
    """SQL over all rows so far, `this`."""

    bound: Bound
    key: str | None
    span: Span


Step = TaskStep | Where | Select | Embed | Unnest | Draw | Dedup | Limit | Whole


class Query(Struct, frozen=True):
    """SQL over whole tables."""

    bound: Bound
    key: str | None
    span: Span


Source = plan.Read | plan.Rows | plan.From | plan.Files | Query


class Table(Struct, frozen=True):
    """A table: where its rows come from, what happens to them, which columns it has in the end."""

    name: str
    span: Span
    source: Source
    source_columns: tuple[Field, ...]
    steps: tuple[Step, ...]
    columns: tuple[Field, ...]


class Test(Struct, frozen=True):
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


class Expect(Struct, frozen=True):
    """A query that must give no rows."""

    name: str
    bound: Bound
    span: Span


class Spec(Struct, frozen=True):
    """A whole spec that holds: `tables` stand after those they read."""

    file: str
    constants: Mapping[str, tuple[Any, Type]]
    backends: tuple[plan.Backend, ...]
    embedders: tuple[plan.Embedder, ...]
    mutations: Mapping[str, Mutations]
    tasks: Mapping[str, Task]
    tables: tuple[Table, ...]
    expects: tuple[Expect, ...]
    exports: tuple[ast.Export, ...]
    tests: tuple[Test, ...]
