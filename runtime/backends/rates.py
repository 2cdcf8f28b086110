"""How many requests and tokens a minute: as many as the spec says, spread evenly."""

from __future__ import annotations

import asyncio

from synthc.compiler.plan import Backend as Spec
from synthc.runtime.backends.limiter import Limiter
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import Answer, Backend, Request
from synthc.runtime.backends.sizes import Sizes

MINUTE_S = 60.0
BURST_S = 1.0  # what was not used for so long may be caught up with
LOOK_S = 0.25  # how soon it is seen that a call took less than was thought


class Rate:
    """So many units a minute: in no minute more than that, but for the last call of it."""

    def __init__(self, a_minute: int) -> None:
        self._unit_s = (MINUTE_S + BURST_S) / a_minute
        self._free_at = float("-inf")

    def wait_s(self, now: float) -> float:
        """In how many seconds the next one may go; 0 or less is now."""
        return self._free_at - now

    def take(self, units: float, now: float) -> None:
        """One of so many units goes."""
        self._free_at = max(self._free_at, now - BURST_S) + units * self._unit_s

    def settle(self, units: float) -> None:
        """It took so many more than was thought (fewer, where negative)."""
        self._free_at += units * self._unit_s


class Paced:
    """A backend that is asked no more often than its spec allows, one call after the other.

    It stands inside the limiter, so that a call is sent when its turn comes, and sees to the
    limiter's pauses while calls wait here.
    """

    def __init__(self, inner: Backend, spec: Spec, limiter: Limiter, pace: Pace) -> None:
        self._inner = inner
        self._limiter = limiter
        self._pace = pace
        self._sizes = Sizes(spec.sampling)
        self._requests = Rate(spec.requests_per_minute) if spec.requests_per_minute else None
        self._tokens = Rate(spec.tokens_per_minute) if spec.tokens_per_minute else None
        self._queue = asyncio.Lock()  # first come first served

    async def complete(self, request: Request) -> Answer:
        """The inner backend's answer or CallFailed, in its turn."""
        self._limiter.idle += 1
        try:
            async with self._queue:
                while (wait_s := self._wait_s()) > 0:
                    await self._pace.sleep(min(wait_s, LOOK_S))
                thought = self._sizes.expected(request).total
                self._take(thought)
        finally:
            self._limiter.idle -= 1
        answer = await self._inner.complete(request)
        took = self._sizes.learn(request, answer).total
        if self._tokens:
            self._tokens.settle(took - thought)
        return answer

    def _wait_s(self) -> float:
        now = self._pace.clock()
        waits = [rate.wait_s(now) for rate in (self._requests, self._tokens) if rate]
        return max(self._limiter.paused_s, *waits)

    def _take(self, tokens: float) -> None:
        now = self._pace.clock()
        if self._requests:
            self._requests.take(1, now)
        if self._tokens:
            self._tokens.take(tokens, now)
