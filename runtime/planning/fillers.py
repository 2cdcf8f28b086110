"""Values that stand in for what nobody knows yet: of the right type, and about as long."""

from __future__ import annotations

from typing import Any, assert_never

from synthc.compiler import types
from synthc.compiler.plan import Contract
from synthc.compiler.types import Field, Type
from synthc.runtime.engine import contracts

ELEMENTS = 3
"""How many elements a list has whose length nobody knows."""

PICTURE = b"GIF89a"
"""What begins like a picture: no more is looked at of one that is not sent."""

_WORD = "lorem "


def filler(type_: Type, characters: int, count: int | None = None) -> Any:
    """A value of a type, whose text has about so many characters in all; a list has `count` elements."""
    match type_:
        case types.Maybe(inner):
            return filler(inner, characters, count)
        case types.Image():
            return PICTURE
        case types.Text() | types.Audio():
            return (_WORD * (characters // len(_WORD) + 1))[:characters].rstrip() or "?"
        case types.Int():
            return 1
        case types.Float():
            return 1.0
        case types.Bool():
            return True
        case types.Choice(values):
            return values[0]
        case types.ListOf(element):
            many = ELEMENTS if count is None else count
            return [filler(element, characters // max(many, 1)) for _ in range(many)]
        case types.Record(fields):
            share = characters // max(len(fields), 1)
            return {field.name: filler(field.type, share) for field in fields}
        case types.Chat():
            return [{"role": "user", "content": filler(types.Text(), characters)}]
        case types.Json():
            return filler(types.Text(), characters)
        case types.Vector(size):
            return [0.0] * size
        case types.Other():
            return None
        case _:
            assert_never(type_)


def fillers(
    fields: tuple[Field, ...], characters: int, count: int | None = None
) -> tuple[Any, ...]:
    """A value for each field, whose text has about so many characters together."""
    share = characters // max(len(fields), 1)
    return tuple(filler(field.type, share, count) for field in fields)


def read_example(contract: Contract, example: str, count: int | None) -> tuple[Any, ...] | None:
    """The columns of an answer that was given to another row; None where it would not do for this one."""
    reading = contracts.read(contract, example, count)
    return None if reading.broken else reading.values
