"""`synthc export`: results taken elsewhere, as a file, in a trainer's form, as a dataset, to the Hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthc.cli.compiling import json_option, print_json
from synthc.cli.console import counted, failed, say, usage, visible
from synthc.cli.databases import Asking, database_option, existing, mistakes_told, opened
from synthc.cli.running import environment

if TYPE_CHECKING:
    import duckdb

    from synthc.runtime.exports.card import Configuration
    from synthc.runtime.exports.files import Ask
    from synthc.runtime.exports.folder import Table
    from synthc.runtime.exports.training import Shaped
    from synthc.runtime.store.history import Made

_FORMS = ("chat", "preference", "embedding")
_FORMATS = ("parquet", "jsonl", "csv")


@click.command()
@click.argument("what", metavar="[TABLE or QUERY] [FILE]", nargs=-1)
@database_option
@click.option("--format", "format_", type=click.Choice(_FORMATS), help="Instead of FILE's ending.")
@click.option("--as", "form", type=click.Choice(_FORMS), help="The columns that trainers read.")
@click.option(
    "--column",
    "roles",
    metavar="ROLE=NAME",
    multiple=True,
    help="Which column plays a role of --as.",
)
@click.option("--conversational", is_flag=True, help="--as preference: messages, and not texts.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.option(
    "--guard-formulas",
    is_flag=True,
    help="CSV: an apostrophe before text that a spreadsheet would run.",
)
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), help="A dataset folder: data and a card."
)
@click.option("--push", "repository", metavar="ORG/NAME", help="Put the dataset on the Hub.")
@click.option("--public", is_flag=True, help="A pushed dataset that is new is public.")
@click.option("--license", "license_", metavar="ID", help="The dataset's licence, as apache-2.0.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag of the dataset's card.")
@json_option
def export(
    what: tuple[str, ...],
    database: Path | None,
    format_: str | None,
    form: str | None,
    roles: tuple[str, ...],
    conversational: bool,
    force: bool,
    guard_formulas: bool,
    folder: Path | None,
    repository: str | None,
    public: bool,
    license_: str | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write results to a file, or as a dataset.

    \b
    synthc export pairs pairs.parquet                  (or .jsonl, .csv; works while a run writes)
    synthc export "FROM pairs WHERE score > 3" best.jsonl
    synthc export pairs sft.jsonl --as chat --column user=question
    synthc export --to folder --license apache-2.0     (all tables, or those that are named)
    synthc export pairs --push org/name                (with the token in HF_TOKEN)
    """
    given = _given(roles)
    if form is None and (given or conversational):
        raise usage("`--column` and `--conversational` say how the columns of `--as` are made")
    if conversational and form != "preference":
        raise usage("`--conversational` is about `--as preference`")
    shape = None if form is None else (form, given, conversational)
    if folder is not None or repository is not None:
        if format_ or guard_formulas:
            raise usage("a dataset is of Parquet: `--format` and `--guard-formulas` are for files")
        if public and repository is None:
            raise usage("`--public` is about `--push`")
        about = (_license(license_), tuple(map(_tag, tags)))
        _dataset(existing(database), what, shape, folder, repository, public, about, force, as_json)
        return
    if public or license_ or tags:
        raise usage("`--license`, `--tag` and `--public` are for datasets: `--to` and `--push`")
    if len(what) != 2:
        raise usage(*_not_two(what, database))
    _file(
        existing(database), what[0], Path(what[1]), format_, shape, force, guard_formulas, as_json
    )


_Shape = tuple[str, dict[str, str], bool]


