"""A graph, open in onnxruntime: on all GPUs where they can be used, and never silently not."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import queue
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from synthc.compiler.graphs import Graph, Port
from synthc.runtime.errors import RunError

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

NO_DEVICE = 100  # what the driver answers where it finds no GPU

Gpu = int | None
"""The number of a GPU, from 0, as the driver counts those that this process may see; None: the processor."""

Arrays = Mapping[str, np.ndarray]
"""A batch of inputs by their names."""


class Runs(Protocol):
    """What runs a graph: see Sessions."""

    provider: str
    count: int
    told: str
    why: str

    def run(self, batches: Iterable[Arrays]) -> Iterator[np.ndarray]:
        """The output for each batch of inputs, in their order."""
        ...


class Sessions:
    """A graph, open once on each GPU, or on the processor. To be used by one thread at a time.

    `provider` is what runs it (`CUDA` or `CPU`), `count` how many sessions there are, `told` both for a
    person; `why` says why it is nothing better, and is empty where there is nothing better. `ports` are
    the graph's inputs and outputs.
    """

    def __init__(
        self, graph: Path, *, gpus: Sequence[Gpu] | None = None, threads: int | None = None
    ) -> None:
        """Open the graph file on these GPUs; without `gpus` on all that can be used.

        Raises RunError where it is not a graph.
        """
        self.why = ""
        if gpus is None:
            gpus, self.why = usable_gpus()
        opened = [Session(graph, gpu=gpu, threads=threads) for gpu in gpus]
        failed = [session.why for session in opened if session.why]
        # Where CUDA does not start, onnxruntime goes on without it: one such session is enough.
        self._sessions = [session for session in opened if not session.why] or opened[:1]
        if failed:
            of = f"on {len(failed)} of {len(opened)} GPUs: " if len(opened) > 1 else ""
            self.why = f"{of}{failed[0]}"
        self.provider = self._sessions[0].provider
        self.count = len(self._sessions)
        self.ports = self._sessions[0].ports
        self.told = self.provider if self.count == 1 else f"{self.provider}, {self.count} GPUs"

    def run(self, batches: Iterable[Arrays], output: str | None = None) -> Iterator[np.ndarray]:
        """An output, the first where none is named, for each batch of inputs, in their order.

        A batch goes to the session that is free first; inputs that the graph does not take are left out.
        """
        if self.count == 1:
            yield from (self._sessions[0].run(batch, output) for batch in batches)
            return
        free: queue.SimpleQueue[Session] = queue.SimpleQueue()
        for session in self._sessions:
            free.put(session)

        def on_free(batch: Arrays) -> np.ndarray:
            session = free.get()
            try:
                return session.run(batch, output)
            finally:
                free.put(session)

        with ThreadPoolExecutor(self.count, "graph") as threads:
            yield from threads.map(on_free, batches)


class Session:
    """A graph, open on one device.

    `provider` is the one that runs it (`CUDA` or `CPU`); `why` says why it is not the GPU that was wanted.
    """

    def __init__(self, graph: Path, *, gpu: Gpu = None, threads: int | None = None) -> None:
        """Open the graph file. Raises RunError where it is not a graph."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cpus()
        # A thread that spins between two operations takes its core from the rest of the run.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A pattern is kept for each shape of the inputs, and nearly every batch has its own.
        options.enable_mem_pattern = False

        said = io.StringIO()  # preload_dlls prints what it cannot load
        providers: list[Any] = [CPU]
        if gpu is not None:
            with contextlib.redirect_stdout(said):
                onnxruntime.preload_dlls()
            providers.insert(0, (CUDA, {"device_id": gpu}))
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=providers)
        except Exception as error:
            raise RunError(
                f"the graph {graph} cannot be opened: {error}",
                hint="remove it, and it is made again",
            ) from error
        runs_on = session.get_providers()[0]
        self.why = ""
        if gpu is not None and runs_on != CUDA:
            self.why = " ".join(said.getvalue().split()) or "onnxruntime could not start CUDA"
        self._session = session
        self.provider = runs_on.removesuffix("ExecutionProvider")
        self.ports = Graph(_ports(session.get_inputs()), _ports(session.get_outputs()))
        self._inputs = frozenset(port.name for port in self.ports.inputs)

    def run(self, arrays: Arrays, output: str | None = None) -> np.ndarray:
        """An output, the first where none is named; inputs that the graph does not take are left out."""
        taken = {name: array for name, array in arrays.items() if name in self._inputs}
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


def usable_gpus() -> tuple[list[Gpu], str]:
    """The GPUs that a graph can run on; where there are none the processor, and why."""
    import onnxruntime

    count = 0
    if CUDA not in onnxruntime.get_available_providers():
        why = "this onnxruntime is built without CUDA"
    else:
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        try:
            count, why = count_gpus(ctypes.CDLL(name))
        except OSError:
            why = f"no NVIDIA driver on this machine ({name})"
    return (list(range(count)), "") if count else ([None], why)


def count_gpus(driver: Any) -> tuple[int, str]:
    """How many GPUs the library of an NVIDIA driver shows this process, and why there are none.

    The driver itself leaves out those that CUDA_VISIBLE_DEVICES does not name.
    """
    found = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(found))
    if status not in (0, NO_DEVICE):
        return 0, f"the NVIDIA driver does not start: its error {status}"
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    set_ = "" if shown is None else f" (CUDA_VISIBLE_DEVICES is `{shown}`)"
    return found.value, "" if found.value else f"the NVIDIA driver shows no GPU{set_}"
