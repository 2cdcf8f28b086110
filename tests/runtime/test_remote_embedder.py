"""Embeddings by a server: what is sent, what is read, and what becomes of a text that has no vector."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synthc.compiler import plan
from synthc.compiler.compile import compile_text
from synthc.compiler.span import Span
from synthc.runtime.backends.local import LocalServers
from synthc.runtime.backends.pace import Pace
from synthc.runtime.embedding.remote import open_remote
from synthc.runtime.errors import RunError, Stopped
from synthc.runtime.run import Options, Report, run
from synthc.runtime.store.records import Call
from synthc.runtime.store.store import StoredAnswer
from tests.runtime.helpers import column, compiled, lines, made, rows
from tests.runtime.loopback import Loopback, Said, Sent, listening

SPAN = Span("x.synth", 1, 1, 1, 2)
FAST = Pace(backoff_s=0.001, backoff_max_s=0.01)
KEY = "sk-embed-very-secret"
SPEC = """
embedder e {
  url = env("SYNTH_URL")  api_key = env("EMBED_KEY", "")
  model = "text-embedding-3-small"  dimensions = 3
}
table t = read("texts.jsonl") |> embed(text) using e
"""


def vector(text: str) -> list[float]:
    """Three numbers that float32 holds exactly: a function of the text."""
    return [byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:3]]


def written(numbers: list[float], encoding: str) -> Any:
    if encoding == "float":
        return numbers
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def embeddings(sent: Sent, encoding: str = "base64", size: int = 3) -> dict[str, Any]:
    """A reply in the documented form, its vectors out of order."""
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": written((vector(text) * size)[:size], encoding),
        }
        for place, text in enumerate(sent.body["input"])
    ]
    random.Random(0).shuffle(data)
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    return {"object": "list", "data": data, "model": sent.body["model"], "usage": usage}


def texts(base: Path, *given: str | None) -> None:
    lines(base, "texts.jsonl", ({"n": n, "text": text} for n, text in enumerate(given)))


def embed(base: Path, server: Loopback, **env: str) -> list[tuple[str, list[float]]]:
    made(SPEC, base, f"{server.url}/v1", env=env)
    return [(text, list(found)) for text, found in rows(base, "SELECT text, embedding FROM t")]


def sent_texts(server: Loopback) -> list[str]:
    return [text for sent in server.requests for text in sent.body["input"]]


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_texts_are_embedded_in_order_and_equal_ones_once(tmp_path: Path, encoding: str) -> None:
    given = [f"text {n % 70}" for n in range(140)]
    texts(tmp_path, *given)
    with listening(lambda sent: embeddings(sent, encoding)) as server:
        assert embed(tmp_path, server, EMBED_KEY=KEY) == [(text, vector(text)) for text in given]
        first = server.requests[0]
        assert first.path == "/v1/embeddings"
        assert first.headers["authorization"] == f"Bearer {KEY}"
        assert first.body["model"] == "text-embedding-3-small"
        assert max(len(sent.body["input"]) for sent in server.requests) <= 32
        assert set(sent_texts(server)) == set(given)
        assert len(sent_texts(server)) == 70
        count = len(server.requests)
        embed(tmp_path, server, EMBED_KEY=KEY)
        assert len(server.requests) == count  # the table is there
    tokens = rows(tmp_path, "SELECT sum(input_tokens), count(*) FROM synth.calls")
    assert tokens == [(8 * count, 70)]
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_without_a_key_none_is_sent(tmp_path: Path) -> None:
    texts(tmp_path, "a")
    with listening(embeddings) as server:
        embed(tmp_path, server)
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("fault", [Said("", 500), Said("", 429, {"retry-after": "0"})])
def test_what_may_pass_is_asked_again(tmp_path: Path, fault: Said) -> None:
    texts(tmp_path, "a")
    with listening(lambda s: embeddings(s) if len(server.requests) > 1 else fault) as server:
        assert embed(tmp_path, server) == [("a", vector("a"))]


def test_a_text_that_is_refused_fails_its_row_alone(tmp_path: Path) -> None:
    given = [f"text {n}" for n in range(40)]
    given[7] = ""
    texts(tmp_path, *given)

    def answer(sent: Sent) -> Said | dict[str, Any]:
        if "" in sent.body["input"]:
            return Said({"error": {"message": "Input content cannot be empty"}}, 400)
        return embeddings(sent)

    with listening(answer) as server:
        found = embed(tmp_path, server)
    assert found == [(text, vector(text)) for text in given if text]
    (failure,) = rows(tmp_path, "SELECT reason, detail, place FROM synth.failures")
    assert failure == ("http_400", "Input content cannot be empty", "x.synth:6:31")


def test_dimensions_are_checked(tmp_path: Path) -> None:
    texts(tmp_path, "a")
    with (
        listening(lambda sent: embeddings(sent, size=5)) as server,
        pytest.raises(Stopped, match=r"embedder `e`.* vectors of 5 dimensions, not 3") as stopped,
    ):
        embed(tmp_path, server)
    assert "write `dimensions = 5`" in str(stopped.value.hint)


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        '{"data": []}',
        '{"data": [{"embedding": [1, 2, 3]}]}',
        '{"data": [{"index": 0, "embedding": "?"}]}',
        '{"data": [{"index": 0, "embedding": "AAAA"}]}',
        '{"data": [{"index": 0, "embedding": [1, "2", 3]}]}',
        '{"data": [{"index": 0, "embedding": [1, [2], 3]}]}',
        '{"data": [{"index": 0, "embedding": [1, 1e400, 3]}]}',
        '{"data": [{"index": 1, "embedding": [1, 2, 3]}]}',
        '{"data": [{"index": 0, "embedding": [1, 2, 3]}, {"index": 1, "embedding": [1, 2, 3]}]}',
    ],
)
def test_what_is_no_vector_is_none(body: str) -> None:
    class Forgetful:
        run_id = 1

        def seen(self, digest: bytes) -> bool:
            return True

        async def answers(self, digests: Sequence[bytes]) -> list[None]:
            return [None for _ in digests]

        def call(self, record: Call, answer: StoredAnswer) -> None:
            raise AssertionError("there is nothing to keep")

    async def embedded(url: str) -> Sequence[Any]:
        spec = plan.Embedder(name="e", span=SPAN, model="m", dimensions=3, url=url)
        async with (
            LocalServers(Path) as local,
            open_remote(
                spec, identity="m", env={}, local=local, calls=Forgetful(), pace=FAST
            ) as embedder,
        ):
            return await embedder.embed(["a", "a"])

    with listening(lambda _: Said(body)) as server:
        failures = asyncio.run(embedded(f"{server.url}/v1"))
    assert {failure.reason for failure in failures} == {"bad_answer"}
    assert failures[0] is not failures[1]  # the engine adds to each where it was


def test_a_key_that_is_refused_stops_the_run_and_is_not_shown(tmp_path: Path) -> None:
    texts(tmp_path, "a")
    refusal = Said({"error": {"message": f"wrong key {KEY}"}}, 401)
    with (
        listening(lambda _: refusal) as server,
        pytest.raises(Stopped, match=r"embedder `e`.* refuses the key: wrong key ") as stopped,
    ):
        embed(tmp_path, server, EMBED_KEY=KEY)
    assert "check EMBED_KEY" in str(stopped.value.hint)
    assert KEY not in str(stopped.value)


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    texts(tmp_path, *(f"text {n}" for n in range(1200)))

    def answer(sent: Sent) -> Said | dict[str, Any]:
        return Said("", 401) if "text 1199" in sent.body["input"] else embeddings(sent)

    with listening(answer) as first, pytest.raises(Stopped):
        embed(tmp_path, first)
    kept = set(column(tmp_path, "SELECT request::JSON ->> '$' FROM synth.calls"))
    assert kept
    with listening(embeddings) as second:
        found = embed(tmp_path, second)
    assert set(sent_texts(second)) == {text for text, _ in found} - kept
    assert len(sent_texts(second)) == 1200 - len(kept)
    assert found == [(text, vector(text)) for text, _ in found]
    assert len(found) == 1200


def test_a_server_that_is_not_named_is_missed(tmp_path: Path) -> None:
    texts(tmp_path, "a")
    with pytest.raises(RunError, match=r"`url` of embedder `e` needs .* SYNTH_URL, which is not"):
        made(SPEC, tmp_path, "", env={"SYNTH_URL": ""})


def test_the_prompt_is_sent_before_each_text(tmp_path: Path) -> None:
    texts(tmp_path, "a", "b")
    with listening(embeddings) as server:
        made(SPEC, tmp_path, f"{server.url}/v1")
        prompted = SPEC.replace("dimensions = 3", 'dimensions = 3  prompt = "query: "')
        made(prompted, tmp_path, f"{server.url}/v1")
        assert sent_texts(server) == ["a", "b", "query: a", "query: b"]
    found = rows(tmp_path, "SELECT embedding FROM t ORDER BY text")
    assert [list(row[0]) for row in found] == [vector("query: a"), vector("query: b")]


def test_what_only_a_local_model_has_is_refused_when_compiling(tmp_path: Path) -> None:
    texts(tmp_path, "a")
    settings = 'dimensions = 3  pooling = "mean"  normalize = true  max_tokens = 9'
    settings += '  precision = "int8"  prompt_name = "query"  truncate = true'
    found = compile_text(SPEC.replace("dimensions = 3", settings), "x.synth", tmp_path)
    assert [problem.message().partition(",")[0] for problem in found.problems] == [
        "`pooling` must be left out where a server embeds (`url`)",
        "`normalize` must be left out where a server embeds (`url`)",
        "`max_tokens` must be left out where a server embeds (`url`)",
        "`precision` must be left out where a server embeds (`url`)",
        "`prompt_name` must be left out where a server embeds (`url`)",
        "`truncate` must be left out where a server embeds (`url`)",
    ]


def test_what_is_embedded_counts_for_the_budget(tmp_path: Path) -> None:
    texts(tmp_path, *(f"text {n}" for n in range(200)))
    with listening(embeddings) as server:
        options = Options(
            tmp_path / "x.duckdb", tmp_path, {"SYNTH_URL": f"{server.url}/v1"}, max_tokens=20
        )
        with pytest.raises(Stopped, match="20"):
            run(compiled(SPEC, tmp_path), options, Report(), lambda _note: None)
        assert 1 <= len(server.requests) <= 3
        dollars = dataclasses.replace(options, max_tokens=None, max_usd=1.0)
        with pytest.raises(RunError, match="what embedder `e` costs is not known"):
            run(compiled(SPEC, tmp_path), dollars, Report(), lambda _note: None)
