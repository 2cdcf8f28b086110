"""The backends and embedders of a run: known by name at once, opened when they are first needed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from synthc.compiler import plan
from synthc.runtime.backends.pace import PACE, Pace
from synthc.runtime.backends.protocol import Backend, Message
from synthc.runtime.backends.settings import resolve
from synthc.runtime.embedding.passages import Passage
from synthc.runtime.engine.asking import AskCounts, Model
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.chain import WINDOW
from synthc.runtime.engine.identity import Identity
from synthc.runtime.errors import RunError
from synthc.runtime.listed import Listed, listed
from synthc.runtime.ops import every

if TYPE_CHECKING:
    from synthc.runtime.backends.budget import Budget
    from synthc.runtime.embedding.kept import KeptEmbedder
    from synthc.runtime.embedding.media import Kind
    from synthc.runtime.embedding.open import LocalEmbedder
    from synthc.runtime.store.journal import Journal


T = TypeVar("T")

MEDIA = 64
"""Pictures or recordings that are embedded before their vectors are kept: some seconds' work."""


class StandIn(Protocol):
    """Who answers and embeds instead of a plan's models."""

    def backend(self, spec: plan.Backend) -> Backend:
        """What answers for a backend of the plan."""
        ...

    def vectors(self, texts: Sequence[str | Passage], dimensions: int) -> Sequence[Any]:
        """Vectors of shape (dimensions,), float32, one a text; of a passage its parts with theirs."""
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
        *,
        pace: Pace = PACE,
        budget: Budget | None = None,
    ) -> None:
        """`pace` is how calls wait, `budget` what all backends together may spend."""
        self._pace = pace
        self._budget = budget
        self._outages: list[str] = []
        self._plan = plan_
        self._base = base
        self._env = env
        self._stand_in = stand_in
        self._note = note
        self.counts: dict[str, AskCounts] = {}
        self._embedders = {embedder.name: embedder for embedder in plan_.embedders}
        self._longest = max((b.sampling.max_tokens or 0 for b in plan_.backends), default=0)
        self._opening: dict[str, asyncio.Future[Any]] = {}
        self._used: dict[str, tuple[LocalEmbedder, KeptEmbedder | None]] = {}
        self._written: dict[str, Callable[[Any], Any]] = {}
        self._threads: list[ThreadPoolExecutor] = []
        self._stack = AsyncExitStack()
        ops = [op for table in plan_.tables for op in every(table.ops)]
        asked = {op.backend for op in ops if isinstance(op, plan.Ask)}
        embedded = {op.embedder for op in ops if isinstance(op, plan.Embed)}
        self.names: dict[str, str] = {}
        self.asked: dict[str, Model] = {}
        self._backends = {backend.name: backend for backend in plan_.backends}
        for backend in plan_.backends:
            if backend.name in asked:
                self._add_backend(backend, plan_.seed)
        for embedder in plan_.embedders:
            if embedder.name in embedded:
                self.names[embedder.name] = self._name_of(embedder)
                if self._budget and self._url_of(embedder):
                    self._budget.check(embedder)

    def _model_of(self, spec: plan.Backend | plan.Embedder) -> str:
        if self._stand_in:
            return "stand-in"
        what = f"`model` of {_kind(spec)} `{spec.name}`"
        found = resolve(spec.model, what, env=self._env, span=spec.span)
        if found is None:
            raise RunError(f"{what} is empty", span=spec.span)
        return found.text

    def _url_of(self, spec: plan.Backend | plan.Embedder) -> str | None:
        if self._stand_in:
            return None
        what = f"`url` of {_kind(spec)} `{spec.name}`"
        found = resolve(spec.url, what, env=self._env, span=spec.span)
        return found.text if found else None

    def _name_of(self, spec: plan.Embedder) -> str:
        """All that decides which vector a text has."""
        model, url = self._model_of(spec), self._url_of(spec)
        if url is None:
            how = (spec.input, spec.pooling, spec.normalize, spec.max_tokens, spec.precision)
            first = spec.dimensions if spec.truncate else None
            takes = (spec.input, spec.input_name, spec.output_name, spec.layer)
            return repr((model, *how, spec.prompt, spec.prompt_name, first, takes))
        return repr((_at(model, url), "remote", spec.prompt))

    def _add_backend(self, spec: plan.Backend, seed: int) -> None:
        from synthc.runtime.models import is_gguf

        model, url = self._model_of(spec), self._url_of(spec)
        if url:
            model = _at(model, url)
        counts = self.counts[spec.name] = AskCounts()
        identity = Identity(spec, model, seed)
        self.names[spec.name] = repr((spec.protocol, model, spec.sampling))
        opener = functools.partial(self._once, spec.name, functools.partial(self._open, spec))
        self.asked[spec.name] = Model(spec, identity, opener, counts)
        if self._budget and not self._stand_in:
            self._budget.check(spec, free=url is None and is_gguf(model))
        if spec.fallback and spec.fallback not in self.asked and not self._stand_in:
            if spec.fallback not in self._backends:
                raise RunError(
                    f"the plan is broken: `{spec.name}` needs `{spec.fallback}`",
                    hint="compile the spec again",
                    span=spec.span,
                )
            self._add_backend(self._backends[spec.fallback], seed)

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
        if spec.fallback is None:
            return await self._open_one(spec)
        from synthc.runtime.backends.fallback import Fallback

        opening = functools.partial(self._open_one, spec)
        first = functools.partial(self._once, f"only {spec.name}", opening)
        other = self.asked[spec.fallback].open
        return Fallback(first, other, spec.fallback, functools.partial(self._out, spec))

    def _out(self, spec: plan.Backend, why: str) -> None:
        self._note(why)
        self._outages.append(f"{spec.name}: was out, and `{spec.fallback}` was asked in its place")

    async def _open_one(self, spec: plan.Backend) -> Backend:
        from synthc.runtime.backends.open import open_backend

        local = await self._once("local servers", self._local_servers)
        opening = open_backend(
            spec, env=self._env, local=local, pace=self._pace, budget=self._budget
        )
        return await _placed(spec, self._stack.enter_async_context(opening))

    async def _local_servers(self) -> Any:
        from synthc.runtime.backends.local import LocalServers
        from synthc.runtime.models import fetch

        fetching = functools.partial(fetch, base=self._base, progress=self._progress)
        servers = LocalServers(fetching, max_tokens=self._longest)
        return await self._stack.enter_async_context(servers)

    async def embed(self, op: plan.Embed, *, journal: Journal) -> Callable[[Any], Awaitable[Any]]:
        """What embeds a text (a passage, or messages), a picture or a recording for an operation:
        batches on a thread of the embedder's own, or on a server.

        The vectors are kept in the `journal`, those of a server among the calls.
        """
        spec = self._embedders[op.embedder]
        if (spec.pooling == "none") != (op.parts is not None) or spec.input != op.input:
            raise RunError(
                f"the plan is broken: `{op.what}` and `{op.embedder}` do not fit",
                hint="compile the spec again",
                span=op.span,
            )
        opening = functools.partial(self._open_embedder, op.embedder, journal)
        batcher = await self._once(f"embed {op.embedder}", opening)
        if op.input in ("image", "audio") and not self._stand_in:
            files = listed(self._plan, self._base, plan.EMBEDDED[op.input])
            name = op.what.removeprefix("embed(").removesuffix(")")
            return functools.partial(_embed_medium, batcher, op.input, name, files)
        if op.input == "vector":
            from synthc.runtime.embedding.numbers import packed as written
        else:
            written = self._written.get(op.embedder)
        if op.chat or op.system:
            written = _as_lines if self._stand_in else written
        elif written is None:
            return batcher
        if written is None:
            raise RunError(
                f"`{op.what}` is a conversation, and the model of `{op.embedder}` has no chat template",
                hint="embed a text, or use a model that was trained on conversations",
                span=op.span,
            )

        async def embed(item: Any) -> Any:
            # Here, and not in a batch: what the template refuses fails its own row.
            return await batcher(written(item))

        return embed

    async def _open_embedder(self, name: str, journal: Journal) -> Batcher[Any, Any]:
        spec = self._embedders[name]
        if stand_in := self._stand_in:

            async def simulate(texts: Sequence[Any]) -> Sequence[Any]:
                return stand_in.vectors(texts, spec.dimensions)

            return Batcher(simulate)
        if self._url_of(spec):
            from synthc.runtime.embedding.remote import open_remote

            local = await self._once("local servers", self._local_servers)
            opening = open_remote(
                spec,
                identity=self.names[name],
                env=self._env,
                local=local,
                calls=journal,
                pace=self._pace,
                budget=self._budget,
            )
            return Batcher((await self._stack.enter_async_context(opening)).embed)
        from synthc.runtime.embedding.kept import KeptEmbedder
        from synthc.runtime.embedding.open import open_local
        from synthc.runtime.embedding.pipeline import TextEmbedder
        from synthc.runtime.embedding.tokens import TEXTS, TokenEmbedder

        thread = ThreadPoolExecutor(1, f"embed-{name}")
        self._threads.append(thread)
        loop = asyncio.get_running_loop()
        opening = functools.partial(
            open_local, spec, self._model_of(spec), base=self._base, progress=self._progress
        )
        embedder = await _placed(spec, loop.run_in_executor(thread, opening))
        compute = _on(thread, embedder.embed)
        # Others are on their way meanwhile: the next batch is there when one is done.
        items = MEDIA if spec.input in ("image", "audio") else WINDOW // 2
        if isinstance(embedder, TokenEmbedder):
            items = TEXTS
        if embedder.digest is None:
            self._used[name] = embedder, None
            return Batcher(compute, max_items=items)
        if isinstance(embedder, TextEmbedder) and embedder.has_template:
            self._written[name] = embedder.written
        kept = KeptEmbedder(name, f"{embedder.digest} {self.names[name]}", compute, journal)
        self._used[name] = embedder, kept
        return Batcher(kept.embed, max_items=items)

    def _progress(self, done: int, total: int | None, what: str) -> None:
        share = f" of {total / 1e6:.0f}" if total else ""
        self._note(f"{what}: {done / 1e6:.0f}{share} MB" if done else what)

    def notes(self) -> list[str]:
        """What a person should know: who was out; where embedders ran, and what they cut."""
        found = list(self._outages)
        for name, (embedder, kept) in self._used.items():
            noun = plan.NOUNS[self._embedders[name].input]
            why = f" ({embedder.why_there})" if embedder.why_there else ""
            texts = before = ""
            if kept:
                texts = _counted(kept.computed, noun) + " "
                were = "was" if kept.from_store == 1 else "were"
                before = f", {kept.from_store} {were} there already" if kept.from_store else ""
            found.append(f"{name}: {texts}embedded on {embedder.runs_on}{why}{before}")
            found += [f"{name}: {said}" for said in embedder.notes]
            if embedder.truncated:
                cut = _counted(embedder.truncated, noun)
                found.append(f"{name}: {cut} cut at {embedder.limit}")
        return found


