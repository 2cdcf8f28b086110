"""Conversations as a model reads them, and their vectors, beside transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthc.runtime.backends.protocol import Message
from synthc.runtime.embedding.chat_template import ChatTemplate, render
from synthc.runtime.embedding.export import Graph, graph_for
from synthc.runtime.embedding.model_files import read_text_model
from synthc.runtime.embedding.pipeline import TextEmbedder
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.models import fetch
from tests.runtime.helpers import column, lines, made, rows
from tests.runtime.tiny_text import MINILM, exported_here, saved

TOKENS = {"bos_token": "[CLS]", "eos_token": "[SEP]"}

PLAIN = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\\n' + message['content'] + eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}"""

STRICT = """\
{{ bos_token }}
{% set state = namespace(system='', turns=0) %}
{% if messages[0].role == 'system' %}
  {% set state.system = messages[0].content | trim %}
  {% set messages = messages[1:] %}
{% endif %}
{% for message in messages %}
  {% if (message.role == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('user and assistant must take turns') }}
  {% endif %}
  {% if loop.index > 9 %}{% break %}{% endif %}
  {% if message.role == 'user' %}
[Q]{% if loop.last and state.system %}{{ state.system | upper }} {% endif %}{{ message.content | tojson }}
  {% else %}
{% generation %}[A]{{ message.content }}{% endgeneration %}{{ eos_token }}
  {% endif %}
{% endfor %}
{% if tools is not none %}tools{% endif %}
{% if strftime_now is defined and false %}{{ strftime_now('%Y') }}{% endif %}
"""

USER = [("user", "What is <b> & ö?")]
LONG = [("system", " Be kind. "), ("user", "Hello"), ("assistant", "Hi\n there"), ("user", "Bye")]


@pytest.fixture(scope="module")
def minilm() -> Path:
    return fetch(MINILM, base=Path())


@pytest.mark.parametrize("source", [PLAIN, STRICT], ids=["plain", "strict"])
@pytest.mark.parametrize("turns", [USER, LONG], ids=["user", "long"])
def test_a_template_writes_what_transformers_writes(
    minilm: Path, source: str, turns: list[tuple[str, str]]
):
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_file=str(minilm / "tokenizer.json"), chat_template=source, **TOKENS
    )
    theirs = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        tokenize=False,
        add_generation_prompt=True,
    )
    ours = render(ChatTemplate(source, TOKENS), [Message(*turn) for turn in turns])
    assert ours.text == theirs


def test_what_a_template_refuses_fails_its_row():
    with pytest.raises(RowFailed, match="template refuses it: user and assistant must take turns"):
        render(ChatTemplate(STRICT, TOKENS), [Message("assistant", "a")])


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% for n in range(10000000) %}x{% endfor %}",
        "{{ strftime_now('%Y') }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_a_template_is_not_trusted(source: str):
    with pytest.raises(RowFailed, match="the model's chat template refuses it"):
        render(ChatTemplate(source), [Message("user", "a")])


def test_what_is_no_template():
    with pytest.raises(RunError, match="chat template cannot be read, line 2"):
        render(ChatTemplate("a\n{% if %}"), [Message("user", "a")])


# What the model's files say


def decoder(folder: Path, minilm: Path, template: Any = PLAIN) -> Path:
    """The files of a decoder that converses, and no weights."""
    folder.mkdir(parents=True)
    shutil.copy(minilm / "tokenizer.json", folder)
    (folder / "config.json").write_text("{}")
    return conversing(folder, template)


def conversing(folder: Path, template: Any = PLAIN) -> Path:
    """The folder of a model, with what makes it one that converses."""
    settings = {**TOKENS, "eos_token": {"__type": "AddedToken", "content": "[SEP]"}}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    settings |= {"model_max_length": 64, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_where_the_template_stands(tmp_path: Path, minilm: Path):
    def read(folder: Path, pooling: str | None = "last") -> tuple[str | None, bool]:
        model = read_text_model(folder, pooling=pooling, normalize=None)
        return model.chat_template and model.chat_template.source, model.wraps_text

    folder = decoder(tmp_path / "settings", minilm)
    assert read(folder) == (PLAIN, True)
    assert read(folder, "mean") == (PLAIN, False)
    template = read_text_model(folder, pooling="last", normalize=None).chat_template
    assert template
    assert template.tokens == {**TOKENS, "pad_token": "[PAD]"}
    named = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    assert read(decoder(tmp_path / "named", minilm, named)) == ("d", True)
    (folder / "chat_template.jinja").write_text("file")
    assert read(folder) == ("file", True)
    assert read(decoder(tmp_path / "none", minilm, None)) == (None, False)
    # A folder of sentence-transformers says all that is done to a text.
    step = {"path": "", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps([step]))
    assert read(folder) == ("file", False)


# Vectors


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of 32 dimensions that reads 64 tokens of a conversation."""
    root = tmp_path_factory.mktemp("chatty")
    return conversing(saved(root, "qwen3", max_position_embeddings=64))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def graph(chatty: Path, cache: Path) -> Graph:
    with pytest.MonkeyPatch.context() as patch:
        exported_here(patch)
        return graph_for(chatty, pooling="last", cache=cache)


def by_transformers(folder: Path, turns: Sequence[tuple[str, str]]) -> np.ndarray:
    """The last hidden state of the last token of a conversation, of unit length: (dimensions,)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        truncation=True,
        max_length=64,
    )
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).float().eval()(**inputs).last_hidden_state
    vector = hidden[0, -1].numpy()
    return vector / np.linalg.norm(vector)


