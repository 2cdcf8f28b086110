"""`synthc lsp`: the language server, for editors."""

from __future__ import annotations

import importlib.util

import click

from synthc.cli.console import usage


@click.command("lsp")
def lsp() -> None:
    """Answer an editor on stdin and stdout in the Language Server Protocol (the `lsp` extra)."""
    if importlib.util.find_spec("pygls") is None:
        raise usage("the language server needs the `lsp` extra: pip install 'synthc[lsp]'")
    from synthc.lsp.server import server

    server.start_io()
