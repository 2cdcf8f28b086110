"""The store: one DuckDB file with the user's tables in `main` and everything about runs in `synth`.

Nothing here is asynchronous: a run calls it from one thread (`Journal`), so that the event loop never
waits for the disk and DuckDB sees one writer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from msgspec import Struct

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.errors import RunError, Stopped
from synthc.runtime.store import arrow, live, schema, seen
from synthc.runtime.store.schema import FORMAT

if TYPE_CHECKING:
    import numpy as np

Ordinal = int | tuple[int, ...]
"""A row's place in its table's order: among those of its source, or behind those it came from."""

ORDINAL, POSITION, KEY = "·ordinal", "·position", "·key"
"""What stands beside the columns of a spec, which have no such names."""


ROW_GROUP = 8_192
"""Rows that DuckDB holds, compresses and writes as one piece. With its own 122,880 a checkpoint, which
writes the last piece of each table anew, took 100 MB for a moment, and vectors ten times that."""

_PART = 2 * ROW_GROUP
"""Rows that are put in their order at once. Fewer where they hold vectors."""

STAGING = '"·staging"'
"""Sources, and tables that are being made, stand in memory, where cursors see them: TEMP is of one
connection. `settle` makes them small."""

_SETTLE_BYTES = 1 << 25
_HELD = "32MB"
"""After so many new bytes all but this much leaves the memory."""


def staged(number: int) -> str:
    """Where the rows come together of the table that was begun by the number."""
    return f"{STAGING}.rows_{number}"


def gone(number: int) -> str:
    """Where it is noted of that table's rows that ended otherwise what became of them."""
    return f"{STAGING}.gone_{number}"


def stored(table: plan.Table) -> str:
    """Where a table stands, as SQL names it."""
    return f"{'synth' if table.hidden else 'main'}.{types.quote(table.name)}"


def keyed(table: plan.Table) -> str:
    """The end of a query of a finished table that sees its rows' positions and keys too."""
    name = table.name.replace("'", "''")
    return (
        f'FROM {stored(table)} POSITIONAL JOIN (SELECT position AS "{POSITION}", row_key AS "{KEY}"'
        f" FROM synth.rows WHERE table_name = '{name}' AND status = 'kept' ORDER BY position)"
    )


def staged_fields(table: plan.Table) -> tuple[Field, ...]:
    """The columns of a table while its rows come in any order: where each belongs, its key, its own."""
    return (*_whose(table), *(Field(o.name, o.type) for o in table.outputs))


def gone_fields(table: plan.Table) -> tuple[Field, ...]:
    """What is noted of a row that is not in the table in the end."""
    return (*_whose(table), Field("status", types.Text()))


def _whose(table: plan.Table) -> tuple[Field, Field]:
    ordinal = types.ListOf(types.Int()) if _forks(table) else types.Int()
    return Field(ORDINAL, ordinal), Field(KEY, types.Text())


def _forks(table: plan.Table) -> bool:
    return any(isinstance(op, plan.Unnest) for op in table.ops)


class StoredAnswer(Struct, frozen=True, gc=False):
    """An answer that was paid for: what an ask needs of it."""

    text: str
    model: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a table's rows. `rows_in` is the sum of the others."""

    rows_in: int = 0
    kept: int = 0
    dropped: int = 0
    failed: int = 0
    not_asked: int = 0


