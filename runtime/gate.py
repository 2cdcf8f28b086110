"""`limit`: the first n rows in row order, and no call for a row that cannot be among them."""

from __future__ import annotations

import asyncio


class Gate:
    """Lets the first `count` rows through, whatever order they arrive in.

    Rows are numbered in their order from 0, without gaps, as they enter the chain. Each either
    arrives here (`enter`) or is gone before (`skip`). A row's turn comes when all before it had theirs.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._next = 0
        self._arrived: dict[int, asyncio.Future[bool] | None] = {}
        self._changed = asyncio.Condition()

    @property
    def full(self) -> bool:
        """Whether no further row can pass."""
        return self.taken >= self.count

    async def enter(self, number: int) -> bool:
        """Whether the row passes; waits for its turn."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._arrived[number] = future
        await self._advance()
        return await future

    async def skip(self, number: int) -> None:
        """The row will not come (or has been here already: then nothing changes)."""
        if number >= self._next and number not in self._arrived:
            self._arrived[number] = None
            await self._advance()

    async def wanted(self, number: int) -> bool:
        """Whether a row should start on its way: waits while those before it could be enough."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.full or number - self._next < self.count - self.taken
            )
        return not self.full

    async def _advance(self) -> None:
        while self._next in self._arrived:
            future = self._arrived.pop(self._next)
            self._next += 1
            if future is None or future.done():
                continue
            passes = not self.full
            self.taken += passes
            future.set_result(passes)
        async with self._changed:
            self._changed.notify_all()
