"""A text model of transformers becomes a graph that gives its vectors, and is compared with it.

This imports torch: only the export's own process imports this.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from optimum.exporters.onnx import export as export_model
from optimum.exporters.onnx import main_export
from optimum.exporters.onnx.model_configs import CLIPTextWithProjectionOnnxConfig
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModelWithProjection

from synthc.runtime.backends.protocol import Message
from synthc.runtime.embedding.chat_template import render
from synthc.runtime.embedding.export import EXPORT_PACKAGES, EXPORTER, Graph
from synthc.runtime.embedding.model_files import TEXT_EMBEDS, Dense, TextModel
from synthc.runtime.embedding.pipeline import (
    BATCH_TOKENS,
    TextEmbedder,
    inputs_of,
    open_tokenizer,
    pack,
    pad,
)
from synthc.runtime.embedding.samples import EDGES, SENTENCES
from synthc.runtime.embedding.session import Sessions
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import write_json

OPSET = 18  # the first where every reduction takes its axes as an input

# What the cosine to the original's vectors must be at least. Eight bits round the vector of one
# token further off than that of a text, where the tokens' errors even out.
LEAST_COSINE = {"fp32": 0.99999, "fp16": 0.999, "int8": 0.97}
LEAST_TOKEN_COSINE = {**LEAST_COSINE, "int8": 0.95}

BATCH_TEXTS = 12  # the edge cases and some more: texts of all lengths in one batch

# The squares of large activations are beyond what 16 bits hold.
KEPT_FP32 = ("Pow", "ReduceMean")


def export(model: TextModel, folder: Path, *, precision: str = "fp32") -> None:
    """Write model.onnx, its weights model.onnx_data, tokenizer.json and card.json into `folder`.

    Raises RunError where the vectors are not those of the original, as near as the precision allows.
    """
    raw = folder / "raw"
    if model.pooling == TEXT_EMBEDS:
        width = _export_text_tower(model, raw)
    else:
        main_export(
            str(model.folder),
            raw,
            task="feature-extraction",
            library_name="transformers",
            opset=OPSET,
            do_validation=False,  # the finished graph is compared below, with the original
            local_files_only=True,
        )
        width = AutoConfig.from_pretrained(model.folder, local_files_only=True).hidden_size
    samples = _batches(model) if precision == "int8" else ()
    graph, how = in_precision(raw / "model.onnx", precision, samples)
    dimensions = append_head(graph, model, width=width)
    save(graph, folder / "model.onnx")
    shutil.rmtree(raw)
    shutil.copyfile(model.folder / "tokenizer.json", folder / "tokenizer.json")

    card = {
        "exporter": EXPORTER,
        "pooling": model.pooling,
        "dense": [[layer.outputs, layer.activation] for layer in model.dense],
        "normalize": model.normalize,
        "precision": precision,
        **how,
        "dimensions": dimensions,
        "max_tokens": model.max_tokens,
        "position_limit": model.position_limit,
        "pad_id": model.pad_id,
        "lowercase": model.lowercase,
        "prompts": dict(model.prompts),
        "default_prompt": model.default_prompt,
        "pools_prompt": model.pools_prompt,
        "chat_template": model.chat_template and dataclasses.asdict(model.chat_template),
        "wraps_text": model.wraps_text,
        "opset": OPSET,
        "versions": {name: metadata.version(name) for name in EXPORT_PACKAGES},
    }
    # Rounded weights are judged by sentences as people embed them.
    samples = SENTENCES if precision == "int8" else EDGES + SENTENCES
    texts, vectors = original_vectors(model, samples)
    least = least_cosine(Graph.of(card, folder), texts, vectors)
    needed = (LEAST_TOKEN_COSINE if model.pooling == "none" else LEAST_COSINE)[precision]
    if not least >= needed:  # a NaN is not either
        raise RunError(
            f"its vectors in {precision} are not the model's: over {len(texts)} texts the least"
            f" cosine is {least:.7f}, and it must be {needed} at least"
        )
    card["parity"] = {"texts": len(texts), "least_cosine": least, "needed": needed}
    write_json(folder / "card.json", card)


def text_tower(folder: Path) -> CLIPTextModelWithProjection:
    """The part of a CLIP that reads text, with what takes it into the space of pictures."""
    whole = AutoConfig.from_pretrained(folder, local_files_only=True)
    config = whole.text_config
    config.projection_dim = whole.projection_dim
    found = CLIPTextModelWithProjection.from_pretrained(
        folder, config=config, local_files_only=True
    )
    return found.float().eval()


def _export_text_tower(model: TextModel, raw: Path) -> int:
    """Write the graph of the part of a CLIP that reads text; returns the dimensions of its vectors."""
    tower = text_tower(model.folder)
    raw.mkdir()
    config = CLIPTextWithProjectionOnnxConfig(tower.config, task="feature-extraction")
    export_model(tower, config, raw / "model.onnx", opset=OPSET)
    return tower.config.projection_dim


def in_precision(
    path: Path, precision: str, samples: Sequence[dict[str, np.ndarray]] = ()
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The exported graph with weights of that precision, and what the card says of how.

    Its inputs and outputs stay as they are. `samples` are batches of inputs, by which eight bits are fitted.
    """
    match precision:
        case "fp16":
            from onnxruntime.transformers.float16 import (
                DEFAULT_OP_BLOCK_LIST,
                convert_float_to_float16,
            )
            from onnxruntime.transformers.onnx_model import OnnxModel

            kept = [*DEFAULT_OP_BLOCK_LIST, *KEPT_FP32]
            graph = convert_float_to_float16(str(path), keep_io_types=True, op_block_list=kept)
            OnnxModel(graph).topological_sort()  # the casts it added stand at the end
            return graph, {}
        case "int8":
            from synthc.runtime.embedding.int8 import in_eight_bits

            graph, blockwise = in_eight_bits(path, samples)
            return graph, {"blockwise": blockwise}
        case _:
            return onnx.load(path), {}


