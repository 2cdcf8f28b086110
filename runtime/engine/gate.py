"""Gates: where it counts which row comes first, whichever of them is quick.

Rows have numbers, in their order, from 0 and without gaps. Each either arrives at a gate (`enter`) or
is gone before (`leave`). Its turn comes when all before it had theirs, so what becomes of a row depends
on the rows alone. A row never waits for one behind it: that is why nothing here can lock up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from synthc.runtime.engine.batcher import Batcher

Item = TypeVar("Item")
Result = TypeVar("Result")


class Turns(Generic[Item, Result]):
    """Handles what arrives by number, in the order of the numbers."""

    def __init__(self, handle: Callable[[int, Item], Result]) -> None:
        self._handle = handle
        self._next = 0
        self._here: dict[int, tuple[Item, asyncio.Future[Result]]] = {}

    def had(self, number: int) -> bool:
        """Whether a number has arrived."""
        return number < self._next or number in self._here

    def arrive(self, number: int, item: Item) -> asyncio.Future[Result]:
        """What is made of an item, when it is its turn."""
        arrived: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._here[number] = (item, arrived)
        while self._next in self._here:
            item, future = self._here.pop(self._next)
            result = self._handle(self._next, item)
            self._next += 1
            if not future.done():  # else its row was cancelled
                future.set_result(result)
        return arrived


class Numbers:
    """Gives the children of rows their numbers: in the order of their parents, without gaps."""

    def __init__(self) -> None:
        self._given = 0
        self._turns = Turns[int, int](self._give)

    def had(self, number: int) -> bool:
        """Whether a parent has come."""
        return self._turns.had(number)

    def first(self, number: int, count: int) -> asyncio.Future[int]:
        """The number of the first of a parent's `count` children."""
        return self._turns.arrive(number, count)

    def _give(self, _number: int, count: int) -> int:
        self._given += count
        return self._given - count


class Pace:
    """Which rows may cost something: the first `count` of those that are not gone."""

    def __init__(self, count: int) -> None:
        self._last = count - 1
        self._ended = count == 0
        self._gone: set[int] = set()  # beyond the last
        self._held: dict[int, asyncio.Future[bool]] = {}

    async def wanted(self, number: int) -> bool:
        """Whether a row may; waits while those before it could be enough."""
        if number > self._last and not self._ended:
            self._held[number] = asyncio.get_running_loop().create_future()
            return await self._held[number]
        return number <= self._last

    def gone(self, number: int) -> None:
        """A row fewer: one more, the next that is not gone, may be wanted."""
        if self._ended:
            return
        if number > self._last:
            self._gone.add(number)
            return
        self._last += 1
        while self._last in self._gone:
            self._gone.remove(self._last)
            self._last += 1
        held = self._held.pop(self._last, None)
        if held is not None and not held.done():
            held.set_result(True)

    def end(self) -> None:
        """No further row is wanted."""
        self._ended = True
        for held in self._held.values():
            if not held.done():
                held.set_result(False)
        self._held.clear()


