"""Whole processes, measured from outside: the loopback server, and whoever asks it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LAUNCH = Path(__file__).with_name("launch.py")
PATIENCE_S = 1_800.0
"""What hangs for so long is killed, and was not measured."""

_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Where it is set, as in many a container, a clone's modules are compiled anew at every start; those of
an installed synthc, and of the peers, never are."""


class Failed(Exception):
    """A process that is measured did not do what it should: its words are in the message."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A process that ended well: seconds of wall and of CPU, its peak of resident memory in bytes.

    `started_at` is in seconds of time.time().
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    started_at: float
    stdout: str


def measured(
    command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
) -> Measured:
    """Run a command in a folder, with `env` on top of the environment, and measure it whole.

    Raises Failed where it exits with another status than 0.
    """
    around = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        tempfile.NamedTemporaryFile("r") as told,
    ):
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", LAUNCH, told.name, *command],
            cwd=folder,
            env={**around, **(env or {})},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        patience = threading.Timer(PATIENCE_S, os.killpg, (process.pid, signal.SIGKILL))
        patience.start()
        try:
            process.wait()
        except BaseException:  # Ctrl-C goes to our own group alone
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            patience.cancel()
        out.seek(0)
        err.seek(0)
        took = json.loads(told.read() or "{}")
        status = os.waitstatus_to_exitcode(took["status"]) if took else process.returncode
        if status:
            shown = " ".join(map(str, command))
            raise Failed(f"{shown}: exit status {status}\n{err.read()[-4000:]}")
        # Linux counts in kibibytes, macOS in bytes.
        peak = took["peak"] * (1 if sys.platform == "darwin" else 1024)
        return Measured(took["wall_s"], took["cpu_s"], peak, took["started_at"], out.read())


@dataclass(frozen=True, slots=True)
class Serving:
    """The server while it runs in a process of its own."""

    url: str

    def stats(self) -> dict[str, Any]:
        """What it saw, as bench/server.py tells it; not from one that speaks TLS."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats") as reply:
            return json.load(reply)


@contextmanager
def server(*options: object) -> Iterator[Serving]:
    """A new server, in a process of its own, with options of `python -m bench.server`."""
    command = [sys.executable, "-m", "bench.server", *map(str, options)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise Failed("the server did not start")
        yield Serving(url)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
