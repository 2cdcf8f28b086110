"""Types and values as a spec writes them → types and values of the language."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any

from synthc.compiler import ast, types
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.types import Type

Report = Callable[[Problem], None]

NAMED: dict[str, Type] = {
    "text": types.Text(),
    "int": types.Int(),
    "float": types.Float(),
    "bool": types.Bool(),
    "json": types.Json(),
    "chat": types.Chat(),
    "image": types.Image(),
    "audio": types.Audio(),
}
_OTHER_LANGUAGES = {
    "string": "text",
    "str": "text",
    "varchar": "text",
    "integer": "int",
    "bigint": "int",
    "number": "float",
    "double": "float",
    "real": "float",
    "boolean": "bool",
    "object": "json",
    "dict": "json",
    "list": "text[]",
    "array": "text[]",
    "char": "text",
    "date": "text",
    "datetime": "text",
    "timestamp": "text",
    "decimal": "float",
    "struct": "json",
    "any": "json",
    "embedding": "vector[384]",
    "vector": "vector[384]",
}


IMAGES = 'pictures come from `files("*.jpg")`, or from a column of bytes; no text is taken for one'
"""What is said where something else stands in the place of one: a text must never name a file to be sent."""

REPORTED = "`"
"""What stands for the name of a type that was reported where it is declared; no spec can write it."""


def resolve_type(expression: ast.TypeExpression, report: Report) -> Type | None:
    """The type that is written, or None where a problem was reported."""
    match expression:
        case ast.NamedType(name, span):
            if name.text in NAMED:
                return NAMED[name.text]
            if name.text == REPORTED:
                return None
            meant = _OTHER_LANGUAGES.get(name.text.lower())
            if meant is None and not nearest(name.text, NAMED):
                meant = _OTHER_LANGUAGES.get(nearest(name.text, _OTHER_LANGUAGES) or "")
            known = (*NAMED, "vector[n]")
            report(problems.UnknownType(span=span, name=name.text, here=meant, known=known))
            return None
        case ast.ChoiceType(values, span):
            found = tuple(v.text if isinstance(v, ast.String) else v.value for v in values)
            if len({isinstance(value, str) for value in found}) > 1:
                wanted, mixed = "all text or all numbers", "a mixture"
                report(problems.BadValue(span=span, what="a choice", wanted=wanted, found=mixed))
                return None
            if twice := [value for at, value in enumerate(found) if value in found[:at]]:
                word = f'"{twice[0]}"' if isinstance(twice[0], str) else str(twice[0])
                report(problems.SaidTwice(span=span, word=word))
                return None
            return types.Choice(tuple(v for v in found if v is not None))
        case ast.ListType(element, size, span):
            if size is not None:
                vector = isinstance(element, ast.NamedType) and element.name.text == "vector"
                if not vector or size < 1:
                    report(
                        problems.BadValue(
                            span=span,
                            what="a type with a size",
                            wanted="`vector[n]` with n from 1",
                            found=f"`{_written(expression)}`",
                            advice=None if vector else "a list has no size: `text[]`",
                        )
                    )
                    return None
                return types.Vector(size)
            inner = resolve_type(element, report)
            return types.ListOf(inner) if inner else None
        case ast.MaybeType(inner_expression, _):
            inner = resolve_type(inner_expression, report)
            return types.maybe(inner) if inner else None
        case ast.RecordType(columns, _):
            fields: dict[str, types.Field] = {}
            sound = True
            for column in columns:
                type_ = resolve_type(column.type, report)
                if column.name.text.lower() in (name.lower() for name in fields):
                    report(
                        problems.ColumnTwice(
                            span=column.name.span, name=column.name.text, owner="this record"
                        )
                    )
                    sound = False
                if type_ is None:
                    sound = False
                else:
                    fields[column.name.text] = types.Field(column.name.text, type_)
            return types.Record(tuple(fields.values())) if sound else None


def _written(expression: ast.ListType) -> str:
    element = expression.element
    name = element.name.text if isinstance(element, ast.NamedType) else "…"
    return f"{name}[{expression.size if expression.size != -1 else '…'}]"


def described(value: ast.Value) -> str:
    """A value as a message names it."""
    match value:
        case ast.String(text):
            return f'"{text}"' if len(text) < 40 else f'"{text[:36]} …"'
        case ast.Literal(None):
            return "null"
        case ast.Literal(bool() as truth):
            return "true" if truth else "false"
        case ast.Literal(number):
            return "too large a number" if number in (math.inf, -math.inf) else str(number)
        case ast.ListValue():
            return "a list"
        case ast.ParameterValue(name):
            return f"`${name}`"
        case ast.Apply(function):
            return f"`{function}(…)`"
        case ast.RecordValue():
            return "a record"
        case _:
            return f"the column `{value}`"


def resolve_value(value: ast.Value, type_: Type, what: str, report: Report) -> tuple[Any] | None:
    """A literal as a value of the type, in a tuple of one; None where a problem was reported."""
    match value:
        case ast.String(text):
            found: Any = text
        case ast.Literal(literal):
            found = literal
        case ast.ListValue():
            inner = types.required(type_)
            if isinstance(inner, types.ListOf):
                items = [resolve_value(item, inner.element, what, report) for item in value.items]
                return None if None in items else ([item[0] for item in items if item],)
            found = _data(value)
        case ast.RecordValue():
            found = _data(value)
        case _:
            found = ...
    if found is not ...:
        taken = take(found, type_)
        if taken:
            return taken
    report(
        problems.BadValue(
            span=value.span,
            what=what,
            wanted=wanted(type_),
            found=described(value),
            near=_near(value, found, type_),
            advice=_advice(found, type_),
        )
    )
    return None


def _advice(found: Any, type_: Type) -> str | None:
    if found is None and not types.nullable(type_):
        return f"what may be null is declared `{types.name(types.maybe(type_))}`"
    inner = types.required(type_)
    numeric = isinstance(inner, types.Int | types.Float | types.Bool)
    if isinstance(found, str) and numeric and from_text(found.strip(), inner):
        return f"it stands without quotes: `{found.strip()}`"
    return None


def _data(value: ast.Value | ast.TypeExpression) -> Any:
    """Lists and records as Python has them; `...` where a part is no literal."""
    match value:
        case ast.String(text):
            return text
        case ast.Literal(literal):
            return literal
        case ast.ChoiceType((one,)):
            return _data(one)
        case ast.NamedType(name) if name.text in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[name.text]
        case ast.ListValue(items):
            parts = [_data(item) for item in items]
            return ... if ... in parts else parts
        case ast.RecordValue(fields) | ast.RecordType(fields):
            found = {field.name.text: _data(field.type) for field in fields}
            return ... if ... in found.values() else found
        case _:
            return ...


def _near(value: ast.Value, found: Any, type_: Type) -> str | None:
    """What was probably meant."""
    inner = types.required(type_)
    if isinstance(inner, types.Text) and isinstance(value, ast.Literal) and found is not None:
        return f'"{described(value)}"'
    if isinstance(value, ast.Path):
        word = str(value)
        if isinstance(inner, types.Text) or (
            isinstance(inner, types.Choice) and word in inner.values
        ):
            return f'"{word}"'
        spelt = {"none": "null", "nil": "null", "yes": "true", "no": "false"}
        known = spelt.get(word.lower(), word.lower())
        return known if known in ("true", "false", "null") else None
    options = [str(v) for v in inner.values] if isinstance(inner, types.Choice) else []
    return nearest(str(found), options) if options else None


def wanted(type_: Type) -> str:
    """The type as a sentence names what it takes."""
    match type_:
        case types.Choice():
            return f"one of `{types.name(type_)}`"
        case types.Maybe(inner):
            return f"{wanted(inner)} or null"
        case types.Text():
            return "text in quotes"
        case types.Int():
            return "a whole number"
        case types.Float():
            return "a number"
        case types.Bool():
            return "true or false"
        case types.ListOf(element):
            return f"a list of `{types.name(element)}`"
        case types.Chat():
            return 'messages, as in `[{role: "user", content: "Hi"}]`'
        case types.Image():
            return "a data URL, `data:image/png;base64,…`"
        case _:
            return f"`{types.name(type_)}`"


def take(value: Any, type_: Type) -> tuple[Any] | None:
    """The value if the type has it, in a tuple of one."""
    match type_:
        case types.Maybe(inner):
            return (None,) if value is None else take(value, inner)
        case types.Text():
            return (value,) if isinstance(value, str) else None
        case types.Bool():
            return (value,) if isinstance(value, bool) else None
        case types.Int():
            whole = isinstance(value, int) and not isinstance(value, bool)
            return (value,) if whole and -(2**63) <= value < 2**63 else None
        case types.Float():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            # No file, server or literal holds an infinite number; whole ones may be too large.
            return (float(value),) if number and abs(value) <= sys.float_info.max else None
        case types.Choice(values):
            same = [
                v for v in values if v == value and isinstance(v, str) == isinstance(value, str)
            ]
            return (same[0],) if same and not isinstance(value, bool) else None
        case types.ListOf(element):
            items = [take(item, element) for item in value] if isinstance(value, list) else [None]
            return None if None in items else ([item[0] for item in items if item],)
        case types.Json():
            return (value,)
        case types.Chat():
            return take(value, types.MESSAGES)
        case types.Record(fields):
            if not isinstance(value, dict) or set(value) != {field.name for field in fields}:
                return None
            parts = {field.name: take(value[field.name], field.type) for field in fields}
            if None in parts.values():
                return None
            return ({name: part[0] for name, part in parts.items() if part},)
        case types.Image():
            return (value,) if isinstance(value, str) and value.startswith("data:") else None
        case types.Vector() | types.Other() | types.Audio():
            return None


def from_text(text: str, type_: Type) -> tuple[Any] | None:
    """A value as the command line gives it (`-p name=value`), in a tuple of one; None if it is none."""
    inner = types.required(type_)
    if isinstance(inner, types.Text) or (
        isinstance(inner, types.Choice) and isinstance(inner.values[0], str)
    ):
        return take(text, inner)
    try:
        return take(json.loads(text), type_)
    except ValueError:
        return None


def assignable(found: Type, wanted: Type) -> bool:
    """Whether a column of one type can stand where another is declared; nulls are looked at per row."""
    found, wanted = types.required(found), types.required(wanted)
    if found == wanted or types.NULL in (found, wanted):
        return True
    match found, wanted:
        case types.Int(), types.Float():
            return True
        case types.Choice(values), types.Choice(allowed):
            return set(values) <= set(allowed)
        case types.Choice(values), _:
            kinds = {type(value) for value in values}
            if kinds == {str}:
                return isinstance(wanted, types.Text)
            return isinstance(wanted, types.Float) or (
                isinstance(wanted, types.Int) and kinds == {int}
            )
        case types.Text(), types.Choice(values):
            return isinstance(values[0], str)
        case ((types.Int() | types.Float()), types.Choice(values)):
            return not isinstance(values[0], str)
        case types.ListOf(), types.Chat():
            return assignable(found, types.MESSAGES)
        case types.Chat(), types.ListOf():
            return assignable(types.MESSAGES, wanted)
        case types.Json(), types.Chat():  # what a file holds is looked at row by row
            return True
        case ((types.Image() | types.Audio()), types.Text()):
            return True
        case types.Other(), types.Image():
            return found == types.BYTES
        case types.ListOf(a), types.ListOf(b):
            return assignable(a, b)
        case types.Vector(), types.ListOf(element):
            return isinstance(element, types.Float)
        case types.Record(have), types.Record(need):
            known = {field.name: field.type for field in have}
            return len(have) == len(need) and all(
                f.name in known and assignable(known[f.name], f.type) for f in need
            )
        case _:
            return False
