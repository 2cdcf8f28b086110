"""HTTP without a library between: what servers may send, and what they must not get away with."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from synthc.runtime.backends.http import Http
from synthc.runtime.backends.protocol import CallFailed

Result = TypeVar("Result")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Scripted:
    """A server that sends what it is told to, one item a request; None closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if b"content-length" not in answer and b"chunked" not in answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def reached(
    server: Scripted, *, who: str = "", timeout_s: float = 5.0, path: str = "/v1"
) -> AsyncIterator[Http]:
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = f"http://{who}127.0.0.1:{port}{path}"
        async with Http(url, {"x-key": "k"}, timeout_s=timeout_s) as http:
            yield http


def asked(server: Scripted, use: Callable[[Http], Awaitable[Result]], **how: str | float) -> Result:
    async def run() -> Result:
        async with reached(server, **how) as http:  # pyright: ignore[reportArgumentType]
            return await use(http)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
    ids=["length", "chunked", "until the end", "after a 100"],
)
def test_an_answer_is_read_whole(answer: bytes) -> None:
    server = Scripted(answer)
    reply = asked(server, lambda http: http.post("/chat", b"{}"))
    assert (reply.status, reply.body) == (200, b"ok")
    (request,) = server.requests
    assert request.startswith(b"POST /v1/chat HTTP/1.1\r\n") and request.endswith(b"\r\n\r\n{}")
    assert b"\r\nx-key: k\r\n" in request


def test_a_connection_is_used_again() -> None:
    async def thrice(http: Http) -> list[bytes]:
        return [(await http.post("/chat", b"{}")).body for _ in range(3)]

    server = Scripted(OK, OK, OK)
    assert asked(server, thrice) == [b"ok"] * 3
    assert server.connections == 1


def test_a_server_that_closes_has_a_new_connection_next_time() -> None:
    async def twice(http: Http) -> bytes:
        await http.post("/chat", b"{}")
        return (await http.post("/chat", b"{}")).body

    server = Scripted(OK.replace(b"content-length", b"connection: close\r\ncontent-length"), OK)
    assert asked(server, twice) == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (None, "connection", "closed before the whole answer came"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
            "timeout",
            "no whole answer within 0.3 s",
        ),
        (b"content-length: who knows\r\n\r\n", "connection", "no HTTP"),
    ],
    ids=["nothing", "half", "no http"],
)
def test_what_is_no_answer_fails_in_words(answer: bytes | None, reason: str, words: str) -> None:
    with pytest.raises(CallFailed) as failed:
        asked(Scripted(answer), lambda http: http.post("/chat", b"{}"), timeout_s=0.3)
    assert failed.value.reason == reason and words in failed.value.detail


def test_an_answer_nobody_asked_for_is_never_taken_for_the_next_ones() -> None:
    async def twice(http: Http) -> list[bytes]:
        return [(await http.post("/chat", b"{}")).body for _ in range(2)]

    server = Scripted(OK + OK.replace(b"ok", b"no"), OK)
    assert asked(server, twice) == [b"ok", b"ok"]
    assert server.connections == 2


def test_a_call_that_is_cancelled_takes_its_connection_with_it() -> None:
    async def twice(http: Http) -> bytes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await http.post("/chat", b"{}")
        return (await http.post("/chat", b"{}")).body

    server = Scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nla", OK)
    assert asked(server, twice) == b"ok"
    assert server.connections == 2


def test_a_name_and_a_password_in_the_url_are_sent_as_servers_want_them() -> None:
    server = Scripted(OK)
    asked(server, lambda http: http.get("/models"), who="me:s%40cret@")
    assert b"\r\nauthorization: Basic bWU6c0BjcmV0\r\n" in server.requests[0]
    assert b"@" not in server.requests[0]


def test_a_path_cannot_end_its_line() -> None:
    server = Scripted(OK)
    asked(server, lambda http: http.get("/models"), path="/a b HTTP/1.1?x=1 2")
    assert server.requests[0].startswith(b"GET /a%20b%20HTTP/1.1/models?x=1%202 HTTP/1.1\r\n")


@pytest.mark.parametrize("value", ["a\r\nb: c", "gr\u00fc\u00df"])
def test_a_header_cannot_end_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="sign that no header can hold") as refused:
        Http("http://127.0.0.1:9/v1", {"authorization": value}, timeout_s=1)
    assert value not in str(refused.value)


def test_an_answer_that_is_there_when_its_call_is_cancelled_is_not_lost() -> None:
    kept: list[bytes] = []

    async def cancelled(http: Http) -> bool:
        async def call() -> None:
            kept.append((await http.post("/chat", b"{}")).body)
            await asyncio.sleep(0)  # this is cancelled in its place
            kept.append(b"it went on")

        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        # The answer is read, and the call not yet woken up.
        waits_for = operator.attrgetter("_fut_waiter")
        while not waits_for(task) or not waits_for(task).done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    async def connected_first(http: Http) -> bool:
        await http.get("/models")  # so that the call waits for nothing but its answer
        return await cancelled(http)

    assert asked(Scripted(OK, OK), connected_first)
    assert kept == [b"ok"]
