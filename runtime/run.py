"""A plan, run: opens what it needs, makes its tables, writes its exports, says what became of it all."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthc.compiler import plan
from synthc.runtime.asking import AskCounts, Asker, Model
from synthc.runtime.backends.protocol import Backend
from synthc.runtime.backends.settings import resolve
from synthc.runtime.batcher import Batcher
from synthc.runtime.engine import WINDOW, Progress, TableRun, Tools
from synthc.runtime.errors import RunError
from synthc.runtime.exports import export
from synthc.runtime.fingerprint import fingerprints
from synthc.runtime.identity import Identity
from synthc.runtime.journal import Journal
from synthc.runtime.prompts import Prompts
from synthc.runtime.rowsql import RowSql
from synthc.runtime.source import digest_of, files_of
from synthc.runtime.store import Store

if TYPE_CHECKING:
    from synthc.runtime.embedding.pipeline import TextEmbedder

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How a plan is run. `base` is the folder its paths start from, `limit` the rows of each source."""

    database: Path
    base: Path
    env: Mapping[str, str]
    limit: int | None = None


@dataclass(slots=True)
class Report:
    """What a run did so far: it is filled while the run goes on, and complete when it ends.

    `skipped` names the tables that were there already, `notes` what a person should know besides.
    """

    tables: dict[str, Progress] = field(default_factory=dict)
    backends: dict[str, AskCounts] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    exports: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def cost(self, plan_: plan.Plan) -> float | None:
        """US dollars for what was sent, None where no backend has a price."""
        prices = [(b.price, self.backends.get(b.name)) for b in plan_.backends if b.price]
        if not prices:
            return None
        return sum(
            (
                counts.input_tokens * price.input_usd_per_mtok
                + counts.output_tokens * price.output_usd_per_mtok
            )
            / 1e6
            for price, counts in prices
            if counts
        )


def run(plan_: plan.Plan, options: Options, report: Report, note: Note) -> None:
    """Run a plan to its end. `note` is told in passing what takes long (a download, an export).

    Raises RunError (Stopped among them) with everything kept that was answered, and
    KeyboardInterrupt likewise.
    """
    if plan_.version != plan.VERSION:
        raise RunError(
            f"the plan has version {plan_.version}, and this synthc runs {plan.VERSION}",
            hint="compile the spec again",
        )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(plan_, options, report, note))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop


