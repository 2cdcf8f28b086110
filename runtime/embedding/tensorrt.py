"""TensorRT, NVIDIA's compiler of graphs for its GPUs: used where SYNTHC_TENSORRT=1 asks for it.

It has been tried on no GPU yet, so nothing of it is taken on trust: it runs the whole of a graph or
nothing, and its outputs are compared with CUDA's before they count. Where one of these fails, CUDA runs
the graph, and the reason is told.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthc.runtime.model_cache import Progress

PROVIDER = "TensorrtExecutionProvider"
ASKED_BY = "SYNTHC_TENSORRT"

# What onnxruntime is built for, from 1.19 on.
LIBRARY = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"

# Of its vectors and CUDA's: both round products to 10 bits, in other orders.
LEAST_COSINE = 0.999

Shape = tuple[int, ...]


class Unavailable(Exception):
    """Why something better does not run a graph."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What TensorRT must know of a graph before it sees a batch.

    `shapes` are those that an input may have, by its name: the smallest, the one that must be quickest,
    the largest. `samples` are batches of such shapes, on which it is compared with CUDA. What it makes is
    kept in `folder`, a folder of the graph's own.
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    samples: Sequence[Mapping[str, np.ndarray]]
    folder: Path
    progress: Progress | None = None

    @property
    def rows(self) -> int:
        """The most rows that a batch may have."""
        return min(largest[0] for _, _, largest in self.shapes.values())


def asked() -> bool:
    """Whether it is to be used."""
    return os.environ.get(ASKED_BY) == "1"


def options(engine: Engine, gpu: int, version: int) -> dict[str, Any]:
    """What onnxruntime is told of an engine on a GPU; makes the folder where it is kept.

    `version` is the library's: what one wrote, another cannot read. onnxruntime itself makes an engine
    anew where the GPU or the shapes are others.
    """
    folder = engine.folder / str(version)
    if not folder.is_dir():
        folder.mkdir(parents=True)
        if engine.progress:
            engine.progress(0, None, "TensorRT compiles the graph, which may take minutes")
    smallest, usual, largest = (
        ",".join(f"{name}:{'x'.join(map(str, of[at]))}" for name, of in engine.shapes.items())
        for at in range(3)
    )
    # Without `trt_fp16_enable` its numbers have the types that the graph gives them, 16 bits or 32.
    return {
        "device_id": gpu,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
        "trt_profile_min_shapes": smallest,
        "trt_profile_opt_shapes": usual,
        "trt_profile_max_shapes": largest,
    }


def version() -> int:
    """The version of the library that is installed. Raises Unavailable where none is."""
    with contextlib.suppress(ImportError):
        # Where pip puts it nothing is looked for: the package loads it itself.
        importlib.import_module("tensorrt_libs")
    try:
        return ctypes.CDLL(LIBRARY).getInferLibVersion()
    except (OSError, AttributeError):
        raise Unavailable(f"TensorRT 10 is not installed: there is no {LIBRARY}") from None


def least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The least cosine of two arrays of vectors, (…, dimensions); NaN where a number is none."""
    products = (ours * theirs).sum(axis=-1, dtype=np.float64)
    lengths = [np.sqrt(np.square(a, dtype=np.float64).sum(axis=-1)) for a in (ours, theirs)]
    return float((products / np.maximum(lengths[0] * lengths[1], 1e-30)).min())
