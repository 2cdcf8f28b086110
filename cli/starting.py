"""`synthc init`: a folder with a spec that runs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from synthc.cli.console import say, usage

FILES = ("quickstart.synth", "topics.jsonl")


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a folder with a spec that runs, and its data."""
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise usage(f"{folder / there[0]} is there already; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            source = resources.files("synthc.specs").joinpath("examples", name)
            (folder / name).write_bytes(source.read_bytes())
    except OSError as error:
        raise usage(f"{folder} cannot be written: {error.strerror}") from None
    say(f"wrote {', '.join(str(folder / name) for name in FILES)}")
    say(f"next: synthc run {folder / FILES[0]}")
