"""The command as tests call it: as a process, in this process, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from synthc.cli.main import ended

SYNTHC = str(Path(sys.executable).with_name("synthc"))

SPEC = """\
param count: int = 3
param flavour: text = "sweet"
backend small { url = env("SYNTH_URL", "")  model = "bench-model"  api_key = env("SYNTH_KEY", "") }
task name_it { in topic: text  out title: text = ask "A title about {{ topic }}, {{ $flavour }}" }
table topics = read("topics.jsonl") |> limit($count)
table titles = topics |> name_it
export titles to "titles.csv"
"""
TOPICS = "".join(f'{{"topic": "topic {number}"}}\n' for number in range(5))


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str


Synthc = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("SYNTH_URL", "SYNTH_KEY", "SYNTH_MODEL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def spec(folder: Path) -> Path:
    """A folder with a spec that needs a server and nothing else."""
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "titles.synth"
    path.write_text(SPEC.replace("{{ $flavour }}", "{{ flavour }}"), encoding="utf-8")
    return path


@pytest.fixture
def call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Synthc:
    """The command in this process: everything but a process's own matters."""

    def called(*arguments: str | Path, **env: str) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["synthc", *map(str, arguments)])
            for name, value in env.items():
                patch.setenv(name, value)
            status = ended()
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return called


@pytest.fixture
def synthc(folder: Path) -> Synthc:
    """The command as a process."""

    def run(*arguments: str | Path, **env: str) -> Done:
        done = subprocess.run(
            [SYNTHC, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, **env},
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def terminal(folder: Path) -> Callable[..., str]:
    """The command on a terminal so many columns wide: all that it prints there."""

    def run(columns: int, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        more = {"TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **(env or {})}
        process = subprocess.Popen(
            [SYNTHC, *arguments],
            cwd=folder,
            env={**os.environ, **more},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        printed = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            printed += part
        os.close(ours)
        process.wait(timeout=60)
        return printed.decode()

    return run


def without_codes(text: str) -> str:
    """Text as it stands on a terminal, without what steers it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
