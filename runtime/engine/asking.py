"""One answer for one row: prompt → the store or a backend → columns, asked again where it is broken."""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from synthc.compiler import plan, types
from synthc.runtime.backends.protocol import Backend, Content, Message, Request
from synthc.runtime.engine import chats, contracts
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.identity import Identity
from synthc.runtime.engine.images import Images, as_kept
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.engine.scope import Place
from synthc.runtime.errors import RowFailed
from synthc.runtime.store.records import Call
from synthc.runtime.store.store import StoredAnswer


@dataclass(slots=True)
class AskCounts:
    """What a backend was asked in a run; tokens are sums of what servers reported."""

    sent: int = 0
    from_store: int = 0
    cut_off: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """A backend as asks use it. `open` gives the live one, and starts it the first time."""

    spec: plan.Backend
    identity: Identity
    open: Callable[[], Awaitable[Backend]]
    counts: AskCounts


class Filled(Struct, frozen=True):
    """The columns of an ask, the model that answered (if any did), and faults that cost nulls: `calls` are
    the digests of the answers that had them."""

    values: tuple[Any, ...]
    model: str | None
    problems: tuple[str, ...] = ()
    reason: str = "contract"
    calls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """One question as it was put, and what came of it, for who looks over the shoulder of a run.

    `answer` and `reading` are None where nothing was answered: `failed` says why. `sent` is false where
    the answer was there already.
    """

    op: plan.Ask
    place: Place
    reask: int
    messages: tuple[Message, ...]
    answer: StoredAnswer | None = None
    reading: contracts.Reading | None = None
    sent: bool = True
    failed: RowFailed | None = None


Trace = Callable[[Asked], None]


class _Prepared(Struct):
    """What is the same for all rows of an ask, worked out once."""

    model: Model
    schema: dict[str, Any] | None
    output_format: str | None
    may_be_null: bool
    backend: Backend | None = None
    """The live one, once a row needed it."""


class Calls(Protocol):
    """Where answers are kept: what asking needs of the journal."""

    @property
    def run_id(self) -> int:
        """The run that calls are noted under."""
        ...

    def seen(self, digest: bytes) -> bool:
        """Whether a call may have been made before, in this run or another; from now on it was."""
        ...

    async def answers(self, digests: Sequence[bytes]) -> Sequence[StoredAnswer | Exception | None]:
        """For each call identity its answer, if it was ever answered."""
        ...

    def call(self, record: Call, answer: StoredAnswer) -> None:
        """Keep an answered call."""
        ...