def test_a_text_is_the_users_turn_and_a_conversation_its_turns(chatty: Path, graph: Graph):
    embedder = TextEmbedder(graph, threads=1)
    texts = ["How do I peel a mango?", "", "a long text " * 60]
    long = embedder.written([Message(*turn) for turn in LONG])
    made = embedder.embed([*texts, long])
    theirs = [by_transformers(chatty, [("user", text)]) for text in texts]
    theirs.append(by_transformers(chatty, LONG))
    assert (made * np.stack(theirs)).sum(axis=1).min() >= 0.99999
    assert embedder.truncated == 1

    prompted = TextEmbedder(graph, threads=1, prompt="query: ")
    turns = [Message("system", "Be kind."), Message("user", "Hello")]
    made = prompted.embed(["Hello", prompted.written(turns)])
    theirs = [
        by_transformers(chatty, [("user", "query: Hello")]),
        by_transformers(chatty, [("system", "Be kind."), ("user", "query: Hello")]),
    ]
    assert (made * np.stack(theirs)).sum(axis=1).min() >= 0.99999


def test_a_table_of_conversations(
    chatty: Path, graph: Graph, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYNTHC_CACHE", str(cache))
    chats = [USER, LONG, [("assistant", "alone"), ("user", "a"), ("user", "b")]]
    records = [
        {
            "n": n,
            "messages": [{"role": role, "content": content} for role, content in turns],
            "question": "Who?",
            "persona": "Be kind." if n else None,
        }
        for n, turns in enumerate(chats)
    ]
    lines(tmp_path, "chats.jsonl", records)
    spec = f"""
embedder e {{ model = "{chatty}"  dimensions = 32  pooling = "last" }}
table t = read("chats.jsonl")
  |> embed(messages) as v
  |> embed(question, system = persona) as w
  |> embed(question) as x
"""
    made(spec, tmp_path, "")
    found = rows(tmp_path, "SELECT v, w, x FROM t ORDER BY n")
    asked = [("user", "Who?")]
    for n, vectors in enumerate(found):
        persona = [("system", "Be kind.")] if n else []
        for ours, turns in zip(vectors, (chats[n], persona + asked, asked), strict=True):
            assert np.dot(np.array(ours), by_transformers(chatty, turns)) >= 0.99999


def test_a_conversation_that_the_template_refuses_fails_its_row(
    chatty: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYNTHC_CACHE", str(cache))
    exported_here(monkeypatch)
    strict = shutil.copytree(chatty, tmp_path / "strict")
    (strict / "chat_template.jinja").write_text(STRICT)
    turns = ([{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}])
    lines(tmp_path, "chats.jsonl", [{"n": n, "messages": turn} for n, turn in enumerate(turns)])
    spec = f"""
embedder e {{ model = "{strict}"  dimensions = 32  pooling = "mean" }}
table t = read("chats.jsonl") |> embed(messages)
"""
    made(spec, tmp_path, "")
    assert column(tmp_path, "SELECT n FROM t") == [0]
    (detail,) = column(tmp_path, "SELECT detail FROM synth.failures")
    assert "template refuses it: user and assistant must take turns" in detail

    (strict / "chat_template.jinja").unlink()
    settings = json.loads((strict / "tokenizer_config.json").read_text())
    (strict / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": None}))
    with pytest.raises(RunError) as caught:
        made(spec, tmp_path, "", database="other.duckdb")
    assert caught.value.message == (
        "`embed(messages)` is a conversation, and the model of `e` has no chat template"
    )


CHOOSY = """\
{%- if 'forbidden' in messages[-1].content %}{{ raise_exception('not that word') }}{% endif -%}
<|user|>{{ messages[-1].content }}<|assistant|>"""


def test_a_text_that_the_template_refuses_fails_its_row_alone(
    chatty: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYNTHC_CACHE", str(cache))
    exported_here(monkeypatch)
    choosy = shutil.copytree(chatty, tmp_path / "choosy")
    (choosy / "chat_template.jinja").write_text(CHOOSY)
    texts = ["a mango", "a forbidden pear", "a plum", "", "forbidden", "a plum"]
    lines(tmp_path, "texts.jsonl", [{"n": n, "topic": text} for n, text in enumerate(texts)])
    spec = f"""
embedder e {{ model = "{choosy}"  dimensions = 32  pooling = "last" }}
table t = read("texts.jsonl") |> embed(topic) as v
"""
    made(spec, tmp_path, "")
    found = rows(tmp_path, "SELECT n, v FROM t ORDER BY n")
    assert [n for n, _ in found] == [0, 2, 3, 5]
    for n, vector in found:
        assert np.dot(np.array(vector), by_transformers(choosy, [("user", texts[n])])) >= 0.99999
    failures = rows(tmp_path, "SELECT reason, detail FROM synth.failures")
    assert failures == [("chat", "the model's chat template refuses it: not that word")] * 2
