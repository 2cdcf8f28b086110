"""A text model of transformers becomes a graph that gives its vectors, and is compared with it.

This imports torch: only the export's own process imports this.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from optimum.exporters.onnx import main_export
from transformers import AutoModel, AutoTokenizer

from synthc.runtime.embedding.export import EXPORT_PACKAGES, EXPORTER, Graph
from synthc.runtime.embedding.model_files import TextModel
from synthc.runtime.embedding.pipeline import TextEmbedder, inputs_of, open_tokenizer, pad
from synthc.runtime.embedding.session import Session
from synthc.runtime.model_cache import write_json

OPSET = 18  # the first where every reduction takes its axes as an input
LEAST_COSINE = 0.99999
PROTOBUF_LIMIT_BYTES = 2**31 - 1

# Lengths from nothing to more than most models read, and scripts that tokenizers treat apart.
SAMPLES = (
    "",
    "Hello.",
    "A text of one line, with a number (42) and CAPITALS.",
    "Ein Satz mit Umlauten: süß, größer, Straße. Ünïcödé!",
    "中文没有空格。日本語も同じです。 🙂 naïve",
    "def f(x):\n\treturn x ** 2  # code\n",
    "The quick brown fox jumps over the lazy dog. " * 6,
    "Every row of a table is one text, and some are long. " * 20,
    "alpha beta gamma delta epsilon zeta eta theta iota kappa " * 150,
)


def export(model: TextModel, folder: Path) -> None:
    """Write model.onnx, tokenizer.json and card.json into `folder`.

    Raises ValueError where the graph's vectors are not the original's.
    """
    raw = folder / "raw"
    main_export(
        str(model.folder),
        raw,
        task="feature-extraction",
        library_name="transformers",
        opset=OPSET,
        do_validation=False,  # the finished graph is compared below, with the original
        local_files_only=True,
    )
    graph = onnx.load(raw / "model.onnx")
    append_pooling(graph, model.pooling, normalize=model.normalize)
    _save(graph, folder / "model.onnx", size=sum(file.stat().st_size for file in raw.iterdir()))
    shutil.rmtree(raw)
    shutil.copyfile(model.folder / "tokenizer.json", folder / "tokenizer.json")

    original = AutoModel.from_pretrained(model.folder, local_files_only=True).float().eval()
    card = {
        "exporter": EXPORTER,
        "pooling": model.pooling,
        "normalize": model.normalize,
        "precision": "fp32",
        "dimensions": original.config.hidden_size,
        "max_tokens": model.max_tokens,
        "position_limit": model.position_limit,
        "pad_id": model.pad_id,
        "lowercase": model.lowercase,
        "opset": OPSET,
        "versions": {name: metadata.version(name) for name in EXPORT_PACKAGES},
    }
    exported = Graph(
        path=folder / "model.onnx",
        tokenizer=folder / "tokenizer.json",
        pooling=model.pooling,
        dimensions=card["dimensions"],
        max_tokens=model.max_tokens,
        position_limit=model.position_limit,
        pad_id=model.pad_id,
        lowercase=model.lowercase,
        digest="",
        card=card,
    )
    texts, vectors = original_vectors(original, model, SAMPLES)
    least = least_cosine(exported, texts, vectors)
    if not least >= LEAST_COSINE:  # a NaN is not either
        raise ValueError(f"the graph's vectors are not the model's: least cosine {least:.7f}")
    card["parity"] = {"texts": len(texts), "least_cosine": least}
    write_json(folder / "card.json", card)


def append_pooling(model: onnx.ModelProto, pooling: str, *, normalize: bool) -> None:
    """Replace the outputs of a graph, `last_hidden_state` (rows, tokens, dimensions) among them,
    by `embedding`: (rows, dimensions), the tokens that `attention_mask` shows, pooled; where
    `pooling` is `none`, (rows, tokens, dimensions), each token as it is. `normalize` gives every
    vector unit length."""
    graph = model.graph
    hidden = next(item for item in graph.output if item.name == "last_hidden_state")
    rows, tokens, dimensions = hidden.type.tensor_type.shape.dim

    def constant(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"synthc/{name}"))
        return f"synthc/{name}"

    def node(operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"synthc/{len(graph.node)}/{operator}"
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def along_tokens(operator: str, data: str, *, keepdims: int) -> str:
        axis = "synthc/tokens_axis"
        if all(item.name != axis for item in graph.initializer):
            constant("tokens_axis", np.array([1], np.int64))
        return node(operator, data, axis, keepdims=keepdims)

    mask = node("Cast", "attention_mask", to=TensorProto.FLOAT)
    last_axis = constant("last_axis", np.array([-1], np.int64))
    mask_3d = node("Unsqueeze", mask, last_axis)
    match pooling:
        case "mean":
            seen = node("Mul", hidden.name, mask_3d)
            total = along_tokens("ReduceSum", seen, keepdims=0)
            pooled = node("Div", total, along_tokens("ReduceSum", mask, keepdims=1))
        case "max":
            floor = constant("floor", np.array(-1e9, np.float32))
            shown = node("Cast", mask_3d, to=TensorProto.BOOL)
            seen = node("Where", shown, hidden.name, floor)
            pooled = along_tokens("ReduceMax", seen, keepdims=0)
        case "cls":
            pooled = node("Gather", hidden.name, constant("first", np.array(0, np.int64)), axis=1)
        case "last":
            # The running count of attended tokens first reaches its highest at the last of them.
            count = node("CumSum", mask, constant("axis", np.array(1, np.int64)))
            last = node("ArgMax", count, axis=1, keepdims=1)
            pooled = node("GatherND", hidden.name, last, batch_dims=1)
        case "none":
            pooled = hidden.name
        case _:
            raise ValueError(f"no such pooling: {pooling}")
    if normalize:
        square = node("ReduceSumSquare", pooled, last_axis, keepdims=1)
        tiny = constant("tiny", np.array(1e-24, np.float32))  # a zero vector stays zero
        pooled = node("Div", pooled, node("Sqrt", node("Max", square, tiny)))
    graph.node.append(helper.make_node("Identity", [pooled], ["embedding"]))
    shape = [rows.dim_param or "batch_size", dimensions.dim_value or "dimensions"]
    if pooling == "none":
        shape.insert(1, tokens.dim_param or "sequence_length")
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)


def _save(model: onnx.ModelProto, path: Path, *, size: int) -> None:
    """A graph over 2 GiB does not fit one protobuf file: its weights go to a file beside it."""
    large = size >= PROTOBUF_LIMIT_BYTES
    location = "model.onnx_data" if large else None
    onnx.save(model, path, save_as_external_data=large, location=location)


def original_vectors(
    original: torch.nn.Module, model: TextModel, samples: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """The samples that have tokens, and what the original makes of each alone: (vectors, dimensions).

    A vector a text, in their order, or where `pooling` is `none` one for each token of each text.
    It has its own tokenizer, and sees no padding: all that could be wrong in ours is compared.
    """
    tokenizer = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
    texts, vectors = [], []
    for text in samples:
        inputs = tokenizer(
            text.lower() if model.lowercase else text,
            truncation=True,
            max_length=model.max_tokens,
            return_tensors="pt",
        )
        if inputs["input_ids"].shape[1] == 0:
            continue
        with torch.inference_mode():
            tokens = original(**inputs).last_hidden_state[0]
        pooled = {
            "mean": lambda tokens: tokens.mean(0, keepdim=True),
            "max": lambda tokens: tokens.amax(0, keepdim=True),
            "cls": lambda tokens: tokens[:1],
            "last": lambda tokens: tokens[-1:],
            "none": lambda tokens: tokens,
        }[model.pooling](tokens)
        texts.append(text)
        vectors.append(pooled.numpy())
    return texts, np.concatenate(vectors)


def least_cosine(graph: Graph, texts: Sequence[str], vectors: np.ndarray) -> float:
    """The least cosine between the original's vectors and the graph's, alone and in one batch."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if graph.pooling == "none":
        embed = functools.partial(_token_vectors, graph, Session(graph.path))
    else:
        embed = TextEmbedder(graph, batch_tokens=len(texts) * graph.max_tokens).embed
    least = 1.0
    for made in (embed(texts), np.concatenate([embed([text]) for text in texts])):
        made_unit = made / np.linalg.norm(made, axis=1, keepdims=True)
        least = min(least, float((unit * made_unit).sum(axis=1, dtype=np.float64).min()))
    return least


def _token_vectors(graph: Graph, session: Session, texts: Sequence[str]) -> np.ndarray:
    """The vectors of the tokens of the texts, in one batch: (tokens in all, dimensions)."""
    tokenizer = open_tokenizer(graph.tokenizer, graph.max_tokens, lowercase=graph.lowercase)
    ids, mask = pad([item.ids for item in tokenizer.encode_batch_fast(list(texts))], graph.pad_id)
    return session.run(inputs_of(ids, mask))[mask == 1]