class Asker:
    """Asks for all rows of a run. Equal calls are made once: in the store, and in flight."""

    def __init__(
        self,
        journal: Calls,
        models: dict[str, Model],
        prompts: Prompts,
        images: Images,
        trace: Trace | None = None,
    ) -> None:
        self._journal = journal
        self._models = models
        self._prompts = prompts
        self._images = images
        self._trace = trace
        self._stored = Batcher[bytes, StoredAnswer | None](journal.answers)
        # Calls on their way; a future once another row waits for the same.
        self._flying: dict[bytes, Future[StoredAnswer] | None] = {}
        self._asks: dict[int, _Prepared] = {}

    async def fill(
        self, op: plan.Ask, template: str | None, values: dict[str, Any], place: Place
    ) -> Filled:
        """The columns of one answer for one row: nulls where they cannot be had and may be null.

        `template` is the prompt, None where a conversation is continued. Raises RowFailed where a
        column that may not be null cannot be had.
        """
        ask = self._asks.get(id(op)) or self._prepared(op)
        try:
            return await self._fill(op, ask, template, values, place)
        except RowFailed as failed:
            if not ask.may_be_null:
                raise
            nulls = tuple(None for _ in op.contract.fields)
            return Filled(nulls, failed.model, (failed.detail,), failed.reason, failed.calls or ())

    def _prepared(self, op: plan.Ask) -> _Prepared:
        contract = op.contract
        ask = self._asks[id(op)] = _Prepared(
            self._models[op.backend],
            contracts.schema(contract),
            None if contract.kind == "text" else contracts.output_format(contract),
            all(types.nullable(field.type) for field in contract.fields),
        )
        return ask

    async def _fill(
        self,
        op: plan.Ask,
        ask: _Prepared,
        template: str | None,
        values: dict[str, Any],
        place: Place,
    ) -> Filled:
        model = ask.model
        count = _elements(op.contract, values)
        if ask.output_format is not None:
            values = {"output_format": ask.output_format, **values}
        messages = self._messages(op, template, values)
        if op.images and template is not None:
            messages.append(Message("user", await self._pictured(op, template, values)))
        reading = contracts.Reading(())
        answer = None
        digests: list[bytes] = []
        for reask in range(model.spec.reasks + 1):
            turns = tuple(messages)
            digest = model.identity.digest(turns, ask.schema, place, op.ordinal)
            request = Request(turns, ask.schema, digest, op.contract, count)
            try:
                answer, sent = await self._answer(op, ask, request, place, reask)
            except RowFailed as failed:
                failed.calls = ()
                if self._trace:
                    self._trace(Asked(op, place, reask, turns, failed=failed))
                raise
            digests.append(digest)
            reading = contracts.read(op.contract, answer.text, count)
            if self._trace:
                self._trace(Asked(op, place, reask, turns, answer, reading, sent))
            if not reading.broken:
                used = tuple(digests)
                return Filled(reading.values, answer.model, reading.problems, calls=used)
            messages += [
                Message("assistant", answer.text),
                Message("user", contracts.correction(reading)),
            ]
        assert answer is not None
        problems = reading.problems
        if answer.finish_reason == "length":
            problems = (*problems, "it was cut off: raise `max_tokens`")
        failed = RowFailed("contract", "; ".join(problems))
        failed.model = answer.model
        failed.calls = tuple(digests)
        raise failed

    def _messages(
        self, op: plan.Ask, template: str | None, values: dict[str, Any]
    ) -> list[Message]:
        messages: list[Message] = []
        if op.system is not None:
            messages.append(Message("system", self._prompts.render(op.system, values)))
        if isinstance(op.prompt, plan.Conversation):
            messages += chats.unanswered(values[op.prompt.name], op.prompt.name)
        elif not op.images:
            assert template is not None
            messages.append(Message("user", self._prompts.render(template, values)))
        return messages

    async def _pictured(self, op: plan.Ask, template: str, values: dict[str, Any]) -> Content:
        """What the user's message says where the prompt may print pictures."""
        parts = self._prompts.parts(template, values, op.images)
        return await self._images.content(parts)

    async def _answer(
        self,
        op: plan.Ask,
        ask: _Prepared,
        request: Request,
        place: Place,
        reask: int,
    ) -> tuple[StoredAnswer, bool]:
        """The answer, and whether it was sent for."""
        digest, counts = request.key, ask.model.counts
        known = self._journal.seen(digest)
        while digest in self._flying:
            flying = self._flying[digest] = self._flying[digest] or Future()
            await asyncio.wait([flying])
            if not flying.cancelled():  # else the row that asked is gone, and this one asks
                counts.from_store += 1
                try:
                    return flying.result(), False
                except RowFailed as failed:  # each row has its own: the engine adds where it was
                    raise RowFailed(failed.reason, failed.detail) from None
        self._flying[digest] = None
        try:
            answer = await self._stored(digest) if known else None
            sent = answer is None
            if answer is None:
                answer = await self._send(op, ask, request, place, reask)
            else:
                counts.from_store += 1
        except BaseException as error:
            self._landed(digest, error)
            raise
        self._landed(digest, answer)
        return answer, sent

    def _landed(self, digest: bytes, outcome: StoredAnswer | BaseException) -> None:
        """Tell those who wait for an equal call what came of it, if there are any."""
        flying = self._flying.pop(digest)
        if flying is None:
            return
        match outcome:
            case asyncio.CancelledError():
                flying.cancel()
            case BaseException():
                flying.set_exception(outcome)
                flying.exception()  # those who wait may be gone: it was raised here, too
            case answer:
                flying.set_result(answer)

    async def _send(
        self,
        op: plan.Ask,
        ask: _Prepared,
        request: Request,
        place: Place,
        reask: int,
    ) -> StoredAnswer:
        if ask.backend is None:
            ask.backend = await ask.model.open()
        answer = await ask.backend.complete(request)
        name = answer.backend or op.backend  # another one may have answered in its place
        counts = self._models[name].counts
        counts.sent += 1
        counts.cut_off += answer.finish_reason == "length"
        counts.input_tokens += answer.input_tokens or 0
        counts.output_tokens += answer.output_tokens or 0
        stored = StoredAnswer(answer.text, answer.model, answer.finish_reason)
        messages = [{"role": m.role, "content": as_kept(m.content)} for m in request.messages]
        self._journal.call(
            Call(
                digest=request.key,
                run_id=self._journal.run_id,
                table_name=place.table,
                row_key=place.row_key,
                column=op.what,
                rounds=".".join(map(str, place.rounds)) if place.rounds else None,
                index=place.index,
                backend=name,
                model=answer.model,
                request=msgspec.json.encode(messages).decode(),
                answer=answer.text,
                reasoning=answer.reasoning,
                finish_reason=answer.finish_reason,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                latency_s=answer.latency_s,
                attempts=answer.attempts,
                reask=reask,
                answered_at=time.time_ns() // 1_000,
            ),
            stored,
        )
        return stored


def _elements(contract: plan.Contract, values: dict[str, Any]) -> int | None:
    """How many elements the list has that the contract is about, if it is about one."""
    if contract.per is None:
        return None
    return len(elements(values[contract.per], contract.per))


def questions(op: plan.Ask, values: dict[str, Any]) -> list[dict[str, Any]]:
    """What each question of an ask sees: of an ask that asks once, one.

    Raises RowFailed where there is no list to ask about.
    """
    if op.each:
        listed = elements(values[op.each.list], op.each.list)
        return [{**values, op.each.name: element} for element in listed]
    return [values] * (1 if op.count is None else op.count)


def elements(value: Any, name: str) -> Sequence[Any]:
    """The elements of a list. Raises RowFailed where it is null, or JSON that is no list."""
    if value is None:
        raise RowFailed("null", f"`{name}` is null")
    if not isinstance(value, list | tuple):
        raise RowFailed("no_list", f"`{name}` is no list")
    return value
