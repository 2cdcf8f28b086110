"""`synthc preview`: a few rows end to end, with the prompts as sent and the answers as received."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from synthc.cli.compiling import (
    json_option,
    parameter_option,
    print_json,
    seed_option,
    spec_path,
)
from synthc.cli.console import counted, failed, say, usage, visible
from synthc.cli.display import Display
from synthc.cli.rows import brief, plain
from synthc.cli.running import (
    INTERRUPTED,
    MOST_ROWS,
    database_of,
    environment,
    planned,
    run_command,
)

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.preview import Preview, Question, RowPreview
    from synthc.runtime.run import Report

WIDTH = 120
"""Columns of lines on a terminal, at most."""
NAMES = 20
"""Columns that values are moved to the right for the sake of long names, at most."""

_COLOURS: dict[str, dict[str, Any]] = {
    "heading": {"bold": True},
    "name": {"fg": "cyan"},
    "quiet": {"dim": True},
    "bad": {"fg": "red"},
}

Line = tuple[str, str]
"""A role (one of the colours, or none) and a text."""


@click.command()
@click.argument("spec", metavar="[SPEC or PLAN]", required=False, type=click.Path(path_type=Path))
@click.option(
    "-n", "rows", type=click.IntRange(1, MOST_ROWS), default=3, help="Rows of each source (3)."
)
@click.option("--table", help="Only this table, and what it needs.")
@click.option("-d", "database", type=click.Path(path_type=Path), help="The database (NAME.duckdb).")
@parameter_option
@seed_option
@click.option(
    "--simulate", is_flag=True, help="Ask no model: made-up answers that keep each contract."
)
@json_option
def preview(
    spec: Path | None,
    rows: int,
    table: str | None,
    database: Path | None,
    parameters: tuple[str, ...],
    seed: int | None,
    simulate: bool,
    as_json: bool,
) -> None:
    """A few rows end to end: prompts as sent, answers as received, what became of them.

    The calls are kept: the run after it does not pay for them again. No table is kept.
    """
    from synthc.runtime.errors import RunError, Stopped
    from synthc.runtime.preview import preview as look
    from synthc.runtime.run import Options, Report
    from synthc.runtime.simulate import Simulated

    path = spec_path(spec)
    plan, sources, _ = planned(path, parameters, seed, as_json)
    if table is not None:
        _check_table(table, plan)
    target = database_of(path, plan, database, simulate)
    options = Options(
        target.absolute(),
        path.parent,
        environment(path.parent),
        stand_in=Simulated(plan.seed) if simulate else None,
    )
    report = Report()
    try:
        with Display(plan, report) as display:
            seen = look(plan, rows, options, report, display.note, table)
    except RunError as error:
        raise failed(error, sources) from None
    except KeyboardInterrupt:
        failure = failed(Stopped("interrupted; what was answered is kept"), sources)
        failure.exit_code = INTERRUPTED
        raise failure from None
    if as_json:
        print_json(_document(seen, report, target))
    else:
        _show(_page(seen))
        _tell(seen, report, plan)
        if seen.error is None:
            flags = ("--simulate",) if simulate else ()
            say(f"next: {run_command(path, database, parameters, seed, *flags)}")
    if seen.error is not None:
        raise failed(seen.error, sources)


def _check_table(name: str, plan: Plan) -> None:
    from synthc.compiler.diagnostics.problem import listed, nearest

    known = [table.name for table in plan.tables]
    if name not in known:
        near = nearest(name, known)
        help_ = f"did you mean `{near}`?" if near else None
        raise usage(f"there is no table `{name}` (there are: {listed(known)})", help_)


# A page


def _page(seen: Preview) -> Iterator[Line]:
    for table in seen.tables:
        more = f" (of {table.total:,})" if table.total > len(table.rows) else ""
        for number, row in enumerate(table.rows, 1):
            yield "heading", f"{table.name}, row {number} of {len(table.rows)}{more}: {row.key}"
            yield from _row(row)
            yield "", ""
        if not table.rows and seen.error is None:  # else it was not come so far
            yield "heading", f"{table.name}: no rows"
            yield "", ""


def _row(row: RowPreview) -> Iterator[Line]:
    for drawn in row.drawn:
        round_ = f" (round {drawn.round})" if drawn.round is not None else ""
        yield from _pair(f"drawn {drawn.column}{round_}", drawn.value, " = ")
    for question in row.asked:
        yield "", ""
        yield from _question(question)
    if row.asked or row.drawn:
        yield "", ""
    for fault in row.faults:
        word = "failed" if fault.stops_row else "null"
        yield from _lines(f"{word} at {fault.column} ({fault.place}): {fault.detail}", 2, "bad")
    why = f", by {row.why}" if row.why else ""
    yield "name", f"  {row.status}{why}"
    columns = row.columns or {}
    width = min(max(map(len, columns), default=0), NAMES)
    for name, value in columns.items():
        yield from _pair(name.ljust(width), value)


def _question(question: Question) -> Iterator[Line]:
    parts = [f"round {'.'.join(map(str, question.rounds))}"] if question.rounds else []
    if question.index is not None:
        parts.append(f"answer {question.index + 1}")
    if question.reask:
        parts.append("asked again")
    if question.prompt:
        parts.append(f"by the prompt {question.prompt}")
    where = f" ({', '.join(parts)})" if parts else ""
    yield "name", f"  {question.column}{where}, asked of {question.backend}"
    for role, content in question.messages:
        yield from _block(role, content)
    if question.answer is None:
        yield from _lines(f"no answer: {question.failed}", 2, "bad")
        return
    how = "" if question.sent else ", from the store"
    cut = ", cut off at `max_tokens`" if question.finish_reason == "length" else ""
    yield from _block(f"answer of {question.model}{how}{cut}", question.answer)
    for problem in question.problems:
        yield from _lines(f"problem: {problem}", 2, "bad")
    if question.values is None:
        yield "bad", "  nothing could be read of it"
    elif list(question.values.values()) != [question.answer]:
        for name, value in question.values.items():
            yield from _pair(f"read {name}", value, " = ")


def _block(title: str, text: str) -> Iterator[Line]:
    """A text as it is, with a bar before each of its lines."""
    yield "quiet", f"  {title}"
    for line in text.split("\n"):
        for part in _wrapped(line, 4):
            yield "", f"  \u2502 {part}"


def _pair(name: str, value: Any, between: str = "  ") -> Iterator[Line]:
    """A name and its value, below it where it has several lines."""
    text = _text(value)
    if "\n" in text or (sys.stdout.isatty() and len(text) + len(name) + 6 > _columns()):
        yield "", f"    {name}{between}"
        for line in text.split("\n"):
            for part in _wrapped(line, 6):
                yield "", f"      {part}"
        return
    yield "", f"    {name}{between}{text}"


def _text(value: Any) -> str:
    """A value in full, but for vectors: they are shown by their beginning."""
    return value if isinstance(value, str) else brief(value)


def _lines(text: str, indent: int, role: str) -> Iterator[Line]:
    for line in text.split("\n"):
        for part in _wrapped(line, indent):
            yield role, " " * indent + part


def _wrapped(line: str, indent: int) -> list[str]:
    """A line in parts that fit a terminal, its spaces kept; whole where there is none."""
    if not sys.stdout.isatty():
        return [line]
    width = max(_columns() - indent, 20)
    return textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=False) or [""]


def _columns() -> int:
    return min(get_terminal_size().columns, WIDTH)


def _show(lines: Iterator[Line]) -> None:
    """Print lines on stdout, in colours where it is a terminal that wants them."""
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for role, text in lines:
        # What a model wrote is shown, never obeyed.
        shown = visible(text).rstrip()
        click.echo(click.style(shown, **_COLOURS[role]) if colours and role and shown else shown)


def _tell(seen: Preview, report: Report, plan: Plan) -> None:
    for note in (*report.notes, *(seen.notes if seen.error is None else ())):
        say(visible(note))
    sent = sum(counts.sent for counts in report.backends.values())
    stored = sum(counts.from_store for counts in report.backends.values())
    cost = report.cost(plan)
    spent = f", ${cost:.4f}" if cost is not None else ""
    say(f"{counted(sent, 'call')} sent, {stored} answered from the store{spent}; they are kept")


# A document


def _document(seen: Preview, report: Report, database: Path) -> dict[str, object]:
    import dataclasses

    error = seen.error
    return {
        "ok": error is None,
        "error": error and {"message": error.message, "help": error.hint},
        "database": str(database),
        "tables": [plain(dataclasses.asdict(table)) for table in seen.tables],
        "backends": {name: dataclasses.asdict(c) for name, c in report.backends.items()},
        "notes": [*report.notes, *seen.notes],
    }
