"""A plan, run: opens what it needs, makes its tables, writes its exports, says what became of it all."""

from __future__ import annotations

import asyncio
import functools
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from synthc.compiler import plan
from synthc.runtime.backends.budget import Budget
from synthc.runtime.backends.pace import PACE, Pace
from synthc.runtime.engine.asking import AskCounts, Asked, Asker
from synthc.runtime.engine.draws import Draws
from synthc.runtime.engine.engine import Progress, TableRun, Tools
from synthc.runtime.engine.images import images_of
from synthc.runtime.engine.prompts import Prompts
from synthc.runtime.engine.rowsql import RowSql
from synthc.runtime.errors import RunError, reason
from synthc.runtime.exports.files import export
from synthc.runtime.lazy_models import LazyModels, StandIn
from synthc.runtime.store.aside import Again, set_aside, set_aside_failed
from synthc.runtime.store.expectations import check
from synthc.runtime.store.fingerprint import content_of, fingerprints, parents
from synthc.runtime.store.journal import Journal
from synthc.runtime.store.lines import lines_of
from synthc.runtime.store.listener import listening
from synthc.runtime.store.source import files_of
from synthc.runtime.store.store import Store, writing

Note = Callable[[str], None]


class Watcher(Protocol):
    """Who looks over the shoulder of a run."""

    def asked(self, asked: Asked) -> None:
        """Told of each question, and what came of it."""
        ...

    def dropped(self, table: str, row_key: str, op: plan.Op) -> None:
        """Told of each row that is dropped, and where."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How a plan is run. `base` is the folder its paths start from, `limit` the rows of each source.

    With a `stand_in` no model is needed, and none of the settings that name one. `calls` is another
    database, where there is one, that answers are taken from and kept in; `watcher` is told of rows.
    What failed is asked anew to `retry_failed`, and of rows that were answered those of `again`. It
    stops when it has spent `max_tokens` or `max_usd` itself; `pace` is how calls wait.
    """

    database: Path
    base: Path
    env: Mapping[str, str]
    limit: int | None = None
    stand_in: StandIn | None = None
    calls: Path | None = None
    watcher: Watcher | None = None
    retry_failed: bool = False
    again: Again | None = None
    max_tokens: int | None = None
    max_usd: float | None = None
    pace: Pace = PACE


def _nothing() -> None:
    """What there is to do where there is nothing to do."""


@dataclass(slots=True)
class Report:
    """What a run did so far: it is filled while the run goes on, and complete when it ends.

    `skipped` names the tables that were there already, `notes` what a person should know besides.
    `stop` ends the run as Ctrl-C does, from any thread: it is there as soon as there is something to end.
    """

    tables: dict[str, Progress] = field(default_factory=dict)
    backends: dict[str, AskCounts] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    exports: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    stop: Callable[[], object] = _nothing

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
    with _few_collections(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(plan_, options, report, note))


