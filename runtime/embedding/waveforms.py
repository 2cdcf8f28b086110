"""A recording becomes what a model hears, as the model's own feature extractor makes it.

soundfile reads it and soxr gives it the model's rate; its channels are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from synthc.runtime.embedding.media import Prepared, Unusable
from synthc.runtime.errors import RunError

LONGEST_S = 30.0
"""Seconds of a recording that are embedded, from its start: what a model sees at once takes memory
with the square of its length."""

# Seconds a batch.
BUDGET = {"CPU": LONGEST_S, "GPU": 16 * LONGEST_S}

_KIND = "feature_extractor_type"
_BLOCK = 1 << 18  # samples, of all channels, that are read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveforms:
    """What a feature extractor of wav2vec2's kind does: samples at `rate` in Hz, which get a mean of
    zero and a variance of one where it `normalizes`. The model needs `fewest` of them."""

    rate: int
    normalizes: bool
    fewest: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], source: str) -> Waveforms:
        """The extractor of a preprocessor_config.json with what `settings_of` adds; `source` is how
        messages name the model. Raises RunError where it is none that is known."""
        if settings.get(_KIND) != "Wav2Vec2FeatureExtractor":
            raise RunError(
                f"`{source}` prepares recordings by `{settings.get(_KIND, 'nothing that is named')}`,"
                " which is not supported",
                hint="these are: Wav2Vec2FeatureExtractor (wav2vec2, HuBERT, WavLM, data2vec) and"
                " WhisperFeatureExtractor",
            )
        return cls(
            rate=settings["sampling_rate"],
            normalizes=settings.get("do_normalize", True),
            fewest=settings["fewest_samples"],
        )

    @staticmethod
    def settings_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a config.json says of what must be heard at least: the samples of one frame."""
        kernels = config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
        strides = config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))
        fewest = 1
        for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
            fewest = (fewest - 1) * stride + kernel
        return {"fewest_samples": fewest}

    @property
    def budget(self) -> Mapping[str, float]:
        """Seconds a batch."""
        return BUDGET

    @property
    def limit(self) -> str:
        """Where a recording is cut."""
        return f"{LONGEST_S:g} seconds"

    def __call__(self, file: BinaryIO) -> Prepared:
        """The samples of a file. Raises Unusable."""
        samples, cut = heard(file, self.rate, LONGEST_S)
        if len(samples) < self.fewest:
            length, needed = (1000 * count / self.rate for count in (len(samples), self.fewest))
            raise Unusable(
                f"is too short: it lasts {length:.1f} ms, and the model needs {needed:.1f}"
            )
        if self.normalizes:
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        return Prepared({"input_values": samples}, len(samples) / self.rate, cut)


def heard(file: BinaryIO, rate: int, longest_s: float) -> tuple[np.ndarray, bool]:
    """The samples of a recording, float32 (samples,) at `rate`, and whether it goes on behind them.

    Its channels are averaged, then it is resampled. Raises Unusable where it is no recording, an
    empty one, or one with samples that are no numbers.
    """
    import soundfile

    if not file.read(1):
        raise Unusable("is empty")
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            own_rate = sound.samplerate
            wanted = int(longest_s * own_rate)
            blocks: list[np.ndarray] = []
            count = 0
            size = max(1, _BLOCK // sound.channels)
            while count <= wanted:
                block = sound.read(min(size, wanted + 1 - count), "float32", always_2d=True)
                if not len(block):
                    break
                blocks.append(block.mean(axis=1))
                count += len(block)
    except soundfile.SoundFileError as error:
        told = str(getattr(error, "error_string", error))  # what it says else names an object
        said = " ".join(told.split()).removeprefix("Error : ").rstrip(".")
        raise Unusable(f"is no recording that can be read: {said}") from None
    if not blocks:
        raise Unusable("has no samples")
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise Unusable("has samples that are no numbers")
    cut = count > wanted
    samples = samples[:wanted]
    if own_rate != rate:
        import soxr

        samples = soxr.resample(samples, own_rate, rate)
    return np.ascontiguousarray(samples, np.float32), cut
