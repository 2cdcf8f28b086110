"""`limit`: the first n rows in row order, and no call for a row that cannot be among them."""

from __future__ import annotations

import asyncio


class Gate:
    """Lets the first `count` rows through, whatever order they arrive in.

    Rows are numbered in their order from 0, without gaps. Each either arrives here (`enter`) or is gone
    before (`leave`). A row's turn comes when all before it had theirs, so what becomes of it depends
    on the rows alone, not on which of them was quick.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._turn = 0
        self._here: dict[int, tuple[bool, asyncio.Future[bool]]] = {}
        # Of the rows from the turn to the last wanted one, as many are not gone as may still pass.
        self._last_wanted = count - 1
        self._gone: set[int] = set()  # beyond the last wanted one
        self._held: dict[int, asyncio.Future[bool]] = {}

    @property
    def full(self) -> bool:
        """Whether no further row can pass."""
        return self.taken >= self.count

    async def wanted(self, number: int) -> bool:
        """Whether calls may be made for a row; waits while those before it could be enough."""
        if number > self._last_wanted and not self.full:
            self._held[number] = asyncio.get_running_loop().create_future()
            return await self._held[number]
        return number <= self._last_wanted

    def enter(self, number: int) -> asyncio.Future[bool]:
        """Whether the row passes, when it is its turn."""
        return self._arrive(number, passing=True)

    def leave(self, number: int) -> asyncio.Future[bool]:
        """The row will not come: whether a row could still pass when it was its turn.

        One that has been here already leaves nothing behind.
        """
        if number < self._turn or number in self._here:
            future = asyncio.get_running_loop().create_future()
            future.set_result(True)
            return future
        self._make_room(number)
        return self._arrive(number, passing=False)

    def _arrive(self, number: int, *, passing: bool) -> asyncio.Future[bool]:
        arrived: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._here[number] = (passing, arrived)
        while self._turn in self._here:
            passing, future = self._here.pop(self._turn)
            self._turn += 1
            is_open = not self.full
            self.taken += passing and is_open
            if not future.done():  # else its row was cancelled
                future.set_result(is_open)
        if self.full:
            for future in self._held.values():
                if not future.done():
                    future.set_result(False)
            self._held.clear()
        return arrived

    def _make_room(self, number: int) -> None:
        """A row fewer: one more, the next that is not gone, may be wanted."""
        if number > self._last_wanted:
            self._gone.add(number)
            return
        self._last_wanted += 1
        while self._last_wanted in self._gone:
            self._gone.remove(self._last_wanted)
            self._last_wanted += 1
        held = self._held.pop(self._last_wanted, None)
        if held is not None and not held.done():
            held.set_result(True)
