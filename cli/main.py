"""The entry point of the `synthc` command: what it is called with, and what its errors look like."""

from __future__ import annotations

import os
import sys
import traceback

import click

from synthc.cli.compiling import check, compile_, explain
from synthc.cli.console import Failure, say, style, visible
from synthc.cli.formatting import fmt
from synthc.cli.gallery import tasks
from synthc.cli.models import model
from synthc.cli.planning import plan_
from synthc.cli.previewing import preview
from synthc.cli.querying import export, sql
from synthc.cli.running import run
from synthc.cli.starting import init
from synthc.cli.testing import test

BUG = 70
"""The exit status of a fault of synthc's own (EX_SOFTWARE in sysexits.h)."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="synthc", message="synthc %(version)s")
def synthc() -> None:
    """Synthetic data from a short spec: checked, planned, run into DuckDB tables.

    Write a .synth file, then: synthc compile && synthc run && synthc sql "FROM table".
    """


for command in (
    compile_,
    check,
    plan_,
    preview,
    test,
    tasks,
    run,
    sql,
    export,
    fmt,
    init,
    explain,
    model,
):
    synthc.add_command(command)


def main() -> None:
    """Run the command; exit as `cli.md` says (0 done, 1 the spec, 2 usage, 3 stopped, 130 Ctrl-C)."""
    try:
        # A terminal that cannot show a character shows its code.
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
        status = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        status = 0  # whoever read our output has seen enough
        # What is left in the buffers goes nowhere, so that Python does not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _run() -> int:
    try:
        return synthc.main(prog_name="synthc", standalone_mode=False) or 0
    except Failure as failure:
        failure.show()
        return failure.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:
            return _bug()
        say(f"{style('error', 'error')}: {visible(f'{error.filename}: {error.strerror}')}")
        return 2
    except Exception:  # noqa: BLE001 - the last place where anything can be said
        return _bug()


def _bug() -> int:
    say(
        f"{style('error', 'error')}: this is a fault of synthc's; please report it with these lines"
    )
    say(visible(traceback.format_exc()))
    return BUG
