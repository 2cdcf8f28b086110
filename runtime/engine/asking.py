"""One ask of one row: prompt → answer from the store or a backend → columns, asked again where broken."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from synthc.compiler import plan, types
from synthc.runtime.backends.protocol import Backend, Message, Request
from synthc.runtime.engine import contracts
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.identity import Identity
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.errors import RowFailed
from synthc.runtime.store.journal import Journal
from synthc.runtime.store.store import StoredAnswer, now


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


@dataclass(frozen=True, slots=True)
class Place:
    """Which row of which table asks."""

    table: str
    row_key: str


@dataclass(frozen=True, slots=True)
class Filled:
    """The columns of an ask, the model that answered (if any did), and faults that cost nulls."""

    values: tuple[Any, ...]
    model: str | None
    problems: tuple[str, ...] = ()
    reason: str = "contract"


class Asker:
    """Asks for all rows of a run. Equal calls are made once: in the store, and in flight."""

    def __init__(self, journal: Journal, models: dict[str, Model], prompts: Prompts) -> None:
        self._journal = journal
        self._models = models
        self._prompts = prompts
        self._stored = Batcher[bytes, StoredAnswer | None](journal.answers)
        self._flying: dict[bytes, asyncio.Future[StoredAnswer]] = {}

    async def fill(self, op: plan.Ask, values: dict[str, Any], place: Place) -> Filled:
        """The columns of an ask for one row: nulls where they cannot be had and may be null.

        Raises RowFailed where they may not.
        """
        try:
            return await self._fill(op, values, place)
        except RowFailed as failed:
            if not all(types.nullable(field.type) for field in op.contract.fields):
                raise
            nulls = tuple(None for _ in op.contract.fields)
            return Filled(nulls, failed.model, (failed.detail,), failed.reason)

    async def _fill(self, op: plan.Ask, values: dict[str, Any], place: Place) -> Filled:
        model = self._models[op.backend]
        messages = self._messages(op, values)
        schema = contracts.schema(op.contract)
        reading = contracts.Reading(())
        answer = None
        for reask in range(model.spec.reasks + 1):
            request = Request(tuple(messages), schema)
            answer = await self._answer(op, model, request, place, reask)
            reading = contracts.read(op.contract, answer.text)
            if not reading.broken:
                return Filled(reading.values, answer.model, reading.problems)
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
        raise failed

    def _messages(self, op: plan.Ask, values: dict[str, Any]) -> list[Message]:
        if op.contract.kind != "text":
            values = {"output_format": contracts.output_format(op.contract), **values}
        messages: list[Message] = []
        if op.system is not None:
            messages.append(Message("system", self._prompts.render(op.system, values)))
        assert isinstance(op.prompt, plan.Template)
        messages.append(Message("user", self._prompts.render(op.prompt.text, values)))
        return messages

    async def _answer(
        self, op: plan.Ask, model: Model, request: Request, place: Place, reask: int
    ) -> StoredAnswer:
        digest = model.identity.digest(request, place.row_key, op.ordinal)
        while flying := self._flying.get(digest):
            await asyncio.wait([flying])
            if not flying.cancelled():  # else the row that asked is gone, and this one asks
                model.counts.from_store += 1
                try:
                    return flying.result()
                except RowFailed as failed:  # each row has its own: the engine adds where it was
                    raise RowFailed(failed.reason, failed.detail) from None
        future = asyncio.get_running_loop().create_future()
        self._flying[digest] = future
        try:
            answer = await self._stored(digest)
            if answer is not None:
                model.counts.from_store += 1
            else:
                answer = await self._send(op, model, request, place, reask, digest)
            future.set_result(answer)
            return answer
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            future.set_exception(error)
            future.exception()  # nobody may be waiting: then it was raised here, and that is enough
            raise
        finally:
            del self._flying[digest]

    async def _send(
        self,
        op: plan.Ask,
        model: Model,
        request: Request,
        place: Place,
        reask: int,
        digest: bytes,
    ) -> StoredAnswer:
        backend = await model.open()
        answer = await backend.complete(dataclasses.replace(request, key=digest))
        counts = model.counts
        counts.sent += 1
        counts.cut_off += answer.finish_reason == "length"
        counts.input_tokens += answer.input_tokens or 0
        counts.output_tokens += answer.output_tokens or 0
        stored = StoredAnswer(answer.text, answer.model, answer.finish_reason)
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        self._journal.call(
            digest,
            stored,
            {
                "run_id": self._journal.store.run_id,
                "table_name": place.table,
                "row_key": place.row_key,
                "column": op.what,
                "backend": op.backend,
                "model": answer.model,
                "request": msgspec.json.encode(messages).decode(),
                "answer": answer.text,
                "finish_reason": answer.finish_reason,
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "latency_s": answer.latency_s,
                "attempts": answer.attempts,
                "reask": reask,
                "answered_at": now(),
            },
        )
        return stored