class LabelPaces:
    """A pace for each label: a row's number is that among those of its label.

    So each row, in row order, has to say its label (`wanted`) or that it is gone.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._paces: dict[bytes, Pace] = {}
        self._met: Counter[bytes] = Counter()
        self._places: dict[int, tuple[bytes, int]] = {}
        self._turns = Turns[bytes | None, None](self._place)

    async def wanted(self, number: int, label: bytes) -> bool:
        """Whether a row may cost something."""
        await self._turns.arrive(number, label)
        _, place = self._places[number]
        return await self._paces[label].wanted(place)

    def gone(self, number: int) -> None:
        """A row fewer."""
        if not self._turns.had(number):
            self._turns.arrive(number, None)
        elif place := self._places.pop(number, None):
            self._paces[place[0]].gone(place[1])

    def passed(self, number: int, label: bytes, *, last: bool) -> None:
        """A row has passed, the last of its label perhaps."""
        self._places.pop(number, None)
        if last and label in self._paces:
            self._paces[label].end()

    def _place(self, number: int, label: bytes | None) -> None:
        if label is None:
            return
        if label not in self._paces:
            self._paces[label] = Pace(self._count)
        self._places[number] = (label, self._met[label])
        self._met[label] += 1


class Gate(Protocol):
    """What the engine sees of a gate. `value` is what the rows are compared by, where they are."""

    @property
    def full(self) -> bool:
        """Whether no further row can pass."""
        ...

    @property
    def turned_away(self) -> str:
        """The status of a row that does not pass."""
        ...

    async def wanted(self, number: int, value: bytes) -> bool:
        """Whether calls may be made for a row; waits while those before it could be enough."""
        ...

    def enter(self, number: int, value: bytes) -> Awaitable[bool]:
        """Whether the row passes, when it is its turn."""
        ...

    def leave(self, number: int) -> asyncio.Future[bool]:
        """The row will not come: whether a row could still pass when it was its turn.

        One that has been here already leaves nothing behind.
        """
        ...


class Limit:
    """Lets the first `count` rows through."""

    turned_away = "not_asked"

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._turns = Turns[bool, bool](self._turn)
        self._pace = Pace(count)

    @property
    def full(self) -> bool:
        return self.taken >= self.count

    async def wanted(self, number: int, value: bytes = b"") -> bool:
        del value
        return await self._pace.wanted(number)

    def enter(self, number: int, value: bytes = b"") -> asyncio.Future[bool]:
        del value
        return self._turns.arrive(number, True)

    def leave(self, number: int) -> asyncio.Future[bool]:
        if self._turns.had(number):
            return _known(True)
        self._pace.gone(number)
        return self._turns.arrive(number, False)

    def _turn(self, _number: int, passing: bool) -> bool:
        is_open = not self.full
        self.taken += passing and is_open
        if self.full:
            self._pace.end()
        return is_open


class LabelLimit:
    """Lets the first `count` rows of each label through. It is full when `labels` labels are.

    Calls are held back by `pace`: by labels, where they are known before the first call; by the
    number of all rows that can pass, where only that is known; or not at all.
    """

    def __init__(
        self, count: int, labels: int | None, pace: LabelPaces | Pace | None, turned_away: str
    ) -> None:
        self.turned_away = turned_away
        self._count = count
        self._labels = labels
        self._pace = pace
        self._taken: Counter[bytes] = Counter()
        self._full_labels = 0
        self._turns = Turns[bytes | None, bool](self._turn)

    @property
    def full(self) -> bool:
        known = self._labels is not None and self._full_labels >= self._labels
        return known or self._count == 0

    async def wanted(self, number: int, value: bytes) -> bool:
        match self._pace:
            case LabelPaces():
                return await self._pace.wanted(number, value)
            case Pace():
                return await self._pace.wanted(number)
            case None:
                return True

    def enter(self, number: int, value: bytes) -> asyncio.Future[bool]:
        return self._turns.arrive(number, value)

    def leave(self, number: int) -> asyncio.Future[bool]:
        if self._turns.had(number):
            return _known(True)
        if self._pace:
            self._pace.gone(number)
        return self._turns.arrive(number, None)

    def _turn(self, number: int, label: bytes | None) -> bool:
        if label is None:
            return not self.full
        if self.full or self._taken[label] == self._count:
            if self._pace:
                self._pace.gone(number)
            return False
        self._taken[label] += 1
        last = self._taken[label] == self._count
        self._full_labels += last
        if isinstance(self._pace, LabelPaces):
            self._pace.passed(number, label, last=last)
        elif self._pace and self.full:
            self._pace.end()
        return True


class Firsts:
    """Lets the first of the rows with equal values through."""

    full = False
    turned_away = "dropped"

    def __init__(self) -> None:
        self._met: set[bytes] = set()
        self._turns = Turns[bytes | None, bool](self._turn)

    async def wanted(self, number: int, value: bytes) -> bool:
        del number, value
        return True

    def enter(self, number: int, value: bytes) -> asyncio.Future[bool]:
        return self._turns.arrive(number, value)

    def leave(self, number: int) -> asyncio.Future[bool]:
        if not self._turns.had(number):
            self._turns.arrive(number, None)
        return _known(True)

    def _turn(self, _number: int, value: bytes | None) -> bool:
        if value is None or value in self._met:
            return False
        self._met.add(value)
        return True


class FirstsOfSimilar:
    """Lets a row through whose vector is not similar to that of one that it let through before.

    A row's value are the bytes of its vector, float32; none of one that is null.
    """

    full = False
    turned_away = "dropped"

    def __init__(self, similar: float) -> None:
        from synthc.runtime.engine.similar import BLOCK, Distinct

        self._distinct = Distinct(similar)
        self._turns = Turns[bytes | None, asyncio.Task[bool] | None](self._turn)
        # Rows that come together are looked at together, in their order, on another thread.
        self._block = Batcher[bytes, bool](self._look, BLOCK)

    async def wanted(self, number: int, value: bytes) -> bool:
        del number, value
        return True

    async def enter(self, number: int, value: bytes) -> bool:
        looked = await self._turns.arrive(number, value)
        return looked is not None and await asyncio.shield(looked)

    def leave(self, number: int) -> asyncio.Future[bool]:
        if not self._turns.had(number):
            self._turns.arrive(number, None)
        return _known(True)

    def _turn(self, _number: int, value: bytes | None) -> asyncio.Task[bool] | None:
        # Tasks begin in the order in which they are made.
        return None if value is None else asyncio.create_task(self._block(value))

    async def _look(self, values: Sequence[bytes]) -> Sequence[bool]:
        return await asyncio.to_thread(self._distinct.add, values)


def _known(answer: bool) -> asyncio.Future[bool]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(answer)
    return future
