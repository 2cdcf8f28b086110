"""The end of all calls of a backend, when none will be answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType

from synthc.compiler.span import Span
from synthc.runtime.backends.protocol import CallFailed
from synthc.runtime.errors import RowFailed, Stopped

STREAK = 10  # calls in a row, each with its attempts used up, after which a backend is given up


@dataclass(frozen=True, slots=True)
class Target:
    """How messages call a backend: `where` is words for its url, `key_hint` for a refused key."""

    name: str
    where: str
    key_hint: str
    span: Span

    def stopped(self, failed: CallFailed, why: str | None = None) -> Stopped:
        """The end of the run, in words."""
        hint = failed.hint or (
            self.key_hint if failed.status in {401, 403} else "see whether the server is well"
        )
        return Stopped(
            f"backend `{self.name}`: {self.where} {why or failed.detail}",
            hint=f"{hint}; then run again: it goes on where it stopped",
            span=self.span,
        )


class Breaker:
    """`async with breaker:` around each call of a backend; once tripped, all of them raise Stopped.

    Calls that wait, for an answer or for their turn, are cancelled and raise it at once.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._why: Stopped | None = None
        self._calls: dict[asyncio.Task[object], int] = {}
        self._reached = False
        self._failed_in_a_row = 0

    async def __aenter__(self) -> None:
        if self._why is not None:
            raise self._again(self._why)
        task = _current_task()
        self._calls[task] = task.cancelling()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = _current_task()
        cancelled_before = self._calls.pop(task)
        if self._why is None or kind is not asyncio.CancelledError:
            return
        # As asyncio.timeout does: it was us unless somebody else wants the task cancelled, too.
        if task.uncancel() <= cancelled_before:
            raise self._again(self._why) from None

    def reached(self, *, answered: bool) -> None:
        """HTTP came back; where it was an answer, the streak of failures is over."""
        self._reached = True
        if answered:
            self._failed_in_a_row = 0

    def gave_up(self, failed: CallFailed, attempts: int) -> RowFailed | Stopped:
        """A call has used up its attempts: what to raise."""
        self._failed_in_a_row += 1
        times = f"{attempts} attempt" + "s" * (attempts > 1)
        if failed.reason == "connection" and not self._reached:
            return self.trip(failed, f"cannot be reached: {failed.detail} ({times})")
        if self._failed_in_a_row >= STREAK:
            row = f"does not answer: {STREAK} calls in a row failed, the last with"
            return self.trip(failed, f"{row} {failed.reason}: {failed.detail}")
        return RowFailed(failed.reason, f"{failed.detail} ({times})")

    def trip(self, failed: CallFailed, why: str | None = None) -> Stopped:
        """No call will be answered: ends all others, and is what to raise."""
        if self._why is None:
            self._why = self._target.stopped(failed, why)
            for task in self._calls.keys() - {_current_task()}:
                task.cancel()
        return self._again(self._why)

    def _again(self, why: Stopped) -> Stopped:
        return Stopped(why.message, hint=why.hint, span=why.span)  # each with its own traceback


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
