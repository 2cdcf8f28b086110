"""Tensors of .safetensors files, mapped into memory: what is not read is not loaded.

A file is the length of its header (8 bytes, little-endian), the header in JSON (`dtype`, `shape` and the
bytes of each tensor, counted from behind the header), and the tensors' numbers one after the other.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthc.runtime.errors import RunError

_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # see `load`
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}
_HEADER_MOST = 100_000_000  # bytes, as the format has it


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file: its place there, its type and its shape."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    def load(self) -> np.ndarray:
        """The numbers, mapped into memory; those of 16 bits with the exponent of 32 as float32.

        Raises RunError where their type is not supported.
        """
        if self.dtype not in _TYPES:
            raise RunError(
                f"`{self.name}` in {self.path} has the type {self.dtype}, which is not supported",
                hint="save it in float32",
            )
        if not math.prod(self.shape):
            return np.zeros(self.shape, np.float32)
        found = np.memmap(self.path, _TYPES[self.dtype], "r", self.start, self.shape)
        if self.dtype == "BF16":
            return (found.astype(np.uint32) << 16).view(np.float32)
        # Numbers that do not begin at a multiple of their size would be copied whenever they are used.
        return np.require(found, requirements="A")


def tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder's model by name, whether its weights are one file or several.

    Empty where it has no such file. Raises RunError where one is broken.
    """
    files = [folder / "model.safetensors"]
    if not files[0].is_file():
        files = sorted(folder.glob("model-*.safetensors"))
    return {name: tensor for file in files for name, tensor in _read(file).items()}


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        return {}
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= min(size, _HEADER_MOST) else b""
    behind = 8 + length
    try:
        described: dict[str, Any] = json.loads(header)
        described.pop("__metadata__", None)
        found = {
            name: Tensor(
                path, name, at["dtype"], tuple(at["shape"]), behind + at["data_offsets"][0]
            )
            for name, at in described.items()
        }
        end = max((behind + at["data_offsets"][1] for at in described.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        found, end = {}, size + 1
    if end > size:
        raise RunError(f"{path} is broken or cut off", hint="fetch the model again")
    return found
