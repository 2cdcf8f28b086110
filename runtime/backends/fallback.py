"""Another backend in the place of one that does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from synthc.runtime.backends.breaker import Outage, Unanswered
from synthc.runtime.backends.protocol import Answer, Backend, Request

Opener = Callable[[], Awaitable[Backend]]


class Fallback:
    """A backend that asks `other`, called `name`, for each call that `first` does not answer.

    From when the first is given up until the run ends, the other is asked for all. What a person has
    to mend (a refused key, an unpaid bill, a wrong address) is no outage: the run stops. `note` is
    told once; answers say which backend they are from.
    """

    def __init__(
        self, first: Opener, other: Opener, name: str, note: Callable[[str], None]
    ) -> None:
        self._first = first
        self._other = other
        self._name = name
        self._note = note
        self._out = False

    async def complete(self, request: Request) -> Answer:
        """The answer of the first or the other; raises RowFailed and Stopped as they do."""
        if not self._out:
            try:
                return await (await self._first()).complete(request)
            except Unanswered:
                pass
            except Outage as outage:
                if not self._out:
                    self._out = True
                    self._note(f"{outage.message}; from now on `{self._name}` is asked")
        other = await self._other()
        answer = await other.complete(request)
        return answer if answer.backend else replace(answer, backend=self._name)
