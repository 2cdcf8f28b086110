"""What a graph runs on, and why there; several sessions at once. No GPU is needed."""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from synthc.runtime.embedding import tensorrt
from synthc.runtime.embedding.export import Graph
from synthc.runtime.embedding.passages import Passage
from synthc.runtime.embedding.pipeline import (
    TextEmbedder,
    engine_of,
    inputs_of,
    open_graph,
    pack,
    pad,
)
from synthc.runtime.embedding.session import Session, Sessions, count_gpus, usable_gpus
from synthc.runtime.embedding.tensorrt import Engine
from synthc.runtime.embedding.tokens import TokenEmbedder
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import cache_folder
from tests.runtime.test_tokens import TEXTS
from tests.runtime.tiny_text import MINILM

THREE = [None, None, None]


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """A graph that doubles `input_ids`."""
    shape = ["rows", "tokens"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["input_ids", "input_ids"], ["embedding"])],
        "doubling",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.INT64, shape)],
    )
    path = tmp_path / "model.onnx"
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def minilm(pooling: str | None) -> Graph:
    return open_graph(
        MINILM,
        base=Path(),
        dimensions=384,
        pooling=pooling,
        normalize=None,
        max_tokens=None,
        precision="fp32",
        cache=cache_folder(),
        progress=None,
    )


def batches(count: int) -> list[dict[str, np.ndarray]]:
    return [inputs_of(*pad([[number] * (1 + number % 7)], 0)) for number in range(count)]


@pytest.mark.parametrize("sessions", [1, 3])
def test_outputs_come_in_the_order_of_the_batches(doubling: Path, sessions: int):
    opened = Sessions(doubling, gpus=[None] * sessions, threads=1)
    assert (opened.count, opened.told, opened.why) == (
        sessions,
        "CPU" if sessions == 1 else "CPU, 3 GPUs",
        "",
    )
    made = opened.run(batches(200))
    assert [output[0, 0] for output in made] == [2 * number for number in range(200)]
    assert list(opened.run([])) == []


def test_sessions_work_beside_each_other(doubling: Path, monkeypatch: pytest.MonkeyPatch):
    opened = Sessions(doubling, gpus=THREE, threads=1)
    all_at_work = threading.Barrier(3, timeout=60)
    worked: list[Session] = []
    run = Session.run

    def watched(self: Session, *given: Any) -> np.ndarray:
        all_at_work.wait()  # broken, and so raised, where one is waited for that never comes
        worked.append(self)
        return run(self, *given)

    monkeypatch.setattr(Session, "run", watched)
    assert len(list(opened.run(batches(6)))) == 6
    assert sorted(Counter(worked).values()) == [2, 2, 2]


def test_a_batch_that_fails_is_raised_and_the_others_go_on(doubling: Path):
    opened = Sessions(doubling, gpus=THREE, threads=1)
    wrong = {"input_ids": np.zeros((1, 1), np.float32)}
    with pytest.raises(Exception, match="Unexpected input data type"):
        list(opened.run([*batches(2), wrong, *batches(2)]))
    assert len(list(opened.run(batches(9)))) == 9


def test_a_gpu_that_fails_in_a_batch_stops_the_run_and_says_so(doubling: Path):
    opened = Session(doubling)
    opened.device, opened.provider = "GPU", "CUDA"
    wrong = {"input_ids": np.zeros((1, 1), np.float32)}
    with pytest.raises(RunError, match=r"the graph fails on CUDA: .*Unexpected input") as failed:
        opened.run(wrong)
    assert "CUDA_VISIBLE_DEVICES" in (failed.value.hint or "")


def test_several_sessions_make_the_same_vectors():
    texts = [f"{'more ' * (number * 7 % 40)}text number {number}" for number in range(60)]
    of_texts = [TextEmbedder(minilm(None), threads=1, gpus=gpus) for gpus in ([None], THREE)]
    one, three = (embedder.embed(texts) for embedder in of_texts)
    assert np.allclose(one, three, atol=1e-5)

    passages = [Passage(text, "words") for text in TEXTS]
    of_tokens = [TokenEmbedder(minilm("none"), threads=1, gpus=gpus) for gpus in ([None], THREE)]
    for a, b in zip(*(embedder.embed(passages) for embedder in of_tokens), strict=True):
        assert isinstance(a, list)
        assert isinstance(b, list)
        assert [part["text"] for part in a] == [part["text"] for part in b]
        for mine, theirs in zip(a, b, strict=True):
            assert np.allclose(mine["embedding"], theirs["embedding"], atol=1e-4)


def test_each_session_has_its_part_of_few_texts():
    lengths = np.array([9, 3, 3, 3, 2, 1])
    assert len(list(pack(lengths, 1_000))) == 1
    shared = list(pack(lengths, 1_000, share=3))
    assert [rows.tolist() for rows in shared] == [[0], [1, 2], [3, 4], [5]]
    assert [rows.tolist() for rows in pack(lengths, 6, share=2)] == [[0], [1, 2], [3, 4], [5]]
    assert list(pack(np.array([]), 8, share=2)) == []


