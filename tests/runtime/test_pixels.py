"""Pictures as models see them: the pixels of transformers' own processors, and files that are none."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthc.runtime.embedding.media import Unusable
from synthc.runtime.embedding.pixels import MOST_PIXELS, Pixels, decoded
from synthc.runtime.errors import RunError
from tests.runtime.tiny_media import picture

SIZES = ((45, 60), (60, 45), (31, 32), (200, 90), (33, 33), (7, 300), (1, 1))

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {"size": {"height": 32, "width": 24}}),
    ("ViT", {"size": 32, "resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 1, 2]}),
    ("ViT", {"size": 32, "do_rescale": False}),
    ("ViT", {"size": 32, "do_normalize": False, "rescale_factor": 1 / 127.5}),
    ("ViT", {"size": 32, "do_normalize": False, "do_rescale": False}),
    ("CLIP", {}),
    ("CLIP", {"size": 40, "crop_size": 32}),
    ("CLIP", {"size": {"shortest_edge": 33}, "crop_size": {"height": 32, "width": 31}}),
    ("CLIP", {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 28}}),
    ("CLIP", {"size": {"height": 32, "width": 32}, "do_center_crop": False}),
    ("CLIP", {"do_resize": False, "crop_size": 50}),
    ("Bit", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}),
    ("DeiT", {"size": 40, "crop_size": 32}),
    ("Beit", {"size": {"height": 40, "width": 40}, "crop_size": 32}),
    ("Siglip", {"size": {"height": 32, "width": 32}}),
    ("ConvNext", {"size": {"shortest_edge": 32}}),
    ("ConvNext", {"size": 32, "crop_pct": 0.95, "resample": 3}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
]


@pytest.mark.parametrize(("kind", "settings"), PROCESSORS)
def test_pixels_are_those_of_the_models_own_processor(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    import transformers

    theirs = getattr(transformers, f"{kind}ImageProcessor")(**settings)
    theirs.save_pretrained(tmp_path)
    ours = Pixels.of(json.loads((tmp_path / "preprocessor_config.json").read_text()), "models/x")
    as_written = Pixels.of({"image_processor_type": f"{kind}ImageProcessor", **settings}, "x")
    for seed, size in enumerate(SIZES):
        image = Image.fromarray(picture(seed, *size))
        expected = theirs(image, input_data_format="channels_last")["pixel_values"][0]
        for made in (ours.pixels(image), as_written.pixels(image)):
            assert made.dtype == np.float32
            assert made.shape == expected.shape == (3, *ours.size)
            assert np.abs(made - expected).max() <= 1e-5


def test_the_names_of_older_and_of_fast_processors() -> None:
    plain = Pixels.of({"image_processor_type": "CLIPImageProcessor"}, "x")
    assert Pixels.of({"image_processor_type": "CLIPImageProcessorFast"}, "x") == plain
    assert Pixels.of({"feature_extractor_type": "CLIPFeatureExtractor"}, "x") == plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"image_processor_type": "MobileViTImageProcessor"},
            "by `MobileViTImageProcessor`, which",
        ),
        ({}, "prepares pictures by `nothing that is named`, which is not supported"),
        (
            {"image_processor_type": "ViTImageProcessor", "do_resize": False},
            "takes pictures of any size, which is not supported",
        ),
        (
            {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False},
            "takes pictures of any size",
        ),
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 32}},
            "takes pictures of any size",
        ),
    ],
)
def test_processors_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as caught:
        Pixels.of(settings, "models/x")
    assert message in caught.value.message
    assert caught.value.message.startswith("`models/x` ")


# Files


def file_of(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def rgb(file: io.BytesIO) -> np.ndarray:
    image = decoded(file)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_formats_without_loss(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (rgb(file_of(Image.fromarray(picture(1)), kind, **options)) == picture(1)).all()


def test_modes_become_rgb_as_pillow_makes_them() -> None:
    image = Image.fromarray(picture(1))
    for mode, kind in [("L", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("1", "PNG")]:
        other = image.convert(mode)
        assert (rgb(file_of(other, kind)) == np.asarray(other.convert("RGB"))).all()
    ink = file_of(image.convert("CMYK"), "JPEG")
    assert (rgb(ink) == np.asarray(Image.open(ink).convert("RGB"))).all()


def test_transparency_is_dropped() -> None:
    pixels = picture(1)
    alpha = np.full(pixels.shape[:2], 0, np.uint8)
    image = Image.fromarray(np.dstack([pixels, alpha]))
    assert (rgb(file_of(image, "PNG")) == pixels).all()


def test_of_sixteen_bits_the_higher_eight_are_kept() -> None:
    grey = picture(1)[..., 0]
    low = np.arange(grey.size, dtype=np.uint16).reshape(grey.shape) % 256
    for kind in ("PNG", "TIFF"):
        image = Image.fromarray((grey.astype(np.uint16) << 8) + low)
        assert (rgb(file_of(image, kind)) == grey[..., None]).all()


def test_of_a_film_the_first_frame() -> None:
    frames = [Image.fromarray(picture(seed)).convert("P") for seed in (1, 2, 3)]
    film = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (rgb(film) == np.asarray(frames[0].convert("RGB"))).all()


def test_a_picture_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    turned = rgb(file_of(Image.fromarray(picture(1)), "PNG", exif=exif))
    assert (turned == np.rot90(picture(1), -1)).all()


def bomb(width: int, height: int) -> io.BytesIO:
    """A PNG that declares a size, and has hardly any pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checked = name + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b""))


def truncated() -> io.BytesIO:
    whole = file_of(Image.fromarray(picture(1, 300, 300)), "JPEG").getvalue()
    return io.BytesIO(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (io.BytesIO(), "is empty"),
        (io.BytesIO(b"words, and no picture"), "is no picture that can be read; JPEG, PNG, "),
        (io.BytesIO(b"\xff\xd8\xff\xe0 not a whole one"), "cannot be read: "),
        (truncated(), "cannot be read: image file is truncated"),
        (bomb(20_000, 20_000), "has 20000 x 20000 pixels, and 100 million is the most"),
        (bomb(2**31 - 1, 2**31 - 1), "pixels, and 100 million is the most"),
        (bomb(300, 300), "cannot be read: "),
        (file_of(Image.new("F", (4, 4)), "TIFF"), "has 32 bits for each pixel: 8 and 16 are read"),
        # Pillow reads these too, by programs of others.
        (io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is no picture"),
    ],
)
def test_files_that_are_no_pictures(file: io.BytesIO, why: str) -> None:
    with pytest.raises(Unusable) as caught:
        decoded(file)
    assert why in str(caught.value)


def test_a_picture_that_would_grow_beyond_all_measure() -> None:
    seen = Pixels.of({"image_processor_type": "CLIPImageProcessor"}, "x")
    line = Image.new("RGB", (1, 20_000))
    assert MOST_PIXELS < 224 * 224 * 20_000
    with pytest.raises(Unusable, match="is too narrow: it has 1 x 20000 pixels"):
        seen.pixels(line)