@contextmanager
def _few_collections() -> Iterator[None]:
    """Rows on their way are tens of thousands of objects, and none of them is garbage.

    To look at them as often as Python does by itself took a third of the time of a run.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop


async def _run(plan_: plan.Plan, options: Options, report: Report, note: Note) -> None:
    started = time.monotonic()
    itself = asyncio.current_task()
    assert itself is not None
    loop = asyncio.get_running_loop()
    report.stop = lambda: loop.call_soon_threadsafe(itself.cancel)
    budget = None
    if options.max_tokens is not None or options.max_usd is not None:
        budget = Budget(max_tokens=options.max_tokens, max_usd=options.max_usd)
    models = LazyModels(
        plan_,
        options.base,
        options.env,
        options.stand_in,
        note,
        pace=options.pace,
        budget=budget,
    )
    report.backends = {name: model.counts for name, model in models.asked.items()}
    reads = [table.source for table in plan_.tables if isinstance(table.source, plan.Read)]
    files = {read.path: files_of(read, options.base) for read in reads}
    lines = lines_of(plan_, options.base)
    marks = fingerprints(plan_, content_of(options.base, lines), models.names)
    for table in plan_.tables:
        report.tables[table.name] = Progress(table.name)
    simulated = options.stand_in is not None
    readable = [file for found in files.values() for file in found]
    try:
        async with AsyncExitStack() as stack:
            store = stack.enter_context(_noted(options.database, plan_, readable, simulated))
            calls = store
            if options.calls:
                calls = stack.enter_context(
                    _noted(options.calls, plan_, (), simulated, done="preview")
                )
            await stack.enter_async_context(models)
            row_sql = RowSql()
            stack.callback(row_sql.close)
            journal = await stack.enter_async_context(Journal(store, calls))
            await stack.enter_async_context(listening(store, plan_.spec))
            if options.retry_failed:
                said = await journal.do(set_aside_failed, store, plan_.tables)
                report.notes.append(said)
            if options.again:
                report.notes.append(await journal.do(set_aside, store, plan_, options.again))
            prompts = Prompts()
            draws = Draws(plan_.seed, lines)
            watcher = options.watcher
            images = images_of(plan_, options.base)
            trace = watcher.asked if watcher else None
            asker = Asker(journal, models.asked, prompts, images, trace)
            at_once = {backend.name: backend.concurrency for backend in plan_.backends}
            dropped = watcher.dropped if watcher else None
            embed = functools.partial(models.embed, journal=journal)
            tools = Tools(journal, asker, row_sql, prompts, draws, embed, at_once, dropped)
            await _make_tables(plan_, options, report, tools, marks)
            if options.limit is None:
                await journal.do(check, store, plan_.expects)
                await _export(plan_, options, report, journal)
        report.notes += models.notes()
        if simulated:
            report.notes.append("simulated: no model was asked, and the answers mean nothing")
    finally:
        report.seconds = time.monotonic() - started


@contextmanager
def _noted(
    database: Path,
    plan_: plan.Plan,
    readable: Sequence[Path],
    simulated: bool,
    done: str = "done",
) -> Iterator[Store]:
    """The store in a database, with a note of this run: it is closed when the run ends."""
    store = Store(database, readable, simulated=simulated)
    try:
        with writing(database):
            store.start_run(plan_)
        status = "stopped"
        try:
            yield store
            status = done
        except (asyncio.CancelledError, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            store.finish_run(status)
    finally:
        store.close()


async def _export(plan_: plan.Plan, options: Options, report: Report, journal: Journal) -> None:
    for wanted in plan_.exports:
        path = Path(wanted.path)
        if options.stand_in:  # never in the place of the real file
            path = path.with_suffix(f".simulated{path.suffix}")
        target = options.base / path
        try:
            count = await journal.do(export, journal.store.connection, wanted.table, target)
        except RunError as error:
            error.span = wanted.span
            raise
        report.exports[path.as_posix()] = count


async def _make_tables(
    plan_: plan.Plan, options: Options, report: Report, tools: Tools, marks: Mapping[str, str]
) -> None:
    """Make each table as soon as those it reads are there; tables that do not need each other overlap."""
    by_name = {table.name: table for table in plan_.tables}
    ready = {name: asyncio.Event() for name in by_name}

    async def make(number: int, table: plan.Table) -> None:
        for name in parents(table):
            await ready[name].wait()
        progress = report.tables[table.name]
        counts = await tools.journal.do(
            tools.journal.store.done, table, marks[table.name], parents(table)
        )
        if counts is not None and options.limit is None:
            progress.state = "done"
            progress.total = progress.rows_in = counts.rows_in
            progress.kept, progress.dropped = counts.kept, counts.dropped
            progress.failed, progress.not_asked = counts.failed, counts.not_asked
            report.skipped.append(table.name)
        else:
            limit = None if isinstance(table.source, plan.From) else options.limit
            await TableRun(number, table, tools, progress).run(
                by_name, options.base, limit, marks[table.name], whole=options.limit is None
            )
        ready[table.name].set()

    try:
        async with asyncio.TaskGroup() as tables:
            for number, table in enumerate(plan_.tables):
                tables.create_task(make(number, table))
    except BaseExceptionGroup as group:
        raise reason(group) from None
