"""`synthc sql`: looking at results."""

from __future__ import annotations

from pathlib import Path

import click

from synthc.cli import rows
from synthc.cli.console import say
from synthc.cli.databases import answered, database_option, existing


@click.command()
@click.argument("query")
@database_option
@click.option("--json", "form", flag_value="json", help="A JSON list of objects.")
@click.option("--csv", "form", flag_value="csv", help="CSV with a header.")
def sql(query: str, database: Path | None, form: str | None) -> None:
    """Ask the results in SQL, for example: synthc sql "FROM pairs". Works while a run writes."""
    with answered(existing(database), query) as found:
        if found is None:
            say("this SQL has no rows to show")
        else:
            rows.write(found, form)
