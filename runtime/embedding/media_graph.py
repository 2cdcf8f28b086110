"""A model of pictures or sound becomes a graph that gives its vectors, and is compared with it.

This imports torch: only the export's own process imports this.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoModel

from synthc.compiler.plan import NOUNS
from synthc.runtime.embedding import media_samples
from synthc.runtime.embedding.export import EXPORT_PACKAGES, EXPORTER
from synthc.runtime.embedding.media import MediaEmbedder, Medium, Unusable
from synthc.runtime.embedding.media_files import MediaGraph, MediaModel, front_end
from synthc.runtime.embedding.pixels import Pixels
from synthc.runtime.embedding.spectrograms import FRAMES_TOGETHER, Spectrograms
from synthc.runtime.embedding.torch_graph import LEAST_COSINE, OPSET, in_precision
from synthc.runtime.embedding.torch_graph import save as save_graph
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import write_json

# The half of a model that sees pictures, and what of it is the picture's vector: of a CLIP that in
# the space that it shares with texts.
TOWERS = {
    "clip": ("CLIPVisionModelWithProjection", "image_embeds"),
    "clip_vision_model": ("CLIPVisionModelWithProjection", "image_embeds"),
    "siglip": ("SiglipVisionModel", "pooler_output"),
}
# Their tokens are all patches, though fewer than the picture has.
MERGE_PATCHES = frozenset({"swin", "swinv2", "donut-swin"})


def export_media(model: MediaModel, folder: Path, *, precision: str = "fp32") -> None:
    """Write model.onnx and card.json into `folder`.

    Raises RunError where the model cannot give what is asked of it, or where the vectors are not
    those of the original, as near as the precision allows.
    """
    original, output = load(model)
    _keep_positions(original)
    example = _example(model)
    pooled = Pooled(original, model, output=output, example=example).eval()
    dimensions = pooled(*example).shape[-1]
    raw = folder / "raw"
    raw.mkdir()
    names = _inputs_of(model)
    sizes = {name: {0: "batch_size"} for name in (*names, "embedding")}
    if "input_values" in names:
        sizes["input_values"][1] = "samples"
    with torch.inference_mode():
        torch.onnx.export(
            pooled,
            example,
            raw / "model.onnx",
            input_names=names,
            output_names=["embedding"],
            dynamic_axes=sizes,
            opset_version=OPSET,
            dynamo=False,
        )
    graph, _ = in_precision(raw / "model.onnx", precision)
    save_graph(graph, folder / "model.onnx")
    shutil.rmtree(raw)
    card = {
        "exporter": EXPORTER,
        "input": model.input,
        "model_type": original.config.model_type,
        "pooling": pooled.pooling,
        "normalize": model.normalize,
        "precision": precision,
        "dimensions": dimensions,
        "processor": dict(model.processor),
        "opset": OPSET,
        "versions": {name: metadata.version(name) for name in EXPORT_PACKAGES},
    }
    least, count = _least_cosine(MediaGraph.of(card, folder), model, pooled)
    needed = LEAST_COSINE[precision]
    if not least >= needed:  # a NaN is not either
        raise RunError(
            f"its vectors in {precision} are not the model's: over {count} {NOUNS[model.input]}s the"
            f" least cosine is {least:.7f}, and it must be {needed} at least"
        )
    card["parity"] = {f"{NOUNS[model.input]}s": count, "least_cosine": least, "needed": needed}
    write_json(folder / "card.json", card)


def load(model: MediaModel) -> tuple[Any, str | None]:
    """The original, and which of its outputs is its own vector; None: it is the mean of its patches.

    Raises RunError where weights are missing that it needs.
    """
    config = AutoConfig.from_pretrained(model.folder, local_files_only=True)
    kind = config.model_type
    tower, output = TOWERS.get(kind, (None, "pooler_output"))
    opened: Any = getattr(transformers, tower) if tower else AutoModel
    if kind == "clip":
        projected_to = config.projection_dim
        config = config.vision_config
        config.projection_dim = projected_to
    elif kind == "siglip":
        config = config.vision_config
    found, about = opened.from_pretrained(
        model.folder, config=config, local_files_only=True, output_loading_info=True
    )
    missing = [name for name in about["missing_keys"] if not name.startswith("masked_spec_embed")]
    pooler = [name for name in missing if "pooler" in name or "visual_projection" in name]
    if rest := sorted(set(missing) - set(pooler)):
        raise RunError(f"its weights lack {len(rest)} of what the model needs: {rest[0]}")
    if pooler and kind == "clip_vision_model":
        return load_plain(model), "pooler_output"
    if model.input == "audio":
        hears = found.get_encoder() if config.is_encoder_decoder else found
        return hears.float().eval(), None
    # What training left out has random weights, and is no part of the model.
    return found.float().eval(), None if pooler else output


def load_plain(model: MediaModel) -> torch.nn.Module:
    """The model without a projection that its weights do not have."""
    return AutoModel.from_pretrained(model.folder, local_files_only=True).float().eval()


def _keep_positions(model: torch.nn.Module) -> None:
    """Have the positions of patches made once: all pictures have one size, and a graph that makes
    them itself may not be able to, or round otherwise."""

    def once(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        made: list[torch.Tensor] = []

        def kept(*arguments: Any, **named: Any) -> torch.Tensor:
            if not made:
                made.append(make(*arguments, **named).detach())
            return made[0]

        return kept

    for module in model.modules():
        make = getattr(module, "interpolate_pos_encoding", None)
        if callable(make):
            module.interpolate_pos_encoding = once(make)  # type: ignore[assignment]


class Pooled(torch.nn.Module):
    """A model and what follows it: (rows, dimensions) of pictures (rows, 3, height, width), of waveforms
    (rows, samples) or of spectrograms (rows, bands, frames), of unit length where that is wanted.
    Where `attention_mask` (rows, tokens) is there, only tokens are pooled where it is 1.

    `pooling` is what the card says of it: `mean`, `cls`, `max`, or the output that is taken as it is.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        asked: MediaModel,
        *,
        output: str | None,
        example: tuple[torch.Tensor, ...],
    ) -> None:
        """Find out what the model gives for an `example`. Raises RunError where it has no such token."""
        super().__init__()
        self.model = model
        self._normalize = asked.normalize
        with torch.inference_mode():
            given = model(example[0])
        own = asked.pooling is None and output is not None and given.get(output) is not None
        self.pooling = output if own and output else asked.pooling or "mean"
        self._before = 0
        if not own and asked.input == "image":
            self._before = _before_patches(model.config, given.last_hidden_state, asked)
        if self.pooling == "cls" and not self._before:
            what = "class token" if asked.input == "image" else "token for the whole recording"
            raise RunError(f'it has no {what}, which `pooling = "cls"` needs')

    def forward(
        self, inputs: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The vectors."""
        given = self.model(inputs)
        if self.pooling in ("mean", "max", "cls"):
            tokens = given.last_hidden_state
            if tokens.ndim == 4:
                tokens = tokens.flatten(2).transpose(1, 2)
            patches = tokens[:, self._before :]
            match self.pooling:
                case "mean" if attention_mask is not None:
                    seen = (patches * attention_mask[:, :, None]).sum(1)
                    vectors = seen / attention_mask.sum(1, keepdim=True)
                case "max" if attention_mask is not None:
                    vectors = torch.where(attention_mask[:, :, None] > 0, patches, -1e9).amax(1)
                case "mean":
                    vectors = patches.mean(1)
                case "max":
                    vectors = patches.amax(1)
                case _:
                    vectors = tokens[:, 0]
        else:
            vectors = given[self.pooling].flatten(1)
        return torch.nn.functional.normalize(vectors) if self._normalize else vectors


def _before_patches(config: Any, tokens: torch.Tensor, model: MediaModel) -> int:
    """How many tokens stand before those of the patches: a class token, registers.

    `tokens` are (rows, tokens, dimensions), or (rows, dimensions, height, width): patches alone.
    """
    if tokens.ndim == 4 or config.model_type in MERGE_PATCHES:
        return 0
    edge = getattr(config, "patch_size", None)
    heights = (edge, edge) if isinstance(edge, int) else edge
    patches = 0
    if heights:
        size = Pixels.of(model.processor, str(model.folder)).size
        patches = (size[0] // heights[0]) * (size[1] // heights[1])
    if not patches or tokens.shape[1] < patches:
        raise RunError(
            f"which of its tokens are patches is not known of the type `{config.model_type}`"
        )
    return tokens.shape[1] - patches


def _inputs_of(model: MediaModel) -> list[str]:
    """The names of the graph's inputs."""
    if model.input == "image":
        return ["pixel_values"]
    return ["input_features", "attention_mask"] if _spectrograms(model) else ["input_values"]


def _spectrograms(model: MediaModel) -> Spectrograms | None:
    """What makes the spectrograms of a model that hears in these."""
    found = front_end(model.input, model.processor, str(model.folder))
    return found if isinstance(found, Spectrograms) else None


def _example(model: MediaModel) -> tuple[torch.Tensor, ...]:
    """What the graph is traced with."""
    torch.manual_seed(0)
    if model.input == "image":
        return (torch.randn(2, 3, *Pixels.of(model.processor, str(model.folder)).size),)
    if made := _spectrograms(model):
        frames = made.frames * FRAMES_TOGETHER
        return torch.randn(2, made.mels, frames), torch.ones(2, made.frames)
    return (torch.randn(2, model.processor["sampling_rate"]),)


def _least_cosine(graph: MediaGraph, model: MediaModel, pooled: Pooled) -> tuple[float, int]:
    """The least cosine between the original's vectors and the graph's, alone and in batches, and over
    how many samples. The original has its own processor: all that could be wrong in ours is compared.
    """
    if model.input == "image":
        samples = list(media_samples.pictures())
    else:
        samples = list(media_samples.recordings(model.processor["sampling_rate"]))
    with torch.inference_mode():
        theirs = [pooled(*_prepared(model, sample))[0].numpy() for _, sample in samples]
    media = [Medium(str(at), str(at), file) for at, (file, _) in enumerate(samples)]
    least = 1.0
    for budget in (0.001, 1000.0):
        embedder = MediaEmbedder(
            graph.path,
            graph.front_end,
            digest=graph.digest,
            dimensions=graph.dimensions,
            unit_length=graph.normalize,
            budget=budget,
        )
        for ours, original in zip(embedder.embed(media), theirs, strict=True):
            if isinstance(ours, Unusable):
                raise RunError(f"a sample {ours}")
            lengths = np.linalg.norm(ours) * np.linalg.norm(original)
            least = min(least, float((ours.astype(np.float64) * original).sum() / lengths))
    return least, len(samples)


def _prepared(model: MediaModel, sample: np.ndarray) -> tuple[torch.Tensor, ...]:
    """A sample as the model's own processor makes it, in a batch of one."""
    if model.input == "image":
        from PIL import Image

        processor = AutoImageProcessor.from_pretrained(
            model.folder, local_files_only=True, use_fast=False
        )
        return (processor(Image.fromarray(sample), return_tensors="pt")["pixel_values"],)
    extractor = AutoFeatureExtractor.from_pretrained(model.folder, local_files_only=True)
    inputs = extractor(sample, sampling_rate=model.processor["sampling_rate"], return_tensors="pt")
    if made := _spectrograms(model):
        return inputs["input_features"], torch.from_numpy(made.attention_mask(len(sample)))[None]
    return (inputs["input_values"],)
