"""A graph, open in onnxruntime: on all GPUs where they can be used, and never silently not."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from synthc.compiler.graphs import Graph, Port
from synthc.runtime.embedding import tensorrt
from synthc.runtime.embedding.tensorrt import Engine, Unavailable
from synthc.runtime.errors import RunError

CUDA = "CUDAExecutionProvider"

NO_DEVICE = 100  # what the driver answers where it finds no GPU

Device = Literal["CPU", "GPU"]
Gpu = int | None
"""The number of a GPU, from 0, as the driver counts those that this process may see; None: the processor."""

Arrays = Mapping[str, np.ndarray]
"""A batch of inputs by their names."""


class Runs(Protocol):
    """What runs a graph: see Sessions."""

    device: Device
    count: int
    told: str
    why: str

    def run(self, batches: Iterable[Arrays]) -> Iterator[np.ndarray]:
        """The output for each batch of inputs, in their order."""
        ...


class Sessions:
    """A graph, open once on each GPU, or on the processor. To be used by one thread at a time.

    `device` is what it runs on, `count` how many sessions there are, `told` what runs them, for a person;
    `why` says why it is nothing better, and is empty where there is nothing better. `ports` are the
    graph's inputs and outputs.
    """

    def __init__(
        self,
        graph: Path,
        *,
        gpus: Sequence[Gpu] | None = None,
        threads: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Open the graph file on these GPUs; without `gpus` on all that can be used. Where there is an
        `engine`, TensorRT is tried before CUDA.

        Raises RunError where it is not a graph.
        """
        self.why = ""
        if gpus is None:
            gpus, self.why = usable_gpus()
        opened = [Session(graph, gpu=gpu, threads=threads, engine=engine) for gpu in gpus]
        if whys := [session.why for session in opened if session.why]:
            of = f"on {len(whys)} of {len(opened)} GPUs: " if len(opened) > 1 else ""
            self.why = f"{of}{whys[0]}"
        # Of those that found no GPU, one is enough, and none where others found theirs.
        self._sessions = [session for session in opened if session.as_wanted] or opened[:1]
        self.device: Device = self._sessions[0].device
        self.count = len(self._sessions)
        self.ports = self._sessions[0].ports
        by = " and ".join(dict.fromkeys(session.provider for session in self._sessions))
        self.told = by if self.count == 1 else f"{by}, {self.count} GPUs"

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

    `provider` is what runs it: `TensorRT`, `CUDA` or `CPU`. `why` says why it is nothing better that was
    wanted; `as_wanted`, whether it is at least on the GPU that was.
    """

    def __init__(
        self,
        graph: Path,
        *,
        gpu: Gpu = None,
        threads: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Open the graph file. Raises RunError where it is not a graph."""
        ways: dict[str, Callable[[], Any]] = {}
        if gpu is not None and engine:
            ways["TensorRT"] = functools.partial(_on_tensorrt, graph, gpu, engine)
        if gpu is not None:
            ways["CUDA"] = functools.partial(_on_cuda, graph, gpu)
        ways["CPU"] = functools.partial(_on_cpu, graph, threads)
        whys: list[str] = []
        for provider, opening in ways.items():
            try:
                self._session = opening()
            except Unavailable as why:
                whys.append(str(why))
            else:
                self.provider = provider
                break
        if gpu is not None and not engine and tensorrt.asked():
            whys.append("TensorRT is for models of texts and pictures that synthc exports")
        self.why = "; ".join(dict.fromkeys(whys))
        self.device: Device = "CPU" if self.provider == "CPU" else "GPU"
        self.as_wanted = (self.device == "GPU") == (gpu is not None)
        self.ports = Graph(_ports(self._session.get_inputs()), _ports(self._session.get_outputs()))

    def run(self, arrays: Arrays, output: str | None = None) -> np.ndarray:
        """An output, the first where none is named; inputs that the graph does not take are left out.

        Raises RunError where a GPU fails: its memory may be full.
        """
        try:
            return _run(self._session, arrays, output)
        except Exception as error:
            if self.device == "CPU":
                raise
            raise RunError(
                f"the graph fails on {self.provider}: {_said(str(error))}",
                hint='where others use the GPU wait for it, or take the processor: `CUDA_VISIBLE_DEVICES=""`',
            ) from error


def _run(session: Any, arrays: Arrays, output: str | None = None) -> np.ndarray:
    names = {item.name for item in session.get_inputs()}
    taken = {name: array for name, array in arrays.items() if name in names}
    return np.asarray(session.run([output] if output else None, taken)[0])


def _on_cpu(graph: Path, threads: int | None) -> Any:
    """A session on the processor. Raises RunError."""
    try:
        return _opened(graph, ["CPUExecutionProvider"], threads=threads)
    except Exception as error:
        raise RunError(
            f"the graph {graph} cannot be opened: {error}",
            hint="remove it, and it is made again",
        ) from error


def _on_cuda(graph: Path, gpu: int) -> Any:
    """A session on CUDA. Raises Unavailable."""
    missing = _preload()
    try:
        session = _opened(graph, [(CUDA, {"device_id": gpu}), "CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own, of many kinds
        raise Unavailable(f"CUDA: {_said(str(error))}") from None
    # Where it does not start, onnxruntime goes on without it.
    if session.get_providers()[0] != CUDA:
        raise Unavailable(missing or "onnxruntime could not start CUDA")
    return session


def _on_tensorrt(graph: Path, gpu: int, engine: Engine) -> Any:
    """A session on TensorRT alone, whose outputs are those of CUDA. Raises Unavailable."""
    _preload()
    version = tensorrt.version()
    cuda = _on_cuda(graph, gpu)
    told = tensorrt.options(engine, gpu, version)
    try:
        session = _opened(graph, [(tensorrt.PROVIDER, told)], whole=True)
        cosines = [
            tensorrt.least_cosine(_run(session, sample), _run(cuda, sample))
            for sample in engine.samples
        ]
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own, of many kinds
        raise Unavailable(f"TensorRT does not run this graph: {_said(str(error))}") from None
    if session.get_providers()[0] != tensorrt.PROVIDER:
        raise Unavailable("onnxruntime could not start TensorRT")
    if not min(cosines) >= tensorrt.LEAST_COSINE:  # a NaN is not either
        raise Unavailable(f"TensorRT gives other vectors than CUDA: cosine {min(cosines):.4f}")
    return session


def _preload() -> str:
    """Load what NVIDIA's packages bring, as onnxruntime does, and what it says that it cannot load."""
    import onnxruntime

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    return _said(said.getvalue())


def _opened(
    graph: Path, providers: Sequence[Any], *, threads: int | None = None, whole: bool = False
) -> Any:
    """An InferenceSession; `whole` says that the first of the providers must run all of the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    # A thread that spins between two operations takes its core from the rest of the run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A pattern is kept for each shape of the inputs, and nearly every batch has its own.
    options.enable_mem_pattern = False
    if whole:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # What fails on a GPU, now or in a batch, would go on elsewhere, and nobody would be told.
    session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    session.disable_fallback()  # older releases do not know the argument
    return session


def _said(text: str) -> str:
    return " ".join(text.split())[:300]


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
