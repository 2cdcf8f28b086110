"""The entry point of the `synthc` command: what it is called with, and what its errors look like."""

from __future__ import annotations

import sys

import click

from synthc.cli.compiling import check, compile_, explain
from synthc.cli.console import Failure
from synthc.cli.models import model
from synthc.cli.querying import export, sql
from synthc.cli.running import run
from synthc.cli.starting import init


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="synthc", message="synthc %(version)s")
def synthc() -> None:
    """Synthetic data from a short spec: checked, planned, run into DuckDB tables.

    Write a .synth file, then: synthc compile && synthc run && synthc sql "FROM table".
    """


for command in (compile_, check, run, sql, export, init, explain, model):
    synthc.add_command(command)


def main() -> None:
    """Run the command; exit as `cli.md` says (0 done, 1 the spec, 2 usage, 3 stopped, 130 Ctrl-C)."""
    try:
        synthc.main(standalone_mode=False)
    except Failure as failure:
        failure.show()
        sys.exit(failure.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it closes stdout.
        sys.stderr.close()
        sys.exit(0)