async def _placed(spec: plan.Backend | plan.Embedder, opening: Awaitable[T]) -> T:
    """What was opened; an error says where in the spec that stands."""
    try:
        return await opening
    except RunError as error:
        error.span = error.span or spec.span
        raise


def _on(
    thread: ThreadPoolExecutor, embed: Callable[[Sequence[Any]], Iterable[Any]]
) -> Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]:
    """What embeds on a thread of its own."""

    async def compute(items: Sequence[Any]) -> Sequence[Any]:
        return list(await asyncio.get_running_loop().run_in_executor(thread, embed, items))

    return compute


async def _embed_medium(
    batcher: Callable[[Any], Awaitable[Any]], kind: Kind, name: str, files: Listed, value: Any
) -> Any:
    """The vector of the picture or recording that a value of the column `name` is.

    Raises RowFailed, which names it.
    """
    from synthc.runtime.embedding.media import Unusable, failed, medium

    item = await asyncio.to_thread(medium, value, name, kind, files)
    try:
        return await batcher(item)
    except Unusable as why:
        raise failed(kind, item.name, why) from None


def _as_lines(turns: Sequence[Message]) -> str:
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _kind(spec: plan.Backend | plan.Embedder) -> str:
    return "backend" if isinstance(spec, plan.Backend) else "embedder"


def _at(model: str, url: str) -> str:
    """The name of a model at a server: of a file it is the server's own, and only its url tells which."""
    from synthc.runtime.models import is_gguf

    return f"{model} at {url}" if is_gguf(model) else model
