"""`as regex` and `as lines`: the groups of a pattern."""

from __future__ import annotations

from typing import Any

from synthc.compiler import types
from synthc.compiler.plan import Contract
from synthc.compiler.types import Field, Type
from synthc.runtime.engine.contracts.re2_patterns import compiled, matches
from synthc.runtime.engine.contracts.reading import Reading, Taken, gathered, nothing
from synthc.runtime.engine.contracts.values import listed, take_text, whole

INDEX = "index"
"""The group that says which element a match belongs to, counted from 1."""

MAX_NAMED = 10
"""Elements without a match that are named to a model."""

MAX_SHOWN = 300
"""Characters of a pattern that are shown to a model."""


def read_regex(contract: Contract, answer: str) -> Reading:
    """The groups of the first match."""
    match = compiled(_pattern(contract)).search(whole(answer))
    if match is None:
        return nothing(contract, _no_match(contract, answer))
    groups = _groups(contract)
    return gathered(
        contract,
        [
            take_text(match[group], field.type, f"`{field.name}`")
            for group, field in zip(groups, contract.fields, strict=True)
        ],
    )


def read_lines(contract: Contract, answer: str, count: int | None) -> Reading:
    """The groups of every match, as lists: one for each of `count` elements, or all there are.

    The group `index` says which element a match belongs to, else their order does. Of several for
    the same element the first counts whose values can be read: small models go on after their
    answer. What belongs to none is ignored.
    """
    if contract.per is None or count is None:
        return _read_all(contract, answer)
    if count == 0:
        return Reading(tuple([] for _ in contract.fields))
    return _read_per(contract, answer, count)


def _pattern(contract: Contract) -> str:
    assert contract.pattern is not None
    return contract.pattern


def _groups(contract: Contract) -> list[int]:
    """The number of each field's group: that of its name, or the only one besides `index`.

    A pattern without groups gives its one field the whole match.
    """
    pattern = compiled(_pattern(contract))
    named = pattern.groupindex
    others = set(range(1, pattern.groups + 1)) - {named.get(INDEX)}
    only = min(others, default=0)
    return [named.get(field.name, only) for field in contract.fields]


def _no_match(contract: Contract, answer: str) -> str:
    if not answer.strip():
        return "the answer is empty"
    shown = _pattern(contract)[:MAX_SHOWN]
    return f"nothing in it has the form that was asked for (as a regular expression: {shown})"


def _element(field: Field) -> Type:
    list_ = types.required(field.type)
    assert isinstance(list_, types.ListOf)
    return list_.element


def _read_all(contract: Contract, answer: str) -> Reading:
    """A list of all matches; those that are blank (a bullet without text) are no elements."""
    groups = _groups(contract)
    columns: list[list[Taken]] = [[] for _ in contract.fields]
    for match in matches(_pattern(contract), whole(answer)):
        found = [match[group] for group in groups]
        if not any(text and text.strip() for text in found):
            continue
        for column, text, field in zip(columns, found, contract.fields, strict=True):
            column.append(take_text(text, _element(field), f"`{field.name}`[{len(column)}]"))
    if not columns[0]:
        return nothing(contract, _no_match(contract, answer))
    taken = [listed(c, _element(f)) for c, f in zip(columns, contract.fields, strict=True)]
    return gathered(contract, taken)


def _read_per(contract: Contract, answer: str, count: int) -> Reading:
    groups = _groups(contract)
    found: dict[int, list[Taken]] = {}
    for order, match in enumerate(matches(_pattern(contract), whole(answer)), start=1):
        index = _index(match, order)
        if index is None or not 1 <= index <= count or _sound(found.get(index)):
            continue
        taken = [
            take_text(match[group], _element(field), f"`{field.name}` of {index}")
            for group, field in zip(groups, contract.fields, strict=True)
        ]
        if index not in found or _sound(taken):
            found[index] = taken
    absent: list[Taken] = [(None, []) for _ in contract.fields]
    rows = [found.get(index, absent) for index in range(1, count + 1)]
    columns = [
        listed(list(column), _element(field))
        for column, field in zip(zip(*rows, strict=True), contract.fields, strict=True)
    ]
    if not found:
        return gathered(contract, columns, (_no_match(contract, answer),))
    missing = [index for index in range(1, count + 1) if index not in found]
    return gathered(contract, columns, _said_missing(contract, missing, count))


def _index(match: Any, order: int) -> int | None:
    """Which element a match belongs to, counted from 1; None where it says none."""
    if INDEX not in match.re.groupindex:
        return order
    digits = (match[INDEX] or "").strip()
    return int(digits) if digits.isdecimal() and len(digits) < 10 else None


def _sound(taken: list[Taken] | None) -> bool:
    return taken is not None and not any(faults for _, faults in taken)


def _said_missing(contract: Contract, missing: list[int], count: int) -> tuple[str, ...]:
    if not missing:
        return ()
    named = ", ".join(str(index) for index in missing[:MAX_NAMED])
    more = ", …" if len(missing) > MAX_NAMED else ""
    return (f"there is nothing for {named}{more} of the {count} `{contract.per}`",)
