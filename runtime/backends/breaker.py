"""The end of all calls of a backend, when none will be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from synthc.compiler.span import Span
from synthc.runtime.backends.pace import Pace
from synthc.runtime.backends.protocol import CallFailed, Verdict
from synthc.runtime.errors import RowFailed, Stopped

STREAK = 10  # calls in a row, each with its attempts used up, after which a backend is given up


class Outage(Stopped):
    """A server that does not answer, though there is nothing for a person to mend: another may."""


class Unanswered(RowFailed):
    """A call whose attempts are used up: another server may answer it."""


@dataclass(frozen=True, slots=True)
class Target:
    """How messages call a backend: `where` is words for its url, `key_hint` for a refused key."""

    name: str
    where: str
    key_hint: str
    span: Span
    kind: str = "backend"

    def stopped(self, failed: CallFailed, why: str | None = None) -> Stopped:
        """The end of the run, in words."""
        hint = failed.hint or (
            self.key_hint if failed.status in {401, 403} else "see whether the server is well"
        )
        passing = failed.verdict in {Verdict.RETRY, Verdict.WAIT}
        return (Outage if passing else Stopped)(
            f"{self.kind} `{self.name}`: {self.where} {why or failed.detail}",
            hint=hint,
            span=self.span,
        )


class Breaker:
    """Knows each call of a backend, from `enter` to `leave`; once tripped, all of them end.

    Calls that wait, for their turn or to ask again, are cancelled at once. Requests that are under way
    (from `send` until `back`) may still be answered, and an answer that comes in time is not lost:
    only when all of them are back, or after `pace.grace_s` seconds, it is told why all is `stopped`.
    """

    def __init__(self, target: Target, pace: Pace) -> None:
        self._target = target
        self._grace_s = pace.grace_s
        self._loop = asyncio.get_running_loop()
        self._why: Stopped | None = None
        self._calls: dict[asyncio.Task[object], int] = {}
        self._under_way: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()
        self._all_back = asyncio.Event()
        self._reached = False
        self._failed_in_a_row = 0
        self.answers = 0

    @property
    def tripped(self) -> bool:
        """Whether nothing more is to be sent."""
        return self._why is not None

    def enter(self) -> asyncio.Task[object]:
        """This task makes a call."""
        task = self._task()
        self._calls[task] = task.cancelling()
        return task

    def leave(self, task: asyncio.Task[object]) -> None:
        """The call of a task is over."""
        del self._calls[task]

    def ended(self, task: asyncio.Task[object]) -> bool:
        """Whether a call that is cancelled was ended here, and nobody else wants it cancelled."""
        # As asyncio.timeout does.
        return task in self._ended and task.uncancel() <= self._calls[task]

    def send(self) -> asyncio.Task[object]:
        """This task sends a request."""
        task = self._task()
        self._under_way.add(task)
        return task

    def back(self, task: asyncio.Task[object]) -> None:
        """The request of a task is not under way any more."""
        self._under_way.discard(task)
        if self._why is not None and not self._under_way:
            self._all_back.set()

    def reached(self, *, answered: bool) -> None:
        """HTTP came back; where it was an answer, the streak of failures is over."""
        self._reached = True
        if answered:
            self._failed_in_a_row = 0
            self.answers += 1

    async def gave_up(self, failed: CallFailed, attempts: int, answers: int) -> RowFailed | Stopped:
        """A call has used up its attempts: what to raise.

        When its first one failed, there had been so many `answers`.
        """
        if answers == self.answers:  # else others were answered between its attempts
            self._failed_in_a_row += 1
        times = f"{attempts} attempt" + "s" * (attempts > 1)
        if failed.reason == "connection" and not self._reached:
            return await self.trip(failed, f"cannot be reached: {failed.detail} ({times})")
        if self._failed_in_a_row >= STREAK:
            row = f"does not answer: {STREAK} calls in a row failed, the last with"
            return await self.trip(failed, f"{row} {failed.reason}: {failed.detail}")
        return Unanswered(failed.reason, f"{failed.detail} ({times})")

    async def trip(self, failed: CallFailed, why: str | None = None) -> Stopped:
        """No call will be answered any more: ends all others, and is what to raise."""
        if self._why is None:
            self._why = self._target.stopped(failed, why)
            self._end(self._calls.keys() - self._under_way - {self._task()})
            if self._under_way:
                self._loop.call_later(self._grace_s, self._end, self._under_way)
            else:
                self._all_back.set()
        return await self.stopped()

    async def stopped(self) -> Stopped:
        """Why no call is answered any more, when no request is under way."""
        await self._all_back.wait()
        assert self._why is not None
        # Each has its own traceback.
        return type(self._why)(self._why.message, hint=self._why.hint, span=self._why.span)

    def _end(self, calls: AbstractSet[asyncio.Task[object]]) -> None:
        for task in calls:
            self._ended.add(task)
            task.cancel()

    def _task(self) -> asyncio.Task[object]:
        # With the loop, it takes no system call to know which one runs.
        task = asyncio.current_task(self._loop)
        assert task is not None
        return task
