"""`as json`: an object with the fields' names, or a bare array where the one field is a list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from synthc.compiler import types
from synthc.compiler.plan import Contract
from synthc.runtime.engine import loose_json
from synthc.runtime.engine.contracts.reading import Reading, Taken, gathered
from synthc.runtime.engine.contracts.values import take

MAX_LOOSE = 200_000
"""Characters of faulty JSON that are read at most: it is slower than what has no fault."""

MAX_PLACES = 32
"""How many places of a text are tried as the beginning of its JSON."""


def is_bare_array(contract: Contract) -> bool:
    """One list column is a bare array: models are better at it than at an object around it."""
    return len(contract.fields) == 1 and isinstance(
        types.required(contract.fields[0].type), types.ListOf | types.Chat
    )


def read_json(contract: Contract, answer: str) -> Reading:
    """Of all the JSON in an answer, what fits best."""
    best: Reading | None = None
    for found in _candidates(answer, list if is_bare_array(contract) else dict):
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
    kind = "array" if is_bare_array(contract) else "object"
    problem = "the answer is empty" if not answer.strip() else f"there is no JSON {kind} in it"
    return Reading(tuple(None for _ in contract.fields), (problem,), broken=True)


def _fill(contract: Contract, found: Any) -> Reading:
    if is_bare_array(contract):
        return gathered(contract, [take(found, contract.fields[0].type, "the array")])
    taken: list[Taken] = []
    names = {str(name).strip().lower(): name for name in found}
    for field in contract.fields:
        key = field.name if field.name in found else names.get(field.name.lower())
        if key is None:
            taken.append((None, [f"`{field.name}` is missing"]))
        else:
            taken.append(take(found[key], field.type, f"`{field.name}`"))
    return gathered(contract, taken)


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
