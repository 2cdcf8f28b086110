"""Models served on this machine: llama.cpp's own server, in a process of its own, on the loopback.

The process lives no longer than the one that started it: it watches its standard input, which ends
when the parent closes it or is gone, however it went.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from synthc.compiler.span import Span
from synthc.runtime.errors import RunError

READY_S = 600.0  # a model of many gigabytes, read from a slow disk
STOP_S = 5.0
CONTEXT = 4096  # tokens of one conversation, the answer among them, where nothing says otherwise
PROMPT = 2048  # of these at least so many for the question
LOG_TAIL = 8000  # bytes of a log in which to look for what went wrong

Fetch = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class Served:
    """A model that is served: `slots` is how many answers it writes at once."""

    url: str
    key: str
    slots: int


class LocalServers:
    """The models a run serves on this machine, a process each. Use it as an async context manager.

    `fetch` finds the file of a model, `max_tokens` is the longest answer any backend may want.
    """

    def __init__(self, fetch: Fetch, *, max_tokens: int | None = None) -> None:
        self._fetch = fetch
        self._context = max(CONTEXT, PROMPT + (max_tokens or 0))
        self._served: dict[Path, Served] = {}
        self._starting = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self._stack.aclose()

    async def serve(self, model: str, *, span: Span | None = None) -> Served:
        """The server of a model, started when it is first wanted.

        Raises RunError where xllamacpp is not installed or the model cannot be served.
        """
        if importlib.util.find_spec("xllamacpp") is None:
            raise RunError(
                f"the model `{model}` is to be served on this machine, which needs xllamacpp",
                hint="`pip install 'synthc[local]'`, or set the backend's `url`",
                span=span,
            )
        async with self._starting:
            path = (await asyncio.to_thread(self._fetch, model)).resolve()
            if path not in self._served:
                self._served[path] = await self._start(model, path, span)
            return self._served[path]

    async def _start(self, model: str, path: Path, span: Span | None) -> Served:
        cores = _cores()
        slots = min(16, max(4, 2 * cores))  # more would share the cores' time and cost memory
        # Its threads wait for one another at every step. With one a core, and one core busy with
        # the run itself, eight answers took over a minute in place of three seconds (two cores).
        threads = max(1, cores - 1)
        key = secrets.token_urlsafe(16)  # any page in a browser can reach the loopback
        log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack does
        command = [sys.executable, "-P", "-m", __spec__.name, str(path), "--alias", model]
        command += [f"--slots={slots}", f"--context={self._context}", f"--threads={threads}"]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the run, which still wants its answers
        )
        self._stack.push_async_callback(_stop, process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(key.encode() + b"\n")
        try:
            async with asyncio.timeout(READY_S):
                url = (await process.stdout.readline()).decode().strip()
        except TimeoutError:
            url = ""
        if not url:
            await _stop(process)
            raise RunError(
                f"the model `{model}` cannot be served on this machine: {_complaint(log)}",
                span=span,
            )
        return Served(f"{url}/v1", key, slots)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _cores() -> int:
    """How many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _complaint(log: IO[bytes]) -> str:
    """The last errors in a log, or its last lines."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    errors = [line.partition(" E ")[2] for line in lines if " E " in line]
    return "; ".join(" ".join(line.split()) for line in (errors or lines)[-3:]) or "it said nothing"


def main() -> None:
    """Serve a model until standard input ends; its first line is the key to ask for.

    The url stands on standard output as soon as the model is loaded.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--alias", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    key = sys.stdin.buffer.readline().decode().strip()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints belongs to the log
    parent = threading.Thread(target=_exit_with_parent, daemon=True)
    parent.start()
    server = _server(options, key)
    said.write(f"{server.listening_address}\n")
    said.close()
    parent.join()


def _server(options: argparse.Namespace, key: str) -> Any:
    llama: Any = importlib.import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.cache_ram_mib = 0  # keeps old prompts in memory, eight gigabytes of them by default
    params.verbosity = 2  # warnings: what it says of each request would fill the disk
    params.ui = False
    try:
        return llama.Server(params)
    except RuntimeError as error:
        sys.exit(str(error))  # what went wrong is in the log already


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
