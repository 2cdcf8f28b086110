"""Vectors from tables: the same as those who made the tables give, and what a table does not have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from synthc.runtime.embedding.static import StaticEmbedder, is_table, open_table
from synthc.runtime.embedding.token_ids import TokenIds
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.models import fetch
from tests.runtime.helpers import column, compiled, lines, made, rows
from tests.runtime.tiny_text import MINILM

# They are run in a process of their own: model2vec wants another huggingface_hub than transformers.
MODEL2VEC = ("pypi:model2vec==0.10.0#model2vec", "pypi:joblib==1.5.3#joblib")
WIDTH = 24

TEXTS = [
    "How do I peel a mango?",
    "a",
    "Größe, naïveté, 東京, e\u0301 and a \u0301 mark",
    "tabs\tand\nlines\x1cand  many   spaces ",
    "[SEP] is special, un[MASK]ed, and so is [UNK]",
    "don't; well-known (42) ... --",
    "words and more words, far beyond what the model reads " * 80,
]
AS_THEY_DO = """
import json, sys
import numpy as np
from model2vec import StaticModel
texts = json.load(open(sys.argv[1]))
for folder in sys.argv[2:]:
    np.save(folder + "/theirs.npy", StaticModel.from_pretrained(folder).encode(texts))
"""


def write_table(
    folder: Path, tokenizer: Tokenizer, config: dict[str, Any], **tensors: np.ndarray
) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def drawn(count: int, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, width)).astype(np.float32)


def minilms() -> Tokenizer:
    return Tokenizer.from_file(str(fetch(MINILM, base=Path()) / "tokenizer.json"))


def byte_level() -> Tokenizer:
    """One that looks across spaces: a word behind one is another."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS[:1], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of model2vec, each with what model2vec makes of TEXTS."""
    root = tmp_path_factory.mktemp("tables")
    bert, size = minilms(), minilms().get_vocab_size()
    draw = np.random.default_rng(3)
    folders = [
        write_table(root / "unit", bert, {"normalize": True}, embeddings=drawn(size)),
        write_table(root / "short", bert, {"max_length": 6}, embeddings=drawn(size)),
        write_table(root / "uncut", bert, {"max_length": None}, embeddings=drawn(size)),
        write_table(root / "half", bert, {}, embeddings=drawn(size).astype(np.float16)),
        write_table(
            root / "shared",
            bert,
            {"normalize": True},
            embeddings=drawn(500),
            mapping=draw.integers(0, 500, size),
            weights=draw.uniform(0.1, 2, size).astype(np.float32),
        ),
        write_table(
            root / "bpe", byte_level(), {}, embeddings=drawn(byte_level().get_vocab_size())
        ),
        write_table(root / "unigram", unigram(), {}, embeddings=drawn(unigram().get_vocab_size())),
    ]
    (root / "texts.json").write_text(json.dumps(TEXTS))
    packages = [str(fetch(name, base=Path()).parent) for name in MODEL2VEC]
    subprocess.run(
        [sys.executable, "-c", AS_THEY_DO, str(root / "texts.json"), *map(str, folders)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(packages), "HF_HUB_OFFLINE": "1"},
        check=True,
    )
    return root


def opened(path: Path, dimensions: int = WIDTH, **settings: Any) -> StaticEmbedder:
    return open_table(path.name, path, dimensions=dimensions, **settings)


def vectors(embedder: StaticEmbedder, texts: list[str]) -> np.ndarray:
    found = embedder.embed(texts)
    assert not [one for one in found if isinstance(one, RowFailed)]
    return np.stack([one for one in found if not isinstance(one, RowFailed)])


@pytest.mark.parametrize("name", ["unit", "short", "uncut", "shared", "bpe", "unigram"])
def test_the_vectors_are_those_of_model2vec(tables: Path, name: str) -> None:
    theirs = np.load(tables / name / "theirs.npy")
    assert is_table(tables / name)
    found = vectors(opened(tables / name), TEXTS)
    assert found.dtype == np.float32
    assert np.abs(found - theirs).max() < 1e-6
    assert np.abs(vectors(opened(tables / name), TEXTS[:1]) - theirs[:1]).max() < 1e-6


