"""A graph with weights of eight bits, whose activations are rounded to eight bits as it runs.

One scale for all of an activation is quickest. Where a few of its numbers are large it leaves nothing of
the others: there each 128 numbers of a token have a scale of their own, which takes nearly twice the
time. Where that is, is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

# An activation that one scale rounds off by more than this, relative to its size, gets a scale a block. Of
# MiniLM these are the inputs of three of 36 products, at 0.08 to 0.10; the next is at 0.06. Over 2,600
# sentences the least cosine is 0.98 so, for 1.1 times the time: 0.97 where none has, 0.99 for 1.3 times
# with a limit of 0.05, and 0.996 for 1.7 times where all have.
MOST_ROUNDED = 0.07

BLOCK = 128  # of 32 to 256, the quickest
CONTRIB = "com.microsoft"  # onnxruntime's own operators


def in_eight_bits(
    path: Path, batches: Sequence[Mapping[str, np.ndarray]]
) -> tuple[onnx.ModelProto, list[str]]:
    """The graph in a file in eight bits, and the operations whose activations have a scale a block.

    `batches` are inputs as the graph will have them. Files are written beside the graph's.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded_off = rounding(path, batches)
    blockwise = [name for name, error in rounded_off.items() if error > MOST_ROUNDED]
    rounded = path.with_name("int8.onnx")
    # Weights are rounded by channel; with one scale for all of them the least cosine is 0.05 less. The
    # eighth bit of a weight gains 0.002, and overflows on processors without VNNI. Unsigned weights
    # take twice the time and gain nothing.
    quantize_dynamic(
        path,
        rounded,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=blockwise,
        use_external_data_format=path.with_name("model.onnx_data").exists(),
    )
    model = onnx.load(rounded)
    _by_block(model, frozenset(blockwise))
    return model, blockwise


def rounding(path: Path, batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """How far one scale rounds off the input of each product with weights: by its name, in their order.

    It is the mean over the batches of the root of the sum of squares of what rounding changes, relative to
    that of the input itself.
    """
    import onnxruntime

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    products = _products(graph)
    sums: dict[str, list[str]] = {}
    for name in dict.fromkeys(product.input[0] for product in products):
        of = f"synthc/{name}"
        scaled = [f"{of}/rounded", f"{of}/scale", f"{of}/zero"]
        sums[name] = [f"{of}/changed", f"{of}/size"]
        graph.node.extend(
            [
                helper.make_node("DynamicQuantizeLinear", [name], scaled),
                helper.make_node("DequantizeLinear", scaled, [f"{of}/back"]),
                helper.make_node("Sub", [f"{of}/back", name], [f"{of}/difference"]),
                helper.make_node(
                    "ReduceSumSquare", [f"{of}/difference"], sums[name][:1], keepdims=0
                ),
                helper.make_node("ReduceSumSquare", [name], sums[name][1:], keepdims=0),
            ]
        )
    outputs = [output for pair in sums.values() for output in pair]
    graph.output.extend(helper.make_empty_tensor_value_info(output) for output in outputs)
    measuring = path.with_name("measuring.onnx")
    onnx.save(model, measuring)
    session = onnxruntime.InferenceSession(measuring, providers=["CPUExecutionProvider"])
    taken = [item.name for item in session.get_inputs()]
    # (batches, inputs, 2): what rounding changes, and the size.
    squares = np.array(
        [
            session.run(outputs, {name: batch[name] for name in taken if name in batch})
            for batch in batches
        ],
        np.float64,
    ).reshape(len(batches), -1, 2)
    errors = np.sqrt(squares[..., 0] / np.maximum(squares[..., 1], np.finfo(np.float64).tiny))
    found = dict(zip(sums, errors.mean(axis=0).tolist(), strict=True))
    return {product.name: found[product.input[0]] for product in products}


def _products(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The products of an activation and a matrix of weights."""
    matrices = {item.name for item in graph.initializer if len(item.dims) == 2}
    return [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in matrices]


def _by_block(model: onnx.ModelProto, names: frozenset[str]) -> None:
    """Give the weights of the named products, and their activations, a scale a block."""
    graph = model.graph
    weights = {item.name: item for item in graph.initializer}
    rounded: dict[str, tuple[str, str]] = {}  # layers may share their weights
    for node in graph.node:
        if node.name not in names:
            continue
        of = node.input[1]
        inputs, outputs = weights[of].dims
        if of not in rounded:
            values, scales = blocks(numpy_helper.to_array(weights[of]))
            rounded[of] = f"{of}/rounded", f"{of}/scales"
            graph.initializer.extend(
                numpy_helper.from_array(array, name)
                for array, name in zip((values, scales), rounded[of], strict=True)
            )
        by_block = helper.make_node(
            "MatMulNBits",
            [node.input[0], *rounded[of]],
            list(node.output),
            name=node.name,
            domain=CONTRIB,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=BLOCK,
            accuracy_level=4,  # activations are rounded to eight bits too
        )
        node.CopyFrom(by_block)
    used = {name for node in graph.node for name in node.input}
    for name in rounded.keys() - used:
        graph.initializer.remove(weights[name])
    if rounded and CONTRIB not in {item.domain for item in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def blocks(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (inputs, outputs) as MatMulNBits takes them, in blocks of inputs.

    These are whole numbers with 128 for zero, uint8 (outputs, blocks, BLOCK), and float32 scales,
    (outputs, blocks).
    """
    inputs, outputs = weights.shape
    count = -(-inputs // BLOCK)
    padded = np.zeros((outputs, count * BLOCK), np.float32)
    padded[:, :inputs] = weights.T
    parts = padded.reshape(outputs, count, BLOCK)
    scales = np.maximum(np.abs(parts).max(axis=2) / 127, np.finfo(np.float32).tiny)
    return np.rint(parts / scales[..., None] + 128).astype(np.uint8), scales
