"""Contracts: how an answer becomes columns. What a model says is data: it is read, never evaluated."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from synthc.compiler import types
from synthc.compiler.plan import Contract
from synthc.compiler.types import Field, Type
from synthc.runtime.engine import loose_json

MAX_LOOSE = 200_000
"""Characters of faulty JSON that are read at most: it is slower than what has no fault."""

MAX_PLACES = 32
"""How many places of a text are tried as the beginning of its JSON."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer gave: a value for each field (null where there was none), and what was wrong.

    `broken` says whether it has to be asked again; otherwise what was wrong cost only nulls that the
    types allow.
    """

    values: tuple[Any, ...]
    problems: tuple[str, ...] = ()
    broken: bool = False


def read(contract: Contract, answer: str) -> Reading:
    """The columns in an answer. Never raises, whatever the answer holds."""
    if contract.kind == "text":
        return _read_text(contract, answer)
    return _read_json(contract, answer)


def schema(contract: Contract) -> dict[str, Any] | None:
    """The JSON schema that an answer is asked for by, None where it is plain text."""
    if contract.kind == "text":
        return None
    if _is_bare_array(contract):
        return _schema_of(types.required(contract.fields[0].type))
    return _object_schema(contract.fields)


def output_format(contract: Contract) -> str:
    """What `{{ output_format }}` prints: which JSON is wanted.

    Keys stand in a list with their types in words: a small model copies an example's values.
    """
    if contract.kind == "text":
        return ""
    if _is_bare_array(contract):
        words = _words(types.required(contract.fields[0].type))
        return f"Answer with one JSON array and nothing else: a {words}."
    keys = "\n".join(f"- {json.dumps(f.name)}: {_words(f.type)}" for f in contract.fields)
    return f"Answer with one JSON object and nothing else. Its keys:\n{keys}"


def correction(reading: Reading) -> str:
    """What a model is told when its answer broke the contract."""
    faults = "\n".join(f"- {problem}" for problem in reading.problems)
    return (
        f"That answer could not be used:\n{faults}\nAnswer again, in the form that was asked for."
    )


# Plain text


def _read_text(contract: Contract, answer: str) -> Reading:
    if answer.strip():
        return Reading((_whole(answer),))
    broken = not types.nullable(contract.fields[0].type)
    return Reading((None,), ("the answer is empty",), broken)


# JSON


def _is_bare_array(contract: Contract) -> bool:
    """One list column is a bare array: models are better at it than at an object around it."""
    return len(contract.fields) == 1 and isinstance(
        types.required(contract.fields[0].type), types.ListOf
    )


def _read_json(contract: Contract, answer: str) -> Reading:
    """Of all the JSON in an answer, what fits best."""
    best: Reading | None = None
    for found in _candidates(answer, list if _is_bare_array(contract) else dict):
        reading = _fill(contract, found)
        if not reading.problems:
            return reading
        if best is None or (reading.broken, len(reading.problems)) < (
            best.broken,
            len(best.problems),
        ):
            best = reading
    if best is not None:
        return best
    kind = "array" if _is_bare_array(contract) else "object"
    problem = "the answer is empty" if not answer.strip() else f"there is no JSON {kind} in it"
    return Reading(tuple(None for _ in contract.fields), (problem,), broken=True)


def _fill(contract: Contract, found: Any) -> Reading:
    if _is_bare_array(contract):
        field = contract.fields[0]
        value, problems = _take(found, field.type, "the array")
        return Reading((value,), tuple(problems), bool(problems) and not types.nullable(field.type))
    values: list[Any] = []
    problems: list[str] = []
    broken = False
    names = {str(name).strip().lower(): name for name in found}
    for field in contract.fields:
        key = field.name if field.name in found else names.get(field.name.lower())
        if key is None:
            value, faults = None, [f"`{field.name}` is missing"]
        else:
            value, faults = _take(found[key], field.type, f"`{field.name}`")
        values.append(value)
        problems += faults
        broken = broken or (bool(faults) and not types.nullable(field.type))
    return Reading(tuple(values), tuple(problems), broken)


_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def _candidates(answer: str, kind: type) -> Iterator[Any]:
    """The JSON objects (or arrays) in an answer, the likeliest first.

    It stands alone, in a code fence, or in prose; where it has small faults it is put right. The
    work is bounded by the length of the answer.
    """
    fences = _FENCE.findall(answer) if "```" in answer else []
    for text in (answer, *fences):
        found, _ = _decoded(text, len(text) - len(text.lstrip()))
        if isinstance(found, kind):
            yield found
    opening = "{" if kind is dict else "["
    in_prose: list[tuple[int, Any]] = []
    place = answer.find(opening)
    budget = MAX_LOOSE
    for _ in range(MAX_PLACES):
        if place < 0:
            break
        found, end = _decoded(answer, place)
        if found is None and budget > 0:
            try:
                found, end = loose_json.decode(answer, place)
                budget -= end - place
            except loose_json.NotJson as failed:
                budget -= failed.at - place
        if found is not None:
            in_prose.append((end - place, found))
        place = answer.find(opening, end)
    in_prose.sort(key=lambda pair: -pair[0])  # `[3]` in a sentence is not the list
    yield from (found for _, found in in_prose)


_DECODER = json.JSONDecoder()


def _decoded(text: str, start: int) -> tuple[Any | None, int]:
    """The JSON value that begins at a place, and where to look on; none where none begins there."""
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start + 1


def _plain(value: Any, depth: int = 0) -> Any:
    """A JSON value that can be stored: no halves of characters, no numbers that JSON does not have.

    Raises RecursionError where it is nested beyond MAX_DEPTH.
    """
    if depth > loose_json.MAX_DEPTH:
        raise RecursionError
    match value:
        case str():
            return _whole(value)
        case dict():
            return {_whole(str(key)): _plain(part, depth + 1) for key, part in value.items()}
        case list():
            return [_plain(part, depth + 1) for part in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _whole(text: str) -> str:
    """A text whose lone surrogates (half a `\\ud83d\\ude00`) are replaced: no file can hold them."""
    return (
        text
        if text.isascii()
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def _take(value: Any, type_: Type, name: str) -> tuple[Any, list[str]]:
    """A JSON value as a value of the type, or null and what is wrong with it."""
    match type_:
        case types.Maybe(inner):
            return (None, []) if value is None else _take(value, inner, name)
        case _ if value is None:
            return None, [f"{name} is null"]
        case types.Text():
            if isinstance(value, str):
                return (_whole(value), []) if value.strip() else (None, [f"{name} is empty"])
            if isinstance(value, int | float):
                return json.dumps(value), []
            return None, [f"{name} must be text"]
        case types.Int():
            number = _number(value)
            if number is None or number != int(number) or abs(number) >= 2**63:
                return None, [f"{name} must be a whole number"]
            return int(number), []
        case types.Float():
            number = _number(value)
            return (None, [f"{name} must be a number"]) if number is None else (float(number), [])
        case types.Bool():
            if isinstance(value, str) and value.strip().lower() in ("true", "false"):
                return value.strip().lower() == "true", []
            return (
                (value, [])
                if isinstance(value, bool)
                else (None, [f"{name} must be true or false"])
            )
        case types.Json():
            try:
                return _plain(value), []
            except RecursionError:
                return None, [f"{name} is nested too deeply"]
        case types.Choice(values):
            return _take_choice(value, values, type_, name)
        case types.ListOf(element):
            if not isinstance(value, list):
                return None, [f"{name} must be a list"]
            taken = [_take(item, element, f"{name}[{i}]") for i, item in enumerate(value)]
            problems = [problem for _, faults in taken for problem in faults]
            fatal = problems and not types.nullable(element)
            return (None if fatal else [item for item, _ in taken]), problems[:5]
        case types.Record(fields):
            if not isinstance(value, dict):
                return None, [f"{name} must be an object"]
            parts = {f.name: _take(value.get(f.name), f.type, f"{name}.{f.name}") for f in fields}
            problems = [problem for _, faults in parts.values() for problem in faults]
            return (None if problems else {key: part for key, (part, _) in parts.items()}), problems
        case types.Vector() | types.Other():
            return None, [f"{name} cannot be answered"]
        case _:
            assert_never(type_)


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value.strip())
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**1023 else None
    return value if math.isfinite(value) else None


def _take_choice(
    value: Any,
    values: tuple[str | int | float, ...],
    type_: Type,
    name: str,
) -> tuple[Any, list[str]]:
    wrong = [f"{name} must be one of {types.name(type_)}"]
    if isinstance(values[0], str):
        if not isinstance(value, str):
            return None, wrong
        if value in values:
            return value, []
        same = [v for v in values if str(v).strip().casefold() == value.strip().casefold()]
        return (same[0], []) if len(same) == 1 else (None, wrong)
    number = _number(value)
    same = [v for v in values if v == number]
    return (same[0], []) if same else (None, wrong)


# What is asked for


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
        case types.Json() | types.Vector() | types.Other():
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
        case types.Vector() | types.Other():
            return "null"
        case _:
            assert_never(type_)