def _batches(model: TextModel) -> list[dict[str, np.ndarray]]:
    """The sample sentences as inputs of the graph, in batches as a run has them."""
    tokenizer = open_tokenizer(
        model.folder / "tokenizer.json", model.max_tokens, lowercase=model.lowercase
    )
    ids = [item.ids for item in tokenizer.encode_batch_fast(list(SENTENCES))]
    lengths = np.array([len(row) for row in ids])
    return [
        inputs_of(*pad([ids[row] for row in rows], model.pad_id))
        for rows in pack(lengths, BATCH_TOKENS["CPU"])
    ]


def append_head(model: onnx.ModelProto, text_model: TextModel, *, width: int) -> int:
    """Replace a graph's outputs, `last_hidden_state` (rows, tokens, width) among them, or `text_embeds`
    (rows, width) where the pooling is that, by one.

    That is `embedding`, (rows, dimensions): the tokens that `attention_mask` shows, pooled, then
    the dense layers, then unit length where it is wanted. Where the pooling is `none` it is (rows,
    tokens, dimensions), each token for itself. Returns the dimensions.
    """
    head = _Head(model.graph)
    output = TEXT_EMBEDS if text_model.pooling == TEXT_EMBEDS else "last_hidden_state"
    hidden = next(item for item in model.graph.output if item.name == output)
    rows, tokens, *_ = hidden.type.tensor_type.shape.dim
    if text_model.pooling in ("none", TEXT_EMBEDS):
        vectors, dimensions = hidden.name, width
    else:
        names = text_model.pooling.split("+")
        pooled = [head.pooled(hidden.name, name) for name in names]
        vectors = head.node("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]
        dimensions = width * len(pooled)
    for layer in text_model.dense:
        vectors, dimensions = head.dense(vectors, layer), layer.outputs
    if text_model.normalize:
        vectors = head.unit_length(vectors)
    model.graph.node.append(helper.make_node("Identity", [vectors], ["embedding"]))
    shape: list[str | int] = [rows.dim_param or "batch_size", dimensions]
    if text_model.pooling == "none":
        shape.insert(1, tokens.dim_param or "sequence_length")
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape))
    return dimensions


