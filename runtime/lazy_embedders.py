"""The embedders of a run: known by name at once, opened when something is first embedded."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthc.compiler import plan
from synthc.runtime.backends.protocol import Message
from synthc.runtime.engine.batcher import Batcher
from synthc.runtime.engine.chain import WINDOW
from synthc.runtime.errors import RunError
from synthc.runtime.listed import Listed, listed
from synthc.runtime.named import STAND_IN, Named, named
from synthc.runtime.opening import Opening, placed
from synthc.runtime.ops import every

if TYPE_CHECKING:
    from synthc.runtime.embedding.kept import KeptEmbedder
    from synthc.runtime.embedding.media import Kind
    from synthc.runtime.embedding.open import LocalEmbedder
    from synthc.runtime.lazy_models import StandIn
    from synthc.runtime.store.journal import Journal

MEDIA = 64
"""Pictures or recordings that are embedded before their vectors are kept: some seconds' work."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What embeds, a batch at a time; of one on this machine, what makes its vectors and what keeps them.

    `written` makes of a text or a conversation what the model reads, where it has a template for that.
    """

    batcher: Batcher[Any, Any]
    local: LocalEmbedder | None = None
    kept: KeptEmbedder | None = None
    written: Callable[[Any], Any] | None = None


class LazyEmbedders:
    """The embedders that embed something. `names` is all that decides which vector something has, by their
    names."""

    def __init__(self, plan_: plan.Plan, opening: Opening, stand_in: StandIn | None) -> None:
        """Raises RunError: a setting is missing, or the budget does not fit an embedder."""
        self.names: dict[str, str] = {}
        self._plan = plan_
        self._opening = opening
        self._stand_in = stand_in
        self._specs = {embedder.name: embedder for embedder in plan_.embedders}
        self._opened: dict[str, _Opened] = {}
        ops = (op for table in plan_.tables for op in every(table.ops))
        embedded = {op.embedder for op in ops if isinstance(op, plan.Embed)}
        for spec in plan_.embedders:
            if spec.name in embedded:
                model = self._named(spec)
                self.names[spec.name] = _name_of(spec, model)
                if opening.budget and model.url:
                    opening.budget.check(spec)

    def _named(self, spec: plan.Embedder) -> Named:
        return STAND_IN if self._stand_in else named(spec, self._opening.env)

    async def embed(self, op: plan.Embed, *, journal: Journal) -> Callable[[Any], Awaitable[Any]]:
        """What embeds a text (a passage, or messages), a picture or a recording for an operation:
        batches on a thread of the embedder's own, or on a server.

        The vectors are kept in the `journal`, those of a server among the calls.
        """
        spec = self._specs[op.embedder]
        if (spec.pooling == "none") != (op.parts is not None) or spec.input != op.input:
            raise RunError(
                f"the plan is broken: `{op.what}` and `{op.embedder}` do not fit",
                hint="compile the spec again",
                span=op.span,
            )
        opening = functools.partial(self._open, spec, journal)
        opened = await self._opening.once(f"embed {op.embedder}", opening)
        if op.input in ("image", "audio") and not self._stand_in:
            files = listed(self._plan, self._opening.base, plan.EMBEDDED[op.input])
            name = op.what.removeprefix("embed(").removesuffix(")")
            return functools.partial(_embed_medium, opened.batcher, op.input, name, files)
        written = opened.written
        if op.input == "vector":
            from synthc.runtime.embedding.numbers import packed as written
        if op.chat or op.system:
            written = _as_lines if self._stand_in else written
        elif written is None:
            return opened.batcher
        if written is None:
            raise RunError(
                f"`{op.what}` is a conversation, and the model of `{op.embedder}` has no chat template",
                hint="embed a text, or use a model that was trained on conversations",
                span=op.span,
            )

        async def embed(item: Any) -> Any:
            # Here, and not in a batch: what the template refuses fails its own row.
            return await opened.batcher(written(item))

        return embed

    async def _open(self, spec: plan.Embedder, journal: Journal) -> _Opened:
        if self._stand_in:
            opened = _simulated(spec, self._stand_in)
        elif self._named(spec).url:
            opened = await self._open_remote(spec, journal)
        else:
            opened = await self._open_local(spec, journal)
        self._opened[spec.name] = opened
        return opened

    async def _open_remote(self, spec: plan.Embedder, journal: Journal) -> _Opened:
        from synthc.runtime.embedding.remote import open_remote

        to = self._opening
        opening = open_remote(
            spec,
            identity=self.names[spec.name],
            env=to.env,
            local=await to.local_servers(),
            calls=journal,
            pace=to.pace,
            budget=to.budget,
        )
        return _Opened(Batcher((await to.held(opening)).embed))

    async def _open_local(self, spec: plan.Embedder, journal: Journal) -> _Opened:
        from synthc.runtime.embedding.kept import KeptEmbedder
        from synthc.runtime.embedding.open import open_local
        from synthc.runtime.embedding.pipeline import TextEmbedder
        from synthc.runtime.embedding.tokens import TEXTS, TokenEmbedder

        to = self._opening
        thread = to.thread(f"embed-{spec.name}")
        model = self._named(spec).model
        opening = functools.partial(open_local, spec, model, base=to.base, progress=to.progress)
        loop = asyncio.get_running_loop()
        local = await placed(spec, loop.run_in_executor(thread, opening))
        compute = _on(thread, local.embed)
        # Others are on their way meanwhile: the next batch is there when one is done.
        items = MEDIA if spec.input in ("image", "audio") else WINDOW // 2
        if isinstance(local, TokenEmbedder):
            items = TEXTS
        if local.digest is None:
            return _Opened(Batcher(compute, max_items=items), local)
        written = None
        if isinstance(local, TextEmbedder) and local.has_template:
            written = local.written
        identity = f"{local.digest} {self.names[spec.name]}"
        kept = KeptEmbedder(spec.name, identity, compute, journal)
        return _Opened(Batcher(kept.embed, max_items=items), local, kept, written)

    def notes(self) -> list[str]:
        """Where embedders ran, how much they embedded, and what they cut."""
        found: list[str] = []
        for name, opened in self._opened.items():
            if opened.local is None:
                continue
            embedder, kept = opened.local, opened.kept
            noun = plan.NOUNS[self._specs[name].input]
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


def _name_of(spec: plan.Embedder, model: Named) -> str:
    """All that decides which vector something has."""
    if model.url:
        return repr((model.identity, "remote", spec.prompt))
    how = (spec.input, spec.pooling, spec.normalize, spec.max_tokens, spec.precision)
    first = spec.dimensions if spec.truncate else None
    takes = (spec.input, spec.input_name, spec.output_name, spec.layer)
    return repr((model.model, *how, spec.prompt, spec.prompt_name, first, takes))


def _simulated(spec: plan.Embedder, stand_in: StandIn) -> _Opened:
    async def simulate(texts: Sequence[Any]) -> Sequence[Any]:
        return stand_in.vectors(texts, spec.dimensions)

    return _Opened(Batcher(simulate))


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
