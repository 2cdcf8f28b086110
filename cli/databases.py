"""The database that a command works with: which it is, whether it can be, and the old one kept aside."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli.console import failed, only_file, say, usage, visible

if TYPE_CHECKING:
    import duckdb

    from synthc.runtime.store.live import Running
    from synthc.runtime.store.results import Rows

RUN_MAKES_ONE = "`synthc run` makes one; `-d FILE` names another"

database_option = click.option(
    "-d", "database", type=click.Path(path_type=Path), help="The database (the one of this folder)."
)


def existing(database: Path | None) -> Path:
    """The database that is named, or the one of this folder. Ends the command where there is none."""
    path = database or only_file("*.duckdb", ".duckdb database", RUN_MAKES_ONE)
    if not path.exists():
        raise usage(f"there is no database {path}", RUN_MAKES_ONE)
    check(path)
    return path.absolute()


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database, to be read only. Ends the command where it cannot be opened, or the SQL is wrong."""
    from synthc.runtime.store.store import connect

    with mistakes_told(), connect(path, read_only=True) as connection:
        yield connection


@contextmanager
def answered(path: Path, query: str) -> Iterator[Rows | None]:
    """The rows of a query, asked of a database or of the run that writes it; None where SQL has none.

    Ends the command where the database cannot be opened, or the SQL is wrong.
    """
    with mistakes_told(), _asked(path, query) as (found, _):
        yield found


@dataclass(slots=True)
class Asking:
    """Asks a database, or the run that writes it: rows with their exact types.

    `run` is the one that answered, if one did. Raises duckdb.Error where the SQL is wrong, and
    RunError where the database cannot be opened.
    """

    path: Path
    run: Running | None = None

    @contextmanager
    def __call__(self, query: str) -> Iterator[Rows]:
        with _asked(self.path, query, exact=True) as (found, run):
            self.run = run
            assert found is not None
            yield found


@contextmanager
def _asked(
    path: Path, query: str, *, exact: bool = False
) -> Iterator[tuple[Rows | None, Running | None]]:
    import duckdb

    from synthc.runtime.store import live
    from synthc.runtime.store.results import exact_rows, rows
    from synthc.runtime.store.store import InUse, connect

    try:
        connection = connect(path, read_only=True)
    except InUse as used:
        answer = live.ask(path, query, exact=exact) if used.by else None
        if answer is not None:
            if answer.reply.error is not None:
                raise duckdb.Error(answer.reply.error) from None
            yield answer.rows(), answer.reply.running
            return
        connection = connect(path, read_only=True)  # the run has ended, or this says who has it
    with connection:
        relation = connection.sql(query)
        found = exact_rows if exact else rows
        yield None if relation is None else found(relation), None


@contextmanager
def reading(path: Path) -> Iterator[tuple[Callable[[str], Rows], str | None]]:
    """What answers SELECTs, and in words who writes the database, if a run does: then it answers.

    Ends the command where the database cannot be opened, or a run ends before all is asked.
    """
    import duckdb

    from synthc.runtime.store import live
    from synthc.runtime.store.results import rows
    from synthc.runtime.store.store import InUse, connect

    def of_the_run(query: str) -> Rows:
        answer = live.ask(path, query)
        if answer is None:
            raise usage("the run ended while its database was read", "call this again")
        if answer.reply.error is not None:
            raise duckdb.Error(answer.reply.error)
        return answer.rows()

    with mistakes_told():
        try:
            connection = connect(path, read_only=True)
        except InUse as used:
            if used.by is None:
                raise
            yield of_the_run, f"process {used.by.pid}, {used.by.spec}"
            return
        with connection:
            yield lambda query: rows(connection.sql(query)), None


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Ends the command, with a message, where a database cannot be used or SQL is wrong."""
    import duckdb

    from synthc.runtime.errors import RunError

    try:
        yield
    except RunError as error:
        raise failed(error) from None
    except duckdb.Error as error:
        text = str(error).strip()
        if "read-only" in text:
            help_ = "`synthc sql` and `synthc export` change nothing"
            raise usage("this SQL writes to the database", help_) from None
        raise usage(text.split("\nTraceback ", maxsplit=1)[0]) from None


def check(database: Path) -> None:
    """End the command where a path is no place for a database.

    DuckDB would take a data file for a set of views, and keep what is written to them nowhere.
    """
    if database.is_dir():
        raise usage(f"{database} is a folder, not a database")
    if not database.parent.is_dir():
        raise usage(f"there is no folder {database.parent} for the database")
    if not database.exists():
        return
    try:
        with database.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise usage(f"{database} cannot be read: {error.strerror}") from None
    if head[8:] != b"DUCK":
        raise usage(f"{database} is no DuckDB database", "name another")


def move_aside(database: Path) -> None:
    """Rename a database, and what of it is still in its log; not one that somebody writes to."""
    from synthc.runtime.errors import RunError
    from synthc.runtime.store.store import connect

    try:
        connect(database.absolute()).close()
    except RunError as error:
        raise failed(error) from None
    day = time.strftime("%Y%m%d-%H%M%S")
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (f"{database.name}.{day}{ending}" for ending in endings)
    aside = next(path for path in map(database.with_name, names) if not path.exists())
    database.rename(aside)
    log = database.with_name(f"{database.name}.wal")
    if log.exists():
        log.rename(aside.with_name(f"{aside.name}.wal"))
    say(f"the old database is {visible(str(aside))} now")