async def _run(plan_: plan.Plan, options: Options, report: Report, note: Note) -> None:
    started = time.monotonic()
    models = _Models(plan_, options, report, note)
    reads = [table.source for table in plan_.tables if isinstance(table.source, plan.Read)]
    files = {read.path: files_of(read, options.base) for read in reads}
    marks = fingerprints(plan_, lambda read: digest_of(files[read.path]), models.names)
    for table in plan_.tables:
        report.tables[table.name] = Progress(table.name)
    store = Store(options.database, [file for found in files.values() for file in found])
    try:
        store.start_run(plan_)
        status = "stopped"
        try:
            async with AsyncExitStack() as stack:
                stack.callback(models.finish)
                await stack.enter_async_context(models.stack)
                row_sql = RowSql()
                stack.callback(row_sql.close)
                journal = await stack.enter_async_context(Journal(store))
                prompts = Prompts()
                asker = Asker(journal, models.asked, prompts)
                window = max([WINDOW, *(2 * backend.concurrency for backend in plan_.backends)])
                tools = Tools(journal, asker, row_sql, prompts, models.embed, window)
                await _make_tables(plan_, options, report, tools, marks)
                if options.limit is None:
                    for wanted in plan_.exports:
                        path = options.base / wanted.path
                        try:
                            count = await journal.do(export, store.connection, wanted.table, path)
                        except RunError as error:
                            error.span = wanted.span
                            raise
                        report.exports[wanted.path] = count
            status = "done"
        except (asyncio.CancelledError, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            store.finish_run(status)
    finally:
        store.close()
        report.seconds = time.monotonic() - started


async def _make_tables(
    plan_: plan.Plan, options: Options, report: Report, tools: Tools, marks: Mapping[str, str]
) -> None:
    """Make each table as soon as those it reads are there; tables that do not need each other overlap."""
    by_name = {table.name: table for table in plan_.tables}
    ready = {name: asyncio.Event() for name in by_name}

    async def make(number: int, table: plan.Table) -> None:
        for name in _parents(table):
            await ready[name].wait()
        progress = report.tables[table.name]
        counts = await tools.journal.do(tools.journal.store.done, table.name, marks[table.name])
        if counts is not None and options.limit is None:
            progress.state = "done"
            progress.total = progress.rows_in = counts.rows_in
            progress.kept, progress.dropped = counts.kept, counts.dropped
            progress.failed, progress.not_asked = counts.failed, counts.not_asked
            report.skipped.append(table.name)
        else:
            parent = table.source.table if isinstance(table.source, plan.From) else None
            limit = None if parent else options.limit
            await TableRun(number, table, tools, progress).run(
                by_name[parent] if parent else None, options.base, limit, marks[table.name]
            )
        ready[table.name].set()

    try:
        async with asyncio.TaskGroup() as tables:
            for number, table in enumerate(plan_.tables):
                tables.create_task(make(number, table))
    except BaseExceptionGroup as group:
        raise _reason(group) from None


def _reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Why the tables ended: what can be said to a person before anything else."""
    told, rest = group.split(RunError)
    found: BaseException = told or rest or group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _parents(table: plan.Table) -> Sequence[str]:
    match table.source:
        case plan.From(_, name):
            return (name,)
        case plan.Query(tables=names):
            return names
        case _:
            return ()


class _Models:
    """The backends and embedders of a run: named at once, opened when first needed."""

    def __init__(self, plan_: plan.Plan, options: Options, report: Report, note: Note) -> None:
        self._options = options
        self._report = report
        self._note = note
        self._embedders = {embedder.name: embedder for embedder in plan_.embedders}
        self._longest = max((b.sampling.max_tokens or 0 for b in plan_.backends), default=0)
        self._opening: dict[str, asyncio.Future[Any]] = {}
        self._used: dict[str, TextEmbedder] = {}
        self._threads: list[ThreadPoolExecutor] = []
        self.stack = AsyncExitStack()
        self._local: Any = None
        ops = [op for table in plan_.tables for op in table.ops]
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
        kind = "backend" if isinstance(spec, plan.Backend) else "embedder"
        what = f"`model` of {kind} `{spec.name}`"
        found = resolve(spec.model, what, env=self._options.env, span=spec.span)
        if found is None:
            raise RunError(f"{what} is empty", span=spec.span)
        return found.text

    def _add_backend(self, spec: plan.Backend, seed: int) -> None:
        from synthc.runtime.models import is_gguf

        model = self._model_of(spec)
        what = f"`url` of backend `{spec.name}`"
        url = resolve(spec.url, what, env=self._options.env, span=spec.span)
        if url and is_gguf(model):
            model = f"{model} at {url.text}"  # the server's own model: only its url tells which
        counts = self._report.backends[spec.name] = AskCounts()
        identity = Identity(spec, model, seed)
        self.names[spec.name] = repr((spec.protocol, model, spec.sampling))
        opener = functools.partial(self._once, spec.name, functools.partial(self._open, spec))
        self.asked[spec.name] = Model(spec, identity, opener, counts)

    async def _once(self, name: str, opening: Callable[[], Any]) -> Any:
        """Open something the first time; the others wait for it."""
        future = self._opening.get(name)
        if future is None:
            future = self._opening[name] = asyncio.ensure_future(opening())
        return await asyncio.shield(future)

    async def _open(self, spec: plan.Backend) -> Backend:
        from synthc.runtime.backends.local import LocalServers
        from synthc.runtime.backends.open import open_backend
        from synthc.runtime.models import fetch

        if self._local is None:
            fetching = functools.partial(fetch, base=self._options.base, progress=self._progress)
            self._local = await self.stack.enter_async_context(
                LocalServers(fetching, max_tokens=self._longest)
            )
        return await self.stack.enter_async_context(
            open_backend(spec, env=self._options.env, local=self._local)
        )

    async def embed(self, op: plan.Embed) -> Batcher[str, Any]:
        """What embeds texts for an operation: batches on a thread of the embedder's own."""
        return await self._once(f"embed {op.embedder}", lambda: self._open_embedder(op.embedder))

    async def _open_embedder(self, name: str) -> Batcher[str, Any]:
        from synthc.runtime.embedding.pipeline import open_embedder

        spec = self._embedders[name]
        thread = ThreadPoolExecutor(1, f"embed-{name}")
        self._threads.append(thread)
        loop = asyncio.get_running_loop()
        opening = functools.partial(
            open_embedder,
            self._model_of(spec),
            base=self._options.base,
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

    def finish(self) -> None:
        """Say what was noticed on the way, and end the threads."""
        for name, embedder in self._used.items():
            if embedder.truncated:
                self._report.notes.append(
                    f"embedder `{name}` cut {embedder.truncated} texts to their first tokens"
                )
        for thread in self._threads:
            thread.shutdown(wait=True)
