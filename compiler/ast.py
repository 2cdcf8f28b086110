"""What a spec says, as it is written: no name is looked up here, and every node knows its place."""

from __future__ import annotations

from dataclasses import dataclass

from synthc.compiler.span import Span


@dataclass(frozen=True, slots=True)
class Name:
    """A word, or a word in backquotes."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Path:
    """Names joined by dots: `answer`, `a.answer`."""

    names: tuple[Name, ...]
    span: Span

    def __str__(self) -> str:
        return ".".join(name.text for name in self.names)


@dataclass(frozen=True, slots=True)
class String:
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


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, true, false or null."""

    value: int | float | bool | None
    span: Span


@dataclass(frozen=True, slots=True)
class ListValue:
    """`[1, 2]`."""

    items: tuple[Value, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ParameterValue:
    """`$name`."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Apply:
    """A word with arguments where a value stands: `env("KEY")`."""

    function: Path
    arguments: tuple[Value, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class RecordValue:
    """`{role: "user"}`, or `{id: int}`: what stands behind the names is read as types are."""

    fields: tuple[Column, ...]
    span: Span


Value = String | Literal | ListValue | ParameterValue | Apply | Path | RecordValue


@dataclass(frozen=True, slots=True)
class NamedType:
    """A word where a type stands: `text`."""

    name: Name
    span: Span


@dataclass(frozen=True, slots=True)
class ChoiceType:
    """`"a" | "b"`."""

    values: tuple[String | Literal, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ListType:
    """`T[]`, or `vector[384]`."""

    element: TypeExpression
    size: int | None
    span: Span


@dataclass(frozen=True, slots=True)
class MaybeType:
    """`T?`."""

    inner: TypeExpression
    span: Span


@dataclass(frozen=True, slots=True)
class RecordType:
    """`{a: T, b: T}`."""

    fields: tuple[Column, ...]
    span: Span


TypeExpression = NamedType | ChoiceType | ListType | MaybeType | RecordType


@dataclass(frozen=True, slots=True)
class Condition:
    """Part of a guard: `p`, `not p`, `p == "query"`, `p != "query"`. Without a value `p` is a truth."""

    parameter: Name
    negated: bool
    value: String | Literal | None
    span: Span


@dataclass(frozen=True, slots=True)
class Column:
    """`name: type`, inside a tuple also `name: type when …`."""

    name: Name
    type: TypeExpression
    span: Span
    guard: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Weighted:
    """A value and how often it is drawn: None where the spec does not say."""

    value: Value
    weight: Literal | None
    span: Span


@dataclass(frozen=True, slots=True)
class Sample:
    """`sample …`. Without choices one of the declared type; `least` and `most` where several are drawn."""

    choices: tuple[Weighted, ...]
    least: Value | None
    most: Value | None
    span: Span


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name: type = default`, of a spec or a task."""

    name: Name
    type: TypeExpression
    default: Value | Sample | None
    span: Span


@dataclass(frozen=True, slots=True)
class TypeAlias:
    """`type Level = "low" | "high"`."""

    name: Name
    type: TypeExpression
    span: Span


@dataclass(frozen=True, slots=True)
class Setting:
    """`name = value`, or a group of settings in braces."""

    name: Name
    value: Value | tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Backend:
    """`backend name { … }`, or `backend name extends other { … }`."""

    name: Name
    settings: tuple[Setting, ...]
    extends: Path | None
    span: Span


@dataclass(frozen=True, slots=True)
class Embedder:
    """`embedder name { … }`."""

    name: Name
    settings: tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class File:
    """`file("prompts/x.jinja")` where a template stands."""

    path: String
    span: Span


Template = String | File
Reference = Path | ParameterValue
"""What names a declaration: its name, or a parameter that is given one."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """`one of SET`: a prompt that is drawn."""

    set: Reference
    span: Span


@dataclass(frozen=True, slots=True)
class Regex:
    """`/pattern/flags`. `pattern` is what stands between the slashes, `inner` its place."""

    pattern: str
    flags: str
    inner: Span
    span: Span


@dataclass(frozen=True, slots=True)
class Detail:
    """What a contract is told: `/…/`, `"Prompt:"`, `positive = "## Positive"`."""

    name: Name | None
    mark: String | Regex
    span: Span


@dataclass(frozen=True, slots=True)
class Contract:
    """`as name(details) per list`."""

    name: Name
    details: tuple[Detail, ...]
    per: Path | None
    span: Span


@dataclass(frozen=True, slots=True)
class Each:
    """`each name in list`."""

    name: Name
    list: Value
    span: Span


@dataclass(frozen=True, slots=True)
class Ask:
    """`ask …` and what follows it, in the order of the spec; a path is a column that holds a chat."""

    prompt: Template | OneOf | Path
    systems: tuple[Template, ...]
    backends: tuple[Reference, ...]
    contracts: tuple[Contract, ...]
    wheres: tuple[String, ...]
    eaches: tuple[Each, ...]
    counts: tuple[Value, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Sql:
    """`sql "…"` over one row."""

    text: String
    span: Span


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat n times x: T = start until "…" { … next … }`."""

    times: Value
    variable: Column
    start: Value
    until: String | None
    produces: tuple[Produce, ...]
    next: Producer
    span: Span


Producer = Ask | Sql | Sample | Repeat | Value


@dataclass(frozen=True, slots=True)
class Produce:
    """`let` or `out`: columns and what makes them. `tuple_` where they stand in brackets."""

    keyword: str
    columns: tuple[Column, ...]
    tuple_: bool
    producer: Producer
    guard: tuple[Condition, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Task:
    """`task name(parameters) extends other { … }`."""

    name: Name
    description: String | None
    tags: tuple[String, ...]
    parameters: tuple[Parameter, ...]
    extends: Path | None
    inputs: tuple[Column, ...]
    produces: tuple[Produce, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Mutation:
    """`name weight 2 "…"`, of a set."""

    name: Name
    weight: Literal | None
    template: Template
    span: Span


@dataclass(frozen=True, slots=True)
class Mutations:
    """`mutations name extends other { in … name "…" }`."""

    name: Name
    extends: Path | None
    inputs: tuple[Column, ...]
    prompts: tuple[Mutation, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """A value between the brackets of a call, with the name it is given by, or gets (`x as y`), if any."""

    name: Name | None
    value: Value
    span: Span
    alias: Name | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A word with arguments where a source or a step stands."""

    callee: Path
    arguments: tuple[Argument, ...]
    brackets: bool
    span: Span


@dataclass(frozen=True, slots=True)
class TaskAlias:
    """`task name = other(arguments)`."""

    name: Name
    call: Call
    span: Span


@dataclass(frozen=True, slots=True)
class QuerySource:
    """`sql "…" key id`."""

    text: String
    key: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class Step:
    """`|> call using b as name`."""

    call: Call
    usings: tuple[Reference, ...]
    aliases: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class SqlStep:
    """`|> sql "… FROM this" key id`."""

    text: String
    key: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class Table:
    """`table name = source |> …`."""

    name: Name
    source: Call | QuerySource
    steps: tuple[Step | SqlStep, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Expect:
    """`expect name: sql "…"`."""

    name: Name
    text: String
    span: Span


@dataclass(frozen=True, slots=True)
class Export:
    """`export table to "file"`."""

    table: Name
    path: String
    span: Span


@dataclass(frozen=True, slots=True)
class Test:
    """`test "…" of task { given … reply … expect … }`. `word` is what `expect` says without a value."""

    title: String
    call: Call
    given: tuple[Argument, ...]
    replies: tuple[Argument, ...]
    expected: tuple[Argument, ...]
    word: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class Use:
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


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole file. `broken` names what stood in declarations that could not be read."""

    file: str
    declarations: tuple[Declaration, ...]
    broken: frozenset[str] = frozenset()
