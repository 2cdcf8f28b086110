"""A database that a run writes, seen from other processes: DuckDB does not open it for them, the run answers.

A run listens on a Unix socket that only its user can reach. Who connects sends a `Question` as a line of
JSON, and gets a `Reply` as one; the rows, where it asked for some, follow as a stream of Arrow's.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from synthc.runtime.store.results import Rows

if TYPE_CHECKING:
    import pyarrow

PATIENCE_S = 5.0
"""Seconds in which a run says that it is there, however busy it is."""

LONGEST = 1 << 24
"""Bytes of a question at most."""


class Running(msgspec.Struct, frozen=True):
    """The run that writes a database: its process, its spec, and since when (with its zone)."""

    pid: int
    spec: str
    since: datetime.datetime


class Question(msgspec.Struct, frozen=True):
    """SQL to be answered, with the `exact` types of its columns if need be; None asks only who is there."""

    sql: str | None = None
    exact: bool = False


class Reply(msgspec.Struct, frozen=True):
    """Who answers. `names` are the columns of the rows that follow, `error` is why none do.

    The names stand here since those of a stream need not differ from one another.
    """

    running: Running
    names: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and what followed it, in a file that is gone when it is closed."""

    reply: Reply
    stream: IO[bytes]

    def rows(self) -> Rows:
        """The rows of a reply without an `error`, once."""
        import pyarrow

        found = pyarrow.ipc.open_stream(self.stream)
        return Rows(self.reply.names, found.schema, self._batches(found))

    def _batches(self, found: pyarrow.RecordBatchReader) -> Iterator[pyarrow.RecordBatch]:
        with self.stream, found:
            yield from found


def who(database: Path) -> Running | None:
    """The run that writes a database, None where nobody says so."""
    with contextlib.suppress(OSError, msgspec.DecodeError), _connected(database) as connection:
        connection.settimeout(PATIENCE_S)
        with _asked(connection, Question()) as lines:
            return msgspec.json.decode(lines.readline(), type=Reply).running
    return None


def ask(database: Path, sql: str, *, exact: bool = False) -> Answer | None:
    """What the run that writes a database answers to SQL, None where nobody does, or only in part."""
    with contextlib.suppress(OSError, msgspec.DecodeError), _connected(database) as connection:
        with _asked(connection, Question(sql, exact)) as lines:
            reply = msgspec.json.decode(lines.readline(), type=Reply)
            stream = tempfile.TemporaryFile()  # noqa: SIM115 - closed when its rows are read
            shutil.copyfileobj(lines, stream)
        stream.seek(-min(stream.tell(), len(_END)), os.SEEK_END)
        if reply.error is not None or stream.read() == _END:
            stream.seek(0)
            return Answer(reply, stream)
        stream.close()
    return None


_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How Arrow ends a stream."""


def _asked(connection: socket.socket, question: Question) -> IO[bytes]:
    connection.sendall(msgspec.json.encode(question) + b"\n")
    return connection.makefile("rb")


@contextlib.contextmanager
def _connected(database: Path) -> Iterator[socket.socket]:
    """A connection to the run that writes a database. Raises OSError where there is none."""
    for path in sockets(database):
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(path))
            except OSError:
                continue
            yield connection
            return
    raise FileNotFoundError(database)


def sockets(database: Path) -> Iterator[Path]:
    """Where the run that writes a database can listen: in folders that are the user's own, made if need be.

    A socket's path can have 107 bytes (on some systems 103): the name is a digest of the database's.
    """
    if not hasattr(socket, "AF_UNIX"):  # Windows
        return
    name = hashlib.blake2b(os.fsencode(os.path.realpath(database)), digest_size=8).hexdigest()
    for folder in _folders():
        if _private(folder):
            yield folder / f"{name}.socket"


def _folders() -> Iterator[Path]:
    from platformdirs import user_runtime_dir

    with warnings.catch_warnings():  # that it is a substitute, is no matter here
        warnings.simplefilter("ignore")
        yield Path(user_runtime_dir("synthc", appauthor=False))
    yield Path(tempfile.gettempdir()) / f"synthc-{os.getuid()}"


def _private(folder: Path) -> bool:
    """Whether nobody else can reach into a folder, which is made where it is not there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found, above = folder.lstat(), folder.parent.lstat()
    except OSError:
        return False
    ours = folder.is_dir() and not folder.is_symlink() and found.st_uid == os.getuid()
    return ours and not found.st_mode & 0o077 and above.st_uid in (os.getuid(), 0)