def test_a_table_of_half_precision_is_summed_in_single(tables: Path) -> None:
    theirs = np.load(tables / "half" / "theirs.npy")
    found = vectors(opened(tables / "half"), TEXTS)
    assert 0 < np.abs(found - theirs).max() < 2e-3


def test_what_is_longer_than_a_table_reads_is_cut_and_counted(tables: Path) -> None:
    short = opened(tables / "short")
    assert (short.limit, short.truncated) == ("6 tokens", 0)
    short.embed(TEXTS)
    assert short.truncated == 6  # all but `a`
    long = opened(tables / "short", max_tokens=2000)
    long.embed(TEXTS)
    assert long.truncated == 0
    uncut = np.load(tables / "uncut" / "theirs.npy")
    assert np.abs(vectors(long, TEXTS) - uncut).max() < 1e-6


def test_shorter_vectors_have_unit_length_where_the_whole_ones_have(tables: Path) -> None:
    whole = vectors(opened(tables / "unit"), TEXTS)
    first = vectors(opened(tables / "unit", 8, truncate=True), TEXTS)
    assert np.allclose(first, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True))
    raw = vectors(opened(tables / "unit", 8, truncate=True, normalize=False), TEXTS)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": 25}, "`unit` has 24 dimensions, not 25"),
        ({"dimensions": 8}, "`unit` has 24 dimensions, not 8"),
        ({"pooling": "cls"}, "`unit` is a table of vectors, whose mean is taken, not `cls`"),
        (
            {"precision": "int8"},
            "`unit` is a table of vectors, which is used as it is, not in int8",
        ),
        ({"prompt_name": "query"}, "`unit` has no prompt `query`"),
    ],
)
def test_settings_that_are_not_for_tables(
    tables: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError) as raised:
        opened(tables / "unit", **{"dimensions": WIDTH, **settings})
    assert raised.value.message == message
    assert raised.value.hint


def test_a_table_that_is_too_small_for_its_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "small", minilms(), {}, embeddings=drawn(10))
    with pytest.raises(RunError, match="has 10 vectors for the 30522 tokens of its tokenizer"):
        opened(folder)
    for name, row_of in (("long", np.full(30522, 10)), ("few", np.zeros(30521, np.int64))):
        folder = write_table(tmp_path / name, minilms(), {}, embeddings=drawn(10), mapping=row_of)
        with pytest.raises(RunError, match="has 10 vectors for the 30522 tokens"):
            opened(folder)


def test_weights_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "cut", minilms(), {}, embeddings=drawn(30522))
    whole = (folder / "model.safetensors").read_bytes()
    for broken in (whole[:-1], whole[:20], b"", b"\xff" * 64):
        (folder / "model.safetensors").write_bytes(broken)
        with pytest.raises(RunError, match=r"model.safetensors is broken or cut off"):
            is_table(folder)


# sentence-transformers