class _Head:
    """Adds operations to the end of a graph; each method takes and returns names of tensors."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants: dict[str, str] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """A value in the graph, there once for each name."""
        if name not in self._constants:
            self._constants[name] = f"synthc/{name}"
            self._graph.initializer.append(numpy_helper.from_array(value, f"synthc/{name}"))
        return self._constants[name]

    def number(self, value: float) -> str:
        return self.constant(f"number/{value}", np.array(value, np.float32))

    def axis(self, axis: int) -> str:
        return self.constant(f"axis/{axis}", np.array([axis], np.int64))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The only output of a new operation."""
        output = f"synthc/{len(self._graph.node)}/{operator}"
        self._graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def pooled(self, hidden: str, pooling: str) -> str:
        """(rows, tokens, dimensions) to (rows, dimensions)."""
        mask = self.node("Cast", "attention_mask", to=TensorProto.FLOAT)
        match pooling:
            case "cls":
                first = self.constant("first", np.array(0, np.int64))
                return self.node("Gather", hidden, first, axis=1)
            case "last":
                # The running count of attended tokens first reaches its highest at the last of them.
                last = self.node("ArgMax", self._count(mask), axis=1, keepdims=1)
                return self.node("GatherND", hidden, last, batch_dims=1)
            case "max":
                shown = self.node("Cast", self._by_token(mask), to=TensorProto.BOOL)
                seen = self.node("Where", shown, hidden, self.number(-1e9))
                return self.node("ReduceMax", seen, self.axis(1), keepdims=0)
            case "mean":
                return self._weighted_sum(hidden, mask, mask)
            case "mean_sqrt_len":
                # As the mean, divided by the root of the number of tokens.
                total = self._weighted_sum(hidden, mask, mask)
                length = self.node("ReduceSum", mask, self.axis(1), keepdims=1)
                return self.node("Mul", total, self.node("Sqrt", length))
            case "weighted_mean":
                weights = self.node("Mul", self._count(mask), mask)
                return self._weighted_sum(hidden, weights, weights)
            case _:
                raise ValueError(f"no such pooling: {pooling}")

    def _count(self, mask: str) -> str:
        return self.node("CumSum", mask, self.constant("tokens", np.array(1, np.int64)))

    def _by_token(self, weights: str) -> str:
        return self.node("Unsqueeze", weights, self.axis(-1))

    def _weighted_sum(self, hidden: str, weights: str, divisor: str) -> str:
        seen = self.node("Mul", hidden, self._by_token(weights))
        total = self.node("ReduceSum", seen, self.axis(1), keepdims=0)
        whole = self.node("ReduceSum", divisor, self.axis(1), keepdims=1)
        return self.node("Div", total, whole)

    def dense(self, vectors: str, layer: Dense) -> str:
        """A linear layer and its activation: (rows, inputs) to (rows, outputs)."""
        name = f"dense/{layer.folder.name}"
        weights = dense_weights(layer)
        made = self.node("MatMul", vectors, self.constant(name, weights["linear.weight"].numpy().T))
        if "linear.bias" in weights:
            bias = self.constant(f"{name}/bias", weights["linear.bias"].numpy())
            made = self.node("Add", made, bias)
        match layer.activation:
            case "Identity":
                return made
            case "ReLU":
                return self.node("Relu", made)
            case "SiLU":
                return self.node("Mul", made, self.node("Sigmoid", made))
            case "GELU":  # an operator of its own from opset 20 on
                error = self.node("Erf", self.node("Mul", made, self.number(0.5**0.5)))
                half = self.node("Mul", made, self.number(0.5))
                return self.node("Mul", half, self.node("Add", error, self.number(1.0)))
            case operator:
                return self.node(operator, made)

    def unit_length(self, vectors: str) -> str:
        """Each vector divided by its length; a zero vector stays zero."""
        square = self.node("ReduceSumSquare", vectors, self.axis(-1), keepdims=1)
        length = self.node("Sqrt", self.node("Max", square, self.number(1e-24)))
        return self.node("Div", vectors, length)


