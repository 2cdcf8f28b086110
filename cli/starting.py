"""`synthc init`: a folder with a spec that runs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from synthc.cli.compiling import json_option, print_json
from synthc.cli.console import command, say, usage

FILES = ("quickstart.synth", "topics.jsonl")


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Make a folder with a spec that runs, and its data."""
    files = [folder / name for name in FILES]
    there = next((file for file in files if file.exists()), None)
    if there:
        raise usage(f"{there} is there already; nothing was written", "name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            source = resources.files("synthc.specs").joinpath("examples", file.name)
            file.write_bytes(source.read_bytes())
    except FileExistsError:
        raise usage(f"{folder} is a file, not a folder") from None
    except OSError as error:
        raise usage(f"{folder} cannot be written: {error.strerror}") from None
    if as_json:
        print_json({"files": [str(file) for file in files]})
    else:
        say(f"wrote {command(*files)}")
        say(f"next: {command('synthc', 'run', files[0])}")
