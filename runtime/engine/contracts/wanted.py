"""What a contract asks of an answer: a JSON schema for servers, and words for a prompt."""

from __future__ import annotations

import json
from typing import Any, assert_never

from synthc.compiler import types
from synthc.compiler.plan import Contract
from synthc.compiler.types import Field, Type
from synthc.runtime.engine.contracts.as_json import is_bare_array
from synthc.runtime.engine.contracts.values import ROLES


def schema(contract: Contract) -> dict[str, Any] | None:
    """The JSON schema that an answer is asked for by, None where it is plain text."""
    if contract.kind != "json":
        return None
    if is_bare_array(contract):
        return _schema_of(types.required(contract.fields[0].type))
    return _object_schema(contract.fields)


def output_format(contract: Contract) -> str:
    """What `{{ output_format }}` prints: the form that is wanted.

    Empty where there is nothing to say: of plain text, and of a pattern, which only who wrote the
    prompt can put into words.
    """
    match contract.kind:
        case "json":
            return _json_format(contract)
        case "after":
            mark = contract.marks[0]
            return f"Begin with {mark} and put nothing after it but what was asked for."
        case "tag":
            (field,), (tag,) = contract.fields, contract.marks
            kind = types.required(field.type)
            what = "" if kind == types.Text() else f" ({_words(kind)})"
            return f"Put the answer{what} between <{tag}> and </{tag}>."
        case "sections":
            return _sections_format(contract)
        case _:
            return ""


def _json_format(contract: Contract) -> str:
    """Keys stand in a list with their types in words: a small model copies an example's values."""
    if is_bare_array(contract):
        words = _words(types.required(contract.fields[0].type))
        return f"Answer with one JSON array and nothing else: a {words}."
    keys = "\n".join(f"- {json.dumps(f.name)}: {_words(f.type)}" for f in contract.fields)
    return f"Answer with one JSON object and nothing else. Its keys:\n{keys}"


def _sections_format(contract: Contract) -> str:
    """The headings in a list, and no picture of the answer: a small model copies that."""
    sections = "\n".join(
        f"- {mark}{_what(types.required(field.type))}"
        for mark, field in zip(contract.marks, contract.fields, strict=True)
    )
    return (
        "Answer in sections and write nothing else. Before each section stands its heading, on a "
        f"line of its own. The headings:\n{sections}"
    )


def _what(type_: Type) -> str:
    return "" if type_ == types.Text() else f" (under it: {_words(type_)})"


def _schema_of(type_: Type) -> dict[str, Any]:
    match type_:
        case types.Maybe(inner):
            return {"anyOf": [_schema_of(inner), {"type": "null"}]}
        case types.Text():
            return {"type": "string"}
        case types.Int():
            return {"type": "integer"}
        case types.Float():
            return {"type": "number"}
        case types.Bool():
            return {"type": "boolean"}
        case types.Choice(values):
            return {"enum": list(values)}
        case types.ListOf(element):
            return {"type": "array", "items": _schema_of(element)}
        case types.Record(fields):
            return _object_schema(fields)
        case types.Chat():
            return {"type": "array", "items": _MESSAGE}
        case types.Json() | types.Image() | types.Audio() | types.Vector() | types.Other():
            return {}
        case _:
            assert_never(type_)


def _object_schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _schema_of(field.type) for field in fields},
        "required": [field.name for field in fields],
        "additionalProperties": False,
    }


_MESSAGE = _object_schema(
    (Field("role", types.Choice(ROLES)), Field("content", types.Text())),
)


def _words(type_: Type) -> str:
    """A type in words, for a prompt."""
    match type_:
        case types.Maybe(inner):
            return f"{_words(inner)}, or null"
        case types.Text():
            return "text"
        case types.Int():
            return "whole number"
        case types.Float():
            return "number"
        case types.Bool():
            return "true or false"
        case types.Json():
            return "any JSON value"
        case types.Choice(values):
            return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in values)
        case types.ListOf(element):
            return f"list of ({_words(element)})"
        case types.Record(fields):
            keys = "; ".join(f"{json.dumps(f.name)}: {_words(f.type)}" for f in fields)
            return f"object with the keys {keys}"
        case types.Chat():
            roles = ", ".join(json.dumps(role) for role in ROLES)
            return f'list of (object with the keys "role": one of {roles}; "content": text)'
        case types.Image() | types.Audio() | types.Vector() | types.Other():
            return "null"
        case _:
            assert_never(type_)
