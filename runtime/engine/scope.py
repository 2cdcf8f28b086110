"""What the operations on a row see: its slots, and around them those of what it came from."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from msgspec import Struct

from synthc.compiler.plan import Ref
from synthc.runtime.errors import RunError
from synthc.runtime.store.records import Note


class Place(Struct, frozen=True, gc=False):
    """Where something is asked or drawn: for which row, in which rounds of its loops (from 1, the
    outermost first), and as which of several at once (from 0)."""

    table: str
    row_key: str
    rounds: tuple[int, ...] = ()
    index: int | None = None


class Scope(Struct, eq=False):
    """The slots of a row, or of one round of a loop. A slot holds its value, or the task making it.

    `outer` is what is around it: the row that was forked, the round of the loop around. `notes` go to
    the journal once the row's end is known. Tasks that were `started` in it end with it: `async with
    scope`.
    """

    row_key: str
    slots: dict[str, Any]
    outer: Scope | None = None
    rounds: tuple[int, ...] = ()
    notes: list[Note] = []
    started: list[asyncio.Task[None]] = []

    def child(self, number: int, slots: dict[str, Any]) -> Scope:
        """That of the row's child of a number, from 1."""
        return Scope(f"{self.row_key}/{number}", slots, self)

    def round(self, number: int, slots: dict[str, Any]) -> Scope:
        """That of a round of a loop, from 1."""
        return Scope(self.row_key, slots, self, (*self.rounds, number), self.notes)

    async def slot(self, name: str) -> Any:
        """The value of a slot, when it is there. Raises RunError where nothing makes it."""
        value = self._held(name)
        if isinstance(value, asyncio.Task):
            await asyncio.shield(value)
            value = self._held(name)
        return value

    def _held(self, name: str) -> Any:
        scope = self
        while name not in scope.slots:
            if scope.outer is None:  # a plan can be edited by hand
                raise RunError(
                    f"the plan is broken: nothing makes `{name}` before it is read",
                    hint="compile the spec again",
                )
            scope = scope.outer
        return scope.slots[name]

    async def value(self, ref: Ref) -> Any:
        """The value of a slot, or of a struct put together from slots."""
        if isinstance(ref, str):
            return await self.slot(ref)
        return {name: await self.slot(slot) for name, slot in ref.items()}

    async def values(self, reads: Mapping[str, Ref]) -> dict[str, Any]:
        """The values that an operation reads, by the names it has for them."""
        found: dict[str, Any] = {}
        slots = self.slots
        for name, ref in reads.items():
            # Most are here, and to await each of them all the same takes time.
            if isinstance(ref, str) and ref in slots:
                held = slots[ref]
                found[name] = await self.slot(ref) if isinstance(held, asyncio.Task) else held
            else:
                found[name] = await self.value(ref)
        return found

    def start(self, work: Coroutine[Any, Any, None], writes: frozenset[str]) -> None:
        """Let something go on by itself that writes slots: what comes next does not need them yet."""
        task = asyncio.create_task(work)
        self.started.append(task)
        for slot in writes:
            self.slots[slot] = task

    async def settled(self, *, around: bool = False) -> None:
        """Wait for what was started, in what is around it too. Raises what that raised, also where
        nobody needed it."""
        scope: Scope | None = self
        while scope:
            for task in scope.started:
                await asyncio.shield(task)
            scope = scope.outer if around else None

    async def __aenter__(self) -> Scope:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if not self.started:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            for task in self.started:
                task.cancel()
        # What was sent is worth keeping, even if the row is not.
        await asyncio.gather(*self.started, return_exceptions=True)