def dense_weights(layer: Dense) -> dict[str, torch.Tensor]:
    """`linear.weight` (outputs, inputs) and, where it has one, `linear.bias` (outputs,): float32."""
    from safetensors.torch import load_file

    kept = layer.folder / "model.safetensors"
    if kept.is_file():
        weights = load_file(kept)
    else:
        weights = torch.load(layer.folder / "pytorch_model.bin", weights_only=True)
    return {name: tensor.float() for name, tensor in weights.items()}


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the graph, and its weights into a file beside it.

    That file can have any size, and is mapped where it is read: opening MiniLM takes half the memory.
    """
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}_data")
    onnx.checker.check_model(str(path))


def original_vectors(model: TextModel, samples: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The samples that have tokens, and what the original makes of each alone: (vectors, dimensions).

    A vector a text, in their order, or where `pooling` is `none` one for each token of each text.
    The original has its own tokenizer and sees no padding: all that could be wrong in ours is
    compared.
    """
    tokenizer = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
    whole = model.pooling == TEXT_EMBEDS
    original: Any = (
        text_tower(model.folder)
        if whole
        else AutoModel.from_pretrained(model.folder, local_files_only=True).float().eval()
    )
    takes = inspect.signature(original.forward).parameters
    texts, vectors = [], []
    for sample in samples:
        text = sample.lower() if model.lowercase else sample
        inputs = tokenizer(
            _as_chat(tokenizer, model, text) if model.wraps_text else text,
            add_special_tokens=not model.wraps_text,
            truncation=True,
            max_length=model.max_tokens,
            return_tensors="pt",
        )
        if inputs["input_ids"].shape[1] == 0:
            continue
        taken = {name: value for name, value in inputs.items() if name in takes}
        with torch.inference_mode():
            given = original(**taken)
            made = (
                given.text_embeds
                if whole
                else original_pooling(given.last_hidden_state[0], model.pooling)
            )
            for layer in model.dense:
                weights = dense_weights(layer)
                made = torch.nn.functional.linear(
                    made, weights["linear.weight"], weights.get("linear.bias")
                )
                made = getattr(torch.nn, layer.activation)()(made)
        texts.append(sample)
        vectors.append(made.numpy())
    return texts, np.concatenate(vectors)


def _as_chat(tokenizer: Any, model: TextModel, text: str) -> str:
    """The text as the user's turn, by transformers; ours, where the template asks for today's date."""
    template = model.chat_template
    assert template is not None
    if "strftime_now" in template.source:
        return render(template, [Message("user", text)]).text
    turn = {"role": "user", "content": text}
    return tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)


def original_pooling(tokens: torch.Tensor, pooling: str) -> torch.Tensor:
    """The vectors of one text's tokens, (tokens, dimensions), pooled: (1, dimensions), or as it is."""
    if "+" in pooling:
        parts = [original_pooling(tokens, part) for part in pooling.split("+")]
        return torch.cat(parts, dim=1)
    match pooling:
        case "mean":
            return tokens.mean(0, keepdim=True)
        case "mean_sqrt_len":
            return tokens.sum(0, keepdim=True) / len(tokens) ** 0.5
        case "weighted_mean":
            weights = torch.arange(1, len(tokens) + 1)[:, None]
            return (tokens * weights).sum(0, keepdim=True) / weights.sum()
        case "max":
            return tokens.amax(0, keepdim=True)
        case "cls":
            return tokens[:1]
        case "last":
            return tokens[-1:]
        case _:
            return tokens


def least_cosine(graph: Graph, texts: Sequence[str], vectors: np.ndarray) -> float:
    """The least cosine between the original's vectors and the graph's, alone and in batches."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if graph.pooling == "none":
        embed = functools.partial(_token_vectors, graph, Sessions(graph.path))
    else:
        embed = TextEmbedder(graph, batch_tokens=BATCH_TEXTS * graph.max_tokens).embed
    least = 1.0
    for size in (1, BATCH_TEXTS):
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        made = np.concatenate([embed(part) for part in parts])
        made_unit = made / np.linalg.norm(made, axis=1, keepdims=True)
        least = min(least, float((unit * made_unit).sum(axis=1, dtype=np.float64).min()))
    return least


def _token_vectors(graph: Graph, sessions: Sessions, texts: Sequence[str]) -> np.ndarray:
    """The vectors of the tokens of the texts, in one batch: (tokens in all, dimensions)."""
    tokenizer = open_tokenizer(graph.tokenizer, graph.max_tokens, lowercase=graph.lowercase)
    ids, mask = pad([item.ids for item in tokenizer.encode_batch_fast(list(texts))], graph.pad_id)
    (made,) = sessions.run([inputs_of(ids, mask)])
    return made[mask == 1]
