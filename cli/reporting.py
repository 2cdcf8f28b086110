"""`synthc report`: one HTML page about a database."""

from __future__ import annotations

from pathlib import Path

import click

from synthc.cli.compiling import json_option, print_json
from synthc.cli.console import say, usage, visible
from synthc.cli.databases import database_option, existing, reading


@click.command()
@database_option
@click.option(
    "-o", "output", type=click.Path(path_type=Path), help="The page (NAME.html beside it)."
)
@click.option("--open", "to_open", is_flag=True, help="Open it in the browser.")
@json_option
def report(database: Path | None, output: Path | None, to_open: bool, as_json: bool) -> None:
    """Write one HTML page: tables, rows with every prompt and answer, failures, costs.

    It needs no network and can be sent to anybody. Works while a run writes.
    """
    from synthc.cli.report.gather import gather
    from synthc.cli.report.page import MARK, page
    from synthc.runtime.exports.files import whole

    path = existing(database)
    target = output or path.with_suffix(".html")
    _check(target, MARK)
    with reading(path) as (query, running):
        contents = gather(query, path.name, running)
    text = page(contents).encode()
    with whole(target) as file:
        file.write(text)
    if as_json:
        print_json({"file": str(target), "database": str(path), "bytes": len(text)})
    else:
        say(f"wrote {visible(str(target))}, {len(text) / 1e6:.1f} MB")
        if not to_open:
            say("next: open it in a browser; `--open` does that")
    if to_open:
        click.launch(str(target))


def _check(target: Path, mark: str) -> None:
    """End the command where a page cannot be written, or would replace what is no report."""
    if target.is_dir():
        raise usage(f"{target} is a folder", "name a file: `-o report.html`")
    if not target.parent.is_dir():
        raise usage(f"there is no folder {target.parent} for the report")
    if not target.exists():
        return
    with target.open("rb") as file:
        if file.read(len(mark)) != mark.encode():
            raise usage(
                f"{target} is there, and is no report of synthc's", "name another with `-o`"
            )
