"""What a spec says, as it is written: no name is looked up here, and every node knows its place."""

from __future__ import annotations

from msgspec import Struct

from synthc.compiler.span import Span


class Name(Struct, frozen=True):
    """A word, or a word in backquotes."""

    text: str
    span: Span


class Path(Struct, frozen=True):
    """Names joined by dots: `answer`, `a.answer`."""

    names: tuple[Name, ...]
    span: Span

    def __str__(self) -> str:
        return ".".join(name.text for name in self.names)


class String(Struct, frozen=True):
    """A string: its text, and for every character of it (and its end) the offset in `literal`."""

    text: str
    span: Span
    literal: str
    offsets: tuple[int, ...]

    def at(self, start: int, length: int = 1) -> Span:
        """The place in the spec of `length` characters of the text, from `start` on."""
        start = max(0, min(start, len(self.text)))
        end = max(start, min(start + length, len(self.text)))
        first, last = self.offsets[start], self.offsets[end]
        line, column = self._position(first)
        end_line, end_column = self._position(last)
        return Span(self.span.file, line, column, end_line, end_column)

    @property
    def inner(self) -> Span:
        """The place of the text without its quotes, where that is on one line."""
        place = self.at(0, len(self.text)) if self.text.strip() else self.span
        return place if place.line == place.end_line else self.span

    def _position(self, offset: int) -> tuple[int, int]:
        before = self.literal[:offset]
        newlines = before.count("\n")
        if not newlines:
            return self.span.line, self.span.column + offset
        return self.span.line + newlines, offset - before.rfind("\n")


class Literal(Struct, frozen=True):
    """A number, true, false or null."""

    value: int | float | bool | None
    span: Span


class ListValue(Struct, frozen=True):
    """`[1, 2]`."""

    items: tuple[Value, ...]
    span: Span


class ParameterValue(Struct, frozen=True):
    """`$name`."""

    name: str
    span: Span


class Apply(Struct, frozen=True):
    """A word with arguments where a value stands: `env("KEY")`."""

    function: Path
    arguments: tuple[Value, ...]
    span: Span


class RecordValue(Struct, frozen=True):
    """`{role: "user"}`, or `{id: int}`: what stands behind the names is read as types are."""

    fields: tuple[Column, ...]
    span: Span


Value = String | Literal | ListValue | ParameterValue | Apply | Path | RecordValue


class NamedType(Struct, frozen=True):
    """A word where a type stands: `text`."""

    name: Name
    span: Span


class ChoiceType(Struct, frozen=True):
    """`"a" | "b"`."""

    values: tuple[String | Literal, ...]
    span: Span


class ListType(Struct, frozen=True):
    """`T[]`, or `vector[384]`."""

    element: TypeExpression
    size: int | None
    span: Span


class MaybeType(Struct, frozen=True):
    """`T?`."""

    inner: TypeExpression
    span: Span


class RecordType(Struct, frozen=True):
    """`{a: T, b: T}`."""

    fields: tuple[Column, ...]
    span: Span


TypeExpression = NamedType | ChoiceType | ListType | MaybeType | RecordType


class Condition(Struct, frozen=True):
    """Part of a guard: `p`, `not p`, `p == "query"`, `p != "query"`. Without a value `p` is a truth."""

    parameter: Name
    negated: bool
    value: String | Literal | None
    span: Span


class Column(Struct, frozen=True):
    """`name: type`, inside a tuple also `name: type when …`."""

    name: Name
    type: TypeExpression
    span: Span
    guard: tuple[Condition, ...] = ()


class Weighted(Struct, frozen=True):
    """A value and how often it is drawn: None where the spec does not say."""

    value: Value
    weight: Literal | None
    span: Span


class Sample(Struct, frozen=True):
    """`sample …`. Without choices one of the declared type; `least` and `most` where several are drawn."""

    choices: tuple[Weighted, ...]
    least: Value | None
    most: Value | None
    span: Span


class Parameter(Struct, frozen=True):
    """`name: type = default`, of a spec or a task."""

    name: Name
    type: TypeExpression
    default: Value | Sample | None
    span: Span


class TypeAlias(Struct, frozen=True):
    """`type Level = "low" | "high"`."""

    name: Name
    type: TypeExpression
    span: Span


class Setting(Struct, frozen=True):
    """`name = value`, or a group of settings in braces."""

    name: Name
    value: Value | tuple[Setting, ...]
    span: Span


class Backend(Struct, frozen=True):
    """`backend name { … }`, or `backend name extends other { … }`."""

    name: Name
    settings: tuple[Setting, ...]
    extends: Path | None
    span: Span


class Embedder(Struct, frozen=True):
    """`embedder name { … }`."""

    name: Name
    settings: tuple[Setting, ...]
    span: Span


class File(Struct, frozen=True):
    """`file("prompts/x.jinja")` where a template stands."""

    path: String
    span: Span


Template = String | File
Reference = Path | ParameterValue
"""What names a declaration: its name, or a parameter that is given one."""


