"""What was read of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from synthc.compiler import types
from synthc.compiler.plan import Contract

Taken = tuple[Any, list[str]]
"""A value, or null and what was wrong with it. A list or a struct may have faults that cost only
nulls inside of it."""


class Reading(Struct, frozen=True):
    """What an answer gave: a value for each field (null where there was none), and what was wrong.

    `broken` says whether it has to be asked again; otherwise what was wrong cost only nulls that the
    types allow.
    """

    values: tuple[Any, ...]
    problems: tuple[str, ...] = ()
    broken: bool = False


def gathered(contract: Contract, taken: Sequence[Taken], also: Sequence[str] = ()) -> Reading:
    """A reading of what was taken for each field; `also` are faults that belong to none of them."""
    values = tuple(value for value, _ in taken)
    faults = dict.fromkeys((*also, *(fault for _, found in taken for fault in found)))
    broken = any(
        value is None and not types.nullable(field.type)
        for value, field in zip(values, contract.fields, strict=True)
    )
    return Reading(values, tuple(faults), broken)


def nothing(contract: Contract, problem: str) -> Reading:
    """A reading without any value, for one reason."""
    return gathered(contract, [(None, []) for _ in contract.fields], (problem,))
