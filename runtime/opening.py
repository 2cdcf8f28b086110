"""What a run opens when it is first needed, once each, and closes at its end."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from synthc.compiler import plan
from synthc.runtime.backends.pace import Pace
from synthc.runtime.errors import RunError

if TYPE_CHECKING:
    from synthc.runtime.backends.budget import Budget
    from synthc.runtime.backends.local import LocalServers

T = TypeVar("T")


@dataclass(slots=True)
class Opening:
    """What all that is opened shares, for as long as `async with` lasts.

    `env` is where `env()` looks, `base` the folder that paths are relative to; `note` is told what takes
    long. `pace` is how calls wait, `budget` what all together may spend, `longest` the most tokens that
    an answer may have.
    """

    base: Path
    env: Mapping[str, str]
    note: Callable[[str], None]
    pace: Pace
    budget: Budget | None
    longest: int
    _begun: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    _threads: list[ThreadPoolExecutor] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Opening:
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._stack.__aexit__(*raised)
        finally:
            for thread in self._threads:
                thread.shutdown(wait=True)

    async def once(self, name: str, opening: Callable[[], Awaitable[T]]) -> T:
        """Open something the first time; the others wait for it."""
        future = self._begun.get(name)
        if future is None:
            future = self._begun[name] = asyncio.ensure_future(opening())
        if future.done():
            return future.result()
        return await asyncio.shield(future)

    async def held(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter a context, which is left at the end."""
        return await self._stack.enter_async_context(context)

    async def local_servers(self) -> LocalServers:
        """The servers of models on this machine."""
        return await self.once("local servers", self._local_servers)

    async def _local_servers(self) -> LocalServers:
        from synthc.runtime.backends.local import LocalServers
        from synthc.runtime.models import fetch

        fetching = functools.partial(fetch, base=self.base, progress=self.progress)
        return await self.held(LocalServers(fetching, max_tokens=self.longest))

    def thread(self, name: str) -> ThreadPoolExecutor:
        """A thread that ends at the end, when it has done what it was given."""
        thread = ThreadPoolExecutor(1, name)
        self._threads.append(thread)
        return thread

    def progress(self, done: int, total: int | None, what: str) -> None:
        """Note how far something is that takes long: as `model_cache.Progress`."""
        share = f" of {total / 1e6:.0f}" if total else ""
        self.note(f"{what}: {done / 1e6:.0f}{share} MB" if done else what)


async def placed(spec: plan.Backend | plan.Embedder, opening: Awaitable[T]) -> T:
    """What was opened; an error says where in the spec that stands."""
    try:
        return await opening
    except RunError as error:
        error.span = error.span or spec.span
        raise
