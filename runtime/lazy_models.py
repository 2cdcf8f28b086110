"""The backends and embedders of a run: known by name at once, opened when they are first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from synthc.compiler import plan
from synthc.runtime.backends.pace import PACE, Pace
from synthc.runtime.backends.protocol import Backend
from synthc.runtime.embedding.passages import Passage
from synthc.runtime.lazy_backends import LazyBackends
from synthc.runtime.lazy_embedders import LazyEmbedders
from synthc.runtime.opening import Opening

if TYPE_CHECKING:
    from synthc.runtime.backends.budget import Budget


class StandIn(Protocol):
    """Who answers and embeds instead of a plan's models."""

    def backend(self, spec: plan.Backend) -> Backend:
        """What answers for a backend of the plan."""
        ...

    def vectors(self, texts: Sequence[str | Passage], dimensions: int) -> Sequence[Any]:
        """Vectors of shape (dimensions,), float32, one a text; of a passage its parts with theirs."""
        ...


class LazyModels:
    """The backends and embedders of a run. What was opened is closed when `async with` ends.

    `asked` are the backends as asks use them, by name; `embed` is LazyEmbedders'; `names` is all that decides
    what a model says or makes, by the name of its backend or embedder.
    """

    def __init__(
        self,
        plan_: plan.Plan,
        base: Path,
        env: Mapping[str, str],
        stand_in: StandIn | None,
        note: Callable[[str], None],
        *,
        pace: Pace = PACE,
        budget: Budget | None = None,
    ) -> None:
        """`pace` is how calls wait, `budget` what all models together may spend.

        Raises RunError where a setting is missing.
        """
        longest = max((b.sampling.max_tokens or 0 for b in plan_.backends), default=0)
        self._opening = Opening(base, env, note, pace, budget, longest)
        self._backends = LazyBackends(plan_, self._opening, stand_in)
        self._embedders = LazyEmbedders(plan_, self._opening, stand_in)
        self.asked = self._backends.asked
        self.embed = self._embedders.embed
        self.names = {**self._backends.names, **self._embedders.names}

    async def __aenter__(self) -> LazyModels:
        await self._opening.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._opening.__aexit__(*raised)

    def notes(self) -> list[str]:
        """What a person should know: who was out; where embedders ran, and what they cut."""
        return self._backends.outages + self._embedders.notes()
