"""What the files of a text model say about how its vectors are made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthc.runtime.errors import RunError

# A flag of sentence-transformers' 1_Pooling/config.json, and our name for it.
POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
# Newer files name the pooling instead of flagging it.
NAMED_POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last", "max": "max"}

# These count positions from the padding id on, which takes that many from what they can read.
POSITIONS_AFTER_PADDING = frozenset(
    {"camembert", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}
)

FALLBACK_MAX_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A folder with a text model, and how the vectors of its tokens become one vector.

    Where `pooling` is `none` they do not: each token has its vector.
    `max_tokens` is where a text is cut, special tokens counted; `position_limit` the most that the
    model can read at all (None: no limit). `lowercase` asks for lower-case text before tokenising.
    """

    folder: Path
    pooling: str
    normalize: bool
    max_tokens: int
    position_limit: int | None
    pad_id: int
    lowercase: bool


def read_text_model(folder: Path, *, pooling: str | None, normalize: bool | None) -> TextModel:
    """Read a model folder; a pooling or normalisation that is given replaces what its files say.

    A folder without the files of sentence-transformers gives mean pooling and unit length. Raises
    RunError where the folder holds no text model, or one that is made in a way we do not know.
    """
    modules = _modules(folder)
    transformer = folder / str(modules[0].get("path", "")) if modules else folder
    for name in ("config.json", "tokenizer.json"):
        if not (transformer / name).is_file():
            raise RunError(
                f"{transformer} is not a text model: it has no {name}",
                hint="an embedder needs a folder with config.json, tokenizer.json and weights",
            )
    if pooling is None:
        pooling = _pooling(folder, modules)
    if normalize is None:
        # What the files say of unit length is said of a whole text's vector.
        normalize = pooling != "none" and (
            not modules or any(_kind(module) == "Normalize" for module in modules)
        )
    sentences = _json(transformer / "sentence_bert_config.json")
    limit = _position_limit(transformer)
    return TextModel(
        folder=transformer,
        pooling=pooling,
        normalize=normalize,
        max_tokens=_max_tokens(transformer, sentences.get("max_seq_length"), limit),
        position_limit=limit,
        pad_id=_json(transformer / "config.json").get("pad_token_id") or 0,
        lowercase=bool(sentences.get("do_lower_case")),
    )


def _json(path: Path) -> Any:
    """The content of a JSON file; an empty object where there is no such file."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}", hint="fetch the model again") from error


def _modules(folder: Path) -> list[dict[str, Any]]:
    """The steps of a sentence-transformers model, in order; empty where it is none."""
    modules = _json(folder / "modules.json")
    return modules if isinstance(modules, list) else []


def _kind(module: dict[str, Any]) -> str:
    return str(module.get("type", "")).rpartition(".")[2]


def _pooling(folder: Path, modules: list[dict[str, Any]]) -> str:
    for module in modules[1:]:
        if _kind(module) not in ("Pooling", "Normalize"):
            raise RunError(
                f"the model in {folder} ends in a `{_kind(module)}` layer, which is not supported",
                hint='set `pooling` (`"mean"`, …) to have the vectors without that layer',
            )
    module = next((module for module in modules if _kind(module) == "Pooling"), None)
    if module is None:
        return "mean"
    settings = _json(folder / str(module.get("path", "")) / "config.json")
    flags = {name for name, value in settings.items() if value is True}
    chosen = {name for name in flags if name.startswith("pooling_mode_")}
    known = [POOLINGS[name] for name in chosen if name in POOLINGS]
    if named := settings.get("pooling_mode"):
        chosen, known = {named}, [NAMED_POOLINGS[named]] if named in NAMED_POOLINGS else []
    if len(chosen) == 1 and known:
        return known[0]
    raise RunError(
        f"the model in {folder} pools by {', '.join(sorted(chosen)) or 'nothing'},"
        " which is not supported",
        hint='set `pooling` to `"mean"`, `"cls"`, `"last"` or `"max"`',
    )


def _position_limit(transformer: Path) -> int | None:
    config = _json(transformer / "config.json")
    limit = config.get("max_position_embeddings")
    if isinstance(limit, int) and limit > 0:
        if config.get("model_type") in POSITIONS_AFTER_PADDING:
            return limit - (config.get("pad_token_id") or 0) - 1
        return limit
    return None


def _max_tokens(transformer: Path, sentences: int | None, limit: int | None) -> int:
    """sentence_bert_config.json rules; the truncation in tokenizer.json is often another's."""
    if sentences:
        return min(sentences, limit or sentences)
    said = _json(transformer / "tokenizer_config.json").get("model_max_length")
    # A tokenizer without a limit says 1e30.
    if isinstance(said, int) and said < 10**9:
        return min(said, limit or said)
    return limit or FALLBACK_MAX_TOKENS
