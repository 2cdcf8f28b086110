from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from synthc.runtime.embedding.export import Graph, graph_for, prompt_of
from synthc.runtime.embedding.model_files import read_text_model
from synthc.runtime.embedding.pipeline import TextEmbedder, open_embedder, pack, pad
from synthc.runtime.errors import RunError
from synthc.runtime.models import digest, fetch
from tests.runtime.helpers import column, lines, made, rows
from tests.runtime.tiny_text import MINILM, exported_here, saved

LEAST_COSINE = 0.99999

TEXTS = [
    "How do I peel a mango?",
    "",
    "a",
    "Größe, naïveté, 東京, 🙂",
    "The committee met on Tuesday and decided nothing of importance. " * 4,
    "a needle in a haystack " * 30,
    "words and more words, far beyond what the model reads " * 60,
    "How do I peel a mango?",
]


@pytest.fixture(scope="session")
def minilm() -> Path:
    return fetch(MINILM, base=Path())


@pytest.fixture(scope="session")
def embedder(minilm: Path) -> TextEmbedder:
    return open_embedder(MINILM, base=Path(), dimensions=384)


def by_torch(
    folder: Path, texts: Sequence[str], *, pooling: str, max_tokens: int, normalize: bool = True
) -> np.ndarray:
    """The vectors of the original model in one padded batch: (texts, dimensions)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(
        list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state.numpy()
    vectors = []
    for tokens, mask in zip(hidden, inputs["attention_mask"].numpy(), strict=True):
        seen = tokens[mask == 1]
        vectors.append(
            {"mean": seen.mean(0), "max": seen.max(0), "cls": seen[0], "last": seen[-1]}[pooling]
        )
    made = np.stack(vectors)
    return made / np.linalg.norm(made, axis=1, keepdims=True) if normalize else made


def least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / norms).min())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 16 dimensions that reads 32 tokens."""
    own = {"hidden_size": 16, "num_attention_heads": 2, "initializer_range": 0.5}
    return saved(tmp_path_factory.mktemp("tiny"), "bert", **own)


@pytest.fixture(scope="session")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the graph of `tiny`."""
    cache = tmp_path_factory.mktemp("exported") / "cache"
    graph_for(tiny, cache=cache, source="models/tiny")
    return cache


@pytest.fixture
def tiny_graph(tiny: Path, exported: Path, tmp_path: Path) -> Graph:
    """The graph of `tiny` in a cache of its own, `tmp_path / "cache"`."""
    return graph_for(tiny, cache=shutil.copytree(exported, tmp_path / "cache"))


# The real model


def test_minilm_is_the_original_in_a_batch_and_alone(minilm: Path, embedder: TextEmbedder):
    original = by_torch(minilm, TEXTS, pooling="mean", max_tokens=256)
    batch = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert batch.shape == (len(TEXTS), 384)
    assert batch.dtype == np.float32
    assert least_cosine(batch, original) >= LEAST_COSINE
    assert least_cosine(alone, original) >= LEAST_COSINE
    assert np.allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-5)


def test_the_order_is_kept_over_many_batches(embedder: TextEmbedder):
    texts = [f"{'long ' * (number * 7 % 40)}text number {number}" for number in range(120)]
    whole = embedder.embed(texts)
    for number in (0, 1, 57, 119):
        assert least_cosine(whole[[number]], embedder.embed([texts[number]])) >= LEAST_COSINE
    assert len(np.unique(whole.round(4), axis=0)) == len(texts)


def test_equal_texts_have_equal_vectors_and_no_texts_have_none(embedder: TextEmbedder):
    vectors = embedder.embed(["same", "other", "same"])
    assert (vectors[0] == vectors[2]).all()
    assert embedder.embed([]).shape == (0, 384)


def test_texts_cut_at_max_tokens_are_counted_once_each(minilm: Path):
    embedder = open_embedder(MINILM, base=Path(), dimensions=384, max_tokens=10)
    exactly = "one two three four five six seven eight"  # and two special tokens
    embedder.embed([exactly, exactly + " nine", exactly + " nine", "short"])
    assert embedder.truncated == 1
    assert (
        least_cosine(
            embedder.embed([exactly + " nine"]),
            by_torch(minilm, [exactly], pooling="mean", max_tokens=10),
        )
        >= LEAST_COSINE
    )


def test_the_models_files_rule_over_the_tokenizers_own_truncation(minilm: Path):
    assert json.loads((minilm / "tokenizer.json").read_text())["truncation"]["max_length"] == 128
    graph = graph_for(minilm)
    assert (graph.max_tokens, graph.position_limit, graph.dimensions) == (256, 512, 384)


def test_a_text_of_millions_of_characters(embedder: TextEmbedder):
    before = embedder.truncated
    huge = "word " * 2_000_000
    assert least_cosine(embedder.embed([huge]), embedder.embed(["word " * 500])) >= LEAST_COSINE
    assert embedder.truncated == before + 2


def test_the_provider_is_said_and_why(embedder: TextEmbedder):
    assert embedder.runs_on.startswith(("CPU", "CUDA"))
    assert bool(embedder.why_there) == (embedder.runs_on == "CPU")


def test_a_run_that_has_its_graphs_imports_no_torch(tiny: Path, exported: Path, tmp_path: Path):
    lines(tmp_path, "texts.jsonl", [{"text": text} for text in TEXTS])
    (tmp_path / "words.txt").write_text("mango 1 0\npeel 0 1\n")
    (tmp_path / "x.synth").write_text(f"""
