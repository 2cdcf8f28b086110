"""A loopback server that speaks OpenAI's chat/completions, as well or as badly as it is told to.

    with serving(latency_s=0.05, faults=["500", "drop"]) as server:
        ...                       # ask server.url; the first two requests go wrong
        assert server.count == 3

or in a process of its own, for benchmarks (the first line it prints is its url):

    python -m bench.server --latency 0.05 --cap 64 --fault 500=0.01

Answers are a function of the request: the same prompt has the same answer, and takes as long. `GET
/stats`, on the same port, tells any process what was asked so far.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import cast

import msgspec

from bench.answers import MODEL, Seen, completion, default_answer
from bench.faults import FAULTS, Fault, Json

Answering = Callable[[Seen], "str | Fault"]
Scripted = Sequence["str | Fault | None"]
Rates = Mapping[str, float]


@dataclass
class Server:
    """How it behaves, and what it saw. Read it while it serves; it is written by one thread."""

    answer: Answering = default_answer
    latency_s: float | tuple[float, float] = 0.0
    faults: Scripted | Rates = ()
    cap: int | None = None
    key: str | None = None
    models: Sequence[str] = (MODEL,)
    record: bool = True
    url: str = ""
    requests: list[Seen] = field(default_factory=list)
    by_prompt: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)
    count: int = 0
    in_flight: int = 0
    peak: int = 0
    first_at: float | None = None

    def stats(self) -> Json:
        """What came so far: `total` requests with so many different `prompts`, `peak` of them at once.

        `first_at` is when the first one came, in seconds of time.time(), `cpu_s` what this process
        took.
        """
        return {
            "total": self.count,
            "prompts": len(self.by_prompt),
            "in_flight": self.in_flight,
            "peak": self.peak,
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "first_at": self.first_at,
            "cpu_s": time.process_time(),
        }

    def wait_for(self, count: int) -> None:
        """Return when so many requests came (for a test's own thread)."""
        while self.count < count:
            time.sleep(0.005)

    def see(self, headers: dict[str, str], body: Json) -> Seen:
        """Count and record a request for a completion."""
        digest = digest_of(body)
        seen = Seen(self.count, self.by_prompt[digest], digest, headers, body)
        if self.first_at is None:
            self.first_at = time.time()
        self.count += 1
        self.by_prompt[digest] += 1
        if self.record:
            self.requests.append(seen)
        return seen

    def fault(self, seen: Seen) -> Fault | None:
        """What goes wrong with this request, if anything: scripted by number, or drawn by rate."""
        if self.key is not None and seen.headers.get("authorization") != f"Bearer {self.key}":
            return FAULTS["401"]
        if self.cap is not None and self.in_flight > self.cap:
            return FAULTS["429"]
        if isinstance(self.faults, Mapping):
            draw = _draw("fault", seen) if self.faults else 0.0
            for name, rate in self.faults.items():
                draw -= rate
                if draw < 0:
                    return FAULTS[name]
            return None
        scripted = self.faults[seen.number] if seen.number < len(self.faults) else None
        return FAULTS[scripted] if isinstance(scripted, str) else scripted

    def wait_s(self, seen: Seen) -> float:
        """How long the answer to this request takes, in seconds."""
        if isinstance(self.latency_s, int | float):
            return self.latency_s
        least, most = self.latency_s
        return least + (most - least) * _draw("latency", seen)

    def reply(self, seen: Seen) -> tuple[bytes, Fault]:
        """The whole HTTP answer, and how it is to be sent."""
        answer = self.fault(seen) or self.answer(seen)
        fault = answer if isinstance(answer, Fault) else Fault()
        self.by_status[fault.status] += 1
        headers: dict[str, str] = {}
        if fault.location is not None:
            headers["Location"] = fault.location
        if fault.retry_after_s is not None:
            # A date has whole seconds: one more, so that it is never less than what was meant.
            date = formatdate(time.time() + fault.retry_after_s + 1, usegmt=True)
            headers["Retry-After"] = date if fault.as_date else f"{fault.retry_after_s:g}"
        if fault.body is not None:
            body: object = fault.body
        elif fault.status != 200:
            # As unkind as some real servers: the key comes back in the message.
            said = f"fault {fault.status}, sent with {seen.headers.get('authorization')}"
            body = {"error": {"message": said, "code": fault.status}}
        else:
            text = default_answer(seen) if isinstance(answer, Fault) else answer
            answered = completion(seen, text)
            if fault.edit is not None:
                fault.edit(answered)
            body = answered
        return _http(fault.status, body, headers), fault


def digest_of(body: Json) -> str:
    """Names what a request asks: its messages and its schema."""
    asked = msgspec.json.encode([body.get("messages"), body.get("response_format")])
    return hashlib.blake2b(asked, digest_size=8).hexdigest()


def _draw(what: str, seen: Seen) -> float:
    """A number in [0, 1) for a prompt and its occurrence: in whatever order requests come."""
    drawn = hashlib.blake2b(f"{what} {seen.digest} {seen.occurrence}".encode(), digest_size=6)
    return int.from_bytes(drawn.digest()) / 2**48


def _http(status: int, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    try:
        text = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    except UnicodeEncodeError:  # half a character, which JSON can say and UTF-8 cannot
        text = json.dumps(body).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return f"{head}\r\n{more}\r\n".encode() + text


class _Connection(asyncio.Protocol):
    """One keep-alive connection: requests come one after the other."""

    def __init__(self, server: Server, connections: set[asyncio.Transport]) -> None:
        self.server = server
        self.connections = connections
        self.buffer = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self.connections.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.connections.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
            parts = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in parts}
            whole = end + 4 + int(headers.get("content-length", 0))
            if len(self.buffer) < whole:
                return
            body = bytes(self.buffer[end + 4 : whole])
            del self.buffer[:whole]
            method, path, _ = first.split(" ")
            self.request(method, path.partition("?")[0], headers, body)

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        server = self.server
        if method == "GET" and path == "/stats":
            self.transport.write(_http(200, server.stats()))
        elif method == "GET" and path.endswith("/models"):
            served = [{"id": name, "object": "model"} for name in server.models]
            self.transport.write(_http(200, {"object": "list", "data": served}))
        elif method == "POST" and path.endswith("/chat/completions"):
            server.in_flight += 1
            server.peak = max(server.peak, server.in_flight)
            seen = server.see(headers, msgspec.json.decode(body))
            reply, fault = server.reply(seen)
            wait_s = 0.0 if fault.status == 429 else server.wait_s(seen)
            if wait_s:
                asyncio.get_running_loop().call_later(wait_s, self.send, reply, fault)
            else:
                self.send(reply, fault)
        else:
            self.transport.write(_http(404, {"error": {"message": f"no {method} {path} here"}}))

    def send(self, reply: bytes, fault: Fault) -> None:
        self.server.in_flight -= 1
        match fault.wire:
            case "drop":
                self.transport.abort()
            case "half":
                self.transport.write(reply[: -len(reply) // 4])
                self.transport.close()
            case "drip":
                self.transport.write(b"HTTP/1.1 200 -\r\nContent-Length: 1000000\r\n\r\n")
                self.drip()
            case _:
                self.transport.write(reply)

    def drip(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b" ")
            asyncio.get_running_loop().call_later(0.05, self.drip)


async def _serve(
    server: Server,
    port: int,
    ready: Callable[[], object],
    tls: ssl.SSLContext | None = None,
) -> None:
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Transport] = set()
    listening = await loop.create_server(
        lambda: _Connection(server, connections), "127.0.0.1", port, backlog=4096, ssl=tls
    )
    scheme = "https" if tls else "http"
    server.url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    ready()
    try:
        await loop.create_future()  # until cancelled
    finally:
        listening.close()
        for transport in connections:
            transport.abort()


@contextmanager
def serving(
    answer: Answering = default_answer,
    *,
    latency_s: float | tuple[float, float] = 0.0,
    faults: Scripted | Rates = (),
    cap: int | None = None,
    key: str | None = None,
    models: Sequence[str] = (MODEL,),
    record: bool = True,
    port: int = 0,
) -> Iterator[Server]:
    """A server on 127.0.0.1, in a thread of its own, for as long as the block runs.

    `answer` makes the text (or a fault) of a request; `latency_s` is fixed or drawn between two
    bounds; `faults` are the names in FAULTS or Fault values, one for each of the first requests, or
    a rate for each name; above `cap` requests at once it answers 429; without the Bearer `key` 401.
    """
    server = Server(answer, latency_s, faults, cap, key, models, record)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(_serve(server, port, ready.set))

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            loop.run_until_complete(asyncio.sleep(0))  # lets the connections go
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


def main() -> None:
    """Serve until interrupted; the first line printed is the url."""
    parser = argparse.ArgumentParser(description="a loopback chat/completions server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--latency", type=float, nargs="+", default=[0.0], help="seconds, or two bounds"
    )
    parser.add_argument("--cap", type=int, help="above so many at once: 429")
    parser.add_argument("--key", help="without this Bearer key: 401")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME=RATE", help=", ".join(FAULTS)
    )
    parser.add_argument(
        "--tls", type=Path, metavar="FILE", help="speak TLS, with the certificate and key in FILE"
    )
    options = parser.parse_args()
    server = Server(
        latency_s=options.latency[0] if len(options.latency) == 1 else tuple(options.latency),
        faults={name: float(rate) for name, _, rate in (f.partition("=") for f in options.fault)},
        cap=options.cap,
        key=options.key,
        record=False,
    )
    import uvloop  # only here: the tests run where there is none, too

    tls = None
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls)
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(server, options.port, lambda: print(server.url, flush=True), tls))


if __name__ == "__main__":
    main()
