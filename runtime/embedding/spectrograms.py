"""A recording becomes a log-mel spectrogram, as Whisper's feature extractor makes it.

The mel scale and its triangles are Slaney's (Auditory Toolbox, 1998): linear to 1,000 Hz, then logarithmic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from synthc.runtime.embedding.media import Prepared
from synthc.runtime.embedding.waveforms import heard

HIGHEST_HZ = 8000.0
FRAMES_TOGETHER = 2
"""Frames of a spectrogram that the encoder's convolutions make one frame of."""

# Recordings a batch: each is as long as the model takes.
BUDGET = {"CPU": 1.0, "GPU": 16.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrograms:
    """What a feature extractor of Whisper's kind does: `mels` bands at `rate` in Hz, from windows of
    `window` samples, one every `hop`, of recordings of `seconds`, which silence fills up."""

    rate: int
    mels: int
    window: int
    hop: int
    seconds: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Spectrograms:
        """The extractor of a preprocessor_config.json."""
        return cls(
            rate=settings.get("sampling_rate", 16_000),
            mels=settings.get("feature_size", 80),
            window=settings.get("n_fft", 400),
            hop=settings.get("hop_length", 160),
            seconds=settings.get("chunk_length", 30),
        )

    @property
    def budget(self) -> Mapping[str, float]:
        """Recordings a batch."""
        return BUDGET

    @property
    def limit(self) -> str:
        """Where a recording is cut."""
        return f"{self.seconds} seconds"

    @property
    def frames(self) -> int:
        """Frames that the encoder gives for a recording of whatever length."""
        return self.seconds * self.rate // self.hop // FRAMES_TOGETHER

    def attention_mask(self, count: int) -> np.ndarray:
        """1 for each of the encoder's frames that hear one of `count` samples: float32 (frames,)."""
        heard_ = math.ceil(count / (self.hop * FRAMES_TOGETHER))
        return (np.arange(self.frames) < max(1, heard_)).astype(np.float32)

    def __call__(self, file: BinaryIO) -> Prepared:
        """The spectrogram of a file, and which frames are not the silence after it. Raises Unusable."""
        samples, cut = heard(file, self.rate, self.seconds)
        arrays = {
            "input_features": self.log_mel(samples),
            "attention_mask": self.attention_mask(len(samples)),
        }
        return Prepared(arrays, cut=cut)

    def log_mel(self, samples: np.ndarray) -> np.ndarray:
        """The bands of samples (samples,), float32 (mels, frames of the spectrogram): their logarithm, of
        which no more than 8 powers of ten are kept, moved to about -1 to 1."""
        whole = np.zeros(self.seconds * self.rate, np.float64)
        whole[: len(samples)] = samples[: len(whole)]
        padded = np.pad(whole, self.window // 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop][:-1]
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        power = np.abs(np.fft.rfft(windows * hann)) ** 2
        mels = power @ mel_filters(self.mels, self.window, self.rate)
        logs = np.log10(np.maximum(mels, 1e-10))
        logs = np.maximum(logs, logs.max() - 8)
        return np.ascontiguousarray((logs.T + 4) / 4, np.float32)


@functools.cache
def mel_filters(mels: int, window: int, rate: int) -> np.ndarray:
    """What each frequency of a window's spectrum adds to each band: (window / 2 + 1, mels).

    Triangles of equal area over equal steps of the mel scale, up to HIGHEST_HZ.
    """
    frequencies = np.linspace(0, rate / 2, window // 2 + 1)
    edges = _hertz(np.linspace(0, _mel(HIGHEST_HZ), mels + 2))
    lower, middle, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - lower) / (middle - lower)
    falling = (upper - frequencies[:, None]) / (upper - middle)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (upper - lower)


_LINEAR_TO_HZ, _STEP_HZ = 1000.0, 200 / 3
_FROM_MEL = _LINEAR_TO_HZ / _STEP_HZ
_GROWTH = math.log(6.4) / 27


def _mel(hertz: float) -> float:
    """A frequency from 1,000 Hz on, on the mel scale."""
    return _FROM_MEL + math.log(hertz / _LINEAR_TO_HZ) / _GROWTH


def _hertz(mels: np.ndarray) -> np.ndarray:
    linear = mels * _STEP_HZ
    return np.where(mels < _FROM_MEL, linear, _LINEAR_TO_HZ * np.exp(_GROWTH * (mels - _FROM_MEL)))
