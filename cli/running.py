"""`synthc run`: a spec or a plan, executed into its database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli import databases, summary
from synthc.cli.compiling import (
    PLAN_SUFFIX,
    parameter_option,
    seed_option,
    sound,
    spec_path,
)
from synthc.cli.console import command, failed, helping, usage
from synthc.cli.display import Display
from synthc.cli.events import Events, tell

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.errors import RunError
    from synthc.runtime.lazy_models import StandIn
    from synthc.runtime.run import Options

INTERRUPTED = 130
MOST_ROWS = 2**63 - 1
"""What DuckDB takes as a number of rows."""


@click.command()
@click.argument("spec", metavar="[SPEC or PLAN]", required=False, type=click.Path(path_type=Path))
@click.option("-d", "database", type=click.Path(path_type=Path), help="The database (NAME.duckdb).")
@parameter_option
@seed_option
@click.option("--limit", type=click.IntRange(1), help="Only so many rows of each source.")
@click.option(
    "--simulate", is_flag=True, help="Ask no model: made-up answers that keep each contract."
)
@click.option(
    "--max-usd",
    type=click.FloatRange(0, min_open=True),
    help="Stop when this run has spent so many dollars.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    help="Stop when this run has taken so many tokens, of prompts and answers.",
)
@click.option("--fresh", is_flag=True, help="Move the old database aside and start anew.")
@click.option("--retry-failed", is_flag=True, help="Ask again for what failed, and nothing else.")
@click.option(
    "--again", metavar="CONDITION", help='Ask anew for rows of a finished table: "score < 3".'
)
@click.option("--table", help="The table of --again, where several ask.")
@click.option("--column", help="Only this column of --again.")
@click.option(
    "--json", "as_json", is_flag=True, help="What happens as JSON on stdout, an event a line."
)
def run(
    spec: Path | None,
    database: Path | None,
    parameters: tuple[str, ...],
    seed: int | None,
    limit: int | None,
    simulate: bool,
    max_usd: float | None,
    max_tokens: int | None,
    fresh: bool,
    retry_failed: bool,
    again: str | None,
    table: str | None,
    column: str | None,
    as_json: bool,
) -> None:
    """Execute a spec (compiling it first) or a plan. Run again, it continues where it was.

    With `--json` each line of stdout is an object: `"event": "progress"` at most once a second, with the rows
    of each table and the calls of each backend; `note` for what takes long besides; at last `end`, with all
    that the summary says.
    """
    if (retry_failed or again is not None) and (fresh or limit is not None):
        raise usage("what is asked again is of a whole run that was: no `--fresh`, no `--limit`")
    if again is None and (table or column):
        raise usage("`--table` and `--column` say what `--again` is about")
    path = spec_path(spec)
    plan, sources, _ = planned(path, parameters, seed, as_json)
    target = database_of(path, plan, database, simulate)
    env = environment(path.parent)
    if fresh and target.exists():
        databases.move_aside(target)
    from synthc.runtime.run import Options
    from synthc.runtime.store.aside import Again

    options = Options(
        target.absolute(),
        path.parent,
        env,
        None if limit is None else min(limit, MOST_ROWS),
        _stand_in(plan) if simulate else None,
        retry_failed=retry_failed,
        again=None if again is None else Again(again, table, column),
        max_tokens=max_tokens,
        max_usd=max_usd,
    )
    _execute(plan, sources, target, options, as_json)


def _stand_in(plan: Plan) -> StandIn:
    from synthc.runtime.simulate import Simulated

    return Simulated(plan.seed)


def planned(
    path: Path, parameters: tuple[str, ...], seed: int | None, as_json: bool
) -> tuple[Plan, Mapping[str, str], Plan | None]:
    """The plan of a spec, or in a file; the texts that its places are in; of a spec, the plan before it was
    optimised. Ends the command where there is none."""
    if path.suffix != PLAN_SUFFIX:
        plan, compiled = sound(path, parameters, seed, as_json)
        return plan, compiled.sources, compiled.lowered
    if parameters or seed is not None:
        raise usage("a plan has its parameters and its seed in it", "compile the spec with them")
    plan = _read_plan(path)
    return plan, _sources(path, plan), None


def database_of(path: Path, plan: Plan, database: Path | None, simulate: bool = False) -> Path:
    """The database that is named, or the one beside a spec (or its plan)."""
    marked = ".simulated" if simulate else ""
    target = database or path.parent / f"{Path(plan.spec).stem}{marked}.duckdb"
    databases.check(target)
    return target


def run_command(
    path: Path, database: Path | None, parameters: tuple[str, ...], seed: int | None, *flags: str
) -> str:
    """The `synthc run` that does what another command showed."""
    given = [word for parameter in parameters for word in ("-p", parameter)]
    if seed is not None:
        given += ["--seed", str(seed)]
    if database is not None:
        given += ["-d", str(database)]
    return command("synthc", "run", path, *given, *flags)


def _read_plan(path: Path) -> Plan:
    import msgspec

    from synthc.compiler.plan import VERSION, decode

    try:
        text = path.read_bytes()
        raw = msgspec.json.decode(text)
        version = raw.get("version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version != VERSION:
            raise usage(
                f"{path} is a plan of version {version}, and this synthc runs {VERSION}",
                "compile the spec again",
            )
        return decode(text)
    except FileNotFoundError:
        raise usage(f"there is no file {path}") from None
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        help_ = "run the .synth file, or the plan that `synthc compile` makes of it"
        raise usage(f"{path} is no plan: {error}", help_) from None


def _sources(path: Path, plan: Plan) -> Mapping[str, str]:
    """The spec beside a plan, so that errors can show its lines."""
    spec = path.with_name(Path(plan.spec).name or path.name)
    try:
        return {plan.spec: spec.read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError):
        return {}


def environment(folder: Path) -> dict[str, str]:
    """The environment of a spec in a folder. Ends the command where its `.env` file cannot be read."""
    from synthc.runtime.environment import environment as read
    from synthc.runtime.errors import RunError

    try:
        return read(folder)
    except RunError as error:
        raise usage(error.message, error.hint) from None


def _execute(
    plan: Plan,
    sources: Mapping[str, str],
    database: Path,
    options: Options,
    as_json: bool,
) -> None:
    from synthc.runtime.errors import RunError, Stopped
    from synthc.runtime.run import Report
    from synthc.runtime.run import run as run_plan

    report = Report()
    error: RunError | None = None
    status = 0
    shown = Events(plan, report) if as_json else Display(plan, report)
    with shown:
        try:
            run_plan(plan, options, report, shown.note)
        except RunError as found:
            error, status = found, found.exit_code
        except KeyboardInterrupt:
            error, status = Stopped("interrupted; what was answered is kept"), INTERRUPTED
    if as_json:
        tell("end", summary.document(plan, report, database, error))
    else:
        summary.tell(plan, report, database, options.base, options.limit)
    if error is not None:
        failure = failed(error, sources)
        failure.exit_code = status
        if status in (3, INTERRUPTED):
            # What was set aside is, and not to be a second time.
            same = "without `--again`" if options.again else "the same command again"
            failure.message += "\n" + helping(f"run {same}, and it continues")
        raise failure
