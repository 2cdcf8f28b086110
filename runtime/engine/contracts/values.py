"""What stands in an answer as a value of a type: JSON's values, and pieces of text."""

from __future__ import annotations

import json
import math
import re
from typing import Any, assert_never

from synthc.compiler import types
from synthc.compiler.types import Type
from synthc.runtime.engine import loose_json
from synthc.runtime.engine.contracts.reading import Taken

MAX_DIGITS = 400
"""Characters of a number that are read: no float has more, and Python refuses very long integers."""

MAX_FAULTS = 5
"""Faults of one list that are told."""

ROLES = ("system", "user", "assistant")
"""Who says a message of a chat."""

_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_ORNAMENT = "*_`\"'“”"  # what models put around a word: `**8**`, "good"


def whole(text: str) -> str:
    """A text whose lone surrogates (half a `\\ud83d\\ude00`) are replaced: no file can hold them."""
    return (
        text
        if text.isascii()
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def take(value: Any, type_: Type, name: str) -> Taken:
    """A JSON value as a value of the type, or null and what is wrong with it."""
    match type_:
        case types.Maybe(inner):
            return (None, []) if value is None else take(value, inner, name)
        case _ if value is None:
            return None, [f"{name} is null"]
        case types.Text():
            if isinstance(value, str):
                return (whole(value), []) if value.strip() else (None, [f"{name} is empty"])
            if isinstance(value, int | float):
                return json.dumps(value), []
            return None, [f"{name} must be text"]
        case types.Int():
            found = _number(value)
            if found is None or found != int(found) or abs(found) >= 2**63:
                return None, [f"{name} must be a whole number"]
            return int(found), []
        case types.Float():
            found = _number(value)
            return (None, [f"{name} must be a number"]) if found is None else (float(found), [])
        case types.Bool():
            truth = _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
            if not isinstance(truth, bool):
                return None, [f"{name} must be true or false"]
            return truth, []
        case types.Json():
            return _take_json(value, name)
        case types.Chat():
            return _take_chat(value, name)
        case types.Choice(values):
            return _take_choice(value, values, type_, name)
        case types.ListOf(element):
            return _take_list(value, element, name)
        case types.Record():
            return _take_record(value, type_, name)
        case types.Image() | types.Audio() | types.Vector() | types.Other():
            return None, [f"{name} cannot be answered"]
        case _:
            assert_never(type_)


def take_text(text: str | None, type_: Type, name: str) -> Taken:
    """A piece of an answer as a value of the type: a text as it is, anything else without ornament."""
    match types.required(type_):
        case _ if text is None:
            return None, [f"{name} is missing"]
        case _ if not text.strip():
            return None, [f"{name} is empty"]
        case types.Text():
            return whole(text), []
        case types.Choice(values) if text in values:
            return text, []
        case types.Int() | types.Float() | types.Bool() | types.Choice() as scalar:
            first = take(_bare(text), scalar, name)
            return first if not first[1] else take(_bare(_bare(text).rstrip(".!,;")), scalar, name)
        case _:
            return None, [f"{name} cannot be read from text"]


def _bare(text: str) -> str:
    """A word without the spaces, quotes and emphasis around it."""
    return text.strip().strip(_ORNAMENT).strip()


def _number(value: Any) -> float | int | None:
    if isinstance(value, str):
        text = value.strip()
        if len(text) > MAX_DIGITS or not _NUMBER.fullmatch(text):
            return None
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**1023 else None
    return value if math.isfinite(value) else None


def _take_json(value: Any, name: str) -> Taken:
    try:
        plain = _plain(value)
    except RecursionError:
        return None, [f"{name} is nested too deeply"]
    return (None, [f"{name} is null"]) if plain is None else (plain, [])


def _plain(value: Any, depth: int = 0) -> Any:
    """A JSON value that can be stored: no halves of characters, no numbers that JSON does not have.

    Raises RecursionError where it is nested beyond MAX_DEPTH.
    """
    if depth > loose_json.MAX_DEPTH:
        raise RecursionError
    match value:
        case str():
            return whole(value)
        case dict():
            return {whole(str(key)): _plain(part, depth + 1) for key, part in value.items()}
        case list():
            return [_plain(part, depth + 1) for part in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _take_chat(value: Any, name: str) -> Taken:
    """Messages, each said by a known role and not empty."""
    if not isinstance(value, list) or not value:
        return None, [f"{name} must be a list of messages"]
    messages: list[dict[str, str]] = []
    for i, message in enumerate(value):
        parts = message if isinstance(message, dict) else {}
        role, content = parts.get("role"), parts.get("content")
        role = role.strip().lower() if isinstance(role, str) else role
        if role not in ROLES:
            return None, [f'{name}[{i}] must have a "role": one of {", ".join(ROLES)}']
        if not isinstance(content, str) or not content.strip():
            return None, [f'{name}[{i}] must have a "content" that is text']
        messages.append({"role": role, "content": whole(content)})
    return messages, []


def _take_choice(
    value: Any,
    values: tuple[str | int | float, ...],
    type_: Type,
    name: str,
) -> Taken:
    wrong = [f"{name} must be one of {types.name(type_)}"]
    if isinstance(values[0], str):
        if not isinstance(value, str):
            return None, wrong
        if value in values:
            return value, []
        same = [v for v in values if str(v).strip().casefold() == value.strip().casefold()]
        return (same[0], []) if len(same) == 1 else (None, wrong)
    found = _number(value)
    same = [v for v in values if v == found]
    return (same[0], []) if same else (None, wrong)


def _take_list(value: Any, element: Type, name: str) -> Taken:
    """A list: an element that has a fault is null where it may be, else the whole list is."""
    if not isinstance(value, list):
        return None, [f"{name} must be a list"]
    return listed([take(item, element, f"{name}[{i}]") for i, item in enumerate(value)], element)


def listed(taken: list[Taken], element: Type) -> Taken:
    """Elements as a list, or null where one has a fault that it may not have."""
    items = [item for item, _ in taken]
    faults = [fault for _, found in taken for fault in found][:MAX_FAULTS]
    fatal = not types.nullable(element) and any(item is None for item in items)
    return (None if fatal else items), faults


def _take_record(value: Any, type_: types.Record, name: str) -> Taken:
    if not isinstance(value, dict):
        return None, [f"{name} must be an object"]
    parts = {f.name: take(value.get(f.name), f.type, f"{name}.{f.name}") for f in type_.fields}
    faults = [fault for _, found in parts.values() for fault in found]
    fatal = any(parts[f.name][0] is None and not types.nullable(f.type) for f in type_.fields)
    return (None if fatal else {key: part for key, (part, _) in parts.items()}), faults
