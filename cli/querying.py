"""`synthc sql` and `export`: looking at results, and taking them elsewhere."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthc.cli.console import failed, only_file, say, usage, visible

if TYPE_CHECKING:
    import duckdb

database_option = click.option(
    "-d", "database", type=click.Path(path_type=Path), help="The database (the one of this folder)."
)
SHOWN_ROWS = 100
SHOWN_CHARACTERS = 200


@contextmanager
def _opened(database: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """The database, to be read only. Ends the command where it cannot be opened."""
    from synthc.runtime.errors import RunError
    from synthc.runtime.store import connect

    path = database or only_file("*.duckdb", ".duckdb database")
    if not path.is_file():
        raise usage(f"there is no database {path}; `synthc run` makes one")
    try:
        connection = connect(path, read_only=True)
    except RunError as error:
        raise failed(error) from None
    with connection:
        yield connection


@click.command()
@click.argument("query")
@database_option
@click.option("--json", "form", flag_value="json", help="A JSON list of objects.")
@click.option("--csv", "form", flag_value="csv", help="CSV with a header.")
def sql(query: str, database: Path | None, form: str | None) -> None:
    """Ask the results in SQL, for example: synthc sql "FROM pairs"."""
    import duckdb

    with _opened(database) as connection:
        try:
            relation = connection.sql(query)
            if relation is None:
                say("done")
                return
            names = relation.columns
            reader = relation.to_arrow_reader(10_000)
            rows = (tuple(row.values()) for batch in reader for row in batch.to_pylist())
            _print(names, rows, form)
        except duckdb.Error as error:
            raise usage(visible(str(error))) from None


def _print(names: list[str], rows: Iterator[tuple[Any, ...]], form: str | None) -> None:
    if form == "json":
        click.echo("[", nl=False)
        for number, row in enumerate(rows):
            record = dict(zip(names, row, strict=True))
            click.echo(
                ("," if number else "")
                + "\n"
                + json.dumps(record, ensure_ascii=False, default=str),
                nl=False,
            )
        click.echo("\n]")
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    else:
        _print_table(names, rows)


def _print_table(names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown: list[tuple[Any, ...]] = []
    more = 0
    for row in rows:
        if len(shown) < SHOWN_ROWS:
            shown.append(row)
        else:
            more += 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in names:
        table.add_column(Text(visible(name)), overflow="fold")
    for row in shown:
        # Text, not markup: what a model wrote is shown, never obeyed.
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(table)
    total = len(shown) + more
    count = f"{total} row{'s' if total != 1 else ''}"
    say(f"{count}, the first {SHOWN_ROWS} shown" if more else count)


def _cell(value: Any) -> str:
    """A value in a few words: vectors by their beginning, long texts cut."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.6g}"
        case list() if len(value) > 8 and all(isinstance(item, float) for item in value):
            start = ", ".join(f"{item:.3f}" for item in value[:3])
            return f"[{start}, … {len(value)} in all]"
        case list() | dict():
            text = json.dumps(value, ensure_ascii=False, default=str)
        case _:
            text = str(value)
    text = visible(text)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 2] + " …"


@click.command()
@click.argument("table")
@click.argument("file", type=click.Path(path_type=Path))
@database_option
def export(table: str, file: Path, database: Path | None) -> None:
    """Write a TABLE of the results to a FILE (.parquet, .jsonl or .csv)."""
    from synthc.compiler.diagnostics.problem import listed, nearest
    from synthc.runtime.errors import RunError
    from synthc.runtime.exports import export as write

    with _opened(database) as connection:
        known = [
            name
            for (name,) in connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
            ).fetchall()
        ]
        if table not in known:
            near = nearest(table, known)
            meant = f"; did you mean `{near}`?" if near else ""
            raise usage(f"there is no table `{table}` (there are: {listed(known)}{meant})")
        try:
            count = write(connection, table, file)
        except RunError as error:
            raise failed(error) from None
    say(f"exported {count} rows to {file}")
