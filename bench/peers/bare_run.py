"""A bare loop over an HTTP client: reads rows, asks, reads the answers, keeps nothing durably.

Run in an environment of its own, as `bare_run.py aiohttp|pyreqwest|direct --url … --rows … --concurrency …`;
prints one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import uvloop

HEADERS = {"content-type": "application/json"}


async def ask_all(
    post: Callable[[bytes], Awaitable[bytes]], rows: Path, concurrency: int
) -> list[str]:
    """The answers to all rows, in the order in which they came."""
    answers: list[str] = []
    with rows.open("rb") as lines:

        async def worker() -> None:
            for line in lines:
                question = msgspec.json.decode(line)["question"]
                prompt = f"Answer in one sentence: {question}"
                body = {"model": "bench-model", "messages": [{"role": "user", "content": prompt}]}
                completion = msgspec.json.decode(await post(msgspec.json.encode(body)))
                answers.append(completion["choices"][0]["message"]["content"])

        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(worker())
    return answers


async def with_aiohttp(
    url: str, rows: Path, concurrency: int, certificate: bytes | None
) -> list[str]:
    """With aiohttp: as many connections as requests in flight."""
    import aiohttp

    trusted = ssl.create_default_context(cadata=certificate.decode()) if certificate else True
    connector = aiohttp.TCPConnector(limit=0, ssl=trusted)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

        async def post(body: bytes) -> bytes:
            async with session.post(url, data=body) as response:
                response.raise_for_status()
                return await response.read()

        return await ask_all(post, rows, concurrency)


async def with_pyreqwest(
    url: str, rows: Path, concurrency: int, certificate: bytes | None
) -> list[str]:
    """With pyreqwest, set up as synthc does it."""
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().default_headers(HEADERS).timeout(timedelta(seconds=120)).no_proxy()
    if certificate:
        builder = builder.add_root_certificate_pem(certificate)
    async with builder.error_for_status(enable=True).build() as client:

        async def post(body: bytes) -> bytes:
            response = await client.post(url).body_bytes(body).build().send()
            return (await response.bytes()).to_bytes()

        return await ask_all(post, rows, concurrency)


async def with_direct(
    url: str, rows: Path, concurrency: int, certificate: Path | None
) -> list[str]:
    """With what synthc has for plain HTTP (in an environment that has synthc)."""
    from synthc.runtime.backends.http import Http

    assert certificate is None
    async with Http(url, {}, timeout_s=120) as http:

        async def post(body: bytes) -> bytes:
            return (await http.post("", body)).body

        return await ask_all(post, rows, concurrency)


CLIENTS = {"aiohttp": with_aiohttp, "pyreqwest": with_pyreqwest, "direct": with_direct}


def main() -> None:
    """Ask for all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--certificate", type=Path)
    options = parser.parse_args()
    ask = CLIENTS[options.client]
    address = options.url + "/chat/completions"
    trusted = options.certificate.read_bytes() if options.certificate else None
    started = time.perf_counter()
    answers = uvloop.run(ask(address, options.rows, options.concurrency, trusted))
    print(json.dumps({"rows": len(answers), "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
