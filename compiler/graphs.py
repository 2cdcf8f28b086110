"""What an ONNX graph takes and gives, read from its file without running it, and whether it fits.

The compiler asks this of a file that is there, the runtime of a graph that it opened: both say the same.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from synthc.compiler import plan

TOKENS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""What is made of a text, by the names that graphs have for it."""

FLOATS = ("float", "double", "float16")
WEIGHTS = (".safetensors", ".bin")
_HIDDEN = "last_hidden_state"
_TYPES = {
    1: "float",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "double",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


class Port(Struct, frozen=True):
    """An input or an output of a graph.

    `type` is ONNX's name of what its numbers are. A size in `shape` is None where it may be any; the
    whole of it where the file does not say.
    """

    name: str
    type: str
    shape: tuple[int | None, ...] | None


class Graph(Struct, frozen=True):
    """The inputs that a graph must be given, and its outputs."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


class Fit(Struct, frozen=True):
    """How an embedder uses a graph: `numbers` is how many a row has, None where it may be any."""

    input: Port
    output: Port
    numbers: int | None = None


class Misfit(Struct, frozen=True):
    """Why a graph cannot be used as an embedder says, after its name; `setting` is where it says so."""

    setting: str
    reason: str
    advice: str | None = None


def file_of(path: Path) -> Path | Misfit:
    """The graph that a path means: an .onnx file, or the only one in a folder."""
    if path.is_file():
        return path
    found = sorted(path.glob("*.onnx")) or sorted((path / "onnx").glob("*.onnx"))
    named = [file for file in found if file.name == "model.onnx"] or found
    if len(named) == 1:
        return named[0]
    why = f"has several: {_listed([file.name for file in found])}" if found else "has no .onnx file"
    return Misfit("model", why, "name one file")


def made_elsewhere(folder: Path) -> bool:
    """Whether a folder has a graph and a tokenizer, and no weights that a graph could be made of."""
    return (
        (folder / "tokenizer.json").is_file()
        and any(folder.rglob("*.onnx"))
        and not any(file.suffix in WEIGHTS for file in folder.iterdir())
    )


def alone(path: Path) -> Misfit | None:
    """What is said of one .onnx file where texts are embedded; None where it is none."""
    if path.suffix != ".onnx" or not path.is_file():
        return None
    advice = '`input = "vector"` embeds numbers; for texts name a folder with tokenizer.json'
    return Misfit("model", "is one file, and a text needs a tokenizer too", advice)


def fit_numbers(embedder: plan.Embedder, graph: Graph) -> Fit | Misfit:
    """How lists of numbers are embedded by a graph, or why they are not."""
    chosen = _chosen("input", graph.inputs, embedder.input_name)
    if isinstance(chosen, Misfit):
        return chosen
    others = [port.name for port in graph.inputs if port is not chosen]
    if others:
        why = f"needs {_listed(others)} too, and only one input can be given"
        return Misfit("input_name", why, "export it with one input")
    if chosen.type not in FLOATS:
        why = f"takes {chosen.type} as `{chosen.name}`, and numbers are given as float"
        return Misfit("input_name", why, "export it with an input of the type float")
    output = _output(embedder, graph)
    if isinstance(output, Misfit):
        return output
    if chosen.shape is None:
        return Fit(chosen, output)
    sizes = chosen.shape[1:]
    shown = f"takes `{chosen.name}` in the shape {_shape(chosen.shape)}"
    if not sizes:
        why = f"{shown}, and the first dimension is that of the rows"
        return Misfit("input_name", why, "export it with a dimension for the rows")
    if None in sizes and len(sizes) > 1:
        why = f"{shown}, which a list of numbers does not fill"
        return Misfit("input_name", why, "export it with sizes that are fixed, but for the first")
    numbers = None if None in sizes else math.prod(size or 0 for size in sizes)
    return Fit(chosen, output, numbers)


def fit_texts(embedder: plan.Embedder, graph: Graph) -> Fit | Misfit:
    """How texts are embedded by a graph that takes their tokens, or why they are not."""
    names = [port.name for port in graph.inputs]
    if "input_ids" not in names:
        return Misfit("model", f"takes {_listed(names)}, and no tokens: `input_ids`")
    if others := [name for name in names if name not in TOKENS]:
        return Misfit("model", f"needs {_listed(others)}, which is not made of a text")
    if embedder.input_name is not None:
        advice = "leave `input_name` out: tokens go to the inputs of their names"
        return Misfit("input_name", "is given tokens", advice)
    output = _output(embedder, graph, ranks=(2, 3))
    if isinstance(output, Misfit):
        return output
    if embedder.pooling == "none" and output.shape is not None and len(output.shape) < 3:
        why = f"gives `{output.name}` in the shape {_shape(output.shape)}: no vector for each token"
        return Misfit("pooling", why, "leave `pooling` out, or name another output")
    return Fit(next(port for port in graph.inputs if port.name == "input_ids"), output)


def _output(embedder: plan.Embedder, graph: Graph, ranks: tuple[int, ...] = ()) -> Port | Misfit:
    """The output that is the vector; of texts its `ranks`, with a vector for each token in the last."""
    name = embedder.output_name
    if name is None and ranks and any(port.name == _HIDDEN for port in graph.outputs):
        name = _HIDDEN
    port = _chosen("output", graph.outputs, name)
    if isinstance(port, Misfit):
        return port
    if port.type not in FLOATS:
        why = f"gives {port.type} as `{port.name}`, and a vector has floats"
        return Misfit("output_name", why, _others(graph.outputs, port))
    if port.shape is None:
        return port
    sizes = port.shape[-1:] if len(port.shape) in ranks else vector_sizes(port.shape)
    if len(port.shape) < 2 or len(sizes) > 1:
        why = f"gives `{port.name}` in the shape {_shape(port.shape)}, which is no vector for each row"
        return Misfit("output_name", why, _others(graph.outputs, port))
    found = sizes[0] if sizes else 1
    wanted = embedder.dimensions
    if found is None or found == wanted or (found > wanted and embedder.truncate):
        return port
    advice = f"write `dimensions = {found}`"
    if found > wanted and embedder.pooling != "none":
        advice += ", or `truncate = true` to keep the first of them"
    return Misfit("dimensions", f"has {found} dimensions, not {wanted}", advice)


def vector_sizes(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The sizes behind that of the rows, without those that are 1: one of them, where it is a vector."""
    return tuple(size for size in shape[1:] if size != 1)


def _chosen(kind: str, ports: tuple[Port, ...], name: str | None) -> Port | Misfit:
    names = [port.name for port in ports]
    setting = f"{kind}_name"
    if name is None and len(ports) == 1:
        return ports[0]
    if name is None:
        why = f"has {len(names) or 'no'} {kind}s, and `{setting}` does not say which one is meant"
        return Misfit(setting, why, f"its {kind}s are {_listed(names)}" if names else None)
    if name not in names:
        are = f"its {kind}s are" if len(names) > 1 else f"its {kind} is"
        return Misfit(setting, f"has no {kind} `{name}`", f"{are} {_listed(names)}")
    return ports[names.index(name)]


def _others(ports: tuple[Port, ...], wrong: Port) -> str | None:
    names = [port.name for port in ports if port is not wrong]
    return f"other outputs are {_listed(names)}: `output_name` chooses one" if names else None


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _shape(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


# Reading. An .onnx file is a protocol buffer: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto;
# of the fields there, these numbers are of what is read. Weights are passed over, however large.

_GRAPH = 7
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12
_TENSOR_NAME = 8


def read(path: Path) -> Graph:
    """What the graph in a file takes and gives.

    Raises ValueError where the file holds no graph, and OSError where it cannot be read.
    """
    if not path.stat().st_size:
        raise ValueError("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            parts = [part for number, part in _fields(data, 0, len(data)) if number == _GRAPH]
            return _graph(data, *parts[-1])
        except (LookupError, TypeError, UnicodeDecodeError):
            raise ValueError("it is no ONNX graph") from None


def _graph(data: mmap.mmap, start: int, end: int) -> Graph:
    found: dict[int, list[tuple[int, int]]] = {_INITIALIZER: [], _INPUT: [], _OUTPUT: []}
    for number, part in _fields(data, start, end):
        if number in found:
            found[number].append(part)
    weights = {
        _text(data, name)
        for part in found[_INITIALIZER]
        for number, name in _fields(data, *part)
        if number == _TENSOR_NAME
    }
    inputs = [_port(data, *part) for part in found[_INPUT]]
    outputs = [_port(data, *part) for part in found[_OUTPUT]]
    if not outputs:
        raise ValueError("it is no ONNX graph")
    return Graph(tuple(port for port in inputs if port.name not in weights), tuple(outputs))


def _port(data: mmap.mmap, start: int, end: int) -> Port:
    """A ValueInfoProto: its name (1) and its type (2), of which that of tensors (1)."""
    value = dict(_fields(data, start, end))
    tensor = (
        dict(_fields(data, *dict(_fields(data, *value[2])).get(1, (0, 0)))) if 2 in value else {}
    )
    type_ = _TYPES.get(tensor.get(1, 0), "what is no tensor")
    shape = None
    if 2 in tensor:
        dimensions = [dict(_fields(data, *part)) for _, part in _fields(data, *tensor[2])]
        shape = tuple(dimension.get(1) or None for dimension in dimensions)
    return Port(_text(data, value[1]), type_, shape)


def _text(data: mmap.mmap, part: tuple[int, int]) -> str:
    return data[part[0] : part[1]].decode()


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, Any]]:
    """The fields of a message by number: whole numbers, or where their bytes begin and end."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                yield key >> 3, value
            case 2:
                length, at = _varint(data, at)
                if at + length > end:
                    raise ValueError("it is cut off")
                yield key >> 3, (at, at + length)
                at += length
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                raise ValueError("it is no ONNX graph")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and what stands behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
