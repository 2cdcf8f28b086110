"""HTTP/1.1 to a server that is reached directly and in the clear, such as one on this machine.

The event loop itself does it: a client with a thread of its own hands each answer over to the loop's, and
where the loop is busy, that costs more than the request (`python -m bench http` measures both).
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import SplitResult, unquote_to_bytes

import httptools

from synthc.runtime.backends.protocol import CallFailed, Reply, Verdict


class Direct:
    """The connections to one server, each for one request at a time. Use it as an async context manager.

    Raises ValueError (which may quote a secret) where a header cannot be used.
    """

    def __init__(
        self, url: SplitResult, headers: Mapping[str, str], *, timeout_s: float, connect_s: float
    ) -> None:
        self._host, self._port = url.hostname or "", url.port or 80
        self._timeout_s, self._connect_s = timeout_s, connect_s
        who, _, host = url.netloc.rpartition("@")
        lines = {"host": host, "accept": "*/*", **_authorised(who), **headers}
        self._head = "".join(f"{_sound(n)}: {_sound(v)}\r\n" for n, v in lines.items()).encode()
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()
        # When the request of each runs out of time: in this order, since all have as long.
        self._due: dict[_Connection, float] = {}
        self._watch: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_raised: object) -> None:
        if self._watch:
            self._watch.cancel()
        for connection in list(self._all):
            connection.close()

    async def send(self, method: str, target: str, body: bytes | None = None) -> Reply:
        """The answer to one request. Raises CallFailed when none comes in time."""
        length = b"" if body is None else b"content-length: %d\r\n" % len(body)
        line = f"{method} {target} HTTP/1.1\r\n".encode()
        request = b"".join((line, self._head, length, b"\r\n", body or b""))
        connection = self._free.pop() if self._free else await self._connected()
        self._due[connection] = self._loop.time() + self._timeout_s
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        try:
            reply = await connection.ask(request)
        finally:
            self._due.pop(connection, None)
        if connection.reusable:
            self._free.append(connection)
        return reply

    def _look(self) -> None:
        """End what is out of time. One timer for all: one for each request takes longer than to parse its
        answer."""
        now = self._loop.time()
        while (connection := next(iter(self._due), None)) and self._due[connection] <= now:
            del self._due[connection]
            connection.late(self._timeout_s)
        due = self._due[connection] if connection else None
        self._watch = None if due is None else self._loop.call_at(due, self._look)

    async def _connected(self) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self._lost), self._host, self._port
                )
        except TimeoutError:
            raise CallFailed(Verdict.RETRY, "connection", "no connection in time") from None
        except OSError as error:
            raise CallFailed(Verdict.RETRY, "connection", _told(error)) from None
        self._all.add(connection)
        return connection

    def _lost(self, connection: _Connection) -> None:
        self._all.discard(connection)
        if connection in self._free:
            self._free.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection. `reusable` says whether another request may follow the last."""

    def __init__(self, lost: Any) -> None:
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Reply] | None = None
        self._headers: dict[str, str] = {}
        self._begun = False
        self.reusable = False

    async def ask(self, request: bytes) -> Reply:
        """The answer to a request. Raises CallFailed when none comes, whole and before it is `late`."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body = {}, list[bytes]()
        self._begun = False
        answer = self._answer = self._loop.create_future()
        self._transport.write(request)
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.done() or answer.cancelled():
                self.close()
                raise
            # It came at the last moment, and is paid for: whoever waits next is cancelled instead.
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            task.cancel()
            return answer.result()
        finally:
            self._answer = None

    def late(self, timeout_s: float) -> None:
        """No answer came in time."""
        self._fail("timeout", f"no whole answer within {timeout_s:g} s")
        self.close()

    def close(self) -> None:
        """End it, whatever is under way."""
        self.reusable = False
        self._transport.abort()

    # What asyncio tells

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nothing was asked: the next answer must not be taken for another's
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("connection", f"the answer is no HTTP: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)
        self.reusable = False
        if self._begun and not {"content-length", "transfer-encoding"} & self._headers.keys():
            self.on_message_complete()  # it ends where the connection does
        self._fail("connection", str(exc) if exc else "closed before the whole answer came")

    def _fail(self, reason: str, detail: str) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(CallFailed(Verdict.RETRY, reason, detail))

    # What the parser tells

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # the answer is still to come
            self._headers.clear()
            return
        if self._answer is None or self._answer.done():
            self.close()
            return
        self.reusable = self._parser.should_keep_alive() and not self._transport.is_closing()
        self._answer.set_result(Reply(status, self._headers, b"".join(self._body)))


def _told(error: OSError) -> str:
    """What kept a connection from being made, without the addresses that were tried."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _authorised(who: str) -> dict[str, str]:
    """The header that says what stands before the `@` of a url."""
    if not who:
        return {}
    return {"authorization": "Basic " + base64.b64encode(unquote_to_bytes(who)).decode()}


def _sound(text: str) -> str:
    """Part of a header's line: what would end the line cannot be sent."""
    if not text.isascii() or any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        raise ValueError("a header holds a sign that no header can hold")
    return text
