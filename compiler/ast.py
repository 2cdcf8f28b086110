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


Value = String | Literal | ListValue | ParameterValue | Apply | Path


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
class Column:
    """`name: type`."""

    name: Name
    type: TypeExpression
    span: Span


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name: type = default`, of a spec or a task."""

    name: Name
    type: TypeExpression
    default: Value | None
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
    extends: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class Embedder:
    """`embedder name { … }`."""

    name: Name
    settings: tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Ask:
    """`ask "…"` and what follows it, in the order of the spec."""

    template: String
    systems: tuple[String, ...]
    backends: tuple[Name, ...]
    contracts: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Sql:
    """`sql "…"` over one row."""

    text: String
    span: Span


Producer = Ask | Sql | Value


@dataclass(frozen=True, slots=True)
class Produce:
    """`let` or `out`: columns and what makes them. `tuple_` where they stand in brackets."""

    keyword: str
    columns: tuple[Column, ...]
    tuple_: bool
    producer: Producer
    span: Span


@dataclass(frozen=True, slots=True)
class Task:
    """`task name(parameters) { … }`."""

    name: Name
    description: String | None
    parameters: tuple[Parameter, ...]
    inputs: tuple[Column, ...]
    produces: tuple[Produce, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """A value between the brackets of a call, with the name it is given by, if any."""

    name: Name | None
    value: Value
    span: Span


@dataclass(frozen=True, slots=True)
class Call:
    """A word with arguments where a source or a step stands."""

    callee: Path
    arguments: tuple[Argument, ...]
    brackets: bool
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
    usings: tuple[Name, ...]
    aliases: tuple[Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Table:
    """`table name = source |> …`."""

    name: Name
    source: Call | QuerySource
    steps: tuple[Step, ...]
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


Declaration = Parameter | Backend | Embedder | Task | Table | Export | Test | TypeAlias


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole file. `broken` names what stood in declarations that could not be read."""

    file: str
    declarations: tuple[Declaration, ...]
    broken: frozenset[str] = frozenset()
