"""A dataset folder as the Hugging Face Hub and `datasets` know it: Parquet in data/, and a card."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from synthc.runtime.errors import RunError
from synthc.runtime.exports import files
from synthc.runtime.exports.card import MARK, Configuration, Facts, card
from synthc.runtime.store import history

CARD, DATA = "README.md", "data"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the dataset, and the query that its rows come from."""

    made: history.Made
    query: str


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a dataset besides what its database knows."""

    title: str
    license: str | None = None
    tags: tuple[str, ...] = ()
    form: str | None = None


def write_folder(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[Table],
    folder: Path,
    about: About,
    *,
    replace: bool = False,
) -> tuple[Configuration, ...]:
    """Write tables and their card into a folder, whole or not at all; what it holds.

    Of a folder with a dataset of ours, `replace` allows to replace the data and the card: other files
    stay. Raises RunError where it cannot be written, and duckdb.Error.
    """
    check_free(folder, replace=replace)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as made:
            configurations = tuple(_written(connection, tables, made))
            facts = _facts(connection, configurations, about)
            (made / CARD).write_text(card(facts), encoding="utf-8")
            _put_in_place(made, folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from None
    return configurations


def check_free(folder: Path, *, replace: bool) -> None:
    """Raise RunError where something is in the way of a dataset."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, and a dataset is a folder")
    if not any(folder.iterdir()):
        return
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if MARK in (folder / CARD).read_text(encoding="utf-8"):
            if replace:
                return
            hint = "`--force` replaces its data and its card"
            raise RunError(f"there is a dataset in {folder} already", hint=hint)
    raise RunError(f"{folder} is not empty, and no dataset of synthc's", hint="name another folder")


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder beside another, which is gone in the end unless it was moved."""
    made = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=f".{folder.name[:50]}."))
    try:
        made.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _put_in_place(made: Path, folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        made.rename(folder)
        return
    old = made / "old"
    if (folder / DATA).exists():
        (folder / DATA).rename(old)
    (made / DATA).rename(folder / DATA)
    (made / CARD).replace(folder / CARD)


def _written(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[Table], folder: Path
) -> Iterator[Configuration]:
    ask = files.asking(connection)
    names = _names([table.made.name for table in tables])
    for table in tables:
        name = names[table.made.name]
        path = f"{DATA}/{name}.parquet"
        columns = tuple((c.name, str(c.type)) for c in files.columns_of(ask, table.query))
        found = files.write(ask, table.query, folder / path, "parquet")
        yield Configuration(table.made, name, path, found.rows, columns)


def _names(tables: Sequence[str]) -> Mapping[str, str]:
    """What tables are called in a dataset, where a name is that of a file too."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for table in tables:
        name = plain = re.sub(r"[^\w-]", "_", table)[:80] or "_"
        number = 2
        while name.lower() in taken:
            name, number = f"{plain}_{number}", number + 1
        taken.add(name.lower())
        found[table] = name
    return found


def _facts(
    connection: duckdb.DuckDBPyConnection, configurations: Sequence[Configuration], about: About
) -> Facts:
    runs = sorted({c.table.run_id for c in configurations})
    plans = {run: found for run in runs if (found := history.plan_of(connection, run))}
    prompts = tuple(
        prompt
        for run, plan_ in plans.items()
        for table in plan_.tables
        if any(c.table.name == table.name and c.table.run_id == run for c in configurations)
        for prompt in history.prompts(table)
    )
    return Facts(
        title=about.title,
        plan=plans[max(plans)] if plans else None,
        prompts=prompts,
        configurations=tuple(configurations),
        asked=history.asked(connection),
        cost_usd=history.cost(connection),
        simulated=history.is_simulated(connection),
        license=about.license,
        tags=about.tags,
        form=about.form,
    )
