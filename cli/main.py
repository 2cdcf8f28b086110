"""The entry point of the `synthc` command: what it is called with, and what its errors look like."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from contextlib import suppress
from importlib import import_module

import click

from synthc.cli.console import Failure, say, style, visible

BUG = 70
"""The exit status of a fault of synthc's own (EX_SOFTWARE in sysexits.h)."""


COMMANDS = {
    "compile": "compiling.compile_",
    "check": "compiling.check",
    "plan": "planning.plan_",
    "preview": "previewing.preview",
    "test": "testing.test",
    "tasks": "gallery.tasks",
    "run": "running.run",
    "sql": "querying.sql",
    "export": "exporting.export",
    "diff": "diffing.diff",
    "data": "data.data",
    "report": "reporting.report",
    "fmt": "formatting.fmt",
    "init": "starting.init",
    "explain": "compiling.explain",
    "model": "models.model",
    "lsp": "serving.lsp",
}
"""The commands, and where in `synthc.cli` each is."""


class Commands(click.Group):
    """Imports the command that is called; all of them to list them, or to say which one was meant."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:
            module, _, function = COMMANDS[name].partition(".")
            self.add_command(getattr(import_module(f"synthc.cli.{module}"), function))
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        return sorted(COMMANDS)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="synthc", message="synthc %(version)s")
def synthc() -> None:
    """Synthetic data from a short spec: checked, planned, run into DuckDB tables.

    Write a .synth file, then: synthc compile && synthc run && synthc sql "FROM table".
    """


def main() -> None:
    """The process of a command: it ends with the command."""
    # Nearly all that a command loads and makes is of use until it ends. To look for garbage in it as
    # often as Python does by itself, and to take it apart at the end, was a quarter of a `check`.
    gc.set_threshold(50_000, 20, 100)
    status = ended()
    with suppress(BrokenPipeError):
        sys.stderr.flush()
    os._exit(status)


def ended() -> int:
    """Run the command: its exit status (0 done, 1 the spec, 2 usage, 3 stopped, 130 Ctrl-C)."""
    # A terminal that cannot show a character shows its code.
    sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        status = _run()
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # click makes the one of the other
        return 0  # whoever read our output has seen enough
    return status


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
