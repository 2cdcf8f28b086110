"""`synthc lsp`: the language server, for editors."""

from __future__ import annotations

import importlib.util
import os
import sys

import click

from synthc.cli.console import usage


@click.command("lsp")
def lsp() -> None:
    """Answer an editor on stdin and stdout in the Language Server Protocol (the `lsp` extra)."""
    if importlib.util.find_spec("pygls") is None:
        raise usage("the language server needs the `lsp` extra: pip install 'synthc[lsp]'")
    from synthc.lsp.server import server

    # The protocol has stdout for itself; whatever else writes there would break it.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    server.start_io(sys.stdin.buffer, answers)
