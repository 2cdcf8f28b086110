"""The graph against the original: small models of random weights, exported and run by torch."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthc.runtime.embedding.export import Graph
from synthc.runtime.embedding.model_files import read_text_model
from synthc.runtime.embedding.pipeline import TextEmbedder, inputs_of, open_tokenizer, pad
from synthc.runtime.embedding.session import Session
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import read_json
from tests.runtime.tiny_text import MAX_TOKENS, saved

LEAST_COSINE = 0.99999

TEXTS = [
    "How do I peel a mango?",
    "",
    "a",
    "Größe, naïveté, 東京, 🙂",
    "The committee met on Tuesday and decided nothing of importance.",
    "words and more words, far beyond what the model reads " * 6,
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model, by its kind."""
    return functools.partial(saved, tmp_path_factory.mktemp("models"))


def exported(
    folder: Path,
    target: Path,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    **more: Any,
) -> Graph:
    """The graph of a model, made in this process: torch is there already."""
    from synthc.runtime.embedding.torch_graph import export

    target.mkdir()
    export(read_text_model(folder, pooling=pooling, normalize=normalize), target, **more)
    return Graph.of(read_json(target / "card.json"), target)


def hidden_states(folder: Path, texts: Sequence[str]) -> list[np.ndarray]:
    """The last hidden state of each text alone: (tokens, dimensions)."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    original = transformers.AutoModel.from_pretrained(folder).float().eval()
    found = []
    for text in texts:
        inputs = tokenizer(
            text,
            truncation=True,
            max_length=MAX_TOKENS,
            return_token_type_ids=False,  # they are all 0, and not every model takes them
            return_tensors="pt",
        )
        with torch.inference_mode():
            found.append(original(**inputs).last_hidden_state[0].numpy())
    return found


def pooled(folder: Path, texts: Sequence[str], pooling: str) -> np.ndarray:
    """The vectors of the original: (texts, dimensions)."""
    how: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mean": lambda tokens: tokens.mean(0),
        "max": lambda tokens: tokens.max(0),
        "cls": lambda tokens: tokens[0],
        "last": lambda tokens: tokens[-1],
    }
    return np.stack([how[pooling](tokens) for tokens in hidden_states(folder, texts)])


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float((unit(ours) * unit(theirs)).sum(axis=-1).min())


def agrees(graph: Graph, theirs: np.ndarray, least: float = LEAST_COSINE) -> None:
    """Whether the graph gives these vectors of TEXTS, each alone and all in one padded batch."""
    for batch_tokens in (1, len(TEXTS) * MAX_TOKENS):
        made = TextEmbedder(graph, batch_tokens=batch_tokens, threads=1).embed(TEXTS)
        assert least_cosine(made, theirs) >= least


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        ("bert", "mean"),
        ("bert", "cls"),
        ("bert", "max"),
        ("distilbert", "mean"),
        ("roberta", "mean"),
        ("mpnet", "cls"),
        ("qwen3", "last"),
        ("llama", "mean"),
    ],
)
def test_a_graph_is_the_original(
    model: Callable[[str], Path], tmp_path: Path, kind: str, pooling: str
):
    folder = model(kind)
    assert read_text_model(folder, pooling=pooling, normalize=None).max_tokens == MAX_TOKENS
    agrees(exported(folder, tmp_path / "graph", pooling=pooling), pooled(folder, TEXTS, pooling))


@pytest.mark.parametrize("normalize", [False, True])
def test_without_a_pooling_every_token_has_its_vector(
    model: Callable[[str], Path], tmp_path: Path, normalize: bool
):
    folder = model("bert")
    graph = exported(folder, tmp_path / "graph", pooling="none", normalize=normalize or None)
    tokenizer = open_tokenizer(graph.tokenizer, graph.max_tokens, lowercase=graph.lowercase)
    ids, mask = pad([item.ids for item in tokenizer.encode_batch(TEXTS)], graph.pad_id)
    made = Session(graph.path, threads=1).run(inputs_of(ids, mask))
    assert made.shape == (*ids.shape, 32)
    theirs = np.concatenate(hidden_states(folder, TEXTS))
    assert np.allclose(made[mask == 1], unit(theirs) if normalize else theirs, atol=1e-4)


def test_a_vector_of_zeros_stays_one(model: Callable[[str], Path]):
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    from synthc.runtime.embedding.torch_graph import OPSET, append_head

    ports = [
        helper.make_tensor_value_info("states", TensorProto.FLOAT, ["rows", "tokens", 2]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["rows", "tokens"]),
    ]
    hidden = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["rows", "tokens", 2]
    )
    same = helper.make_node("Identity", ["states"], ["last_hidden_state"])
    made = onnx.helper.make_model(
        helper.make_graph([same], "same", ports, [hidden]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
    )
    append_head(made, read_text_model(model("bert"), pooling="mean", normalize=True), width=2)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    states = np.array([[[3, 4], [3, 4]], [[0, 0], [9, 9]], [[1, -1], [-1, 1]]], np.float32)
    mask = np.array([[1, 1], [1, 0], [1, 1]])
    (vectors,) = session.run(None, {"states": states, "attention_mask": mask})
    assert np.allclose(np.asarray(vectors), [[0.6, 0.8], [0, 0], [0, 0]])


def test_half_precision(model: Callable[[str], Path], tmp_path: Path):
    # A decoder: the squares in its norms stay in 32 bits.
    graph = exported(model("qwen3"), tmp_path / "graph", pooling="last", precision="fp16")
    agrees(graph, pooled(model("qwen3"), TEXTS, "last"), 0.999)
    assert graph.card["precision"] == "fp16"
    assert graph.card["parity"]["needed"] == 0.999
    assert 0.999 <= graph.card["parity"]["least_cosine"] < 1
    assert graph.path.stat().st_size < 0.6 * weights_size(model("qwen3"))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_eight_bits(model: Callable[[str], Path], tmp_path: Path, kind: str):
    graph = exported(model(kind), tmp_path / "graph", pooling="mean", precision="int8")
    agrees(graph, pooled(model(kind), TEXTS, "mean"), 0.97)
    assert (graph.card["precision"], graph.card["parity"]["texts"]) == ("int8", 48)
    assert 0.97 <= graph.card["parity"]["least_cosine"] < 0.9999
    assert graph.card["blockwise"] == []
    assert graph.path.stat().st_size < 0.35 * weights_size(model(kind))


def test_where_few_numbers_are_large_the_others_keep_their_bits(
    model: Callable[[str], Path], tmp_path: Path
):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(model("albert"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    layer = "encoder.albert_layer_groups.0.albert_layers.0"
    # Of a few tokens one number is large: with one scale for all the least cosine is 0.90.
    weights[f"{layer}.ffn.weight"][7] *= 300
    weights[f"{layer}.ffn.bias"][7] = -300
    weights[f"{layer}.ffn_output.weight"][:, 7] /= 300
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    graph = exported(folder, tmp_path / "graph", pooling="mean", precision="int8")
    (name,) = graph.card["blockwise"]
    assert name.endswith("ffn_output/MatMul")
    agrees(graph, pooled(folder, TEXTS, "mean"), 0.97)
    # Each weight is there once, in eight bits.
    assert graph.path.stat().st_size < 0.4 * weights_size(folder)


def weights_size(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


def test_eight_bits_that_are_too_few_are_refused(model: Callable[[str], Path], tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(model("bert"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    # One number of each token is so large that the others have no bits left.
    weights["embeddings.LayerNorm.weight"][0] = 3000
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match=r"its vectors in int8 are not the model's") as caught:
        exported(folder, tmp_path / "graph", pooling="mean", precision="int8")
    assert "the least cosine is 0." in caught.value.message
    assert "and it must be 0.97 at least" in caught.value.message


def test_weights_go_to_a_file_of_their_own(model: Callable[[str], Path], tmp_path: Path):
    graph = exported(model("bert"), tmp_path / "graph", pooling="mean")
    assert sorted(file.name for file in graph.path.parent.iterdir()) == [
        "card.json",
        "model.onnx",
        "model.onnx_data",
        "tokenizer.json",
    ]
    assert graph.path.stat().st_size < 1_000_000
    agrees(graph, pooled(model("bert"), TEXTS, "mean"))


# The folders of sentence-transformers


def sentence_model(folder: Path, target: Path, pooling: dict[str, Any], *after: str) -> Path:
    """A model as sentence-transformers saves it, with these steps after the pooling."""
    shutil.copytree(folder, target)
    steps = ["Transformer", "Pooling", *after]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(steps) if number)]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (path, kind) in enumerate(zip(paths, steps, strict=True))
    ]
    (target / "modules.json").write_text(json.dumps(modules))
    for path in paths[1:]:
        (target / path).mkdir()
    (target / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return target


def add_dense(
    folder: Path, inputs: int, outputs: int, activation: str, *, bias: bool, safe: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Write a dense layer of random weights; returns what it does to vectors."""
    import torch
    from safetensors.torch import save_file

    layer = torch.nn.Linear(inputs, outputs, bias=bias)
    weights = {f"linear.{name}": tensor.detach() for name, tensor in layer.named_parameters()}
    settings = {
        "in_features": inputs,
        "out_features": outputs,
        "bias": bias,
        "activation_function": f"torch.nn.modules.activation.{activation}",
    }
    (folder / "config.json").write_text(json.dumps(settings))
    if safe:
        save_file(weights, folder / "model.safetensors")
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    follows = getattr(torch.nn, activation)()

    def run(vectors: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return follows(layer(torch.from_numpy(vectors))).numpy()

    return run


def test_dense_layers_are_in_the_graph(model: Callable[[str], Path], tmp_path: Path):
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    folder = sentence_model(
        model("bert"), tmp_path / "model", flags, "Dense", "Dropout", "Dense", "Dense", "Normalize"
    )
    first = add_dense(folder / "2_Dense", 64, 48, "Tanh", bias=True, safe=True)
    second = add_dense(folder / "4_Dense", 48, 32, "GELU", bias=False, safe=False)
    third = add_dense(folder / "5_Dense", 32, 24, "Identity", bias=True, safe=True)
    graph = exported(folder, tmp_path / "graph")
    assert (graph.pooling, graph.dimensions, graph.normalize) == ("cls+mean", 24, True)
    assert graph.card["dense"] == [[48, "Tanh"], [32, "GELU"], [24, "Identity"]]
    both = np.concatenate([pooled(folder, TEXTS, "cls"), pooled(folder, TEXTS, "mean")], axis=1)
    theirs = third(second(first(both)))
    agrees(graph, theirs)
    made = TextEmbedder(graph, threads=1).embed(TEXTS)
    assert np.allclose(made, unit(theirs), atol=1e-4)


def test_all_poolings_at_once(model: Callable[[str], Path], tmp_path: Path):
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    names += ("weightedmean_tokens", "lasttoken")
    flags = {f"pooling_mode_{name}": True for name in names}
    folder = sentence_model(model("bert"), tmp_path / "model", flags)
    graph = exported(folder, tmp_path / "graph")
    assert graph.pooling == "cls+max+mean+mean_sqrt_len+weighted_mean+last"
    theirs = []
    for tokens in hidden_states(folder, TEXTS):
        weights = np.arange(1, len(tokens) + 1, dtype=np.float32)[:, None]
        root = tokens.sum(0) / np.sqrt(len(tokens))
        weighted = (tokens * weights).sum(0) / weights.sum()
        parts = tokens[0], tokens.max(0), tokens.mean(0), root, weighted, tokens[-1]
        theirs.append(np.concatenate(parts))
    agrees(graph, np.stack(theirs))
    assert np.allclose(TextEmbedder(graph, threads=1).embed(TEXTS), theirs, atol=1e-3)
