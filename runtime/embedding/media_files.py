"""What the files of a model of pictures or of sound say about how its vectors are made."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthc.compiler.plan import NOUNS
from synthc.runtime.embedding import tensorrt
from synthc.runtime.embedding.export import exported
from synthc.runtime.embedding.media import FrontEnd, Kind, MediaEmbedder
from synthc.runtime.embedding.media_samples import pictures
from synthc.runtime.embedding.pipeline import require_dimensions
from synthc.runtime.embedding.pixels import Pixels
from synthc.runtime.embedding.spectrograms import Spectrograms
from synthc.runtime.embedding.waveforms import Waveforms
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import Progress, cache_folder
from synthc.runtime.models import fetch

CLIP_FOLDER = "CLIPModel"
"""What sentence-transformers calls the step that is a whole CLIP."""

# What of a card decides which vector a picture or a recording has.
MAKES_VECTORS = ("files", "input", "normalize", "processor")
_PROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaModel:
    """A folder with a model of an `input`, and how its vectors become one.

    `pooling` is None where it is the model's own; `processor` are the settings of what prepares a
    file for it, with what of config.json that needs.
    """

    folder: Path
    input: Kind
    pooling: str | None
    normalize: bool
    processor: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaGraph:
    """An exported model: what its front end makes of a file in, `embedding` (rows, dimensions) out.

    `digest` is that of all that makes the vectors, its files among it; `card` is what card.json says
    of how and from what it was made.
    """

    path: Path
    front_end: FrontEnd
    dimensions: int
    normalize: bool
    digest: str
    card: Mapping[str, Any]

    @classmethod
    def of(cls, card: Mapping[str, Any], folder: Path) -> MediaGraph:
        """The graph in a folder, as its card says."""
        made_by = json.dumps({name: card.get(name) for name in MAKES_VECTORS}, sort_keys=True)
        return cls(
            path=folder / "model.onnx",
            front_end=front_end(card["input"], card["processor"], str(card.get("source", folder))),
            dimensions=card["dimensions"],
            normalize=card["normalize"],
            digest=hashlib.sha256(made_by.encode()).hexdigest(),
            card=card,
        )


def front_end(kind: Kind, processor: Mapping[str, Any], source: str) -> FrontEnd:
    """What prepares files for a model. Raises RunError where it is nothing that is known."""
    if kind == "image":
        return Pixels.of(processor, source)
    if processor.get("feature_extractor_type") == "WhisperFeatureExtractor":
        return Spectrograms.of(processor)
    return Waveforms.of(processor, source)


def read_media_model(
    folder: Path, kind: Kind, *, pooling: str | None, normalize: bool | None
) -> MediaModel:
    """Read the folder of a model; a pooling or normalisation that is given replaces its own.

    Raises RunError where the folder holds no such model, or one that is prepared for in a way we do
    not know.
    """
    needed = needed_of(kind)
    if folder.is_file():
        raise RunError(f"{folder} is one file, and a model is a folder of several", hint=needed)
    modules = _json(folder / "modules.json") or []
    kinds = [str(step.get("type", "")).rpartition(".")[2] for step in modules]
    where = folder
    if modules:
        if kinds[0] != CLIP_FOLDER or kinds[1:] not in ([], ["Normalize"]):
            raise RunError(
                f"the model in {folder} has the steps {', '.join(kinds)}: it is no model of"
                f" {NOUNS[kind]}s that is supported",
                hint=needed,
            )
        where = folder / str(modules[0].get("path", ""))
    config = _json(where / "config.json")
    if not config:
        raise RunError(f"{where} is no model: it has no config.json", hint=needed)
    settings = _json(where / _PROCESSOR)
    if not settings:
        text = (where / "tokenizer.json").is_file()
        also = "; it may be a text model, which takes no `input`" if text else ""
        raise RunError(f"{where} is no {kind} model: it has no {_PROCESSOR}{also}", hint=needed)
    hears = "sampling_rate" in settings
    if hears != (kind == "audio"):
        other: Kind = "audio" if hears else "image"
        raise RunError(
            f"{where} is a model of {NOUNS[other]}s, not of {NOUNS[kind]}s",
            hint=f'write `input = "{other}"`',
        )
    if kind == "audio":
        # Of the filters that some files hold, the extractors make their own.
        settings = {name: value for name, value in settings.items() if name != "mel_filters"}
        settings = {**settings, **Waveforms.settings_of(config)}
    model = MediaModel(
        folder=where,
        input=kind,
        pooling=pooling,
        normalize=(not modules or "Normalize" in kinds) if normalize is None else normalize,
        processor=settings,
    )
    front_end(kind, model.processor, str(folder))
    return model


def needed_of(kind: Kind) -> str:
    """What a folder of a model holds, for a hint."""
    return (
        f"an embedder of {NOUNS[kind]}s needs a folder with config.json, {_PROCESSOR} and weights"
    )


def media_graph_for(
    model_folder: Path,
    kind: Kind,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    precision: str = "fp32",
    cache: Path | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> MediaGraph:
    """The graph of a model in a folder, from the cache or exported now, as `graph_for` of a text model."""
    source = source or str(model_folder)
    if precision == "int8":
        raise RunError(
            f"`{source}` takes {NOUNS[kind]}s, and `int8` is for models of text",
            hint='leave `precision` out, or write `"fp16"`',
        )
    model = read_media_model(model_folder, kind, pooling=pooling, normalize=normalize)
    made = exported(
        model_folder,
        kind,
        made_from=(model.pooling, model.normalize),
        asked={"pooling": pooling, "normalize": normalize},
        precision=precision,
        needed=needed_of(kind),
        weights_in=model.folder,
        cache=cache,
        source=source,
        progress=progress,
    )
    return MediaGraph.of(*made)


def open_media_embedder(
    reference: str,
    *,
    kind: Kind,
    base: Path,
    dimensions: int,
    pooling: str | None = None,
    normalize: bool | None = None,
    precision: str = "fp32",
    truncate: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> MediaEmbedder:
    """The embedder of a model of pictures or sound, as `open_embedder` opens that of a text model."""
    cache = cache or cache_folder()
    folder = fetch(reference, base=base, cache=cache, progress=progress)
    graph = media_graph_for(
        folder,
        kind,
        pooling=pooling,
        normalize=normalize,
        precision=precision,
        cache=cache,
        source=reference,
        progress=progress,
    )
    require_dimensions(reference, graph.dimensions, dimensions, truncate=truncate)
    engine = None
    if tensorrt.asked() and isinstance(graph.front_end, Pixels):
        engine = engine_of(graph, graph.front_end, cache=cache, progress=progress)
    return MediaEmbedder(
        graph.path,
        graph.front_end,
        digest=graph.digest,
        dimensions=dimensions,
        unit_length=graph.normalize,
        engine=engine,
    )


def engine_of(
    graph: MediaGraph, front_end: Pixels, *, cache: Path, progress: Progress | None
) -> tensorrt.Engine:
    """What TensorRT must know of the graph of a model of pictures. Shapes are (rows, 3, height, width)."""
    rows = int(front_end.budget["GPU"])
    one, most = ((count, 3, *front_end.size) for count in (1, rows))
    pixels = [front_end(io.BytesIO(file)).arrays["pixel_values"] for file, _ in pictures()]
    return tensorrt.Engine(
        shapes={"pixel_values": (one, most, most)},
        samples=[{"pixel_values": np.stack(pixels[:rows])}],
        folder=cache / "tensorrt" / graph.digest,
        progress=progress,
    )


def _json(path: Path) -> Any:
    """The content of a JSON file; an empty object where there is no such file."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}", hint="fetch the model again") from error
