"""Models of pictures and of sound: tiny, of random weights, saved as transformers saves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

EDGE, PATCH, WIDTH = 32, 8, 32
CLIP_WIDTH = 24

_SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
_SEES = {**_SMALL, "image_size": EDGE, "patch_size": PATCH}
_DINO = {**_SEES, "image_size": 56, "mlp_ratio": 2}
_HEARS = {
    **_SMALL,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 4, 4),
    "conv_stride": (5, 4, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_SQUARE = {"size": {"height": EDGE, "width": EDGE}}
_CROPPED = {"size": {"shortest_edge": 40}, "crop_size": {"height": EDGE, "width": EDGE}}
TOKENS = 514
TEXT = {
    **_SMALL,
    "vocab_size": TOKENS,
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
    "max_position_embeddings": 20,
}

# The name of the model and of its configuration in transformers, settings; its processor, settings.
_MADE: Mapping[str, tuple[str, Mapping[str, Any], str, Mapping[str, Any]]] = {
    "vit": ("ViT", _SEES, "ViTImageProcessor", _SQUARE),
    "vit_mae": ("ViTMAE", _SEES, "ViTImageProcessor", _SQUARE),
    "deit": ("DeiT", _SEES, "DeiTImageProcessor", {**_SQUARE, "crop_size": EDGE}),
    "dinov2": ("Dinov2", _DINO, "BitImageProcessor", _CROPPED),
    "dinov2_with_registers": ("Dinov2WithRegisters", _DINO, "BitImageProcessor", _CROPPED),
    "clip": (
        "CLIP",
        {"text_config": TEXT, "vision_config": _SEES, "projection_dim": CLIP_WIDTH},
        "CLIPImageProcessor",
        {"size": {"shortest_edge": EDGE}, "crop_size": EDGE},
    ),
    "siglip": (
        "Siglip",
        {"text_config": TEXT, "vision_config": _SEES},
        "SiglipImageProcessor",
        _SQUARE,
    ),
    "convnext": (
        "ConvNext",
        {"hidden_sizes": [8, 16, 24, WIDTH], "depths": [1, 1, 1, 1], "initializer_range": 0.3},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": EDGE}},
    ),
    "swin": (
        "Swin",
        {
            "image_size": EDGE,
            "patch_size": 2,
            "embed_dim": 16,
            "window_size": 4,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "initializer_range": 0.3,
        },
        "ViTImageProcessor",
        _SQUARE,
    ),
    "wav2vec2": ("Wav2Vec2", _HEARS, "Wav2Vec2FeatureExtractor", {}),
    "wav2vec2-layer": (
        "Wav2Vec2",
        {**_HEARS, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
        "Wav2Vec2FeatureExtractor",
        {"return_attention_mask": True},
    ),
    "hubert": ("Hubert", _HEARS, "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "whisper": (
        "Whisper",
        {
            "d_model": WIDTH,
            "vocab_size": 300,
            "max_source_positions": 100,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_layers": 1,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "init_std": 0.3,
            "decoder_start_token_id": 1,
        },
        "WhisperFeatureExtractor",
        {"chunk_length": 2},
    ),
    "wavlm": ("WavLM", _HEARS, "Wav2Vec2FeatureExtractor", {}),
}


def saved(root: Path, kind: str, name: str | None = None, **settings: Any) -> Path:
    """The folder of a model below `root`, saved there now where it is not; `settings` are its own."""
    folder = root / (name or kind)
    if not folder.exists():
        import torch
        import transformers

        model, own, processor, prepares = _MADE[kind]
        config = getattr(transformers, f"{model}Config")(**{**own, **settings})
        torch.manual_seed(7)
        getattr(transformers, f"{model}Model")(config).save_pretrained(folder)
        getattr(transformers, processor)(**prepares).save_pretrained(folder)
        if kind == "clip":
            _save_tokenizer(folder)
    return folder


def _save_tokenizer(folder: Path) -> None:
    """CLIP's own tokenizer, of bytes alone: no two of them are merged."""
    from transformers import CLIPTokenizerFast
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({n: at for at, n in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=20
    ).save_pretrained(folder)


def picture(seed: int, height: int = 45, width: int = 60) -> np.ndarray:
    """Pixels, uint8 (height, width, 3), that differ with the seed."""
    drawn = np.random.default_rng(seed)
    coarse = drawn.integers(0, 256, (5, 6, 3))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 6 // width
    noise = drawn.integers(-20, 20, (height, width, 3))
    return (coarse[rows][:, columns] + noise).clip(0, 255).astype(np.uint8)


def sound(seed: int, seconds: float = 0.4, rate: int = 16_000) -> np.ndarray:
    """Samples, float32 (samples,), that differ with the seed: tones and some noise."""
    drawn = np.random.default_rng(seed)
    at = np.arange(int(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * tone * at) for tone in drawn.uniform(100, 2000, 3)]
    return (0.2 * sum(tones) + drawn.normal(0, 0.02, len(at))).astype(np.float32)


def seen_by(folder: Path, opened: Callable[..., Any], pixels: np.ndarray) -> Any:
    """What the original gives for a picture, prepared by its own processor: alone, in torch."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
    with torch.inference_mode():
        return opened(folder).eval()(**processor(Image.fromarray(pixels), return_tensors="pt"))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
