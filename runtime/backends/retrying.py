"""When to ask again, and when to give up."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from msgspec.structs import replace

from synthc.runtime.backends.breaker import Breaker
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import Answer, Backend, CallFailed, Request, Verdict
from synthc.runtime.errors import RowFailed, Stopped


@dataclass(slots=True)
class Stats:
    """What a backend did so far; `limit` is how many requests may be in flight just now.

    `retries` counts requests sent again after a failure, `rate_limited` those answered 429,
    `failed` the calls that ended without an answer.
    """

    calls: int = 0
    retries: int = 0
    rate_limited: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    limit: int = 0


class Retrying:
    """A backend that asks again, `attempts` times in all; a 429 is not an attempt."""

    def __init__(
        self, inner: Backend, breaker: Breaker, *, attempts: int, pace: Pace, stats: Stats
    ) -> None:
        self._inner = inner
        self._breaker = breaker
        self._attempts = attempts
        self._pace = pace
        self._stats = stats
        self._refused_since: float | None = None  # by a 429, when nothing was answered after it

    async def complete(self, request: Request) -> Answer:
        """The answer; raises RowFailed for this row, Stopped for the backend."""
        self._stats.calls += 1
        breaker = self._breaker
        task = breaker.enter()
        try:
            if breaker.tripped:
                raise await breaker.stopped()
            answer = await self._insist(request)
            if breaker.tripped and breaker.ended(task):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # it was ended and answered at once: the answer counts
        except (RowFailed, Stopped):
            self._stats.failed += 1
            raise
        except asyncio.CancelledError:
            if not breaker.ended(task):
                raise
            self._stats.failed += 1
            raise await breaker.stopped() from None
        finally:
            breaker.leave(task)
        self._stats.input_tokens += answer.input_tokens or 0
        self._stats.output_tokens += answer.output_tokens or 0
        return answer

    async def _insist(self, request: Request) -> Answer:
        failures = waits = 0
        waiting_since = 0.0
        answers = 0
        while True:
            try:
                answer = await self._inner.complete(request)
            except CallFailed as failed:
                if failed.status is not None:
                    self._breaker.reached(answered=False)
                if self._breaker.tripped:
                    raise await self._breaker.stopped() from None
                match failed.verdict:
                    case Verdict.STOP:
                        raise await self._breaker.trip(failed) from None
                    case Verdict.ROW:
                        self._breaker.reached(answered=True)
                        raise RowFailed(failed.reason, failed.detail) from None
                    case Verdict.WAIT:
                        waits += 1
                        waiting_since = waiting_since if waits > 1 else self._pace.clock()
                        self._stats.rate_limited += 1
                        await self._check_patience(failed, waiting_since)
                        # The first time it only queues again: the limit has fallen meanwhile.
                        wait_s = self._pace.wait_s(failures + waits - 1, failed.retry_after_s)
                    case Verdict.RETRY:
                        failures += 1
                        answers = answers if failures > 1 else self._breaker.answers
                        if failures == self._attempts:
                            raise await self._breaker.gave_up(failed, failures, answers) from None
                        self._stats.retries += 1
                        wait_s = self._pace.wait_s(failures + waits, failed.retry_after_s)
            else:
                self._breaker.reached(answered=True)
                self._refused_since = None
                return replace(answer, attempts=failures + 1) if failures else answer
            if wait_s:
                await self._pace.sleep(wait_s)

    async def _check_patience(self, failed: CallFailed, waiting_since: float) -> None:
        patience_s = self._pace.patience_s
        wanted_s = failed.retry_after_s or 0.0
        if wanted_s > patience_s:
            why = f"wants no request for {wanted_s / 60:.0f} minutes: {failed.detail}"
            failed.hint = "wait as long"
            raise await self._breaker.trip(failed, why) from None
        now = self._pace.clock()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since >= patience_s:
            why = f"said “too many requests” for {patience_s / 60:.0f} minutes: {failed.detail}"
            raise await self._breaker.trip(failed, why) from None
        if now - waiting_since >= patience_s:
            # Others are answered: it is this request that never fits into the limit.
            raise RowFailed(failed.reason, failed.detail) from None
