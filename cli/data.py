"""`synthc data fetch`: datasets of the Hugging Face Hub, ahead of a run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from synthc.cli.compiling import json_option, print_json
from synthc.cli.console import counted, failed, say, usage
from synthc.cli.running import environment


@click.group()
def data() -> None:
    """Fetch datasets ahead of a run."""


@data.command()
@click.argument("name")
@click.option("--split", required=True, help="Which part of it: train, test, train[:1000].")
@click.option("--config", help="Which configuration, where it has several.")
@json_option
def fetch(name: str, split: str, config: str | None, as_json: bool) -> None:
    """Fetch a dataset that `read("hf:datasets/org/name", split = "train")` reads.

    It is fetched anew each time. HF_TOKEN gives access to private ones.
    """
    from synthc.compiler.plan import DATASET
    from synthc.runtime.errors import RunError
    from synthc.runtime.hub_data import fetch_data

    if not re.fullmatch(rf"{DATASET}[\w.-]+/[\w.-]+(@[\w./-]+)?", name):
        near = name.removeprefix("hf:").removeprefix("datasets/")
        help_ = f"did you mean `{DATASET}{near}`?" if near.count("/") == 1 else None
        raise usage(f"`{name}` is no dataset of the form {DATASET}org/name[@revision]", help_)
    if not sys.stderr.isatty():
        _without_bars()
    token = environment(Path()).get("HF_TOKEN", "").strip() or None
    path = f"{name}#{config}/{split}" if config else f"{name}#{split}"
    try:
        file, rows = fetch_data(path, token)
    except RunError as error:
        raise failed(error) from None
    if as_json:
        print_json({"dataset": name, "split": split, "file": str(file), "rows": rows})
    else:
        say(f"fetched {counted(rows, 'row')} of {path}")


def _without_bars() -> None:
    try:
        from datasets import disable_progress_bars
    except ImportError:
        return
    disable_progress_bars()
