"""`synthc run`: a spec or a plan, executed into its database."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli.compiling import json_option, parameter_option, seed_option, sound
from synthc.cli.console import Failure, failed, only_file, say, style, usage
from synthc.cli.display import Display

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.run import Report


@click.command()
@click.argument("spec", metavar="[SPEC or PLAN]", required=False, type=click.Path(path_type=Path))
@click.option("-d", "database", type=click.Path(path_type=Path), help="The database (NAME.duckdb).")
@parameter_option
@seed_option
@click.option("--limit", type=click.IntRange(min=1), help="Only so many rows of each source.")
@click.option("--fresh", is_flag=True, help="Move the old database aside and start anew.")
@json_option
def run(
    spec: Path | None,
    database: Path | None,
    parameters: tuple[str, ...],
    seed: int | None,
    limit: int | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Execute a spec (compiling it first) or a plan. Run again, it continues where it was."""
    path = spec or only_file("*.synth", ".synth file")
    if path.suffix == ".json":
        if parameters or seed is not None:
            raise usage("a plan has its parameters and its seed in it: compile the spec with them")
        plan, sources = _read_plan(path), _sources(path)
    else:
        compiled = sound(path, parameters, seed)
        assert compiled.plan is not None
        plan, sources = compiled.plan, compiled.sources
    target = database or path.parent / f"{Path(plan.spec).stem}.duckdb"
    if fresh:
        _move_aside(target)
    _execute(plan, target, path.parent, limit, sources, as_json)


def _read_plan(path: Path) -> Plan:
    import msgspec

    from synthc.compiler.plan import decode

    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        raise usage(f"there is no file {path}") from None
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise usage(f"{path} is no plan of this version: {error}; compile the spec again") from None


def _sources(plan: Path) -> Mapping[str, str]:
    """The spec beside a plan, so that errors can show its lines."""
    spec = plan.with_name(plan.name.removesuffix(".plan.json") + ".synth")
    try:
        return {spec.name: spec.read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError):
        return {}


def _move_aside(database: Path) -> None:
    if not database.exists():
        return
    aside = database.with_name(f"{database.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    database.rename(aside)
    log = database.with_name(f"{database.name}.wal")
    if log.exists():
        log.rename(aside.with_name(f"{aside.name}.wal"))
    say(f"the old database is {aside} now")


def environment(folder: Path) -> dict[str, str]:
    """The environment, with a `.env` file beside the spec where a variable is not set."""
    from dotenv import dotenv_values

    file = folder / ".env"
    found = dotenv_values(file) if file.is_file() else {}
    return {name: text for name, text in found.items() if text is not None} | dict(os.environ)


def _execute(
    plan: Plan,
    database: Path,
    base: Path,
    limit: int | None,
    sources: Mapping[str, str],
    as_json: bool,
) -> None:
    from synthc.runtime.errors import RunError
    from synthc.runtime.run import Options, Report
    from synthc.runtime.run import run as run_plan

    report = Report()
    options = Options(database, base, environment(base), limit)
    ended: Failure | None = None
    with Display(plan, report) as display:
        try:
            run_plan(plan, options, report, display.note)
        except RunError as error:
            ended = failed(error, sources)
        except KeyboardInterrupt:
            ended = Failure(130, "\ninterrupted; everything that was answered is kept")
    _summary(plan, report, database, as_json)
    if ended:
        if ended.exit_code in (3, 130):
            again = style("help", "  = help") + ": run the same command again, and it continues"
            ended.message = f"{ended.message}\n{again}"
        raise ended


def _summary(plan: Plan, report: Report, database: Path, as_json: bool) -> None:
    """What became of each table's rows, what was asked, where it is, what to type next."""
    if as_json:
        click.echo(json.dumps(_document(plan, report, database), indent=2))
        return
    for progress in report.tables.values():
        if progress.state == "waiting":
            continue
        say(_table_line(progress, progress.name in report.skipped))
    for name, counts in report.backends.items():
        if not counts.sent and not counts.from_store:
            continue
        say(
            f"{name}: {counts.sent} calls sent, {counts.from_store} answered from the store, "
            f"{counts.input_tokens} + {counts.output_tokens} tokens"
        )
        if counts.cut_off:
            say(f"{name}: {counts.cut_off} answers were cut off at `max_tokens`")
    for text in report.notes:
        say(text)
    for path, count in report.exports.items():
        say(f"exported {count} rows to {path}")
    cost = report.cost(plan)
    spent = f", ${cost:.4f}" if cost is not None else ""
    say(f"{report.seconds:.1f} s{spent}; the database is {database}")
    last = next((p for p in reversed(report.tables.values()) if p.state == "done"), None)
    if any(progress.failed for progress in report.tables.values()):
        say(f'failures: synthc sql "FROM synth.failures" -d {database}')
    if last:
        say(f'next: synthc sql "FROM {last.name}" -d {database}')


def _table_line(progress: object, skipped: bool) -> str:
    from synthc.runtime.engine import Progress

    assert isinstance(progress, Progress)
    parts = [f"{progress.kept} kept", f"{progress.dropped} dropped", f"{progress.failed} failed"]
    if progress.not_asked:
        parts.append(f"{progress.not_asked} not asked")
    pending = progress.rows_in - sum(
        (progress.kept, progress.dropped, progress.failed, progress.not_asked)
    )
    if pending:
        parts.append(f"{pending} not finished")
    state = " (was there already)" if skipped else ""
    state = " (incomplete)" if progress.state == "partial" else state
    name = style("message", progress.name)
    return f"{name}: {progress.rows_in} rows in = {' + '.join(parts)}{state}"


def _document(plan: Plan, report: Report, database: Path) -> dict[str, object]:
    import dataclasses

    return {
        "database": str(database),
        "seconds": round(report.seconds, 3),
        "cost_usd": report.cost(plan),
        "tables": {name: dataclasses.asdict(p) for name, p in report.tables.items()},
        "skipped": report.skipped,
        "backends": {name: dataclasses.asdict(c) for name, c in report.backends.items()},
        "exports": report.exports,
        "notes": report.notes,
    }
