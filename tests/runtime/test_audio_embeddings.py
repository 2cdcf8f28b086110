"""Recordings embedded: the graph against the original, files of all kinds, and runs over them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from synthc.runtime.embedding.media import MediaEmbedder, Medium, Unusable
from synthc.runtime.embedding.media_files import MediaGraph, media_graph_for, read_media_model
from synthc.runtime.embedding.spectrograms import Spectrograms
from synthc.runtime.embedding.waveforms import LONGEST_S, Waveforms, heard
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import read_json
from tests.runtime.helpers import made, rows
from tests.runtime.tiny_media import WIDTH, saved, sound, unit
from tests.runtime.tiny_text import exported_here

LEAST_COSINE = 0.99999
RATE = 16_000

SOUNDS = [sound(0), sound(1, 0.05), sound(2), sound(3, 1.3), np.zeros(RATE // 2, np.float32)]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are saved."""
    return tmp_path_factory.mktemp("models")


def file_of(
    samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "FLOAT"
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()


def as_media(sounds: list[np.ndarray]) -> list[Medium]:
    return [Medium(str(at), f"sound {at}", file_of(one)) for at, one in enumerate(sounds)]


def vectors(embedder: MediaEmbedder, media: list[Medium]) -> np.ndarray:
    """The vectors of media that all have one: (media, dimensions)."""
    found = [vector for vector in embedder.embed(media) if not isinstance(vector, Unusable)]
    assert len(found) == len(media)
    return np.stack(found)


def exported(folder: Path, target: Path, **asked: Any) -> MediaGraph:
    """The graph of a model, made in this process: torch is there already."""
    from synthc.runtime.embedding.media_graph import export_media

    target.mkdir()
    asked = {"pooling": None, "normalize": None, **asked}
    export_media(read_media_model(folder, "audio", **asked), target)
    return MediaGraph.of(read_json(target / "card.json"), target)


def embedder(graph: MediaGraph, **more: Any) -> MediaEmbedder:
    return MediaEmbedder(
        graph.path,
        graph.front_end,
        digest=graph.digest,
        dimensions=graph.dimensions,
        unit_length=graph.normalize,
        threads=1,
        **more,
    )


def frames_of(folder: Path, model: str, samples: np.ndarray) -> np.ndarray:
    """What the original hears in samples, by its own feature extractor: (frames, dimensions)."""
    import torch
    import transformers

    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    opened = getattr(transformers, model).from_pretrained(folder).eval()
    with torch.inference_mode():
        inputs = extractor(samples, sampling_rate=RATE, return_tensors="pt")
        if model == "WhisperModel":  # which hears silence behind the samples, up to its two seconds
            frames = opened.encoder(**inputs).last_hidden_state[0].numpy()
            return frames[: -(-len(samples) // 320)]
        return opened(**inputs).last_hidden_state[0].numpy()


MODELS: Mapping[str, str] = {
    "wav2vec2": "Wav2Vec2Model",
    "wav2vec2-layer": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "whisper": "WhisperModel",
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_graph_is_the_original(models: Path, tmp_path: Path, kind: str) -> None:
    """Alone, and where recordings share batches: none is padded, so that none depends on others."""
    folder = saved(models, kind)
    frames = [frames_of(folder, MODELS[kind], samples) for samples in SOUNDS]
    for pooling in (None, "max"):
        theirs = np.stack([one.max(0) if pooling else one.mean(0) for one in frames])
        graph = exported(folder, tmp_path / f"{pooling}", pooling=pooling, normalize=False)
        assert graph.card["parity"]["least_cosine"] >= LEAST_COSINE
        for budget in (0.01, 100.0):
            ours = vectors(embedder(graph, budget=budget), as_media(SOUNDS))
            heard_ = slice(4)  # what hears no silence has no direction for it
            cosines = (unit(ours[heard_]) * unit(theirs[heard_])).sum(axis=1)
            assert float(cosines.min()) >= LEAST_COSINE
            assert np.allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("settings", [{}, {"feature_size": 128, "chunk_length": 5}])
def test_spectrograms_are_those_of_whisper(tmp_path: Path, settings: dict[str, Any]) -> None:
    from transformers import WhisperFeatureExtractor

    theirs = WhisperFeatureExtractor(**settings)
    theirs.save_pretrained(tmp_path)
    ours = Spectrograms.of(json.loads((tmp_path / "preprocessor_config.json").read_text()))
    for samples in SOUNDS:
        made = ours(io.BytesIO(file_of(samples))).arrays["input_features"]
        expected = theirs(samples, sampling_rate=RATE, return_tensors="np")["input_features"][0]
        assert made.dtype == np.float32
        assert made.shape == expected.shape == (ours.mels, 100 * ours.seconds)
        assert np.abs(made - expected).max() < 1e-4
    assert ours.limit == f"{ours.seconds} seconds"
    assert ours(io.BytesIO(file_of(sound(1, 6.0)))).cut == (ours.seconds == 5)


def test_a_recording_has_no_class_token(models: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="it has no token for the whole recording"):
        exported(saved(models, "wav2vec2"), tmp_path / "graph", pooling="cls")


def test_other_feature_extractors_are_refused() -> None:
    settings = {"feature_extractor_type": "ClapFeatureExtractor", "sampling_rate": 48_000}
    with pytest.raises(RunError) as caught:
        Waveforms.of(settings, "models/x")
    assert caught.value.message == (
        "`models/x` prepares recordings by `ClapFeatureExtractor`, which is not supported"
    )


# Files


def samples_of(content: bytes, longest_s: float = LONGEST_S) -> np.ndarray:
    return heard(io.BytesIO(content), RATE, longest_s)[0]


@pytest.mark.parametrize(
    ("kind", "subtype", "atol"),
    [
        ("WAV", "FLOAT", 0),
        ("WAV", "PCM_16", 1e-4),
        ("FLAC", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 0.2),
        ("MP3", "MPEG_LAYER_III", 0.2),
    ],
)
def test_formats(kind: str, subtype: str, atol: float) -> None:
    made = samples_of(file_of(SOUNDS[0], kind=kind, subtype=subtype))
    assert made.dtype == np.float32
    assert abs(len(made) - len(SOUNDS[0])) <= 2_500  # MP3 is made of frames
    common = min(len(made), len(SOUNDS[0]))
    if kind != "MP3":  # which begins with silence
        assert np.abs(made[:common] - SOUNDS[0][:common]).max() <= atol


def test_channels_are_averaged() -> None:
    left, right = sound(1), sound(2)
    both = file_of(np.stack([left, right, -left, right], axis=1))
    assert np.allclose(samples_of(both), right / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(rate: int) -> None:
    other = sound(1, 0.5, rate)
    made = samples_of(file_of(other, rate))
    assert abs(len(made) - RATE // 2) <= 1
    assert np.allclose(made, soxr.resample(other, rate, RATE), atol=1e-6)
    # A tone stays the tone that it was.
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    heard_ = samples_of(file_of(tone, rate))
    expected = np.sin(2 * np.pi * 440 * np.arange(len(heard_)) / RATE)
    assert np.abs(heard_ - expected)[1000:-1000].max() < 1e-3


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_of_a_long_recording_the_beginning(rate: int) -> None:
    content = file_of(sound(1, 2.0, rate), rate)
    samples, cut = heard(io.BytesIO(content), RATE, 0.5)
    assert (len(samples), cut) == (RATE // 2, True)
    begins = file_of(sound(1, 2.0, rate)[: rate // 2], rate)
    other, cut = heard(io.BytesIO(begins), RATE, 0.5)
    assert (len(other), cut) == (RATE // 2, False)
    assert (samples == other).all()


def test_silence_is_a_recording() -> None:
    prepared = Waveforms(rate=RATE, normalizes=True, fewest=400)(
        io.BytesIO(file_of(np.zeros(RATE, np.float32)))
    )
    assert not prepared.arrays["input_values"].any()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


NAN = np.where(np.arange(RATE) == 99, np.nan, sound(1, 1.0)).astype(np.float32)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"words, and no recording", "is no recording that can be read: "),
        (file_of(sound(1))[:30], "is no recording that can be read: "),
        (half(file_of(sound(1), kind="FLAC", subtype="PCM_16")), "be read: flac decoder lost sync"),
        (file_of(np.zeros(0, np.float32)), "has no samples"),
        (file_of(NAN), "has samples that are no numbers"),
        (file_of(np.where(np.isnan(NAN), np.inf, NAN)), "has samples that are no numbers"),
        (file_of(sound(1)[:160]), "is too short: it lasts 10.0 ms, and the model needs 25.0"),
    ],
    # Not the contents: libsndfile writes the second into a WAV, and two processes must agree on the names.
    ids=["empty", "text", "head", "half", "no samples", "nan", "infinite", "short"],
)
def test_files_that_are_no_recordings(content: bytes, why: str) -> None:
    hears = Waveforms(rate=RATE, normalizes=True, fewest=400)
    with pytest.raises(Unusable) as caught:
        hears(io.BytesIO(content))
    assert why in str(caught.value)


# Runs


@pytest.fixture(scope="session")
def exports(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the graph of `wav2vec2`."""
    cache = tmp_path_factory.mktemp("exports") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        exported_here(patch)
        media_graph_for(saved(models, "wav2vec2"), "audio", cache=cache)
    return cache


@pytest.fixture
def ears(models: Path, exports: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The embedder of a spec."""
    monkeypatch.setenv("SYNTHC_CACHE", str(exports))
    model = saved(models, "wav2vec2")
    return f'embedder e {{ model = "{model}"  dimensions = {WIDTH}  input = "audio" }}\n'


def test_files_are_embedded_and_what_fails_fails_alone(
    models: Path, ears: str, tmp_path: Path
) -> None:
    long = np.tile(sound(4, 1.0), int(LONGEST_S) + 1)
    files = {
        "a.wav": file_of(SOUNDS[0]),
        "b.wav": file_of(SOUNDS[3], kind="FLAC", subtype="PCM_24"),
        "c.wav": file_of(SOUNDS[0]),
        "empty.wav": b"",
        "long.wav": file_of(long, subtype="PCM_16"),
        "words.wav": b"no recording at all",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    report = made(ears + 'table t = files("*.wav") |> embed(audio)', tmp_path, "")
    assert (report.tables["t"].kept, report.tables["t"].failed) == (4, 2)
    assert report.notes[0].startswith("e: 3 recordings embedded on ")
    assert report.notes[1] == "e: 1 recording cut at 30 seconds"
    found = dict(rows(tmp_path, "SELECT path, embedding FROM t"))
    folder = saved(models, "wav2vec2")
    whole = np.round(long[: int(LONGEST_S) * RATE] * 2**15) / 2**15
    for name, samples in (("a.wav", SOUNDS[0]), ("b.wav", SOUNDS[3]), ("long.wav", whole)):
        theirs = frames_of(folder, "Wav2Vec2Model", samples.astype(np.float32)).mean(0)
        assert np.allclose(found[name], unit(theirs), atol=2e-4)
    assert found["c.wav"] == found["a.wav"]
    failures = rows(tmp_path, "SELECT row_key, reason, detail FROM synth.failures ORDER BY row_key")
    assert [row[:2] for row in failures] == [("empty.wav", "audio"), ("words.wav", "audio")]
    assert failures[0][2] == "`empty.wav` is empty"
    assert failures[1][2].startswith("`words.wav` is no recording that can be read: ")


def test_a_run_that_has_its_graph_imports_no_torch(
    models: Path, exports: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(file_of(sound(1, 0.5, 44_100), 44_100))
    program = f"""
import sys
from pathlib import Path
from synthc.runtime.embedding.media_files import open_media_embedder
from synthc.runtime.embedding.media import medium
from synthc.runtime.listed import Listed
found = open_media_embedder({str(saved(models, "wav2vec2"))!r}, kind="audio", base=Path(), dimensions={WIDTH})
item = medium("a.wav", "audio", "audio", Listed(frozenset(["a.wav"]), Path({str(tmp_path)!r})))
print(found.embed([item])[0].shape)
print([name for name in ("torch", "transformers", "optimum", "onnx", "PIL") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYNTHC_CACHE": str(exports)},
    )
    assert done.stdout.splitlines() == [f"({WIDTH},)", "[]"], done.stderr