class OneOf(Struct, frozen=True):
    """`one of SET`: a prompt that is drawn."""

    set: Reference
    span: Span


class Regex(Struct, frozen=True):
    """`/pattern/flags`. `pattern` is what stands between the slashes, `inner` its place."""

    pattern: str
    flags: str
    inner: Span
    span: Span


class Detail(Struct, frozen=True):
    """What a contract is told: `/…/`, `"Prompt:"`, `positive = "## Positive"`."""

    name: Name | None
    mark: String | Regex
    span: Span


class Contract(Struct, frozen=True):
    """`as name(details) per list`."""

    name: Name
    details: tuple[Detail, ...]
    per: Path | None
    span: Span


class Each(Struct, frozen=True):
    """`each name in list`."""

    name: Name
    list: Value
    span: Span


class Ask(Struct, frozen=True):
    """`ask …` and what follows it, in the order of the spec; a path is a column that holds a chat."""

    prompt: Template | OneOf | Path
    systems: tuple[Template, ...]
    backends: tuple[Reference, ...]
    contracts: tuple[Contract, ...]
    wheres: tuple[String, ...]
    eaches: tuple[Each, ...]
    counts: tuple[Value, ...]
    span: Span


class Sql(Struct, frozen=True):
    """`sql "…"` over one row."""

    text: String
    span: Span


class Repeat(Struct, frozen=True):
    """`repeat n times x: T = start until "…" { … next … }`."""

    times: Value
    variable: Column
    start: Value
    until: String | None
    produces: tuple[Produce, ...]
    next: Producer
    span: Span


Producer = Ask | Sql | Sample | Repeat | Value


class Produce(Struct, frozen=True):
    """`let` or `out`: columns and what makes them. `tuple_` where they stand in brackets."""

    keyword: str
    columns: tuple[Column, ...]
    tuple_: bool
    producer: Producer
    guard: tuple[Condition, ...]
    span: Span


class Task(Struct, frozen=True):
    """`task name(parameters) extends other { … }`."""

    name: Name
    description: String | None
    tags: tuple[String, ...]
    parameters: tuple[Parameter, ...]
    extends: Path | None
    inputs: tuple[Column, ...]
    produces: tuple[Produce, ...]
    span: Span


class Mutation(Struct, frozen=True):
    """`name weight 2 "…"`, of a set."""

    name: Name
    weight: Literal | None
    template: Template
    span: Span


class Mutations(Struct, frozen=True):
    """`mutations name extends other { in … name "…" }`."""

    name: Name
    extends: Path | None
    inputs: tuple[Column, ...]
    prompts: tuple[Mutation, ...]
    span: Span


class Argument(Struct, frozen=True):
    """A value between the brackets of a call, with the name it is given by, or gets (`x as y`), if any."""

    name: Name | None
    value: Value
    span: Span
    alias: Name | None = None


class Call(Struct, frozen=True):
    """A word with arguments where a source or a step stands."""

    callee: Path
    arguments: tuple[Argument, ...]
    brackets: bool
    span: Span


class TaskAlias(Struct, frozen=True):
    """`task name = other(arguments)`."""

    name: Name
    call: Call
    span: Span


class QuerySource(Struct, frozen=True):
    """`sql "…" key id`."""

    text: String
    key: Name | None
    span: Span


class Step(Struct, frozen=True):
    """`|> call using b as name`."""

    call: Call
    usings: tuple[Reference, ...]
    aliases: tuple[Name, ...]
    span: Span


class SqlStep(Struct, frozen=True):
    """`|> sql "… FROM this" key id`."""

    text: String
    key: Name | None
    span: Span


class Table(Struct, frozen=True):
    """`table name = source |> …`."""

    name: Name
    source: Call | QuerySource
    steps: tuple[Step | SqlStep, ...]
    span: Span


class Expect(Struct, frozen=True):
    """`expect name: sql "…"`."""

    name: Name
    text: String
    span: Span


class Export(Struct, frozen=True):
    """`export table to "file"`."""

    table: Name
    path: String
    span: Span


class Test(Struct, frozen=True):
    """`test "…" of task { given … reply … expect … }`. `word` is what `expect` says without a value."""

    title: String
    call: Call
    given: tuple[Argument, ...]
    replies: tuple[Argument, ...]
    expected: tuple[Argument, ...]
    word: Name | None
    span: Span


class Use(Struct, frozen=True):
    """`use "std/evol" as name`."""

    path: String
    name: Name | None
    span: Span


Declaration = (
    Parameter
    | Backend
    | Embedder
    | Mutations
    | Task
    | TaskAlias
    | Table
    | Export
    | Expect
    | Test
    | TypeAlias
    | Use
)


class Spec(Struct, frozen=True):
    """A whole file. `broken` names what stood in declarations that could not be read."""

    file: str
    declarations: tuple[Declaration, ...]
    broken: frozenset[str] = frozenset()