class Store:
    """An open database. Raises RunError where the file cannot be used."""

    def __init__(
        self, path: Path, readable: Sequence[Path] = (), *, simulated: bool = False
    ) -> None:
        """Open or make the database; its SQL can read the files of `readable` and no others."""
        self.path = path
        new = not path.exists()
        if not new:
            # To open a database for writing can change it: its log is put into the file.
            with connect(path, read_only=True) as looking:
                if not is_empty(looking):
                    check_format(looking, path)
        self._connection = _connect_to_write(path)
        try:
            if new or is_empty(self._connection):  # left by a run that was killed as it began
                with transaction(self._connection):
                    self._connection.execute(schema.create())
                    self._connection.execute(
                        "INSERT INTO synth.meta VALUES (?, ?)", [FORMAT, simulated]
                    )
            check_format(self._connection, path)
            check_simulated(self._connection, path, simulated=simulated)
            # What is not checkpointed lives in memory. More often would stall commits more often.
            self._connection.execute("SET wal_autocheckpoint = '8MB'")
            self._connection.execute("SET write_buffer_row_group_count = 1")
            # Pieces that are not full stay so: to join them takes them all into memory once more.
            self._connection.execute("SET max_vacuum_tasks = 0")
            with contextlib.suppress(duckdb.InvalidInputException):  # a notebook that can show none
                self._connection.execute("SET enable_progress_bar = false")
            self._connection.execute(
                f"ATTACH ':memory:' AS {STAGING} (COMPRESS, ROW_GROUP_SIZE {ROW_GROUP})"
            )
            self._connection.execute("SET temp_directory = ?", [f"{path}.tmp"])
            self._connection.execute("SET allowed_configs = ['memory_limit', 'max_vacuum_tasks']")
            self._connection.execute("SET allowed_paths = ?", [[str(file) for file in readable]])
            self._connection.execute("SET enable_external_access = false")
            self._connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            self._connection.close()
            raise unusable(path, error) from None
        except RunError:
            self._connection.close()
            raise
        self.run_id = 0
        self._unsettled = 0
        self._schemas: dict[str, Any] = {}
        self._begun: dict[int, plan.Table] = {}

    def close(self) -> None:
        """Write everything into the file itself, and close it.

        Where there is no room for that, it stays in the log beside the file: nothing is lost.
        """
        with contextlib.suppress(duckdb.Error):
            # A few are joined now: many small runs would leave many small pieces.
            self._connection.execute("SET max_vacuum_tasks = 1")
        with contextlib.suppress(duckdb.Error):
            self._connection.close()
        with contextlib.suppress(OSError):  # DuckDB leaves it, empty, where a run was killed
            Path(f"{self.path}.tmp").rmdir()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """For reading sources and exporting, on the store's own thread."""
        return self._connection

    # Runs and tables

    def start_run(self, plan_: plan.Plan) -> None:
        """Note that a run begins."""
        row = first(self._connection, "SELECT coalesce(max(run_id), 0) FROM synth.runs")
        self.run_id = (row[0] if row else 0) + 1
        self._connection.execute(
            "INSERT INTO synth.runs VALUES (?, ?, ?, ?, ?, NULL, 'running')",
            [self.run_id, plan_.spec, plan_.seed, plan.encode(plan_).decode(), now()],
        )
        for backend in plan_.backends:
            if backend.price:
                price = backend.price.input_usd_per_mtok, backend.price.output_usd_per_mtok
                self._connection.execute(
                    "INSERT INTO synth.prices VALUES (?, ?, ?, ?)",
                    [self.run_id, backend.name, *price],
                )

    def finish_run(self, status: str) -> None:
        """Note how the run ended, if anything can still be noted: `done`, `stopped` or `interrupted`
        (`preview`, where only its calls are kept here)."""
        with contextlib.suppress(duckdb.Error):
            self._connection.execute(
                "UPDATE synth.runs SET ended_at = ?, status = ? WHERE run_id = ?",
                [now(), status, self.run_id],
            )

    def done(
        self, table: plan.Table, fingerprint: str, parents: Sequence[str] = ()
    ) -> Counts | None:
        """The counts of a table that is complete and made of just these things, else None.

        Not of one that is older than one of its `parents`, the tables that it was made from.
        """
        row = first(
            self._connection,
            "SELECT rows_in, kept, dropped, failed, not_asked FROM synth.tables"
            " WHERE table_name = $name AND fingerprint = $fingerprint AND status = 'done'"
            " AND run_id >= coalesce((SELECT max(run_id) FROM synth.tables"
            " WHERE list_contains($parents, table_name)), 0)",
            {"name": table.name, "fingerprint": fingerprint, "parents": list(parents)},
        )
        return Counts(*row) if row and _exists(self._connection, table) else None

    def finished(self, table: plan.Table) -> bool:
        """Whether a complete table stands in its place, of these things or of others."""
        return _finished(self._connection, table)

    # Rows on their way

    def begin(self, number: int, table: plan.Table) -> None:
        """Make room for a table's rows, which come in any order; forget what a run that was killed left."""
        if table.hidden and table.name in schema.OURS:  # a plan can be edited by hand
            raise RunError(f"no table can be called `synth.{table.name}`", span=table.span)
        execute = self._connection.execute
        for name, fields in (
            (staged(number), staged_fields(table)),
            (gone(number), gone_fields(table)),
        ):
            execute(f"CREATE OR REPLACE TABLE {name} ({schema.columns(fields)})")
        self._begun[number] = table
        for ours in schema.OF_ONE_TABLE:
            execute(
                f"DELETE FROM synth.{ours} WHERE table_name = $name AND run_id IS DISTINCT FROM"
                " (SELECT run_id FROM synth.tables WHERE table_name = $name)",
                {"name": table.name},
            )

    def append(self, target: str, fields: Sequence[Field], rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows, of which each has a value for each field, to a table in one statement, through Arrow."""
        if not rows:
            return
        made = self._schemas.get(target)
        if made is None:
            made = self._schemas[target] = arrow.schema(self._connection, fields)
        batch = arrow.table(list(zip(*rows, strict=True)), fields, made)
        self._unsettled += batch.nbytes
        self._connection.register("synth_batch", batch)
        self._connection.execute(f"INSERT INTO {target} BY NAME SELECT * FROM synth_batch")
        self._connection.unregister("synth_batch")

    def settle(self, *, now: bool = False) -> None:
        """Make small what is staged, if much is new or it is to be `now`. Between transactions."""
        if not now and self._unsettled < _SETTLE_BYTES:
            return
        self._unsettled = 0
        with contextlib.suppress(duckdb.TransactionException):  # it is being read: another time
            self._connection.execute(f"CHECKPOINT {STAGING}")
        self._leave_memory()

    def _leave_memory(self) -> None:
        """Let go of what can be read again, and put what is staged into a file for the time being.

        DuckDB keeps all that it ever read or wrote until its limit, most of the machine's memory, is
        reached. A lower limit for a moment makes it let go; for queries the limit stays what it was.
        """
        with contextlib.suppress(duckdb.Error):  # it has let go of what it could
            self._connection.execute(f"SET memory_limit = '{_HELD}'")
        self._connection.execute("RESET memory_limit")

    def publish(
        self, number: int, table: plan.Table, fingerprint: str, status: str, counts: Counts
    ) -> None:
        """Put the table in place, whole: its rows in their source's order, its keys, its counts."""
        with transaction(self._connection):
            self._put_in_place(number, table)
            self._forget(table, "<>")
            self._connection.execute("DELETE FROM synth.tables WHERE table_name = ?", [table.name])
            self._connection.execute(
                "INSERT INTO synth.tables VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [table.name, fingerprint, status, self.run_id, *dataclasses.astuple(counts)],
            )
        self._end(number)

    def withdraw(self, number: int, table: plan.Table) -> None:
        """Leave the table that is in place as it is: what came together here is not complete."""
        with transaction(self._connection):
            self._forget(table, "=")
        self._end(number)

    def _forget(self, table: plan.Table, runs: str) -> None:
        """Forget what is known of a table's rows from this run (`=`), or from the others (`<>`)."""
        for ours in schema.OF_ONE_TABLE:
            self._connection.execute(
                f"DELETE FROM synth.{ours} WHERE table_name = ? AND run_id {runs} ?",
                [table.name, self.run_id],
            )

    def _end(self, number: int) -> None:
        del self._begun[number]
        self._connection.execute(f"DROP TABLE {staged(number)}")
        self._connection.execute(f"DROP TABLE {gone(number)}")

    def _put_in_place(self, number: int, table: plan.Table) -> None:
        """In parts: to sort the rows of a large table all at once takes them into memory once more."""
        execute = self._connection.execute
        fields = [Field(output.name, output.type) for output in table.outputs]
        columns = ", ".join(types.quote(field.name) for field in fields)
        execute(f"CREATE OR REPLACE TABLE {stored(table)} ({schema.columns(fields)})")
        execute("DELETE FROM synth.rows WHERE table_name = ?", [table.name])
        ended = (
            f"""(SELECT "{ORDINAL}", "{KEY}", 'kept' AS status FROM {staged(number)}"""
            f" UNION ALL FROM {gone(number)})"
        )
        at = f'"{ORDINAL}"[1]' if _forks(table) else f'"{ORDINAL}"'
        last = first(self._connection, f"SELECT max({at}) FROM {ended}")
        floats = sum(f.type.size for f in fields if isinstance(f.type, types.Vector))
        step = max(1, _PART // (1 + floats // 16))
        rows = kept = 0
        for start in range(0, 1 + (last[0] if last and last[0] is not None else -1), step):
            part = f'WHERE {at} >= {start} AND {at} < {start + step} ORDER BY "{ORDINAL}"'
            # Rows that were forked have no number of their own: they are counted.
            counted = f'{rows} + row_number() OVER (ORDER BY "{ORDINAL}") - 1'
            position = f"{kept} + row_number() OVER (PARTITION BY status = 'kept' ORDER BY \"{ORDINAL}\") - 1"
            execute(f"INSERT INTO {stored(table)} SELECT {columns} FROM {staged(number)} {part}")
            kept += self._connection.fetchall()[0][0]
            execute(
                f'INSERT INTO synth.rows SELECT ?, "{KEY}", {counted if _forks(table) else at},'
                f" CASE WHEN status = 'kept' THEN {position} END, status FROM {ended} {part}",
                [table.name],
            )
            rows += self._connection.fetchall()[0][0]
            self._leave_memory()

    def show_staged(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Let a cursor see the rows so far of tables that are being made, where no complete one stands.

        In a transaction of the cursor's: it sees what is staged first, and what stands in the database
        afterwards, so that a table that is put in its place meanwhile is in one of the two.
        """
        begun = [(number, table) for number, table in [*self._begun.items()] if not table.hidden]
        for number, table in begun:
            columns = ", ".join(types.quote(output.name) for output in table.outputs)
            with contextlib.suppress(duckdb.CatalogException):  # it is in its place by now
                cursor.execute(
                    f"CREATE TEMP VIEW {types.quote(table.name)} AS"
                    f' SELECT {columns} FROM {staged(number)} ORDER BY "{ORDINAL}"'
                )
        for _, table in begun:
            if _finished(cursor, table):
                cursor.execute(f"DROP VIEW IF EXISTS temp.{types.quote(table.name)}")

    # Calls

    def prefixes(self) -> list[int]:
        """The first bytes of the digests of all calls and vectors, as `Seen` wants them."""
        rows = self._connection.execute(
            f"SELECT DISTINCT ('0x' || left(hex(digest), {2 * seen.BYTES}))::BIGINT"
            " FROM (SELECT digest FROM synth.calls UNION ALL SELECT digest FROM synth.vectors)"
        ).fetchall()
        return [prefix for (prefix,) in rows]

    def answers(self, digests: Iterable[bytes]) -> dict[bytes, StoredAnswer]:
        """The answers that are there already, by call identity: one query for many."""
        with self._wanted(digests):
            rows = self._connection.execute(
                "SELECT digest, answer, model, finish_reason FROM synth.calls"
                " SEMI JOIN synth_wanted USING (digest) WHERE superseded_by IS NULL"
            ).fetchall()
        return {bytes(digest): StoredAnswer(*rest) for digest, *rest in rows}

    def vectors(self, digests: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there already, by digest: float32, one query for many."""
        with self._wanted(digests):
            found = self._connection.sql(
                "SELECT digest, vector FROM synth.vectors SEMI JOIN synth_wanted USING (digest)"
            ).to_arrow_table()
        keys, vectors = (column.combine_chunks() for column in found.columns)
        return {
            key: vector.values.to_numpy()
            for key, vector in zip(keys.to_pylist(), vectors, strict=True)
        }

    @contextlib.contextmanager
    def _wanted(self, digests: Iterable[bytes]) -> Iterator[None]:
        self._connection.register("synth_wanted", arrow.binary_column("digest", list(digests)))
        yield
        self._connection.unregister("synth_wanted")


class transaction:  # noqa: N801 - reads as a keyword
    """`with transaction(connection):` commits at its end, or leaves everything as it was."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN TRANSACTION")

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
            return
        with contextlib.suppress(duckdb.Error):  # what went wrong matters, and may have ended it
            self._connection.execute("ROLLBACK")


def _exists(connection: duckdb.DuckDBPyConnection, table: plan.Table) -> bool:
    row = first(
        connection,
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = ? AND table_name = ?",
        ["synth" if table.hidden else "main", table.name],
    )
    return row is not None


def _finished(connection: duckdb.DuckDBPyConnection, table: plan.Table) -> bool:
    complete = first(
        connection,
        "SELECT 1 FROM synth.tables WHERE table_name = ? AND status IN ('done', 'stale')",
        [table.name],
    )
    return complete is not None and _exists(connection, table)


def first(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    values: Sequence[Any] | Mapping[str, Any] = (),
) -> tuple[Any, ...] | None:
    """The first row of a small result, read to its end: an unread one would block the connection."""
    rows = connection.execute(query, values or None).fetchall()
    return rows[0] if rows else None


def is_query(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Whether SQL is one SELECT, which can stand in brackets, and changes nothing."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error:
        return False
    return [statement.type for statement in statements] == [duckdb.StatementType.SELECT]


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a database file. Raises RunError where it cannot be."""
    try:
        return duckdb.connect(
            str(path), read_only=read_only, config={"python_enable_replacements": False}
        )
    except duckdb.Error as error:
        raise unusable(path, error) from None


def _connect_to_write(path: Path) -> duckdb.DuckDBPyConnection:
    """Open or make a database file, whose tables get pieces of `ROW_GROUP` rows. Raises RunError."""
    connection = duckdb.connect(config={"python_enable_replacements": False})
    # As DuckDB calls a file that is opened alone, but for the names that it has taken already.
    name = types.quote(path.stem + ("_db" if path.stem in ("memory", "system", "temp") else ""))
    file = str(path).replace("'", "''")
    try:
        # Only a file that is attached can be told how large the pieces are.
        connection.execute(f"ATTACH '{file}' AS {name} (ROW_GROUP_SIZE {ROW_GROUP})")
        connection.execute(f"USE {name}")
    except duckdb.Error as error:
        connection.close()
        raise unusable(path, error) from None
    return connection


def cursor_of(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A connection of its own to the same tables: a cursor alone begins in another database."""
    database = first(connection, "SELECT current_database()")
    assert database is not None
    cursor = connection.cursor()
    cursor.execute(f"USE {types.quote(database[0])}")
    return cursor


def is_empty(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether nothing was ever made in a database."""
    made = "duckdb_tables() UNION ALL SELECT 1 FROM duckdb_views() WHERE NOT internal"
    row = first(connection, f"SELECT count(*) FROM (SELECT 1 FROM {made})")
    return row == (0,)


def check_format(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise RunError where a database is not one of ours, or of another format version."""
    try:
        row = first(connection, "SELECT format FROM synth.meta")
    except duckdb.Error:
        raise RunError(
            f"{path.name} is no database of synthc's",
            hint="choose another with `-d FILE`; this one was not touched",
        ) from None
    if row is None or row[0] != FORMAT:
        found = row[0] if row else "none"
        raise RunError(
            f"{path.name} has the format {found}, and this version of synthc writes {FORMAT}",
            hint="use the version that made it, or `--fresh` to move it aside; it was not touched",
        )


def check_simulated(connection: duckdb.DuckDBPyConnection, path: Path, *, simulated: bool) -> None:
    """Raise RunError where made-up answers would be mixed with real ones."""
    row = first(connection, "SELECT simulated FROM synth.meta")
    if row is not None and row[0] != simulated:
        held, wanted = ("simulated", "real") if row[0] else ("real", "simulated")
        raise RunError(
            f"{path.name} holds {held} answers, and this run would add {wanted} ones",
            hint="choose another database with `-d FILE`; this one was not touched",
        )


UNWRITABLE = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,
)
"""How DuckDB says that nothing more can be written."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in words why a database cannot be written any more: Stopped, or RunError if it is damaged."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error).split("\n", maxsplit=1)[0].replace(str(path), path.name)
        text = text.split("Error: ", 1)[-1]
        if _CORRUPT in text:
            raise _damaged(path) from error
        if not isinstance(error, UNWRITABLE):
            raise
        remedy = f"let {path.name} and its folder be written to" if _denied(text) else "make room"
        raise Stopped(
            f"{path.name} cannot be written: {text}",
            hint=remedy,
        ) from error


_CORRUPT = "Corrupt database"


def _denied(text: str) -> bool:
    return "Permission denied" in text or "Read-only file system" in text


def _damaged(path: Path) -> RunError:
    return RunError(
        f"{path.name} is damaged",
        hint="`synthc export` and `synthc sql` get what can still be read; `--fresh` moves it aside",
    )


def unusable(path: Path, error: duckdb.Error) -> RunError:
    """Why a database file cannot be used, in words."""
    text = str(error).replace(str(path), path.name)
    if "set lock on file" in text or "used by another process" in text:
        return _in_use(path, text)
    if "Corrupt WAL" in text:
        return RunError(
            f"{path.name}.wal, the log of {path.name}, is damaged",
            hint="without it the database is as it was when a run ended last: move the log away for that",
        )
    if _denied(text):
        return RunError(
            f"{path.name} cannot be written: permission denied",
            hint="let it and its folder be written to, or choose another with `-d FILE`",
        )
    if any(
        sign in text for sign in ("not a valid DuckDB", "magic bytes", "Serialization", _CORRUPT)
    ):
        return RunError(
            f"{path.name} is no DuckDB database, or it is damaged",
            hint="move it away, or choose another with `-d FILE`; it was not touched",
        )
    return RunError(f"{path.name} cannot be opened: {text.split(chr(10), maxsplit=1)[0]}")


class InUse(RunError):
    """Another process has the database open. `by` is the run that answers for it, if it is one."""

    by: live.Running | None = None


def _in_use(path: Path, text: str) -> InUse:
    running = live.who(path)
    if running:
        since = running.since.astimezone().strftime("%Y-%m-%d %H:%M")
        found = InUse(
            f"a run of {running.spec} writes {path.name} (process {running.pid}, since {since})",
            hint="wait until it ends, or stop it, and continue it later; `synthc sql` works meanwhile",
        )
        found.by = running
        return found
    process = re.search(r"\(PID (\d+)\)", text)
    number = f" ({process[1]})" if process else ""
    return InUse(
        f"{path.name} is in use by another process{number}",
        hint="wait until that ends, or stop it; a run can be continued",
    )


def now() -> datetime.datetime:
    """The time, in UTC, as DuckDB's TIMESTAMP takes it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