def static_embedding(folder: Path, *more: str) -> Path:
    inner = write_table(
        folder / "0_StaticEmbedding", minilms(), {}, **{"embedding.weight": drawn(30522)}
    )
    (inner / "config.json").unlink()
    kinds = ("StaticEmbedding", *more)
    modules = [
        {
            "idx": at,
            "path": f"{at}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize("more", [(), ("Normalize",)])
def test_the_vectors_are_those_of_a_static_embedding(tmp_path: Path, more: tuple[str, ...]) -> None:
    import torch

    folder = static_embedding(tmp_path / "st", *more)
    tokenizer = minilms()
    tokenizer.no_padding()  # as sentence-transformers does; the file says to cut at 128
    ids = [e.ids for e in tokenizer.encode_batch(TEXTS, add_special_tokens=False)]
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(drawn(30522)), mode="mean")
    starts = torch.from_numpy(np.cumsum([0, *map(len, ids[:-1])]))
    theirs = bag(torch.tensor([one for row in ids for one in row]), starts).numpy()
    if more:
        theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    embedder = opened(folder)
    assert np.abs(vectors(embedder, TEXTS) - theirs).max() < 1e-6
    assert (embedder.limit, embedder.truncated) == ("128 tokens", 1)


def test_a_static_embedding_with_more_behind_it_is_refused(tmp_path: Path) -> None:
    folder = static_embedding(tmp_path / "st", "Dense", "Normalize")
    with pytest.raises(RunError, match="a step `Dense`, which is not supported behind a table"):
        opened(folder)


# The input embeddings of an ordinary model


def test_the_layer_input_is_the_table_of_a_model(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    lines(tmp_path, "x.jsonl", [{"text": "Mangoes and pears."}, {"text": ""}])
    spec = f'embedder e {{ model = "{MINILM}"  dimensions = 384  layer = "input" }}\n'
    report = made(spec + 'table t = read("x.jsonl") |> embed(text)', tmp_path, "")
    folder = fetch(MINILM, base=Path())
    table = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    tokenizer = minilms()
    tokenizer.no_padding()
    ids = tokenizer.encode("Mangoes and pears.", add_special_tokens=False).ids
    mean = table[ids].mean(axis=0)
    (found,) = column(tmp_path, "SELECT embedding FROM t")
    assert np.abs(np.array(found) - mean / np.linalg.norm(mean)).max() < 1e-6
    failed = rows(tmp_path, "SELECT reason, detail FROM synth.failures")
    assert failed == [("no_words", 'no word of "" is in the table, so there is no mean')]
    assert report.notes == ["e: embedded on CPU"]
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)


def test_a_model_without_safetensors_has_no_table(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    minilms().save(str(folder / "tokenizer.json"))
    with pytest.raises(RunError, match=r"model has no weights in .safetensors"):
        opened(folder)


# Word vectors in text files


def table_file(folder: Path, text: str | bytes, name: str = "words.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


WORDS = "mango 1 0 2\npear 3 4 0\n, 0 0 1\nnew york 5 5 5\n"


@pytest.mark.parametrize(
    "text",
    [
        WORDS,
        "4 3\n" + WORDS,
        WORDS.replace(" 1 0 2", "\t1\t0\t2"),
        WORDS.replace("\n", " \r\n"),
        WORDS.replace(" ", "   "),
        WORDS + "\n\n",
    ],
)
def test_word_vectors_of_a_file(tmp_path: Path, text: str) -> None:
    path = table_file(tmp_path, text)
    assert is_table(path)
    embedder = opened(path, 3, normalize=False)
    found = vectors(embedder, ["Mango, PEAR!", "mango"])
    assert np.allclose(found, [[4 / 3, 4 / 3, 1], [1, 0, 2]])
    assert embedder.notes == ["1 of 5 words were not in the table"]
    unit = vectors(opened(path, 3), ["pear"])
    assert np.allclose(unit, [[0.6, 0.8, 0]])


def test_words_with_capitals_are_looked_up_as_they_are(tmp_path: Path) -> None:
    embedder = opened(table_file(tmp_path, "Mango 1 0\nmango 0 1\n", "w.vec"), 2)
    assert vectors(embedder, ["Mango", "mango"]).tolist() == [[1, 0], [0, 1]]
    (failed,) = embedder.embed(["MANGO"])
    assert isinstance(failed, RowFailed)


def test_of_a_word_that_comes_again_the_first_counts(tmp_path: Path) -> None:
    embedder = opened(table_file(tmp_path, "a 1 0\nb 0 1\na 0 1\n"), 2)
    assert vectors(embedder, ["a"]).tolist() == [[1, 0]]
    assert embedder.notes == ["1 line repeats a word of its file: the first one counts"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "words.txt holds no word vectors"),
        ("\n \n", "words.txt holds no word vectors"),
        ("3 2\n", "words.txt holds no word vectors"),
        ("mango\n", ", line 1: `mango` has 0 numbers, and there must be some"),
        ("mango x y\n", ", line 1: `x` is no number"),
        ("a 1 2\nb 1\n", ", line 2: `b` has 1 number, and there must be 2"),
        ("a 1 2\nb 1 2 3\n", ", line 2: `b` has 3 numbers, and there must be 2"),
        ("a 1 2\nb 1 two\n", ", line 2: `two` is no number"),
        ("a 1 2\n 1 2\n", ", line 2: `1` has 1 number, and there must be 2"),
        ("a 1 2\nb nan 2\n", ", line 2: a number of `b` is not finite"),
        ("a 1 2\nb 1 1e60\n", ", line 2: a number of `b` is not finite"),
        ("3 2\na 1 2\nb 1 2\n", ", line 1: it says that 3 words follow, and there are 2"),
        ("1 2\na 1 2\nb 1 2\n", ", line 1: it says that 1 words follow, and there are 2"),
        ("2 3\na 1 2\nb 1 2\n", ", line 2: `a` has 2 numbers, and there must be 3"),
        ("café 1 2\n".encode("latin-1"), ", line 1: its word is not text in UTF-8"),
    ],
)
def test_a_file_that_is_malformed_is_told_with_its_line(
    tmp_path: Path, text: str | bytes, where: str
) -> None:
    with pytest.raises(RunError) as raised:
        opened(table_file(tmp_path, text), 2)
    assert raised.value.message.endswith(where)
    assert raised.value.hint


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    told: list[str] = []

    def noted(_done: int, _total: int | None, what: str) -> None:
        told.append(what)

    cache = tmp_path / "cache"
    path = table_file(tmp_path, "mango 1 0\n")
    for _ in range(2):
        assert vectors(opened(path, 2, cache=cache, progress=noted), ["mango"]).tolist() == [[1, 0]]
    assert told == ["reading words.txt"]
    table_file(tmp_path, "mango 0 1\n")
    assert vectors(opened(path, 2, cache=cache, progress=noted), ["mango"]).tolist() == [[0, 1]]
    assert told == ["reading words.txt"] * 2


def test_a_run_says_which_words_were_missing(tmp_path: Path) -> None:
    table_file(tmp_path, WORDS)
    lines(tmp_path, "x.jsonl", [{"text": "A mango."}, {"text": "plum"}])
    spec = 'embedder w { model = "words.txt"  dimensions = 3 }\n'
    report = made(spec + 'table t = read("x.jsonl") |> embed(text)', tmp_path, "")
    assert report.notes == ["w: embedded on CPU", "w: 3 of 4 words were not in the table"]
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)


