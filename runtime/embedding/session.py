"""A graph, open in onnxruntime: on the GPU where one can be used, and never silently not."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from synthc.compiler.graphs import Graph, Port
from synthc.runtime.errors import RunError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


class Runs(Protocol):
    """What runs a graph: see Session."""

    provider: str
    why: str

    def run(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """The output for these inputs."""
        ...


class Session:
    """An open graph.

    `provider` is the one that runs (`CUDA` or `CPU`); `why` says why it is not a better one, and is
    empty where there is none better. `inputs` are the names that the graph takes; `ports` says more of
    them, and of its outputs.
    """

    def __init__(self, graph: Path, *, threads: int | None = None) -> None:
        """Open the graph file on the best provider. Raises RunError where it is not a graph."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cpus()
        # A thread that spins between two operations takes its core from the rest of the run.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A pattern is kept for each shape of the inputs, and nearly every batch has its own.
        options.enable_mem_pattern = False

        self.why = _missing_for_cuda(onnxruntime.get_available_providers())
        said = io.StringIO()  # preload_dlls prints what it cannot load
        if not self.why:
            with contextlib.redirect_stdout(said):
                onnxruntime.preload_dlls()
        providers = [CPU] if self.why else [CUDA, CPU]
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=providers)
        except Exception as error:
            raise RunError(
                f"the graph {graph} cannot be opened: {error}",
                hint="remove it, and it is made again",
            ) from error
        # Where CUDA does not start, onnxruntime goes on without it.
        if session.get_providers()[0] == CPU and not self.why:
            self.why = " ".join(said.getvalue().split()) or "onnxruntime could not start CUDA"
        self._session = session
        self.provider = session.get_providers()[0].removesuffix("ExecutionProvider")
        self.inputs = frozenset(item.name for item in session.get_inputs())
        self.ports = Graph(_ports(session.get_inputs()), _ports(session.get_outputs()))

    def run(self, arrays: dict[str, np.ndarray], output: str | None = None) -> np.ndarray:
        """An output, the first where none is named; inputs that the graph does not take are left out."""
        taken = {name: array for name, array in arrays.items() if name in self.inputs}
        return np.asarray(self._session.run([output] if output else None, taken)[0])


def _ports(items: Sequence[Any]) -> tuple[Port, ...]:
    """onnxruntime's inputs or outputs: a size is a number, or the name of one that may be any.

    A shape that is not known is empty there.
    """
    return tuple(
        Port(
            item.name,
            item.type.removeprefix("tensor(").removesuffix(")"),
            tuple(size if isinstance(size, int) and size > 0 else None for size in item.shape)
            or None,
        )
        for item in items
    )


def usable_cpus() -> int:
    """How many cores this process may run on: fewer than the machine has, in many a container."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _missing_for_cuda(available: list[str]) -> str:
    """What keeps CUDA from being tried; empty where nothing does."""
    if CUDA not in available:
        return "this onnxruntime is built without CUDA"
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError:
        return f"no NVIDIA driver on this machine ({driver})"
    return ""
