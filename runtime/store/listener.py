"""A run that answers for the database it writes: its user can ask it, and change nothing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import duckdb
import msgspec

from synthc.runtime.store.live import LONGEST, Question, Reply, Running, sockets
from synthc.runtime.store.results import exact, reader
from synthc.runtime.store.store import Store, cursor_of, is_query

_CHUNK = 1 << 18
_IN_MEMORY = 1 << 26
"""Bytes of an answer that are held in memory; what is more goes to a temporary file."""


@contextlib.asynccontextmanager
async def listening(store: Store, spec: str) -> AsyncIterator[None]:
    """While this is entered, the run answers. Where it cannot listen, it does without."""
    running = Running(os.getpid(), spec, datetime.datetime.now(datetime.UTC))
    with cursor_of(store.connection) as connection:
        listener = _Listener(store, connection, running)
        bound = _bound(store.path)
        if bound is None:
            yield
            return
        path, socket_ = bound
        server = await asyncio.start_unix_server(listener.meet, sock=socket_, limit=LONGEST)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            server.close()
            await listener.end()


def _bound(database: Path) -> tuple[Path, socket.socket] | None:
    """A socket that listens. One that is there was left by a process that died: only one has the database."""
    for path in sockets(database):
        listener = socket.socket(socket.AF_UNIX)
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError:
            listener.close()
        else:
            return path, listener
    return None


class _Listener:
    """Meets who connects. Queries run beside the store's thread, in connections and threads of their own."""

    def __init__(
        self, store: Store, connection: duckdb.DuckDBPyConnection, running: Running
    ) -> None:
        self._store = store
        self._connection = connection
        self._running = running
        self._met: set[asyncio.Task[None]] = set()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question."""
        task = asyncio.current_task()
        assert task
        self._met.add(task)
        try:
            with contextlib.suppress(OSError, ValueError, asyncio.CancelledError):
                await self._meet(reader, writer)
        finally:
            self._met.discard(task)
            writer.close()

    async def end(self) -> None:
        """Leave every question that is still open; afterwards nothing here uses the database."""
        for task in (met := [*self._met]):
            task.cancel()
        await asyncio.gather(*met, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = msgspec.json.decode(await reader.readline(), type=Question)
        if question.sql is None:
            writer.write(_line(Reply(self._running)))
            await writer.drain()
            return
        with (
            tempfile.SpooledTemporaryFile(_IN_MEMORY) as rows,
            cursor_of(self._connection) as cursor,
        ):
            answering = asyncio.create_task(
                asyncio.to_thread(self._answer, cursor, question.sql, question.exact, rows)
            )
            gone = asyncio.create_task(reader.read())  # a client that ends takes its question along
            try:
                await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
                left = gone.done()
            finally:
                gone.cancel()
                await _over(cursor, answering)
            if left:
                return
            writer.write(_line(answering.result()))
            await writer.drain()
            rows.seek(0)
            while chunk := rows.read(_CHUNK):
                writer.write(chunk)
                await writer.drain()

    def _answer(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, exact_types: bool, rows: IO[bytes]
    ) -> Reply:
        """Run a query, in a transaction that is undone, and put its rows into a file."""
        import pyarrow

        if not is_query(cursor, sql):
            return self._refused("while a run writes, it answers one SELECT at a time")
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            self._store.show_staged(cursor)
            relation = cursor.sql(sql)
            batches = exact(relation) if exact_types else reader(relation)
            with pyarrow.ipc.new_stream(rows, batches.schema) as stream:
                for batch in batches:
                    stream.write_batch(batch)
            return Reply(self._running, tuple(relation.columns))
        except duckdb.Error as error:
            return self._refused(str(error))
        finally:
            with contextlib.suppress(duckdb.Error):
                cursor.execute("ROLLBACK")

    def _refused(self, why: str) -> Reply:
        return Reply(self._running, error=why)


async def _over(cursor: duckdb.DuckDBPyConnection, answering: asyncio.Task[Reply]) -> None:
    """Wait until a query is over, interrupting it. Not even who is cancelled leaves before."""
    cancelled = False
    while not answering.done():
        cursor.interrupt()
        try:
            await asyncio.wait([answering], timeout=0.02)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _line(reply: Reply) -> bytes:
    return msgspec.json.encode(reply) + b"\n"
