"""Columns in figures: how full they are, how long, how large, and what stands in them how often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from synthc.cli.report.asking import Query, brief, rows
from synthc.cli.report.contents import Bar, Column, Histogram
from synthc.compiler import types
from synthc.compiler.types import Field, Type

BINS = 24
SHOWN_VALUES = 8
FEW = 30
"""Different values that are worth counting one by one."""


def profiles(query: Query, table: str, fields: Sequence[Field]) -> tuple[Column, ...]:
    """What each column of a table holds, whose name is as SQL has it.

    The parts of a record are columns like `grade.score`.
    """
    return tuple(
        _profile(query, table, name, expression, type_)
        for field in fields
        for name, expression, type_ in parts(field.name, types.quote(field.name), field.type)
    )


def parts(name: str, expression: str, type_: Type) -> Iterator[tuple[str, str, Type]]:
    """A column, or those that a record is made of: its name, SQL for it, its type."""
    inner = types.required(type_)
    if not isinstance(inner, types.Record):
        yield name, expression, type_
        return
    for field in inner.fields:
        yield from parts(
            f"{name}.{field.name}",
            f"struct_extract({expression}, '{field.name.replace(chr(39), chr(39) * 2)}')",
            field.type,
        )


def is_text(type_: Type) -> bool:
    """Whether a value of the type is read as a text."""
    return isinstance(types.required(type_), types.Text | types.Choice) and types.sql(type_) == (
        "VARCHAR"
    )


def is_number(type_: Type) -> bool:
    """Whether a value of the type is a number that the language knows."""
    return types.sql(type_) in ("BIGINT", "DOUBLE")


def _profile(query: Query, table: str, name: str, x: str, type_: Type) -> Column:
    known = types.required(type_)
    if isinstance(known, types.Vector):
        return _vector(query, table, name, x, type_)
    if is_number(type_):
        return _number(query, table, name, x, type_)
    measure = _measure(known, x)
    if measure is None:
        return _other(query, table, name, x, type_)
    what, size = measure
    ((total, filled, distinct, low, middle, high),) = rows(
        query,
        f"SELECT count(*), count({x}), count(DISTINCT hash({x})) FILTER (WHERE {x} IS NOT NULL),"
        f" min({size}), median({size}), max({size}) FROM {table}",
    )
    facts = [] if low is None else [(what, _sizes(low, middle, high))]
    values, others = ((), 0)
    if isinstance(known, types.Text | types.Choice | types.Image | types.Audio):
        values, others = _frequent(query, table, x, filled, distinct)
        empty = _one(query, f"SELECT count_if({x} = '') FROM {table}")
        facts += [("empty", f"{empty:,}")] if empty else []
    histogram = None
    if not values or distinct > SHOWN_VALUES:  # the lengths of labels say nothing
        histogram = _histogram(query, table, size, what, low, high, whole=True)
    return Column(
        name=brief(name),
        type=brief(types.name(type_)),
        rows=total,
        filled=filled,
        distinct=distinct,
        facts=tuple(facts),
        histogram=histogram,
        values=values,
        others=others,
    )


def _sizes(low: int, middle: float, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}, half of them up to {middle:,.0f}"


def _measure(type_: Type, x: str) -> tuple[str, str] | None:
    """What is measured of values that are no numbers, and SQL for it."""
    match type_:
        case types.Text() | types.Choice() | types.Image() | types.Audio():
            return "characters", f"length({x})"
        case types.Json():
            return "characters", f"length(CAST({x} AS VARCHAR))"
        case types.Chat():
            return "messages", f"len({x})"
        case types.ListOf():
            return "elements", f"len({x})"
        case _:
            return None


def _number(query: Query, table: str, name: str, x: str, type_: Type) -> Column:
    finite = f"CASE WHEN isfinite(CAST({x} AS DOUBLE)) THEN {x} END"
    ((total, filled, real, distinct, low, mean, middle, high),) = rows(
        query,
        f"SELECT count(*), count({x}), count({finite}), count(DISTINCT {x}), min({finite}), avg({finite}),"
        f" median({finite}), max({finite}) FROM {table}",
    )
    facts: list[tuple[str, str]] = []
    if real and low == high:
        facts.append(("value", figure(low)))
    elif real:
        facts.append(("from, to", f"{figure(low)} to {figure(high)}"))
        facts.append(("mean, median", f"{figure(mean)}, {figure(middle)}"))
    if real < filled:
        facts.append(("infinite, or no number", f"{filled - real:,}"))
    values: tuple[Bar, ...] = ()
    histogram = None
    if 0 < distinct <= min(12, filled // 2):
        found = rows(
            query, f"SELECT {x}, count(*) FROM {table} WHERE {x} IS NOT NULL GROUP BY 1 ORDER BY 1"
        )
        values = tuple(Bar(figure(value), count) for value, count in found)
    elif low is not None and not distinct == filled == high - low + 1:  # which only counts rows
        whole = types.sql(type_) == "BIGINT"
        histogram = _histogram(query, table, finite, "values", low, high, whole=whole)
    return Column(
        name=brief(name),
        type=brief(types.name(type_)),
        rows=total,
        filled=filled,
        distinct=distinct,
        facts=tuple(facts),
        histogram=histogram,
        values=values,
    )


def _vector(query: Query, table: str, name: str, x: str, type_: Type) -> Column:
    norm = f"sqrt(array_inner_product({x}, {x}))"
    ((total, filled, low, high),) = rows(
        query, f"SELECT count(*), count({x}), min({norm}), max({norm}) FROM {table}"
    )
    facts = [] if low is None else [("length of vectors", _between(low, high))]
    return Column(
        name=brief(name), type=types.name(type_), rows=total, filled=filled, facts=tuple(facts)
    )


def _between(low: float, high: float) -> str:
    least, most = f"{low:.3g}", f"{high:.3g}"
    return least if least == most else f"{least} to {most}"


def _other(query: Query, table: str, name: str, x: str, type_: Type) -> Column:
    text = f"CAST({x} AS VARCHAR)"
    ((total, filled, distinct, low, high),) = rows(
        query,
        f"SELECT count(*), count({x}), count(DISTINCT {text}), min({text}), max({text}) FROM {table}",
    )
    values, others = _frequent(query, table, text, filled, distinct)
    facts = (
        (("from, to", f"{brief(low, 40)} to {brief(high, 40)}"),) if filled and not values else ()
    )
    return Column(
        name=brief(name),
        type=brief(types.name(type_)),
        rows=total,
        filled=filled,
        distinct=distinct,
        facts=facts,
        values=values,
        others=others,
    )


def _frequent(
    query: Query, table: str, x: str, filled: int, distinct: int
) -> tuple[tuple[Bar, ...], int]:
    """The most frequent values, and how many rows have others; none where hardly any comes twice."""
    if not filled or (distinct > FEW and distinct > filled / 2):
        return (), 0
    found = rows(
        query,
        f"SELECT left({x}, 200), count(*) FROM {table} WHERE {x} IS NOT NULL"
        f" GROUP BY {x} ORDER BY 2 DESC, 1 LIMIT {SHOWN_VALUES}",
    )
    if found[0][1] == 1 and distinct > 2:  # each stands there once
        return (), 0
    bars = tuple(Bar(brief(value, 80), count) for value, count in found)
    return bars, filled - sum(bar.count for bar in bars)


def _histogram(
    query: Query, table: str, x: str, of: str, low: Any, high: Any, *, whole: bool
) -> Histogram | None:
    if low is None or low == high:
        return None
    bins = min(BINS, int(high - low) + 1) if whole else BINS
    width = (high - low + (1 if whole else 0)) / bins
    if not math.isfinite(width):
        return None
    place = f"floor((CAST({x} AS DOUBLE) - {low!r}) / {width!r})"
    found = rows(
        query,
        f"SELECT CAST(least({place}, {bins - 1}) AS INTEGER), count(*)"
        f" FROM {table} WHERE {x} IS NOT NULL GROUP BY 1",
    )
    counts: dict[int, int] = dict(found)
    return Histogram(
        of,
        figure(low),
        figure(high),
        tuple(
            Bar(_range(low, width, number, whole), counts.get(number, 0)) for number in range(bins)
        ),
    )


def _range(low: float, width: float, number: int, whole: bool) -> str:
    start, end = low + number * width, low + (number + 1) * width
    if not whole:
        return f"{figure(start)} to {figure(end)}"
    first, last = math.ceil(start), math.ceil(end) - 1
    return f"{first:,}" if first >= last else f"{first:,} to {last:,}"


def figure(number: float | None) -> str:
    """A number with as many figures as one reads."""
    if number is None:
        return "none"
    if isinstance(number, int) or (abs(number) < 1e15 and number == round(number)):
        return f"{int(number):,}"
    return f"{number:.4g}"


def _one(query: Query, sql: str) -> Any:
    return rows(query, sql)[0][0]
