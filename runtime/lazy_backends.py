"""The backends of a run: known by name at once, opened when they are first asked."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from synthc.compiler import plan
from synthc.runtime.backends.protocol import Backend
from synthc.runtime.engine.asking import AskCounts, Model
from synthc.runtime.engine.identity import Identity
from synthc.runtime.errors import RunError
from synthc.runtime.named import STAND_IN, named
from synthc.runtime.opening import Opening, placed
from synthc.runtime.ops import every

if TYPE_CHECKING:
    from synthc.runtime.lazy_models import StandIn


class LazyBackends:
    """The backends that are asked, and those that are in their place when they are out.

    `asked` is what asks use of them, `names` all that decides what they answer, by their names; `outages`
    says who was out.
    """

    def __init__(self, plan_: plan.Plan, opening: Opening, stand_in: StandIn | None) -> None:
        """Raises RunError: a setting is missing, or the budget does not fit a backend."""
        self.asked: dict[str, Model] = {}
        self.names: dict[str, str] = {}
        self.outages: list[str] = []
        self._opening = opening
        self._stand_in = stand_in
        self._specs = {backend.name: backend for backend in plan_.backends}
        ops = (op for table in plan_.tables for op in every(table.ops))
        asked = {op.backend for op in ops if isinstance(op, plan.Ask)}
        for backend in plan_.backends:
            if backend.name in asked:
                self._add(backend, plan_.seed)

    def _add(self, spec: plan.Backend, seed: int) -> None:
        model = STAND_IN if self._stand_in else named(spec, self._opening.env)
        self.names[spec.name] = repr((spec.protocol, model.identity, spec.sampling))
        self.asked[spec.name] = Model(
            spec,
            Identity(spec, model.identity, seed),
            functools.partial(self._opening.once, spec.name, functools.partial(self._open, spec)),
            AskCounts(),
        )
        if self._stand_in:
            return
        if self._opening.budget:
            self._opening.budget.check(spec, free=model.url is None and model.is_file)
        if spec.fallback and spec.fallback not in self.asked:
            if spec.fallback not in self._specs:
                raise RunError(
                    f"the plan is broken: `{spec.name}` needs `{spec.fallback}`",
                    hint="compile the spec again",
                    span=spec.span,
                )
            self._add(self._specs[spec.fallback], seed)

    async def _open(self, spec: plan.Backend) -> Backend:
        if self._stand_in:
            return self._stand_in.backend(spec)
        if spec.fallback is None:
            return await self._open_one(spec)
        from synthc.runtime.backends.fallback import Fallback

        first = functools.partial(
            self._opening.once, f"only {spec.name}", functools.partial(self._open_one, spec)
        )
        other = self.asked[spec.fallback].open
        return Fallback(first, other, spec.fallback, functools.partial(self._out, spec))

    async def _open_one(self, spec: plan.Backend) -> Backend:
        from synthc.runtime.backends.open import open_backend

        to = self._opening
        local = await to.local_servers()
        opening = open_backend(spec, env=to.env, local=local, pace=to.pace, budget=to.budget)
        return await placed(spec, to.held(opening))

    def _out(self, spec: plan.Backend, why: str) -> None:
        self._opening.note(why)
        self.outages.append(f"{spec.name}: was out, and `{spec.fallback}` was asked in its place")