def test_a_gpu_that_does_not_start_is_told(doubling: Path):
    # No machine has so many.
    opened = Sessions(doubling, gpus=[998, 999], threads=1)
    assert (opened.count, opened.device, opened.told) == (1, "CPU", "CPU")
    assert opened.why.startswith("on 2 of 2 GPUs: ")
    assert opened.why != "on 2 of 2 GPUs: "
    opened = Sessions(doubling, gpus=[None, 999], threads=1)
    assert opened.count == 1
    assert opened.why.startswith("on 1 of 2 GPUs: ")


def test_the_best_there_is_has_a_reason():
    gpus, why = usable_gpus()
    assert (gpus == [None]) == bool(why)
    assert gpus == [None] or gpus == list(range(len(gpus)))


def driver(count: int, *, started: int = 0, counted: int = 0) -> Any:
    """What the functions of a driver's library answer, called as ctypes calls them."""

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint)
    def start(_flags: int) -> int:
        return started

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int))
    def tell(found: Any) -> int:
        found[0] = count
        return counted

    return SimpleNamespace(cuInit=start, cuDeviceGetCount=tell)


def test_gpus_are_counted_by_the_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert count_gpus(driver(4)) == (4, "")
    assert count_gpus(driver(0)) == (0, "the NVIDIA driver shows no GPU")
    assert count_gpus(driver(0, started=100)) == (0, "the NVIDIA driver shows no GPU")
    broken = (0, "the NVIDIA driver does not start: its error 803")
    assert count_gpus(driver(0, started=803)) == broken
    assert count_gpus(driver(4, counted=803)) == broken
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shown = "the NVIDIA driver shows no GPU (CUDA_VISIBLE_DEVICES is ``)"
    assert count_gpus(driver(0)) == (0, shown)


# TensorRT


def engine(folder: Path, **more: Any) -> Engine:
    shapes = {"input_ids": ((1, 1), (4, 8), (4, 16)), "attention_mask": ((1, 1), (4, 8), (4, 16))}
    return Engine(shapes=shapes, samples=[], folder=folder, **more)


def test_tensorrt_knows_all_shapes_before_the_first_batch(tmp_path: Path):
    told: list[Any] = []
    given = engine(tmp_path / "engines", progress=lambda *said: told.append(said))
    assert given.rows == 4
    options = tensorrt.options(given, 1, 101303)
    assert options == {
        "device_id": 1,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(tmp_path / "engines" / "101303"),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(tmp_path / "engines" / "101303"),
        "trt_profile_min_shapes": "input_ids:1x1,attention_mask:1x1",
        "trt_profile_opt_shapes": "input_ids:4x8,attention_mask:4x8",
        "trt_profile_max_shapes": "input_ids:4x16,attention_mask:4x16",
    }
    assert (tmp_path / "engines" / "101303").is_dir()
    assert tensorrt.options(given, 1, 101303) == options
    assert told == [(0, None, "TensorRT compiles the graph, which may take minutes")]


def test_cuda_comes_after_tensorrt_and_the_processor_last_and_each_says_why_not(
    doubling: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tensorrt, "LIBRARY", "libnothing.so.10")
    opened = Session(doubling, gpu=999, engine=engine(tmp_path))
    assert (opened.provider, opened.device) == ("CPU", "CPU")
    on_cuda = Session(doubling, gpu=999).why
    assert opened.why == f"TensorRT 10 is not installed: there is no libnothing.so.10; {on_cuda}"
    assert on_cuda
    monkeypatch.setenv("SYNTHC_TENSORRT", "1")
    other = "TensorRT is for models of texts and pictures that synthc exports"
    assert Session(doubling, gpu=999).why == f"{on_cuda}; {other}"
    assert Sessions(doubling, gpus=[None]).why == ""


def test_batches_and_samples_fit_what_tensorrt_was_told(monkeypatch: pytest.MonkeyPatch):
    graph = minilm(None)
    assert engine_of(graph, None, cache=cache_folder(), progress=None) is None
    monkeypatch.setenv("SYNTHC_TENSORRT", "1")
    for longest in (256, 100):
        told = engine_of(graph, longest, cache=cache_folder(), progress=None)
        assert told is not None
        assert set(told.shapes) == {"input_ids", "attention_mask", "token_type_ids"}
        assert {largest for _, _, largest in told.shapes.values()} == {(told.rows, longest)}
        assert 32_768 - longest < told.rows * longest <= 32_768
        assert max(sample["input_ids"].shape[1] for sample in told.samples) == longest
        assert all(sample["input_ids"].shape[0] <= told.rows for sample in told.samples)
    few = pack(np.full(300, 5), 32_768, most=told.rows)
    assert max(len(rows) for rows in few) == 300 < told.rows


def test_vectors_that_differ_or_are_none_are_not_alike():
    vectors = np.random.default_rng(0).normal(size=(3, 7, 16)).astype(np.float32)
    assert tensorrt.least_cosine(vectors, 2 * vectors) > 0.999999
    other = vectors.copy()
    other[1, 2] *= -1
    assert tensorrt.least_cosine(vectors, other) < -0.999999
    other[1, 2, 0] = np.nan
    assert not tensorrt.least_cosine(vectors, other) >= tensorrt.LEAST_COSINE