@pytest.mark.parametrize("tokenizer", [minilms, byte_level, unigram])
def test_ids_by_words_are_those_of_whole_texts(tokenizer: Callable[[], Tokenizer]) -> None:
    one = tokenizer()
    one.no_padding()
    one.no_truncation()
    texts = [*TEXTS, "", " ", "  a", "a  "]
    whole = [encoding.ids for encoding in one.encode_batch(texts, add_special_tokens=False)]
    assert TokenIds(one).of(texts) == whole
    assert TokenIds(one).of([*texts, *texts]) == whole * 2


def test_a_normaliser_that_looks_across_spaces_is_given_whole_texts() -> None:
    one = Tokenizer(models.WordLevel({"newyork": 0, "new": 1, "york": 2, "?": 3}, unk_token="?"))
    one.pre_tokenizer = pre_tokenizers.Whitespace()
    one.normalizer = normalizers.Replace(" york", "york")
    assert TokenIds(one).of(["new york"]) == [[0]]


def test_a_table_converses_not(tmp_path: Path) -> None:
    table_file(tmp_path, WORDS)
    spec = 'embedder w { model = "words.txt"  dimensions = 3 }\n'
    spec += "table t = sql \"SELECT [{'role': 'user', 'content': 'a mango'}] AS m\" |> embed(m)"
    assert compiled(spec, tmp_path)
    with pytest.raises(RunError, match="has no chat template"):
        made(spec, tmp_path, "")
