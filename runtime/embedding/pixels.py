"""A picture becomes pixels, as the model's own image processor makes them.

Pillow reads and resizes, numpy does the rest, in the order of transformers' own processors:
resize, cut the middle out, rescale, normalise.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from synthc.runtime.embedding.media import Prepared, Unusable
from synthc.runtime.errors import RunError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_READ = "JPEG, PNG, GIF, WebP, BMP and TIFF are read"

MOST_PIXELS = 100_000_000
"""A picture of more is not decoded: its pixels would take half a gigabyte."""

# Pictures a batch. On two cores a ViT-base takes 0.40 to 0.43 s of CPU a picture with 1 to 8 of them, and
# 5 % more with 16. A GPU wants more work at once (not measured yet).
BUDGET = {"CPU": 4.0, "GPU": 32.0}

_HALF = (0.5, 0.5, 0.5)
_CLIP = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}


def _square(edge: int, resample: int, crop: int | None = None) -> Mapping[str, Any]:
    size = {"height": edge, "width": edge}
    cut = {"crop_size": {"height": crop, "width": crop}} if crop else {}
    return {"size": size, "resample": resample, "image_mean": _HALF, "image_std": _HALF, **cut}


# What each kind of processor does where the model's file says nothing; one without a `crop_size`
# never cuts, whatever the file says.
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "Beit": _square(256, 3, crop=224),
    "Bit": _CLIP,
    "CLIP": _CLIP,
    "ConvNext": {**_square(384, 2), "size": {"shortest_edge": 384}, "crop_pct": 224 / 256},
    "DeiT": _square(256, 3, crop=224),
    "Siglip": _square(224, 3),
    "ViT": _square(224, 2),
}
_KIND = "image_processor_type"
_WARPED_FROM = 384  # from this edge on ConvNeXT's processor cuts nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """What an image processor does. Sizes are (height, width); a step that is None is left out.

    `resize` is a size, or the length that the shorter edge gets.
    """

    resize: tuple[int, int] | int | None
    resample: int
    crop: tuple[int, int] | None
    factor: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @classmethod
    def of(cls, settings: Mapping[str, Any], source: str) -> Pixels:
        """The processor of a preprocessor_config.json; `source` is how messages name the model.

        Raises RunError where it is none that is known, or gives pictures of several sizes.
        """
        kind = _kind_of(settings)
        if kind not in PROCESSORS:
            known = ", ".join(f"{name}ImageProcessor" for name in PROCESSORS)
            raise RunError(
                f"`{source}` prepares pictures by `{settings.get(_KIND, 'nothing that is named')}`,"
                " which is not supported",
                hint=f"these are: {known}",
            )
        own = PROCESSORS[kind]
        said = {**own, **{name: value for name, value in settings.items() if value is not None}}
        resize = _size(said["size"], square="shortest_edge" not in own["size"])
        crop = None
        if kind == "ConvNext" and isinstance(resize, int):
            edge = resize
            resize, crop = (edge, edge), None
            if edge < _WARPED_FROM:
                resize, crop = int(edge / said["crop_pct"]), (edge, edge)
        elif "crop_size" in own and said.get("do_center_crop", True):
            crop = _size(said["crop_size"], square=True)
        if not said.get("do_resize", True):
            resize = None
            crop = None if kind == "ConvNext" else crop
        if isinstance(crop, int) or not isinstance(crop or resize, tuple):
            raise RunError(
                f"`{source}` takes pictures of any size, which is not supported",
                hint="its preprocessor_config.json must give them one height and one width",
            )
        normalises = said.get("do_normalize", True)
        return cls(
            resize=resize,
            resample=said["resample"],
            crop=crop,
            factor=said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else None,
            mean=tuple(said["image_mean"]) if normalises else None,
            std=tuple(said["image_std"]) if normalises else None,
        )

    @property
    def size(self) -> tuple[int, int]:
        """The height and width that every picture has in the end."""
        found = self.crop or self.resize
        assert isinstance(found, tuple)
        return found

    @property
    def budget(self) -> Mapping[str, float]:
        """Pictures a batch."""
        return BUDGET

    @property
    def limit(self) -> str:
        """None is cut but as its processor does."""
        return ""

    def __call__(self, file: BinaryIO) -> Prepared:
        """The pixels of a file. Raises Unusable."""
        return Prepared({"pixel_values": self.pixels(decoded(file))})

    def pixels(self, image: Image) -> np.ndarray:
        """The pixels of an RGB picture: float32 (3, height, width). Raises Unusable."""
        if self.resize is not None:
            height, width = _resized(image, self.resize)
            if height * width > MOST_PIXELS:
                raise Unusable(f"is too narrow: it has {image.width} x {image.height} pixels")
            image = image.resize((width, height), _pillow().Resampling(self.resample))
        array = np.asarray(image)
        if self.crop:
            array = _middle(_middle(array, self.crop[0], 0), self.crop[1], 1)
        if self.factor is not None:
            array = (array.astype(np.float64) * self.factor).astype(np.float32)
        array = array.astype(np.float32)
        if self.mean is not None:
            array = (array - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(array.transpose(2, 0, 1))


def _kind_of(settings: Mapping[str, Any]) -> str:
    """The kind of an image processor without its endings; empty where none is named."""
    named = settings.get(_KIND) or settings.get("feature_extractor_type")
    plain = str(named or "").removesuffix("Fast")
    return plain.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")


def decoded(file: BinaryIO) -> Image:
    """The first frame of a picture in RGB, turned as its EXIF says; what it has of alpha is dropped.

    Of 16 bits the higher 8 are kept. Raises Unusable; the size that the file declares is looked at
    before its pixels are.
    """
    pillow = _pillow()
    from PIL import ImageOps

    if not file.read(1):
        raise Unusable("is empty")
    file.seek(0)
    try:
        image = pillow.open(file, formats=FORMATS)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise Unusable(_too_large(f"{width} x {height}"))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I;16"):
            image = pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode in ("I", "F"):
            raise Unusable("has 32 bits for each pixel: 8 and 16 are read")
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except Unusable:
        raise
    except pillow.DecompressionBombError:
        raise Unusable(_too_large("far more")) from None
    except pillow.UnidentifiedImageError:
        raise Unusable(f"is no picture that can be read; {_READ}") from None
    except Exception as error:  # noqa: BLE001 - a file that somebody made up breaks in all ways
        said = " ".join(str(error).split()) or type(error).__name__
        raise Unusable(f"cannot be read: {said}") from None


def _too_large(size: str) -> str:
    return f"has {size} pixels, and {MOST_PIXELS // 10**6} million is the most"


@functools.cache
def _pillow() -> ModuleType:
    """Pillow, where a picture is read: no other run waits for it."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # ours is looked at instead, and tells which file it is
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


def _size(size: Any, *, square: bool) -> tuple[int, int] | int | None:
    """A size as files write it: a number, a height and a width, a shortest edge, or None of these."""
    match size:
        case int():
            return (size, size) if square else size
        case [int(height), int(width)]:
            return height, width
        case {"shortest_edge": int(edge)}:
            return edge
        case {"height": int(height), "width": int(width)}:
            return height, width
        case _:
            return None


def _resized(image: Image, resize: tuple[int, int] | int) -> tuple[int, int]:
    """The (height, width) that a picture is resized to."""
    if isinstance(resize, tuple):
        return resize
    width, height = image.size
    longer = int(resize * max(width, height) / min(width, height))
    return (longer, resize) if width <= height else (resize, longer)


def _middle(array: np.ndarray, length: int, axis: int) -> np.ndarray:
    """The middle of an axis, with zeros around it where it is shorter."""
    missing = length - array.shape[axis]
    if missing > 0:
        widths = [(0, 0)] * array.ndim
        widths[axis] = (math.ceil(missing / 2), missing // 2)
        return np.pad(array, widths)
    start = -missing // 2
    return array.take(range(start, start + length), axis)
