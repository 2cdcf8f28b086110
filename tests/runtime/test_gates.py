"""Gates: whatever comes first, what becomes of each row is what a simple loop over all rows says."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthc.runtime.engine.gate import (
    Firsts,
    FirstsOfSimilar,
    Gate,
    LabelLimit,
    LabelPaces,
    Limit,
    Numbers,
    Pace,
)


@dataclass(frozen=True)
class Row:
    """A row as a schedule has it: when it goes at which of its steps, and where it ends, if early."""

    label: str
    delays: tuple[int, int, int]
    gone_at: int | None  # 0: before it is asked, 1: while it is asked, None: never


ROWS = st.lists(
    st.builds(
        Row,
        st.sampled_from("abc"),
        st.tuples(*[st.integers(0, 3)] * 3),
        st.sampled_from([None, None, None, 0, 1]),
    ),
    max_size=25,
)


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def walked(gate: Gate, rows: list[Row], *, paced: bool) -> tuple[list[str], set[int]]:
    """What became of each row, and which were asked for."""
    asked: set[int] = set()

    async def walk(number: int, row: Row) -> str:
        value = row.label.encode("latin-1")
        status = "gone"
        await ticks(row.delays[0])
        if row.gone_at != 0:
            if paced and not await gate.wanted(number, value):
                status = "not_asked"
            else:
                asked.add(number)
                await ticks(row.delays[1])
                if row.gone_at is None:
                    passes = await gate.enter(number, value)
                    status = "kept" if passes else gate.turned_away
        await ticks(row.delays[2])
        if status != "kept" and not await gate.leave(number):
            status = "not_asked"
        return status

    statuses = await asyncio.gather(*(walk(number, row) for number, row in enumerate(rows)))
    return statuses, asked


def run(gate: Gate, rows: list[Row], *, paced: bool) -> tuple[list[str], set[int]]:
    with asyncio.Runner() as runner:
        return runner.run(asyncio.wait_for(walked(gate, rows, paced=paced), 5))


@settings(deadline=None, max_examples=300)
@given(ROWS, st.integers(0, 4), st.booleans())
def test_a_limit_takes_the_first_rows(rows: list[Row], count: int, paced: bool) -> None:
    taken = 0
    expected = []
    for row in rows:
        if taken == count:
            expected.append("not_asked")
        elif row.gone_at is not None:
            expected.append("gone")
        else:
            taken += 1
            expected.append("kept")
    statuses, asked = run(Limit(count), rows, paced=paced)
    assert statuses == expected
    if paced:
        could = {n for n, row in enumerate(rows) if expected[n] != "not_asked" and row.gone_at != 0}
        assert asked == could


def taken_by_label(
    rows: list[Row], count: int, labels: int | None, *, surplus: str
) -> tuple[list[str], bool]:
    """What becomes of each row by a loop over all of them; and whether the limit is full at the end."""
    taken: Counter[str] = Counter()
    expected = []

    def full() -> bool:
        return count == 0 or (
            labels is not None and sum(taken[c] == count for c in taken) >= labels
        )

    for row in rows:
        if full():
            expected.append("not_asked")
        elif row.gone_at is not None:
            expected.append("gone")
        elif taken[row.label] == count:
            expected.append(surplus)
        else:
            taken[row.label] += 1
            expected.append("kept")
    return expected, full()


@settings(deadline=None, max_examples=300)
@given(ROWS, st.integers(0, 3), st.sampled_from([None, 3]))
def test_a_limit_per_label_that_is_known_asks_only_for_rows_that_are_kept_or_go(
    rows: list[Row], count: int, labels: int | None
) -> None:
    expected, full = taken_by_label(rows, count, labels, surplus="not_asked")
    gate = LabelLimit(count, labels, LabelPaces(count), "not_asked")
    statuses, asked = run(gate, rows, paced=True)
    # A row that would have gone while it was asked is not asked where its label is full.
    taken: Counter[str] = Counter()
    for number, row in enumerate(rows):
        if expected[number] == "gone" and row.gone_at == 1 and taken[row.label] == count:
            expected[number] = "not_asked"
        taken[row.label] += expected[number] == "kept"
    assert statuses == expected
    assert gate.full == full
    assert asked == {
        n for n, row in enumerate(rows) if expected[n] != "not_asked" and row.gone_at != 0
    }


@settings(deadline=None, max_examples=300)
@given(ROWS, st.integers(0, 3))
def test_a_limit_per_label_that_an_answer_gives_asks_no_more_than_can_pass(
    rows: list[Row], count: int
) -> None:
    expected, full = taken_by_label(rows, count, 3, surplus="dropped")
    gate = LabelLimit(count, 3, Pace(count * 3), "dropped")
    statuses, asked = run(gate, rows, paced=True)
    assert statuses == expected
    assert gate.full == full
    could = {n for n, row in enumerate(rows) if expected[n] != "not_asked" and row.gone_at != 0}
    assert asked == could


@settings(deadline=None, max_examples=200)
@given(ROWS, st.integers(1, 3))
def test_a_limit_per_label_of_any_kind_holds_nothing_back(rows: list[Row], count: int) -> None:
    expected, _ = taken_by_label(rows, count, None, surplus="dropped")
    statuses, _ = run(LabelLimit(count, None, None, "dropped"), rows, paced=True)
    assert statuses == expected


@settings(deadline=None, max_examples=200)
@given(ROWS)
def test_of_equal_rows_the_first_passes(rows: list[Row]) -> None:
    met: set[str] = set()
    expected = []
    for row in rows:
        if row.gone_at is not None:
            expected.append("gone")
        else:
            expected.append("dropped" if row.label in met else "kept")
            met.add(row.label)
    statuses, _ = run(Firsts(), rows, paced=False)
    assert statuses == expected


VECTORS = {
    "a": np.array([1, 0, 0], np.float32),
    "b": np.array([2, 0.1, 0], np.float32),  # like `a`
    "c": np.array([1, 1, 0], np.float32),
}


@settings(deadline=None, max_examples=100)
@given(ROWS)
def test_of_similar_rows_the_first_passes(rows: list[Row]) -> None:
    met: set[str] = set()
    expected = []
    for row in rows:
        kind = "a" if row.label == "b" else row.label
        if row.gone_at is not None:
            expected.append("gone")
        else:
            expected.append("dropped" if kind in met else "kept")
            met.add(kind)
    found = [
        Row(VECTORS[row.label].tobytes().decode("latin-1"), row.delays, row.gone_at) for row in rows
    ]
    statuses, _ = run(FirstsOfSimilar(0.9), found, paced=False)
    assert statuses == expected


@settings(deadline=None, max_examples=100)
@given(st.permutations(range(6)), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_children_are_numbered_in_the_order_of_their_parents(
    order: list[int], counts: list[int]
) -> None:
    async def number() -> list[int]:
        numbers = Numbers()
        firsts: dict[int, asyncio.Future[int]] = {}
        for parent in order:
            firsts[parent] = numbers.first(parent, counts[parent])
        return [await firsts[parent] for parent in range(6)]

    expected = [sum(counts[:parent]) for parent in range(6)]
    assert asyncio.run(number()) == expected


@pytest.mark.parametrize(
    "gate",
    [Limit(2), LabelLimit(1, None, LabelPaces(1), "not_asked"), Firsts(), FirstsOfSimilar(0.5)],
)
def test_a_row_that_is_cancelled_holds_nobody_up_that_is_cancelled_too(gate: Gate) -> None:
    value = VECTORS["a"].tobytes()

    async def check() -> None:
        waiting = [
            asyncio.create_task(coming)
            for number in (1, 2)
            for coming in (gate.wanted(number, value), entering(number))
        ]
        await ticks(2)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await gate.wanted(0, value)
        assert await gate.enter(0, value)

    async def entering(number: int) -> bool:
        return await gate.enter(number, value)

    asyncio.run(asyncio.wait_for(check(), 5))
