"""`synthc sql` and `export`: looking at results, and taking them elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from synthc.cli import rows
from synthc.cli.compiling import json_option, print_json
from synthc.cli.console import counted, say, usage
from synthc.cli.databases import answered, database_option, existing, opened


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


@click.command()
@click.argument("table")
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@json_option
def export(table: str, file: Path, database: Path | None, as_json: bool) -> None:
    """Write a TABLE of the results to a .parquet, .jsonl or .csv FILE."""
    from synthc.compiler.diagnostics.problem import listed, nearest
    from synthc.runtime.store.exports import export as write

    with opened(existing(database)) as connection:
        known = [
            name
            for (name,) in connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
            ).fetchall()
        ]
        if table not in known:
            near = nearest(table, known)
            there = f"there are: {listed(known)}" if known else "there is none yet"
            raise usage(
                f"there is no table `{table}` ({there})",
                f"did you mean `{near}`?" if near else None,
            )
        count = write(connection, table, file)
    if as_json:
        print_json({"table": table, "file": str(file), "rows": count})
    else:
        say(f"exported {counted(count, 'row')} to {file}")
