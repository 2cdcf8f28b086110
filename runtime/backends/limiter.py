"""How many requests are in flight at once: as many as the server bears."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

from synthc.runtime.backends.protocol import Answer, Backend, CallFailed, Request

FALL = 0.7  # what is left of the limit when the server pushes back


@dataclass(frozen=True, slots=True)
class Pace:
    """Time, as the policies see it: tests put their own in its place.

    Retry n waits a random part of `backoff_s` * 2**n seconds, `backoff_max_s` at most. A server
    that says nothing but "too many requests" is given up after `patience_s` seconds, or sooner when
    it wants to be left alone for longer than that.
    """

    backoff_s: float = 1.0
    backoff_max_s: float = 30.0
    patience_s: float = 600.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    rng: Callable[[], float] = random.random

    def wait_s(self, failures: int, retry_after_s: float | None) -> float:
        """How long to wait after that many failures, in seconds."""
        # 2**30 s is longer than any run; a larger power would overflow.
        most = min(self.backoff_max_s, self.backoff_s * 2 ** min(failures - 1, 30))
        # Jitter on top of what the server asks for: else all come back at the same moment.
        return min(retry_after_s or 0.0, self.patience_s) + self.rng() * most


class Limiter:
    """`async with limiter:` keeps at most `limit` bodies running, first come first served.

    The limit starts at `most`, falls by FALL when told of overload, and grows by about one a round
    trip while answers come.
    """

    def __init__(self, most: int, pace: Pace) -> None:
        self._most = most
        self._limit = float(most)
        self._pace = pace
        self._in_flight = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._fell_at = float("-inf")
        self._paused_until = float("-inf")

    @property
    def limit(self) -> int:
        """How many may run at once just now."""
        return int(self._limit)

    async def __aenter__(self) -> None:
        if self._queue or self._in_flight >= self.limit:
            await self._turn()
        else:
            self._in_flight += 1
        if self._paused_until > self._pace.clock():
            await self._pause_over()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def rise(self) -> None:
        """An answer came."""
        self._limit = min(self._most, self._limit + 1 / self._limit)

    def fall(self, asked_at: float) -> None:
        """The request sent at `asked_at` met an overloaded server.

        One sent before the last fall says nothing new: it was one too many then.
        """
        if asked_at > self._fell_at:
            self._limit = max(1.0, self._limit * FALL)
            self._fell_at = self._pace.clock()

    def pause(self, wait_s: float) -> None:
        """Let nobody in for that many seconds."""
        self._paused_until = max(self._paused_until, self._pace.clock() + wait_s)

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # the turn came at the same moment: it is the next one's
            raise

    async def _pause_over(self) -> None:
        # The place is kept meanwhile: nobody else may go either.
        try:
            while (left := self._paused_until - self._pace.clock()) > 0:
                await self._pace.sleep(left)
        except asyncio.CancelledError:
            self._leave()
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        while self._queue and self._in_flight < self.limit:
            turn = self._queue.popleft()
            if not turn.done():  # else it was cancelled while it waited
                turn.set_result(None)
                self._in_flight += 1


class Limited:
    """A backend under a limiter, which learns from what happens."""

    def __init__(self, inner: Backend, limiter: Limiter, pace: Pace) -> None:
        self._inner = inner
        self._limiter = limiter
        self._pace = pace

    async def complete(self, request: Request) -> Answer:
        """The inner backend's answer or CallFailed."""
        async with self._limiter:
            asked_at = self._pace.clock()
            try:
                answer = await self._inner.complete(request)
            except CallFailed as failed:
                if failed.overload:
                    self._limiter.fall(asked_at)
                if failed.retry_after_s:
                    self._limiter.pause(min(failed.retry_after_s, self._pace.patience_s))
                raise
            self._limiter.rise()
            return answer