embedder whole {{ model = "{tiny}"  dimensions = 16 }}
embedder layer {{ model = "{tiny}"  dimensions = 16  layer = "input" }}
embedder words {{ model = "words.txt"  dimensions = 2 }}
table t = read("texts.jsonl") |> where("text <> ''")
  |> embed(text) as a using whole |> embed(text) as b using layer
table w = read("texts.jsonl") |> embed(text) using words
""")
    program = """
import sys
from synthc.cli.main import ended
sys.argv = ["synthc", "run", "x.synth"]
status = ended()
unwanted = ("torch", "transformers", "optimum", "onnx", "sentence_transformers")
print(status, [name for name in unwanted if name in sys.modules], "onnxruntime" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "SYNTHC_CACHE": str(exported)},
    )
    assert done.stdout.splitlines() == ["0 [] True"], done.stderr
    assert column(tmp_path, "SELECT count(*) FROM t") == [7]


# The export


def test_the_card_says_what_was_made_from_what(tiny: Path, tiny_graph: Graph):
    card = json.loads((tiny_graph.path.parent / "card.json").read_text())
    assert card == tiny_graph.card
    assert card["source"] == "models/tiny"
    assert (card["pooling"], card["normalize"], card["precision"]) == ("mean", True, "fp32")
    assert (card["dimensions"], card["max_tokens"], card["opset"]) == (16, 32, 18)
    assert card["parity"]["least_cosine"] >= LEAST_COSINE
    assert (card["parity"]["texts"], card["parity"]["needed"]) == (57, LEAST_COSINE)
    assert (card["prompts"], card["default_prompt"]) == ({}, None)
    assert card["model_digest"] == digest(tiny)
    assert card["versions"]["torch"] == metadata.version("torch")
    assert sorted(card["files"]) == ["model.onnx", "model.onnx_data", "tokenizer.json"]


