"""What the files of a text model say about how its vectors are made.

A folder of sentence-transformers lists its steps in modules.json: the transformer, a pooling, dense
layers, unit length. A folder of transformers has none of it: then it is the mean, of unit length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthc.compiler.graphs import made_elsewhere
from synthc.runtime.embedding.chat_template import ChatTemplate
from synthc.runtime.errors import RunError

# What 1_Pooling/config.json calls a pooling, as a flag and by name, and we do. Where a model has
# several, their vectors stand one after the other, in this order.
POOLINGS = {
    "cls_token": "cls",
    "max_tokens": "max",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean_tokens": "weighted_mean",
    "lasttoken": "last",
}
NAMED_POOLINGS = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
FLAG = "pooling_mode_"

ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")

# What a chat template may print.
TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)

# These count positions from the padding id on, which takes that many from what they can read.
POSITIONS_AFTER_PADDING = frozenset(
    {"camembert", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}
)

# These have texts and pictures in one space, where a text's own vector is their `text_embeds`.
WITH_PICTURES = frozenset({"clip"})
TEXT_EMBEDS = "text_embeds"

FALLBACK_MAX_TOKENS = 512
CLIP_MAX_TOKENS = 77
NEEDED = "an embedder needs a folder with config.json, tokenizer.json and weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A linear layer, whose weights are in `folder`, and the function that follows it."""

    folder: Path
    outputs: int
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A folder with a text model, and how the vectors of its tokens become one vector.

    `pooling` may name several, joined by `+`: their vectors stand one after the other. Where it is
    `none` the tokens stay apart. The `dense` layers follow, then unit length if `normalize` is set.

    `prompts` are what the model wants before a text, by name, and `default_prompt` is the name of
    the one it wants where none is chosen. Unless `pools_prompt`, the pooling leaves its tokens out.

    Where it is `text_embeds`, it is the model's vector of a text in the space that it shares with
    pictures.

    `chat_template` writes conversations; where `wraps_text`, a plain text is one too: the user's turn.

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
    dense: tuple[Dense, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    pools_prompt: bool = True
    chat_template: ChatTemplate | None = None
    wraps_text: bool = False


def read_text_model(folder: Path, *, pooling: str | None, normalize: bool | None) -> TextModel:
    """Read a model folder; a pooling or normalisation that is given replaces what its files say.

    A pooling that is not the model's own leaves out its dense layers, which follow its own. Raises
    RunError where the folder holds no text model, or one that is made in a way we do not know.
    """
    if folder.is_file():
        raise RunError(
            f"{folder} is one file, and a text model is a folder of several", hint=NEEDED
        )
    modules = _modules(folder)
    transformer = _path(folder, modules[0]) if modules else folder
    _require_known(folder, modules[:1], ("Transformer", "CLIPModel"), hint=NEEDED)
    for name in (
        ("tokenizer.json",) if made_elsewhere(folder) else ("config.json", "tokenizer.json")
    ):
        if not (transformer / name).is_file():
            hint = NEEDED
            if (transformer / "preprocessor_config.json").is_file():
                hint = 'for a model of pictures write `input = "image"`, of sound `input = "audio"`'
            raise RunError(f"{transformer} is not a text model: it has no {name}", hint=hint)
    shares_space = _shares_space(transformer, pooling)
    pools = next((_path(folder, step) for step in modules if _kind(step) == "Pooling"), None)
    settings = _json(pools / "config.json") if pools else {}
    own = TEXT_EMBEDS if shares_space else _own_pooling(settings) if pools else "mean"
    dense: tuple[Dense, ...] = ()
    if pooling is None or pooling == own:
        pooling = own
        dense = _dense(folder, modules)
    if pooling is None:
        flags = [name for name, value in settings.items() if value is True]
        said = settings.get("pooling_mode") or ", ".join(flags) or "nothing"
        raise RunError(
            f"the model in {folder} pools by {said}, which is not supported",
            hint='set `pooling` to `"mean"`, `"cls"`, `"last"` or `"max"`',
        )
    if normalize is None:
        # What the files say of unit length is said of a whole text's vector.
        ends_so = not modules or any(_kind(step) == "Normalize" for step in modules)
        normalize = ends_so and pooling != "none"
    sentences = _json(transformer / "sentence_bert_config.json")
    prompts = _json(folder / "config_sentence_transformers.json")
    template = _chat_template(transformer)
    limit = _position_limit(transformer)
    return TextModel(
        folder=transformer,
        pooling=pooling,
        normalize=normalize,
        max_tokens=_max_tokens(transformer, sentences.get("max_seq_length"), limit),
        position_limit=limit,
        pad_id=_text_config(transformer).get("pad_token_id") or 0,
        lowercase=bool(sentences.get("do_lower_case")),
        dense=dense,
        prompts=prompts.get("prompts") or {},
        default_prompt=prompts.get("default_prompt_name"),
        pools_prompt=settings.get("include_prompt") is not False,
        chat_template=template,
        # A folder of sentence-transformers says all that is done to a text.
        wraps_text=template is not None and pooling == "last" and not modules,
    )


def steps(folder: Path) -> list[tuple[str, Path]]:
    """The kind of each step of a sentence-transformers model, and its folder; empty where it is none."""
    return [(_kind(module), _path(folder, module)) for module in _modules(folder)]


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
    """The class of a step: of its own code the whole name, which is none that we know."""
    name = str(module.get("type", ""))
    return name.rpartition(".")[2] if name.startswith("sentence_transformers.") else name


def _path(folder: Path, module: dict[str, Any]) -> Path:
    return folder / str(module.get("path", ""))


def _require_known(
    folder: Path, modules: Sequence[dict[str, Any]], known: Sequence[str], *, hint: str
) -> None:
    for module in modules:
        if _kind(module) not in known:
            raise RunError(
                f"the model in {folder} has a step `{_kind(module)}`, which is not supported",
                hint=hint,
            )


def _own_pooling(settings: Mapping[str, Any]) -> str | None:
    """The pooling that the model's files say; None where they say none that is known."""
    if named := settings.get("pooling_mode"):
        names = [named] if isinstance(named, str) else named
        chosen = [NAMED_POOLINGS.get(name) for name in names]
    else:
        on = [name for name, value in settings.items() if value is True]
        flags = [name.removeprefix(FLAG) for name in on if name.startswith(FLAG)]
        chosen = [None for name in flags if name not in POOLINGS]
        chosen += [ours for theirs, ours in POOLINGS.items() if theirs in flags]
    known = [name for name in chosen if name]
    return "+".join(known) if known and len(known) == len(chosen) else None


def _dense(folder: Path, modules: Sequence[dict[str, Any]]) -> tuple[Dense, ...]:
    """The dense layers between the pooling and the unit length, where nothing else may stand."""
    plain = 'set `pooling` (`"mean"`, …) to have the vectors without that step'
    after = [step for step in modules[1:] if _kind(step) not in ("Pooling", "Dropout")]
    if after and _kind(after[-1]) == "Normalize":
        after = after[:-1]
    _require_known(folder, after, ("Dense",), hint=plain)
    return tuple(_read_dense(_path(folder, step), plain) for step in after)


def _read_dense(folder: Path, hint: str) -> Dense:
    settings = _json(folder / "config.json")
    activation = str(settings.get("activation_function", "torch.nn.Tanh")).rpartition(".")[2]
    reads = settings.get("module_input_name") or "sentence_embedding"
    if activation not in ACTIVATIONS or reads != "sentence_embedding":
        what = f"activation `{activation}`" if activation not in ACTIVATIONS else f"input `{reads}`"
        raise RunError(
            f"the dense layer {folder} has the {what}, which is not supported", hint=hint
        )
    if not isinstance(outputs := settings.get("out_features"), int):
        raise RunError(
            f"{folder / 'config.json'} has no `out_features`", hint="fetch the model again"
        )
    return Dense(folder=folder, outputs=outputs, activation=activation)


def _chat_template(transformer: Path) -> ChatTemplate | None:
    """The template that stands in a file of its own, else the one among the tokenizer's settings."""
    settings = _json(transformer / "tokenizer_config.json")
    file = transformer / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    if isinstance(source, list):
        named = {item.get("name"): item.get("template") for item in source}
        source = named.get("default")
    if not isinstance(source, str):
        return None
    known = {**_json(transformer / "special_tokens_map.json"), **settings}
    tokens = {name: known[name] for name in TOKENS if known.get(name)}
    written = {
        name: token["content"] if isinstance(token, dict) else token
        for name, token in tokens.items()
    }
    return ChatTemplate(source, written)


def _text_config(transformer: Path) -> dict[str, Any]:
    """What config.json says of the part that reads text."""
    config = _json(transformer / "config.json")
    return config.get("text_config") or config


def _shares_space(transformer: Path, pooling: str | None) -> bool:
    """Whether the model has texts and pictures in one space. Raises RunError: not as we know it."""
    config = _json(transformer / "config.json")
    kind = config.get("model_type")
    if "vision_config" not in config:
        return False
    if kind not in WITH_PICTURES:
        raise RunError(
            f"{transformer} is a model of the type `{kind}`, whose texts are not supported",
            hint='`input = "image"` may embed pictures with it',
        )
    if pooling is not None:
        raise RunError(
            f"a text's vector of {transformer} is that which it shares a space with pictures by:"
            " it has no other pooling",
            hint="leave `pooling` out",
        )
    return True


def _position_limit(transformer: Path) -> int | None:
    config = _text_config(transformer)
    if "vision_config" in _json(transformer / "config.json"):
        return config.get("max_position_embeddings") or CLIP_MAX_TOKENS
    limit = config.get("max_position_embeddings") or config.get("n_positions")
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
