"""The types of the language, as the checker and the plan know them."""

from __future__ import annotations

from typing import Any, assert_never

from msgspec import Struct


class Text(Struct, frozen=True, tag="text"):
    """Text. VARCHAR in a table."""


class Int(Struct, frozen=True, tag="int"):
    """A whole number. BIGINT in a table."""


class Float(Struct, frozen=True, tag="float"):
    """A number. DOUBLE in a table."""


class Bool(Struct, frozen=True, tag="bool"):
    """true or false. BOOLEAN in a table."""


class Json(Struct, frozen=True, tag="json"):
    """Any JSON value. JSON in a table."""


class Chat(Struct, frozen=True, tag="chat"):
    """Messages of a conversation, each with a role and its content. A list of structs in a table."""


class Image(Struct, frozen=True, tag="image"):
    """A picture: the path of a file that `files` lists, or its bytes as a data URL. VARCHAR in a table."""


class Audio(Struct, frozen=True, tag="audio"):
    """The path of a recording. VARCHAR in a table."""


class Choice(Struct, frozen=True, tag="choice"):
    """One of some literals of one kind, printed as they are written (`4`, not `4.0`)."""

    values: tuple[str | int | float, ...]


class ListOf(Struct, frozen=True, tag="list"):
    """Any number of elements of one type. LIST in a table."""

    element: Type


class Field(Struct, frozen=True):
    """One named part of a record."""

    name: str
    type: Type


class Record(Struct, frozen=True, tag="record"):
    """Named parts. STRUCT in a table."""

    fields: tuple[Field, ...]


class Vector(Struct, frozen=True, tag="vector"):
    """A fixed number of 32-bit floats. FLOAT[n] in a table."""

    size: int


class Other(Struct, frozen=True, tag="other"):
    """A type of DuckDB's that the language has no word for (DATE, BLOB, …): carried, not made."""

    sql: str


class Maybe(Struct, frozen=True, tag="maybe"):
    """`T?`: a `T` or null."""

    of: Type


Type = (
    Text
    | Int
    | Float
    | Bool
    | Json
    | Chat
    | Image
    | Audio
    | Choice
    | ListOf
    | Record
    | Vector
    | Other
    | Maybe
)

BYTES = Other("BLOB")
"""What pictures of a file are that holds more than pictures."""

IMAGE_TAG = "ENUM('·image')"
"""The type of a picture where SQL is only bound: no text is of it, so that it stays with what is one."""

MESSAGES = ListOf(Record((Field("role", Text()), Field("content", Text()))))
"""What a chat is made of."""


LABELS = Record((Field("start", Int()), Field("end", Int()), Field("label", Text())))
"""A span of a text that has a label: from the character `start` to that before `end`, counted from 0."""


def vectors_of_parts(size: int, *, labelled: bool) -> Type:
    """The parts of a text in their order, each with where it stands (as in LABELS) and its vector."""
    place = (Field("text", Text()), Field("start", Int()), Field("end", Int()))
    label = (Field("label", Text()),) if labelled else ()
    return ListOf(Record((*place, *label, Field("embedding", Vector(size)))))


NULL = Other('"NULL"')
"""What DuckDB calls a column of nulls alone. It fits everywhere, and so it stands in for a type that
could not be read: nothing is said only because of it."""


def required(type_: Type) -> Type:
    """The type without its `?`."""
    return type_.of if isinstance(type_, Maybe) else type_


def nullable(type_: Type) -> bool:
    """Whether null is a value of the type."""
    return isinstance(type_, Maybe)


def maybe(type_: Type) -> Type:
    """The type with a `?`, once."""
    return type_ if isinstance(type_, Maybe) else Maybe(type_)


def element(type_: Type) -> Type | None:
    """What a list's elements are, those of a chat its messages; None of what is no list."""
    listed = required(type_)
    listed = MESSAGES if isinstance(listed, Chat) else listed
    return listed.element if isinstance(listed, ListOf) else None


def has_image(type_: Type) -> bool:
    """Whether a value of the type is a picture, or holds some."""
    match type_:
        case Image():
            return True
        case Maybe(inner) | ListOf(inner):
            return has_image(inner)
        case Record(fields):
            return any(has_image(field.type) for field in fields)
        case _:
            return False


def name(type_: Type) -> str:
    """The type as a spec writes it."""
    match type_:
        case Text() | Int() | Float() | Bool() | Json() | Chat() | Image() | Audio():
            return type_.__struct_config__.tag  # pyright: ignore[reportReturnType]
        case Choice(values):
            return " | ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in values)
        case ListOf(element):
            inner = name(element)
            return f"({inner})[]" if isinstance(required(element), Choice) else f"{inner}[]"
        case Record(fields):
            return "{" + ", ".join(f"{f.name}: {name(f.type)}" for f in fields) + "}"
        case Vector(size):
            return f"vector[{size}]"
        case Other(sql):
            return sql
        case Maybe(inner):
            text = name(inner)
            return f"({text})?" if isinstance(inner, Choice) else f"{text}?"
        case _:
            assert_never(type_)


def quote(identifier: str) -> str:
    """A name as DuckDB's SQL takes any name."""
    return '"' + identifier.replace('"', '""') + '"'


def sql(type_: Type, image: str = "VARCHAR") -> str:
    """The type as DuckDB names it, with another name for pictures where that is wanted."""
    match type_:
        case Image():
            return image
        case Text() | Audio():
            return "VARCHAR"
        case Chat():
            return sql(MESSAGES)
        case Int():
            return "BIGINT"
        case Float():
            return "DOUBLE"
        case Bool():
            return "BOOLEAN"
        case Json():
            return "JSON"
        case Choice(values):
            if all(isinstance(v, str) for v in values):
                return "VARCHAR"
            return "BIGINT" if all(isinstance(v, int) for v in values) else "DOUBLE"
        case ListOf(element):
            return sql(element, image) + "[]"
        case Record(fields):
            parts = (f"{quote(field.name)} {sql(field.type, image)}" for field in fields)
            return f"STRUCT({', '.join(parts)})"
        case Vector(size):
            return f"FLOAT[{size}]"
        case Other(text):
            return text
        case Maybe(inner):
            return sql(inner, image)
        case _:
            assert_never(type_)


_SIGNED = ("tinyint", "smallint", "integer", "bigint", "hugeint")
_INTEGERS = {*_SIGNED, *(f"u{name}" for name in _SIGNED)}
_FLOATS = {"float", "double", "decimal"}


def from_duckdb(type_: Any) -> Type:
    """The type of a column that DuckDB inferred (`duckdb.sqltypes.DuckDBPyType`).

    SQL says nothing about nulls, so the answer is never a `T?`: a task's input checks each row.
    """
    if str(type_) == "JSON":
        return Json()
    if str(type_) == IMAGE_TAG:
        return Image()
    kind = type_.id
    if kind == "varchar":
        return Text()
    if kind in _INTEGERS:
        return Int()
    if kind in _FLOATS:
        return Float()
    if kind == "boolean":
        return Bool()
    if kind == "list":
        return ListOf(from_duckdb(type_.children[0][1]))
    if kind == "array":
        (_, element), (_, size) = type_.children
        return Vector(size) if element.id == "float" else _other(type_)
    if kind == "struct":
        return Record(tuple(Field(n, from_duckdb(t)) for n, t in type_.children))
    return _other(type_)


def _other(type_: Any) -> Other:
    return Other(str(type_).replace(IMAGE_TAG, "VARCHAR"))
