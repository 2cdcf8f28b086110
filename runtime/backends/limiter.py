"""How many requests are in flight at once: as many as the server bears."""

from __future__ import annotations

import asyncio
from collections import deque

from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import Answer, Backend, CallFailed, Request

SLOWER = 0.7  # what is left of the limit when requests run out of time


class Limiter:
    """At most `limit` requests have a place, from `enter` (or `wait`) to `leave`, first come first served.

    The limit starts at `most`. A request that the server had no room for takes its place with it, so
    that a burst of too many leaves just those that were let in; one that ran out of time lowers it to
    SLOWER of what it was. Then it grows again, by one in the first round trip, by two in the second,
    and so on until the next is refused.
    """

    def __init__(self, most: int, pace: Pace) -> None:
        self._most = most
        self._limit = float(most)
        self._growth = 1.0
        self._pace = pace
        self._in_flight = 0
        self.idle = 0
        """How many of those that have a place are not sent yet."""
        self._queue: deque[asyncio.Future[None]] = deque()
        self._refused_alone = 0
        self._slowed_at = float("-inf")
        self._paused_until = float("-inf")

    @property
    def limit(self) -> int:
        """How many may be in flight just now."""
        return int(self._limit)

    @property
    def paused_s(self) -> float:
        """For how many seconds more nobody may go; 0 or less is now."""
        return self._paused_until - self._pace.clock()

    def enter(self, now: float) -> bool:
        """Take a place, if there is one now and no pause."""
        if self._queue or self._in_flight + 1 > self._limit or now < self._paused_until:
            return False
        self._in_flight += 1
        return True

    async def wait(self) -> None:
        """Take a place when there is one, and wait for the end of a pause."""
        if self._queue or self._in_flight + 1 > self._limit:
            await self._turn()
        else:
            self._in_flight += 1
        await self._pause_over()

    def leave(self) -> None:
        """Give the place to the next one."""
        self._in_flight -= 1
        while self._queue and self._in_flight + 1 <= self._limit:
            turn = self._queue.popleft()
            if not turn.done():  # else it was cancelled while it waited
                turn.set_result(None)
                self._in_flight += 1

    def answered(self) -> None:
        """There was room for who holds a place."""
        if self._limit < self._most:
            self._limit = min(self._most, self._limit + self._growth / self._limit)
            self._growth = 1.0 if self._refused_alone else self._growth + 1 / self._limit
        self._refused_alone = 0

    def refused(self) -> None:
        """Who holds a place was one too many for the server."""
        under_way = self._in_flight - self.idle
        self._growth = 1.0
        self._limit = max(1.0, min(self._limit, under_way - 1))
        if under_way == 1:
            # Nobody is left whose answer would tell that there is room: ask more and more seldom.
            # Nor was it for the others that there was none: once there is, half the way back at once.
            self._refused_alone += 1
            self._growth = self._most / 2
            self.pause(self._pace.wait_s(self._refused_alone))

    def timed_out(self, asked_at: float) -> None:
        """Who holds a place since `asked_at` ran out of time.

        Those who were there before the last one did say nothing new.
        """
        if asked_at > self._slowed_at:
            self._growth = 1.0
            self._limit = max(1.0, self._limit * SLOWER)
            self._slowed_at = self._pace.clock()

    def pause(self, wait_s: float) -> None:
        """Let nobody go for that many seconds."""
        self._paused_until = max(self._paused_until, self._pace.clock() + wait_s)

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the turn came at the same moment: it is the next one's
            raise

    async def _pause_over(self) -> None:
        # The place is kept meanwhile: nobody else may go either.
        try:
            while (left := self.paused_s) > 0:
                await self._pace.sleep(left)
        except asyncio.CancelledError:
            self.leave()
            raise


class Limited:
    """A backend under a limiter, which learns from what happens."""

    def __init__(self, inner: Backend, limiter: Limiter, pace: Pace) -> None:
        self._inner = inner
        self._limiter = limiter
        self._pace = pace

    async def complete(self, request: Request) -> Answer:
        """The inner backend's answer or CallFailed."""
        limiter = self._limiter
        asked_at = self._pace.clock()
        if not limiter.enter(asked_at):
            await limiter.wait()
            asked_at = self._pace.clock()
        try:
            answer = await self._inner.complete(request)
            limiter.answered()
            return answer
        except CallFailed as failed:
            if failed.reason == "timeout":
                limiter.timed_out(asked_at)
            elif failed.overload:
                limiter.refused()
            elif failed.status is not None:
                limiter.answered()
            if failed.retry_after_s:
                limiter.pause(min(failed.retry_after_s, self._pace.patience_s))
            raise
        finally:
            limiter.leave()
