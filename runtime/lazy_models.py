"""The backends and embedders of a run: known by name at once, opened when they are first needed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from synthc.compiler import plan
from synthc.runtime.backends.protocol import Backend
from synthc.runtime.backends.settings import resolve
from synthc.runtime.engine.asking import AskCounts, Model
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.identity import Identity
from synthc.runtime.errors import RunError
from synthc.runtime.ops import every

if TYPE_CHECKING:
    from synthc.runtime.embedding.pipeline import TextEmbedder


class StandIn(Protocol):
    """Who answers and embeds instead of a plan's models."""

    def backend(self, spec: plan.Backend) -> Backend:
        """What answers for a backend of the plan."""
        ...

    def vectors(self, texts: Sequence[str], dimensions: int) -> Sequence[Any]:
        """Vectors of shape (dimensions,), float32, one a text."""
        ...


class LazyModels:
    """The backends and embedders of a run: named at once, opened when first needed."""

    def __init__(
        self,
        plan_: plan.Plan,
        base: Path,
        env: Mapping[str, str],
        stand_in: StandIn | None,
        note: Callable[[str], None],
    ) -> None:
        self._base = base
        self._env = env
        self._stand_in = stand_in
        self._note = note
        self.counts: dict[str, AskCounts] = {}
        self._embedders = {embedder.name: embedder for embedder in plan_.embedders}
        self._longest = max((b.sampling.max_tokens or 0 for b in plan_.backends), default=0)
        self._opening: dict[str, asyncio.Future[Any]] = {}
        self._used: dict[str, TextEmbedder] = {}
        self._threads: list[ThreadPoolExecutor] = []
        self._stack = AsyncExitStack()
        ops = [op for table in plan_.tables for op in every(table.ops)]
        asked = {op.backend for op in ops if isinstance(op, plan.Ask)}
        embedded = {op.embedder for op in ops if isinstance(op, plan.Embed)}
        self.names: dict[str, str] = {}
        self.asked: dict[str, Model] = {}
        for backend in plan_.backends:
            if backend.name in asked:
                self._add_backend(backend, plan_.seed)
        for embedder in plan_.embedders:
            if embedder.name in embedded:
                model = self._model_of(embedder)
                settings = (model, embedder.pooling, embedder.normalize, embedder.max_tokens)
                self.names[embedder.name] = repr(settings)

    def _model_of(self, spec: plan.Backend | plan.Embedder) -> str:
        if self._stand_in:
            return "stand-in"
        kind = "backend" if isinstance(spec, plan.Backend) else "embedder"
        what = f"`model` of {kind} `{spec.name}`"
        found = resolve(spec.model, what, env=self._env, span=spec.span)
        if found is None:
            raise RunError(f"{what} is empty", span=spec.span)
        return found.text

    def _add_backend(self, spec: plan.Backend, seed: int) -> None:
        from synthc.runtime.models import is_gguf

        model = self._model_of(spec)
        what = f"`url` of backend `{spec.name}`"
        url = None if self._stand_in else resolve(spec.url, what, env=self._env, span=spec.span)
        if url and is_gguf(model):
            model = f"{model} at {url.text}"  # the server's own model: only its url tells which
        counts = self.counts[spec.name] = AskCounts()
        identity = Identity(spec, model, seed)
        self.names[spec.name] = repr((spec.protocol, model, spec.sampling))
        opener = functools.partial(self._once, spec.name, functools.partial(self._open, spec))
        self.asked[spec.name] = Model(spec, identity, opener, counts)

    async def __aenter__(self) -> LazyModels:
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._stack.__aexit__(*raised)
        finally:
            for thread in self._threads:
                thread.shutdown(wait=True)

    async def _once(self, name: str, opening: Callable[[], Any]) -> Any:
        """Open something the first time; the others wait for it."""
        future = self._opening.get(name)
        if future is None:
            future = self._opening[name] = asyncio.ensure_future(opening())
        if future.done():
            return future.result()
        return await asyncio.shield(future)

    async def _open(self, spec: plan.Backend) -> Backend:
        if self._stand_in:
            return self._stand_in.backend(spec)
        from synthc.runtime.backends.open import open_backend

        local = await self._once("local servers", self._local_servers)
        return await self._stack.enter_async_context(open_backend(spec, env=self._env, local=local))

    async def _local_servers(self) -> Any:
        from synthc.runtime.backends.local import LocalServers
        from synthc.runtime.models import fetch

        fetching = functools.partial(fetch, base=self._base, progress=self._progress)
        servers = LocalServers(fetching, max_tokens=self._longest)
        return await self._stack.enter_async_context(servers)

    async def embed(self, op: plan.Embed) -> Batcher[str, Any]:
        """What embeds texts for an operation: batches on a thread of the embedder's own."""
        return await self._once(f"embed {op.embedder}", lambda: self._open_embedder(op.embedder))

    async def _open_embedder(self, name: str) -> Batcher[str, Any]:
        from synthc.runtime.embedding.pipeline import open_embedder

        spec = self._embedders[name]
        if stand_in := self._stand_in:

            async def simulate(texts: Sequence[str]) -> Sequence[Any]:
                return stand_in.vectors(texts, spec.dimensions)

            return Batcher(simulate)
        thread = ThreadPoolExecutor(1, f"embed-{name}")
        self._threads.append(thread)
        loop = asyncio.get_running_loop()
        opening = functools.partial(
            open_embedder,
            self._model_of(spec),
            base=self._base,
            dimensions=spec.dimensions,
            pooling=spec.pooling,
            normalize=spec.normalize,
            max_tokens=spec.max_tokens,
            progress=self._progress,
        )
        embedder = await loop.run_in_executor(thread, opening)
        self._used[name] = embedder

        async def embed(texts: Sequence[str]) -> Sequence[Any]:
            return list(await loop.run_in_executor(thread, embedder.embed, texts))

        return Batcher(embed)

    def _progress(self, done: int, total: int | None, what: str) -> None:
        share = f" of {total / 1e6:.0f}" if total else ""
        self._note(f"{what}: {done / 1e6:.0f}{share} MB" if done else what)

    def notes(self) -> list[str]:
        """What a person should know of the embedders: where they ran, and what they cut."""
        found: list[str] = []
        for name, embedder in self._used.items():
            why = f" ({embedder.why_provider})" if embedder.why_provider else ""
            found.append(f"{name}: embedded on {embedder.provider}{why}")
            if embedder.truncated:
                texts = "1 text" if embedder.truncated == 1 else f"{embedder.truncated} texts"
                found.append(f"{name}: {texts} cut at {embedder.max_tokens} tokens")
        return found
