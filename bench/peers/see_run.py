"""Pictures embedded by transformers in torch, in the environment that this runs in.

`see_run.py make --model FOLDER` saves a ViT-base of random weights; `see_run.py embed --model FOLDER
--pictures FOLDER --out FILE` writes the vectors of the JPEG files, by name, as a .npy file, and prints one
JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np


def make(folder: Path) -> None:
    """86 million parameters, for pictures of 224 x 224 pixels."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig()).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def embed(model: Path, paths: list[Path], batch: int) -> np.ndarray:
    """The pooled vectors, of unit length: (pictures, dimensions)."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(model, use_fast=False)
    opened = AutoModel.from_pretrained(model).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(paths), batch):
            images = [Image.open(path).convert("RGB") for path in paths[start : start + batch]]
            pooled = opened(**processor(images, return_tensors="pt")).pooler_output
            found.append(torch.nn.functional.normalize(pooled).numpy())
    return np.concatenate(found)


def main() -> None:
    """Make the model, or embed all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "embed"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    if options.what == "make":
        make(options.model)
        return
    paths = sorted(options.pictures.glob("*.jpg"))
    started = time.perf_counter()
    vectors = embed(options.model, paths, options.batch)
    seconds = time.perf_counter() - started
    np.save(options.out, vectors.astype(np.float32))
    print(json.dumps({"pictures": len(paths), "seconds": seconds}))


if __name__ == "__main__":
    main()
