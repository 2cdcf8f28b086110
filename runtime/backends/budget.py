"""What a run may spend in all, on every backend together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from synthc.compiler.plan import Backend as Spec
from synthc.compiler.plan import Embedder, Price
from synthc.runtime.backends.protocol import Answer, Backend, Request
from synthc.runtime.backends.sizes import Size, Sizes
from synthc.runtime.errors import RunError, Stopped


@dataclass(slots=True)
class Spending:
    """Tokens, and US dollars."""

    tokens: float = 0.0
    usd: float = 0.0

    def add(self, other: Spending, sign: int = 1) -> None:
        """So much more, or less."""
        self.tokens += sign * other.tokens
        self.usd += sign * other.usd


class Budget:
    """The most that a run may spend: `max_tokens` of prompts and answers, `max_usd` dollars.

    What a call may take at most is set aside before it is sent. One that does not fit waits until
    others took less than that; it is sent all the same where it is alone and something is left, so
    that no more than one call goes beyond. When nothing is left the run stops, and as no request is
    under way then, none is paid for whose answer is not kept.
    """

    def __init__(self, *, max_tokens: int | None = None, max_usd: float | None = None) -> None:
        self._max_tokens = float("inf") if max_tokens is None else max_tokens
        self._max_usd = float("inf") if max_usd is None else max_usd
        self._spent = Spending()
        self._set_aside = Spending()
        self._calls = 0
        self._under_way = 0
        self._settled = asyncio.Event()

    def check(self, spec: Spec | Embedder, *, free: bool = False) -> None:
        """Raise RunError where it cannot be known what a backend costs, and that matters."""
        if isinstance(spec, Embedder):
            if self._max_usd < float("inf"):
                raise RunError(
                    f"what embedder `{spec.name}` costs is not known, so that --max-usd cannot be kept",
                    hint="use --max-tokens, which counts its tokens too",
                    span=spec.span,
                )
            return
        if self._max_usd < float("inf") and spec.price is None and not free:
            raise RunError(
                f"what backend `{spec.name}` costs is not known, so that --max-usd cannot be kept",
                hint="`price { input_usd_per_mtok = …  output_usd_per_mtok = … }`, or --max-tokens",
                span=spec.span,
            )

    async def set_aside(self, most: Spending) -> None:
        """Wait until a call that takes so much at most may be sent; raises Stopped where none may."""
        while not self._fits(most):
            if not self._under_way:
                raise self._used_up()
            await self._settled.wait()
        self._set_aside.add(most)
        self._under_way += 1

    def settle(self, most: Spending, spent: Spending | None) -> None:
        """The call for which `most` was set aside is over: answered, it took `spent`."""
        self._set_aside.add(most, -1)
        self._under_way -= 1
        if spent:
            self._spent.add(spent)
            self._calls += 1
        self._settled.set()  # all that wait look again
        self._settled = asyncio.Event()

    def _fits(self, most: Spending) -> bool:
        if not self._under_way:
            return self._spent.tokens < self._max_tokens and self._spent.usd < self._max_usd
        return (
            self._spent.tokens + self._set_aside.tokens + most.tokens <= self._max_tokens
            and self._spent.usd + self._set_aside.usd + most.usd <= self._max_usd
        )

    def _used_up(self) -> Stopped:
        calls = f"{self._calls} call" + "s" * (self._calls != 1)
        if self._spent.usd >= self._max_usd:
            of, spent = f"${self._max_usd:g} (--max-usd)", f"${self._spent.usd:.4f}"
        else:
            of, spent = f"{self._max_tokens} tokens (--max-tokens)", f"{self._spent.tokens:.0f}"
        return Stopped(
            f"the budget of {of} is used up: {calls} took {spent}",
            hint="what was answered is kept, and paid for once; a next run has a budget of its own",
        )


class Budgeted:
    """A backend that spends of a budget."""

    def __init__(self, inner: Backend, budget: Budget, spec: Spec) -> None:
        self._inner = inner
        self._budget = budget
        self._price = spec.price or Price()
        self._sizes = Sizes(spec.sampling)

    async def complete(self, request: Request) -> Answer:
        """The inner backend's answer or CallFailed; Stopped where the budget is used up."""
        most = self._cost(self._sizes.bound(request))
        await self._budget.set_aside(most)
        spent = None
        try:
            answer = await self._inner.complete(request)
            spent = self._cost(self._sizes.learn(request, answer))
            return answer
        finally:
            self._budget.settle(most, spent)

    def _cost(self, size: Size) -> Spending:
        price = self._price
        usd = size.input * price.input_usd_per_mtok + size.output * price.output_usd_per_mtok
        return Spending(size.total, usd / 1e6)