def _given(roles: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in roles:
        role, equals, name = text.partition("=")
        if not (role and equals and name):
            raise usage(f"`--column {text}` is not of the form `--column ROLE=NAME`")
        if role in given:
            raise usage(f"`--column {role}=` is given twice")
        given[role] = name
    return given


def _license(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", text):
        raise usage(
            f"`--license {text}` is no identifier of a licence",
            "for example apache-2.0, cc-by-4.0, mit, other",
        )
    return text and text.lower()


def _tag(text: str) -> str:
    if not re.fullmatch(r"\w[\w .:-]{0,60}", text):
        raise usage(f"`--tag {text}` is no tag: letters, digits, `-`, `_`, `.` and `:`")
    return text


def _not_two(what: tuple[str, ...], database: Path | None) -> tuple[str, str]:
    if not what:
        return (
            "a table (or a query) and a file are needed, or `--to FOLDER` for a dataset",
            "for example: synthc export pairs pairs.parquet",
        )
    if len(what) == 1:
        return (
            f"`{what[0]}` is to be exported where to?",
            f"for example: synthc export {_word(what[0])} {_stem(what[0])}.parquet",
        )
    del database
    return (
        f"one table goes to one file, and these are {len(what)} words",
        "a query stands in quotes; `--to FOLDER` takes several tables",
    )


def _word(text: str) -> str:
    return text if re.fullmatch(r"[\w.-]+", text) else f'"{text}"'


def _stem(text: str) -> str:
    return text if re.fullmatch(r"\w+", text) else "results"


# A file


def _file(
    database: Path,
    what: str,
    file: Path,
    format_: str | None,
    shape: _Shape | None,
    force: bool,
    guarded: bool,
    as_json: bool,
) -> None:
    from synthc.runtime.exports import files

    ask = Asking(database)
    with mistakes_told(), told():
        format_ = format_ or files.format_of(file)
        if guarded and format_ != "csv":
            raise usage("`--guard-formulas` is about CSV")
        if file.exists() and file.samefile(database):
            raise usage(f"{file} is the database itself")
        if file.exists() and not force and not file.is_dir():
            raise usage(f"{file} is there already", "`--force` replaces it")
        query = _query(ask, what)
        shaped = None if shape is None else _shaped(ask, query, shape)
        if shaped and shaped.has_messages and format_ == "csv":
            raise usage("CSV has no lists, and messages are one", "use .jsonl or .parquet")
        written = files.write(
            ask, shaped.query if shaped else query, file, format_, guarded=guarded
        )
    if as_json:
        document = {"table": what, "file": str(file), "rows": written.rows}
        if shape and shaped:
            document |= {"form": shape[0], "columns": shaped.taken}
        print_json(document)
    else:
        say(f"exported {counted(written.rows, 'row')} to {visible(str(file))}")
        _tell_shape(shape, shaped)
        if ask.run is not None:
            say(f"a run of {visible(ask.run.spec)} goes on: these are the rows so far")
        if written.formulas and not guarded:
            cells = "1 cell begins" if written.formulas == 1 else f"{written.formulas} cells begin"
            say(
                f"{cells} as a formula does: `--guard-formulas` before it is opened in a spreadsheet"
            )


@contextmanager
def told() -> Iterator[None]:
    """Ends the command with the message of a RunError."""
    from synthc.runtime.errors import RunError

    try:
        yield
    except RunError as error:
        raise failed(error) from None


def _query(ask: Ask, what: str) -> str:
    """The query of what is to be exported: a table by its name, or SQL."""
    from synthc.runtime.exports.files import all_of, select

    known = [
        name
        for (name,) in all_of(
            ask,
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'"
            " AND database_name = current_database()"
            " UNION SELECT view_name FROM duckdb_views() WHERE NOT internal"
            " AND schema_name IN ('main', 'temp') ORDER BY 1",
        )
    ]
    if what in known:
        return select(what)
    if re.search(r"\s", what.strip()):
        return _sound(what)
    raise _unknown(what, known)


def _unknown(table: str, known: Sequence[str]) -> Exception:
    from synthc.compiler.diagnostics.problem import listed, nearest

    near = nearest(table, known)
    there = f"there are: {listed(known)}" if known else "there is none yet"
    help_ = f"did you mean `{near}`?" if near else None
    if table.startswith("synth."):
        help_ = f'a query reaches it: "FROM {table}"'
    return usage(f"there is no table `{table}` ({there})", help_)


def _sound(query: str) -> str:
    """A query that can stand in another. Ends the command where it is none."""
    import duckdb

    from synthc.runtime.store.store import is_query

    with duckdb.connect(config={"python_enable_replacements": False}) as connection:
        connection.extract_statements(query)  # raises where it does not parse
        if not is_query(connection, query):
            raise usage("what is exported is a table, or one SELECT")
        return connection.extract_statements(query)[0].query.rstrip().rstrip(";")


def _shaped(ask: Ask, query: str, shape: _Shape) -> Shaped:
    from synthc.runtime.exports.training import shaped

    form, given, conversational = shape
    return shaped(ask, query, form, given, conversational=conversational)


def _tell_shape(shape: _Shape | None, shaped: Shaped | None) -> None:
    if shape and shaped:
        roles = ", ".join(f"{role} = {name}" for role, name in shaped.taken.items())
        say(f"the form {shape[0]}: {visible(roles)}")


# A dataset


def _dataset(
    database: Path,
    what: tuple[str, ...],
    shape: _Shape | None,
    folder: Path | None,
    repository: str | None,
    public: bool,
    about: tuple[str | None, tuple[str, ...]],
    force: bool,
    as_json: bool,
) -> None:
    from synthc.runtime.exports import hub
    from synthc.runtime.exports.folder import About, check_free, write_folder
    from synthc.runtime.store import history
    from synthc.runtime.store.store import check_format

    with told(), opened(database) as connection:
        check_format(connection, database)
        if folder is not None:
            check_free(folder, replace=force)
        tables, shaped = _tables(connection, history.made(connection), what, shape)
        token = ""
        if repository:
            token = _token(connection, database, repository)
            hub.check(repository, token, replace=force)
        said = About(repository or _title(database), *about, form=shape[0] if shape else None)
        with tempfile.TemporaryDirectory() as scratch:
            target = folder if folder is not None else Path(scratch) / "dataset"
            configurations = write_folder(connection, tables, target, said, replace=force)
            if not as_json:
                _tell(configurations, folder, shape, shaped)
            address = None
            if repository:
                address = hub.push(target, repository, token, public=public)
    if as_json:
        print_json(_document(configurations, folder, address, shape, shaped))
        return
    if address:
        say(f"pushed to {address}")
    if about[0] is None:
        say("the card names no licence: `--license ID` gives one")


def _title(database: Path) -> str:
    return database.name.split(".", maxsplit=1)[0] or database.name


def _token(connection: duckdb.DuckDBPyConnection, database: Path, repository: str) -> str:
    """The user's token. Ends the command where there is none, or nothing that may be pushed."""
    from synthc.runtime.exports import hub
    from synthc.runtime.store import history

    hub.check_name(repository)
    if history.is_simulated(connection):
        raise usage(
            f"{database.name} holds made-up answers, which mean nothing: they are not pushed",
            "`--to FOLDER` writes them here",
        )
    token = environment(database.parent).get(hub.TOKEN, "").strip()
    if not token:
        raise usage(
            f"there is no token to push with: {hub.TOKEN} is not set",
            "make one that may write at https://huggingface.co/settings/tokens",
        )
    return token


def _tables(
    connection: duckdb.DuckDBPyConnection,
    made: Sequence[Made],
    what: tuple[str, ...],
    shape: _Shape | None,
) -> tuple[list[Table], list[Shaped]]:
    from synthc.runtime.exports.files import asking as connected
    from synthc.runtime.exports.files import select
    from synthc.runtime.exports.folder import Table

    by_name = {table.name: table for table in made}
    for name in what:
        if name not in by_name and name.endswith(tuple(f".{ending}" for ending in _FORMATS)):
            raise usage(f"`{name}` is a file, and `--to` and `--push` make a dataset of tables")
        if name not in by_name:
            raise _unknown(name, [*by_name])
    if not made:
        raise usage("there is no table yet to make a dataset of", "`synthc run` makes them")
    wanted = [by_name[name] for name in dict.fromkeys(what)] or _of_last(connection, by_name)
    if shape is None:
        return [Table(table, select(table.name)) for table in wanted], []
    if not what and len(wanted) > 1:
        names = ", ".join(table.name for table in wanted)
        raise usage(f"which table is `--as` about? There are: {names}")
    shaped = [_shaped(connected(connection), select(table.name), shape) for table in wanted]
    tables = [Table(table, found.query) for table, found in zip(wanted, shaped, strict=True)]
    return tables, shaped


def _of_last(connection: duckdb.DuckDBPyConnection, made: Mapping[str, Made]) -> list[Made]:
    """The tables of the last run's spec, its results first: no older ones that the spec has no more."""
    from synthc.runtime.store import history

    run = history.last_run(connection)
    plan = None if run is None else history.plan_of(connection, run)
    names = [table.name for table in reversed(plan.tables)] if plan else [*made]
    return [made[name] for name in names if name in made] or [*made.values()]


def _tell(
    configurations: Sequence[Configuration],
    folder: Path | None,
    shape: _Shape | None,
    shaped: Sequence[Shaped],
) -> None:
    for number, configuration in enumerate(configurations):
        table = configuration.table
        name = visible(table.name)
        called = f", called {configuration.name}" if configuration.name != table.name else ""
        say(f"{name}: {counted(configuration.rows, 'row')}{called}")
        if shaped:
            _tell_shape(shape, shaped[number])
        if table.status == "partial":
            say(f"{name} is not complete: `synthc run` makes it so")
    if folder is not None:
        say(f"the dataset is {visible(str(folder))}")


def _document(
    configurations: Sequence[Configuration],
    folder: Path | None,
    address: str | None,
    shape: _Shape | None,
    shaped: Sequence[Shaped],
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "tables": [
            {"table": c.table.name, "name": c.name, "file": c.path, "rows": c.rows}
            for c in configurations
        ],
        "folder": None if folder is None else str(folder),
        "pushed": address,
    }
    if shape:
        document |= {"form": shape[0], "columns": [found.taken for found in shaped]}
    return document
