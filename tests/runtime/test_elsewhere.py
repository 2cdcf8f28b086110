"""Text models whose graph was made elsewhere: a small BERT of random weights, exported by torch itself."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthc.compiler.compile import compile_text
from synthc.runtime.errors import RunError
from tests.runtime.helpers import column, compiled, lines, made
from tests.runtime.tiny_text import MINILM, saved

TEXTS = [
    "How do I peel a mango?",
    "a",
    "Größe, naïveté, 東京, 🙂",
    "words and more words, far beyond what the model reads " * 6,
]
SPEC = """
embedder e {{ model = "model"  dimensions = 32  {more} }}
table t = read("x.jsonl", key = n) |> embed(text) as v
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray], Any]:
    """A folder without weights, and the last hidden state of each of TEXTS: (tokens, width)."""
    import torch
    import transformers

    root = tmp_path_factory.mktemp("elsewhere")
    whole = saved(root, "bert", max_position_embeddings=40)
    folder = root / "model"
    (folder / "onnx").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(whole / name, folder)
    model = transformers.BertModel.from_pretrained(whole, attn_implementation="eager").eval()
    reading = transformers.AutoTokenizer.from_pretrained(folder)
    example = dict(reading(TEXTS[:2], padding=True, return_tensors="pt"))
    axes = {0: "rows", 1: "tokens"}
    names = ("input_ids", "attention_mask", "token_type_ids")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(example[name] for name in names),
            str(folder / "onnx" / "model.onnx"),
            input_names=list(names),
            output_names=["last_hidden_state", "pooled"],
            dynamic_axes={
                **dict.fromkeys(names, axes),
                "last_hidden_state": axes,
                "pooled": {0: "rows"},
            },
            dynamo=False,
        )
    states, pooled = [], []
    for text in TEXTS:
        with torch.inference_mode():
            inputs = reading(text, truncation=True, max_length=40, return_tensors="pt")
            found = model(**{name: inputs[name] for name in names})
        states.append(found.last_hidden_state[0].numpy())
        pooled.append(found.pooler_output[0].numpy())
    return folder, states, np.stack(pooled)


@pytest.fixture
def there(original: tuple[Path, Any, Any], tmp_path: Path) -> Path:
    """A folder with the model and the texts."""
    shutil.copytree(original[0], tmp_path / "model")
    lines(tmp_path, "x.jsonl", ({"n": n, "text": text} for n, text in enumerate(TEXTS)))
    return tmp_path


def vectors(base: Path) -> np.ndarray:
    return np.array(column(base, "SELECT v FROM t ORDER BY n"))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("pooling", "how"),
    [
        ("mean", lambda tokens: tokens.mean(0)),
        ("cls", lambda tokens: tokens[0]),
        ("last", lambda tokens: tokens[-1]),
        ("max", lambda tokens: tokens.max(0)),
    ],
)
def test_what_the_graph_says_of_tokens_is_pooled(
    original: Any, there: Path, pooling: str, how: Callable[[np.ndarray], np.ndarray]
) -> None:
    made(SPEC.format(more=f'pooling = "{pooling}"  normalize = false'), there, "")
    theirs = np.stack([how(tokens) for tokens in original[1]])
    assert np.abs(vectors(there) - theirs).max() < 1e-4
    made(SPEC.format(more=f'pooling = "{pooling}"'), there, "")
    assert np.abs(vectors(there) - unit(theirs)).max() < 1e-5


def test_the_mean_is_what_is_not_said_and_texts_are_kept(original: Any, there: Path) -> None:
    report = made(SPEC.format(more=""), there, "")
    theirs = np.stack([tokens.mean(0) for tokens in original[1]])
    assert np.abs(vectors(there) - unit(theirs)).max() < 1e-5
    assert report.notes[1] == "e: 1 text cut at 40 tokens"
    assert column(there, "SELECT count(*) FROM synth.vectors") == [4]


def test_an_output_that_is_a_vector_already(original: Any, there: Path) -> None:
    made(SPEC.format(more='output_name = "pooled"  normalize = false'), there, "")
    assert np.abs(vectors(there) - original[2]).max() < 1e-5
    more = 'output_name = "pooled"  truncate = true'
    made(SPEC.format(more=more).replace("= 32", "= 8"), there, "")
    assert np.abs(vectors(there) - unit(original[2][:, :8])).max() < 1e-5


def test_tokens_have_vectors_of_their_own(original: Any, there: Path) -> None:
    made(SPEC.format(more='pooling = "none"'), there, "")
    parts = column(there, "SELECT v FROM t ORDER BY n")
    found = np.array([part["embedding"] for part in parts[0]])
    assert np.abs(found - original[1][0][1:-1]).max() < 1e-4  # without [CLS] and [SEP]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('output_name = "code"', "has no output `code`"),
        ('input_name = "input_ids"', "is given tokens"),
        (
            'output_name = "pooled"  pooling = "none"',
            "gives `pooled` in the shape (any, 32): no vector for each token",
        ),
        ("truncate = false", "has 32 dimensions, not 31"),
    ],
)
def test_what_does_not_fit_is_told_before_a_run_and_by_it(
    there: Path, more: str, reason: str
) -> None:
    text = SPEC.format(more=more)
    if "31" in reason:
        text = text.replace("= 32", "= 31")
    (there / "model").rename(there / "later")
    plan = compiled(text, there)
    (there / "later").rename(there / "model")
    (problem,) = compile_text(text, "x.synth", there).problems
    assert (problem.code, problem.message()) == ("S0607", f"the graph `model` {reason}")
    with pytest.raises(RunError) as raised:
        made(plan, there, "")
    assert (raised.value.message, raised.value.hint) == (problem.message(), problem.help())


def test_a_graph_of_pictures_embeds_no_text(there: Path) -> None:
    import onnx

    path = there / "model" / "onnx" / "model.onnx"
    model = onnx.load(path)
    for node in model.graph.node:
        node.input[:] = ["pixel_values" if one == "input_ids" else one for one in node.input]
    model.graph.input[0].name = "pixel_values"
    onnx.save(model, path)
    (problem,) = compile_text(SPEC.format(more=""), "x.synth", there).problems
    assert problem.message().startswith("the graph `model` takes `pixel_values`, ")


def test_it_is_used_as_it_is(there: Path) -> None:
    with pytest.raises(RunError, match="has a graph and no weights: it is used as it is, not in"):
        made(SPEC.format(more='precision = "int8"'), there, "")


def test_names_are_for_graphs_that_have_them(there: Path) -> None:
    text = SPEC.format(more='output_name = "x"').replace('"model"', f'"{MINILM}"')
    with pytest.raises(RunError, match="is exported to a graph from its weights, and has one out"):
        made(text.replace("= 32", "= 384"), there, "")
