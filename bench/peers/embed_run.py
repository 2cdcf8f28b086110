"""Texts embedded by another tool: reads `text` of JSON lines, writes the vectors as a .npy file.

Run in an environment of its own, as `embed_run.py sentence-transformers|fastembed|model2vec
--model FOLDER --texts FILE --out FILE`; prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def with_sentence_transformers(folder: Path, texts: Sequence[str], batch: int) -> np.ndarray:
    """The original, in torch."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(
        list(texts), batch_size=batch, normalize_embeddings=True
    )


def with_fastembed(folder: Path, texts: Sequence[str], batch: int) -> np.ndarray:
    """A graph with its pooling in it, such as synthc exports."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="bench/graph",
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(hf="bench/graph"),
        dim=384,
        model_file="model.onnx",
    )
    model = TextEmbedding("bench/graph", specific_model_path=str(folder))
    return np.stack(list(model.embed(texts, batch_size=batch)))


def with_model2vec(folder: Path, texts: Sequence[str], batch: int) -> np.ndarray:
    """A table of token vectors, and no graph; above 10,000 texts it uses all cores by itself."""
    from model2vec import StaticModel

    return StaticModel.from_pretrained(folder).encode(list(texts), batch_size=batch)


TOOLS = {
    "sentence-transformers": with_sentence_transformers,
    "fastembed": with_fastembed,
    "model2vec": with_model2vec,
}


def main() -> None:
    """Embed all texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    with options.texts.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    started = time.perf_counter()
    vectors = TOOLS[options.tool](options.model, texts, options.batch)
    seconds = time.perf_counter() - started
    np.save(options.out, vectors.astype(np.float32))
    print(json.dumps({"texts": len(texts), "seconds": seconds}))


if __name__ == "__main__":
    main()
