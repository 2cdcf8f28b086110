"""`synthc run`: a spec or a plan, executed into its database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli import databases, summary
from synthc.cli.compiling import (
    PLAN_SUFFIX,
    json_option,
    parameter_option,
    print_json,
    seed_option,
    sound,
    spec_path,
)
from synthc.cli.console import command, failed, helping, usage
from synthc.cli.display import Display

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.errors import RunError

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
@click.option("--fresh", is_flag=True, help="Move the old database aside and start anew.")
@json_option
def run(
    spec: Path | None,
    database: Path | None,
    parameters: tuple[str, ...],
    seed: int | None,
    limit: int | None,
    simulate: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    """Execute a spec (compiling it first) or a plan. Run again, it continues where it was."""
    path = spec_path(spec)
    plan, sources, _ = planned(path, parameters, seed, as_json)
    target = database_of(path, plan, database, simulate)
    env = environment(path.parent)
    if fresh and target.exists():
        databases.move_aside(target)
    if limit is not None:
        limit = min(limit, MOST_ROWS)
    _execute(plan, sources, target, path.parent, env, limit, simulate, as_json)


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
    """The environment, with a `.env` file beside the spec where a variable is not set."""
    from dotenv import dotenv_values

    file = folder / ".env"
    try:
        found = dotenv_values(file, encoding="utf-8-sig") if file.is_file() else {}
    except UnicodeDecodeError:
        raise usage(f"{file} is not text in UTF-8") from None
    except OSError as error:
        raise usage(f"{file} cannot be read: {error.strerror}") from None
    return {name: text for name, text in found.items() if text is not None} | dict(os.environ)


def _execute(
    plan: Plan,
    sources: Mapping[str, str],
    database: Path,
    base: Path,
    env: Mapping[str, str],
    limit: int | None,
    simulate: bool,
    as_json: bool,
) -> None:
    from synthc.runtime.errors import RunError, Stopped
    from synthc.runtime.run import Options, Report
    from synthc.runtime.run import run as run_plan
    from synthc.runtime.simulate import Simulated

    report = Report()
    stand_in = Simulated(plan.seed) if simulate else None
    options = Options(database.absolute(), base, env, limit, stand_in)
    error: RunError | None = None
    status = 0
    with Display(plan, report) as display:
        try:
            run_plan(plan, options, report, display.note)
        except RunError as found:
            error, status = found, found.exit_code
        except KeyboardInterrupt:
            error, status = Stopped("interrupted; what was answered is kept"), INTERRUPTED
    if as_json:
        print_json(summary.document(plan, report, database, error))
    else:
        summary.tell(plan, report, database, limit)
    if error is not None:
        failure = failed(error, sources)
        failure.exit_code = status
        if status in (3, INTERRUPTED):
            failure.message += "\n" + helping("run the same command again, and it continues")
        raise failure