def test_a_corrupt_graph_is_exported_again(
    tiny: Path, tmp_path: Path, tiny_graph: Graph, monkeypatch: pytest.MonkeyPatch
):
    exported_here(monkeypatch)
    sound, times = tiny_graph.path.read_bytes(), tiny_graph.path.stat()
    tiny_graph.path.write_bytes(sound[:-8] + b"corrupt!")
    os.utime(tiny_graph.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = graph_for(tiny, cache=tmp_path / "cache")
    assert again.path.read_bytes() == sound
    assert again.digest == tiny_graph.digest


def test_the_digest_is_of_all_that_makes_a_vector(tiny_graph: Graph):
    folder, card = tiny_graph.path.parent, tiny_graph.card
    same = Graph.of({**card, "source": "elsewhere", "parity": {}}, folder)
    assert same.digest == tiny_graph.digest
    for change in ({"default_prompt": "query"}, {"max_tokens": 31}, {"files": {}}):
        assert Graph.of({**card, **change}, folder).digest != tiny_graph.digest


@pytest.fixture
def no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def test_without_the_exporter_the_extra_is_named(tiny: Path, tmp_path: Path, no_exporter: None):
    with pytest.raises(RunError, match="must be exported once") as caught:
        graph_for(tiny, cache=tmp_path)
    assert caught.value.hint == "pip install 'synthc[export]'"


def test_only_a_graph_that_matches_its_card_is_taken(
    tiny: Path, tmp_path: Path, tiny_graph: Graph, no_exporter: None
):
    cache = tmp_path / "cache"
    card = tiny_graph.path.parent / "card.json"
    told = json.loads(card.read_text())
    assert graph_for(tiny, cache=cache).digest == tiny_graph.digest
    changes = {
        tiny_graph.tokenizer: tiny_graph.tokenizer.read_text().replace("mango", "melon"),
        card: json.dumps({**told, "exporter": told["exporter"] - 1}),
        tiny_graph.path: None,
    }
    for path, changed in changes.items():
        sound = path.read_bytes()
        path.unlink() if changed is None else path.write_text(changed)
        with pytest.raises(RunError, match="must be exported once"):
            graph_for(tiny, cache=cache)
        path.write_bytes(sound)
        assert graph_for(tiny, cache=cache).digest == tiny_graph.digest
    card.unlink()
    with pytest.raises(RunError, match="must be exported once"):
        graph_for(tiny, cache=cache)


def refused(model: Path, cache: Path) -> RunError:
    with pytest.raises(RunError) as caught:
        graph_for(model, cache=cache, source="models/mine")
    assert not list((cache / "graphs").iterdir())
    return caught.value


def test_a_failed_export_says_why_and_where_the_log_is(tiny: Path, tmp_path: Path):
    broken = shutil.copytree(tiny, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    error = refused(broken, tmp_path / "cache")
    assert error.message.startswith(
        "`models/mine` (a model of the type `bert`) could not be exported: SafetensorError: "
    )
    assert "\n" not in error.message
    log = (error.hint or "").removeprefix("the whole log is ")
    assert "Traceback" in Path(log).read_text()


def test_a_model_of_a_type_that_cannot_be_exported(tiny: Path, tmp_path: Path):
    from transformers import FNetConfig, FNetModel

    folder = shutil.copytree(tiny, tmp_path / "fnet")
    config = FNetConfig(hidden_size=16, num_hidden_layers=1, intermediate_size=16)
    FNetModel(config).save_pretrained(folder)
    assert refused(folder, tmp_path / "cache").message.startswith(
        "`models/mine` (a model of the type `fnet`) could not be exported: ValueError: Trying to"
        " export a fnet model"
    )


def test_a_disk_that_fills_during_the_export(tiny: Path, tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No process may write a larger file, which is told as a full disk is.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        error = refused(tiny, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "could not be exported: " in error.message
    assert os.strerror(errno.EFBIG) in error.message
    assert error.hint == "make room there, or name another folder in the variable SYNTHC_CACHE"


def test_a_cache_that_is_no_folder(tiny: Path, tmp_path: Path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError, match="cannot be written: ") as caught:
        graph_for(tiny, cache=tmp_path / "cache")
    assert "SYNTHC_CACHE" in (caught.value.hint or "")


def test_a_graph_that_differs_from_the_original_is_refused(tiny: Path, tmp_path: Path):
    # Its two tokenizer files disagree: the original keeps capitals, tokenizer.json does not.
    other = shutil.copytree(tiny, tmp_path / "other")
    settings = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps({**settings, "do_lower_case": False}))
    error = refused(other, tmp_path / "cache")
    assert re.fullmatch(
        r"`models/mine` cannot be used: its vectors in fp32 are not the model's: over 57 texts the"
        r" least cosine is 0\.\d+, and it must be 0\.99999 at least",
        error.message,
    )


def test_a_folder_without_weights(tiny: Path, tmp_path: Path):
    bare = shutil.copytree(tiny, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(RunError, match=r"has no weights \(model\.safetensors\)\nhelp: "):
        graph_for(bare, cache=tmp_path / "cache")
    (bare / "model.onnx").write_bytes(b"a graph")
    with pytest.raises(RunError, match=r"has no weights \(model\.safetensors\)"):
        graph_for(bare, cache=tmp_path / "cache")
    with pytest.raises(RunError, match="is one file, and a text model is a folder"):
        graph_for(bare / "model.onnx", cache=tmp_path / "cache")


def test_a_text_without_a_vector_fails_its_row_alone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from safetensors.torch import load_file, save_file

    monkeypatch.setenv("SYNTHC_CACHE", str(tmp_path / "cache"))
    exported_here(monkeypatch)
    folder = shutil.copytree(tiny, tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    zebra = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n").index("zebra")
    weights["embeddings.word_embeddings.weight"][zebra] = float("inf")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    texts = ["a mango", "the zebra", "a plum", "a zebra", "the zebra"]
    lines(tmp_path, "texts.jsonl", [{"n": n, "topic": text} for n, text in enumerate(texts)])
    spec = f"""
embedder e {{ model = "{folder}"  dimensions = 16 }}
embedder parts {{ model = "{folder}"  dimensions = 16  pooling = "none" }}
table whole = read("texts.jsonl") |> embed(topic) using e
table words = read("texts.jsonl") |> embed(topic, words = "mean") using parts
"""
    made(spec, tmp_path, "")
    for table in ("whole", "words"):
        assert column(tmp_path, f"SELECT n FROM {table} ORDER BY n") == [0, 2]
    assert column(tmp_path, "SELECT count(*) FROM synth.vectors") == [2]
    failures = rows(tmp_path, "SELECT reason, detail, count(*) FROM synth.failures GROUP BY ALL")
    assert failures == [("embedding", "the model gives no vector of finite numbers", 6)]


# Prompts and dimensions


@pytest.fixture(scope="session")
def prompted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` as sentence-transformers saves it, with prompts and unit length."""
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("prompted") / "bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for kind, path in paths.items()
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    prompts = {"prompts": {"query": "query: ", "clustering": "group: "}}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({**prompts, "default_prompt_name": "clustering"})
    )
    return folder


def test_the_prompt_stands_before_each_text(
    prompted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    exported_here(monkeypatch)
    opened = functools.partial(
        open_embedder, str(prompted), base=Path(), dimensions=16, cache=tmp_path
    )
    for prompt, name, before in (
        (None, None, "group: "),
        (None, "query", "query: "),
        ("find: ", None, "find: "),
        ("", None, ""),
    ):
        theirs = by_torch(prompted, [before + t for t in TEXTS], pooling="mean", max_tokens=32)
        ours = opened(prompt=prompt, prompt_name=name).embed(TEXTS)
        assert least_cosine(ours, theirs) >= LEAST_COSINE
    with pytest.raises(RunError) as caught:
        opened(prompt_name="passage")
    assert caught.value.message == (
        f"`{prompted}` has no prompt `passage`: it has `query`, `clustering`"
    )

    # The first numbers of a vector, which get unit length again as the model's vectors have it.
    theirs = by_torch(prompted, ["group: " + t for t in TEXTS], pooling="mean", max_tokens=32)
    first = opened(dimensions=8, truncate=True).embed(TEXTS)
    assert first.shape == (len(TEXTS), 8)
    assert least_cosine(first, theirs[:, :8]) >= LEAST_COSINE
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert opened(truncate=True).embed(TEXTS).shape == (len(TEXTS), 16)
    with pytest.raises(RunError, match="has 16 dimensions, not 8") as caught:
        opened(dimensions=8)
    assert caught.value.hint == (
        "write `dimensions = 16`, or `truncate = true` to keep the first of them"
    )
    with pytest.raises(RunError, match="has 16 dimensions, not 17") as caught:
        opened(dimensions=17, truncate=True)
    assert caught.value.hint == "write `dimensions = 16`"


def test_another_prompt_or_fewer_dimensions_give_a_table_other_vectors(
    tiny: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYNTHC_CACHE", str(exported))
    lines(tmp_path, "texts.jsonl", [{"text": text} for text in TEXTS[:3]])
    expected = functools.partial(by_torch, tiny, pooling="mean", max_tokens=32)
    for settings, theirs in (
        ("dimensions = 16", expected(TEXTS[:3])),
        ('dimensions = 16  prompt = "query: "', expected([f"query: {t}" for t in TEXTS[:3]])),
        ("dimensions = 8  truncate = true", expected(TEXTS[:3])[:, :8]),
    ):
        spec = f'embedder e {{ model = "{tiny}"  {settings} }}'
        made(f'{spec} table t = read("texts.jsonl") |> embed(text)', tmp_path, "")
        found = column(tmp_path, "SELECT embedding FROM t ORDER BY rowid")
        assert least_cosine(np.array(found), theirs) >= LEAST_COSINE


def test_a_prompt_that_the_pooling_leaves_out_is_refused(tiny_graph: Graph):
    graph = dataclasses.replace(tiny_graph, prompts={"query": "query: "}, pools_prompt=False)
    chosen = functools.partial(prompt_of, graph, source="models/tiny")
    assert chosen(prompt=None, prompt_name=None) == ""
    with pytest.raises(RunError, match=r"leaves the prompt out of its pooling"):
        chosen(prompt=None, prompt_name="query")


# What is refused when an embedder is opened


def test_wrong_dimensions_name_the_true_ones(minilm: Path):
    with pytest.raises(RunError) as caught:
        open_embedder(MINILM, base=Path(), dimensions=768)
    assert caught.value.message == f"`{MINILM}` has 384 dimensions, not 768"
    assert caught.value.hint == "write `dimensions = 384`"


def test_more_tokens_than_the_model_can_read(minilm: Path):
    with pytest.raises(RunError, match="reads 512 tokens of a text, not 513"):
        open_embedder(MINILM, base=Path(), dimensions=384, max_tokens=513)
    long = open_embedder(MINILM, base=Path(), dimensions=384, max_tokens=512)
    assert (
        least_cosine(long.embed(TEXTS), by_torch(minilm, TEXTS, pooling="mean", max_tokens=512))
        >= LEAST_COSINE
    )


def test_a_folder_without_a_tokenizer(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"is not a text model: it has no tokenizer\.json"):
        open_embedder(str(tmp_path), base=Path(), dimensions=384, cache=tmp_path)


def test_a_graph_that_is_none(tiny_graph: Graph):
    tiny_graph.path.write_bytes(b"no graph")
    with pytest.raises(RunError, match="cannot be opened"):
        TextEmbedder(tiny_graph)


# What the model's files say


def sentence_model(folder: Path, pooling: dict[str, object], *more: str) -> Path:
    """A folder with the files of sentence-transformers, and no weights."""
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {"Transformer": "", "Pooling": "1_Pooling", **dict.fromkeys(more, "2_More")}
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for kind, path in kinds.items()
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_the_pooling_is_what_the_files_say(
    tmp_path: Path, pooling: dict[str, object], expected: str
):
    plain = sentence_model(tmp_path / "plain", pooling)
    model = read_text_model(plain, pooling=None, normalize=None)
    assert (model.pooling, model.normalize) == (expected, False)
    unit = sentence_model(tmp_path / "unit", pooling, "Normalize")
    assert read_text_model(unit, pooling=None, normalize=None).normalize
    assert not read_text_model(unit, pooling=None, normalize=False).normalize
    assert read_text_model(unit, pooling="mean", normalize=None).pooling == "mean"


@pytest.mark.parametrize(
    ("pooling", "said"),
    [
        ({"pooling_mode_attention": True, "pooling_mode_max_tokens": True}, "pooling_mode_"),
        ({"pooling_mode": "attention"}, "attention"),
        ({}, "nothing"),
    ],
)
def test_a_pooling_that_is_not_supported(tmp_path: Path, pooling: dict[str, object], said: str):
    folder = sentence_model(tmp_path / "model", pooling)
    with pytest.raises(RunError, match=f"pools by {said}.*which is not supported"):
        read_text_model(folder, pooling=None, normalize=None)
    assert read_text_model(folder, pooling="cls", normalize=None).pooling == "cls"


def test_a_step_that_is_not_known_is_not_left_out_silently(tmp_path: Path):
    folder = sentence_model(tmp_path / "model", {"pooling_mode_mean_tokens": True}, "CNN")
    with pytest.raises(RunError, match="has a step `CNN`, which is not supported"):
        read_text_model(folder, pooling=None, normalize=None)
    assert read_text_model(folder, pooling="cls", normalize=None).pooling == "cls"


def test_the_models_own_code_is_not_run(tmp_path: Path):
    folder = sentence_model(tmp_path / "model", {"pooling_mode_mean_tokens": True})
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(RunError, match=r"has a step `custom_st\.Transformer`"):
        read_text_model(folder, pooling=None, normalize=None)


def test_dense_layers_belong_to_the_models_own_pooling(tmp_path: Path):
    folder = sentence_model(tmp_path / "model", {"pooling_mode_mean_tokens": True}, "Dense")
    dense = {"out_features": 8, "activation_function": "torch.nn.modules.linear.Identity"}
    (folder / "2_More").mkdir()
    (folder / "2_More" / "config.json").write_text(json.dumps(dense))
    for pooling in (None, "mean"):
        model = read_text_model(folder, pooling=pooling, normalize=None)
        assert [(layer.outputs, layer.activation) for layer in model.dense] == [(8, "Identity")]
    for pooling in ("cls", "none"):
        assert not read_text_model(folder, pooling=pooling, normalize=None).dense
    dense["activation_function"] = "custom.Wave"
    (folder / "2_More" / "config.json").write_text(json.dumps(dense))
    with pytest.raises(RunError, match="has the activation `Wave`, which is not supported"):
        read_text_model(folder, pooling=None, normalize=None)


def test_positions_that_start_after_the_padding(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    roberta = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(roberta))
    model = read_text_model(tmp_path, pooling=None, normalize=None)
    assert (model.max_tokens, model.position_limit, model.pad_id) == (512, 512, 1)


# Arrays


def test_batches_stay_within_the_budget_and_hold_every_row_once():
    lengths = np.array([3, 900, 5, 1, 64, 64, 2])
    batches = list(pack(lengths, 128))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert [list(rows) for rows in batches] == [[1], [4, 5], [2, 0, 6, 3]]
    assert list(pack(np.array([], int), 128)) == []


def test_padding_is_on_the_right():
    ids, mask = pad([[5, 6, 7], [8]], 1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
