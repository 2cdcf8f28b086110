"""What a run did, told at its end: to a person in lines, to a program in one document."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synthc.cli.console import command, counted, say, style, visible, wrapped
from synthc.cli.display import NAME_WIDTH

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.engine.engine import Progress
    from synthc.runtime.errors import RunError
    from synthc.runtime.run import Report


def tell(plan: Plan, report: Report, database: Path, base: Path, limit: int | None) -> None:
    """What became of each table's rows, what was asked, where it is, what to type next.

    `base` is the folder that the paths of exports start from.
    """
    tables = [progress for progress in report.tables.values() if progress.state != "waiting"]
    if not tables:
        return  # it ended before anything began
    lines = [(p.name, _rows(p, p.name in report.skipped, limit)) for p in tables]
    for name, counts in report.backends.items():
        if counts.sent or counts.from_store:
            asked = (
                f"{counted(counts.sent, 'call')} sent, {counts.from_store} answered from the store, "
                f"{counted(counts.input_tokens, 'token')} in, {counts.output_tokens} out"
            )
            lines.append((name, asked))
        if counts.cut_off:
            were = "was" if counts.cut_off == 1 else "were"
            cut = f"{counted(counts.cut_off, 'answer')} {were} cut off at `max_tokens`"
            lines.append((name, cut))
    width = min(max(len(name) for name, _ in lines), NAME_WIDTH)
    for name, text in lines:
        first, *rest = wrapped(text, max(len(name), width) + 2)
        say(f"{style('message', name)}{' ' * (width - len(name))}  {first}")
        for line in rest:
            say(" " * (width + 2) + line)
    for name in (progress.name for progress in tables if progress.old_stays):
        _say(f"{name} stays as it was, complete: the new one is put in its place when it is, too")
    for text in report.notes:
        _say(visible(text))
    for path, count in report.exports.items():
        say(f"exported {counted(count, 'row')} to {visible(str(base / path))}")
    if limit is not None:
        _say("--limit: nothing is marked as done, and nothing is exported")
        _say("a run without it makes the tables whole, from the answers that are kept")
    cost = report.cost(plan)
    spent = f", ${cost:.4f}" if cost is not None else ""
    say(f"{report.seconds:.1f} s{spent}; the database is {visible(str(database))}")
    for what, query in _next(tables):
        say(f"{what}: {command('synthc', 'sql', query, '-d', database)}")


def _say(text: str) -> None:
    say("\n".join(wrapped(text)))


def _rows(progress: Progress, skipped: bool, limit: int | None) -> str:
    parts = [f"{progress.kept} kept", f"{progress.dropped} dropped", f"{progress.failed} failed"]
    if progress.not_asked:
        parts.append(f"{progress.not_asked} not asked")
    known = progress.kept + progress.dropped + progress.failed + progress.not_asked
    if progress.rows_in > known:
        parts.append(f"{progress.rows_in - known} not finished")
    text = f"{counted(progress.rows_in, 'row')} in = {' + '.join(parts)}"
    if skipped:
        return f"{text} (was there already)"
    if progress.state == "running" or (progress.state != "done" and limit is None):
        known_total = progress.total not in (None, progress.rows_in)
        total = f": {progress.rows_in} of {progress.total}" if known_total else ""
        return f"{text} (incomplete{total})"
    return text


def _next(tables: list[Progress]) -> Iterator[tuple[str, str]]:
    if any(progress.failed for progress in tables):
        yield "failures", "FROM synth.failures"
    with_rows = [progress.name for progress in tables if progress.kept]
    if with_rows:
        yield "next", f"FROM {_sql_name(with_rows[-1])}"


def _sql_name(name: str) -> str:
    from duckdb import tokenize

    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) is not None
    # A keyword is no name: DuckDB's own tokenizer knows them.
    if plain and all(kind.name == "identifier" for _, kind in tokenize(name)):
        return name
    return '"' + name.replace('"', '""') + '"'


def document(
    plan: Plan, report: Report, database: Path, error: RunError | None
) -> dict[str, object]:
    """The same for a program. `ok` says whether the run came to its end."""
    told = error and {
        "message": error.message,
        "help": error.hint,
        "place": str(error.span) if error.span else None,
    }
    return {
        "ok": error is None,
        "error": told,
        "database": str(database),
        "seconds": round(report.seconds, 3),
        **counts(plan, report),
        "skipped": report.skipped,
        "exports": report.exports,
        "notes": report.notes,
    }


def counts(plan: Plan, report: Report) -> dict[str, object]:
    """The part of it that grows while a run goes on."""
    return {
        "cost_usd": report.cost(plan),
        "tables": {name: dataclasses.asdict(p) for name, p in list(report.tables.items())},
        "backends": {name: dataclasses.asdict(c) for name, c in list(report.backends.items())},
    }
