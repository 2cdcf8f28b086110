"""The pictures and recordings on which a graph is compared with the model it was made from."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

# Height and width: wide, tall, larger and smaller than what models take, odd.
_SIZES = (
    (300, 200),
    (97, 431),
    (640, 480),
    (31, 30),
    (224, 224),
    (513, 177),
    (180, 360),
    (257, 255),
)
# Seconds.
_LENGTHS = (0.1, 0.25, 0.5, 1.0, 1.0, 2.5, 1.7, 3.0)


def pictures() -> Iterator[tuple[bytes, np.ndarray]]:
    """Files in PNG, and their pixels: uint8 (height, width, 3)."""
    from PIL import Image

    for number, (height, width) in enumerate(_SIZES):
        pixels = _picture(np.random.default_rng(number), height, width)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        yield file.getvalue(), pixels


def _picture(drawn: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth colours, a few bright and dark boxes, and some noise."""
    down, across = np.mgrid[0:height, 0:width] / max(height, width)
    waves = drawn.uniform(1, 12, (3, 2))
    colours = [np.sin(a * down + b * across + a) for a, b in waves]
    pixels = 128 + 90 * np.stack(colours, axis=-1)
    for _ in range(4):
        top, left = drawn.integers(0, height), drawn.integers(0, width)
        pixels[top : top + height // 4, left : left + width // 4] = drawn.integers(0, 256, 3)
    pixels += drawn.normal(0, 8, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


def recordings(rate: int) -> Iterator[tuple[bytes, np.ndarray]]:
    """Files in WAV at `rate` in Hz, and their samples: float32 (samples,)."""
    import soundfile

    for number, seconds in enumerate(_LENGTHS):
        samples = _sound(np.random.default_rng(number), int(seconds * rate), rate)
        file = io.BytesIO()
        soundfile.write(file, samples, rate, "FLOAT", format="WAV")
        yield file.getvalue(), samples


def _sound(drawn: np.random.Generator, count: int, rate: int) -> np.ndarray:
    """A few tones that rise and fall, and some noise."""
    at = np.arange(count) / rate
    tones = drawn.uniform(80, 3000, 4)
    bends = drawn.uniform(-300, 300, 4)
    total = sum(
        np.sin(2 * np.pi * (tone + bend * at) * at) for tone, bend in zip(tones, bends, strict=True)
    )
    samples = 0.15 * total * (0.6 + 0.4 * np.sin(7 * at)) + drawn.normal(0, 0.02, count)
    return samples.astype(np.float32)
