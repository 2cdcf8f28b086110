"""Texts become the means of their tokens' vectors, which stand in a table: no transformer runs.

```
texts ──distinct──▶ texts ──tokenise──▶ ids ──look up──▶ vectors of tokens ──mean──▶ vectors, as given
```

A table is a folder of model2vec, one of sentence-transformers' StaticEmbedding, a text file of word
vectors, or the input embeddings of any text model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from synthc.runtime.embedding.export import prompt_of
from synthc.runtime.embedding.model_files import NEEDED, read_text_model, steps
from synthc.runtime.embedding.pipeline import (
    CHARACTERS_PER_TOKEN,
    open_tokenizer,
    require_dimensions,
)
from synthc.runtime.embedding.safetensors import Tensor, tensors
from synthc.runtime.embedding.token_ids import TokenIds
from synthc.runtime.embedding.tokens import unit
from synthc.runtime.embedding.word_vectors import is_text, word_vectors
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.model_cache import Progress, cache_folder, read_json

# What the table of the input embeddings is called in transformers' models, at the end of its name.
_INPUT_EMBEDDINGS = (
    "word_embeddings.weight",  # BERT and its kind
    "embed_tokens.weight",  # Llama, Qwen, Mistral, Gemma
    "tok_embeddings.weight",  # ModernBERT
    "shared.weight",  # T5
    "wte.weight",  # GPT-2
)

_NEEDED = (
    "a table is a folder with tokenizer.json and model.safetensors, or a text file of word vectors"
)
_MODEL2VEC_TOKENS = 512
"""Where model2vec cuts a text whose model does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Vectors of tokens, (rows, dimensions), in any type of numbers, and how texts become tokens.

    `row_of` says which row a token has, (tokens,), and `weights` what it counts in the mean, (tokens,);
    None where it is the row of its own number, and 1. The token `unknown` stands for what is not in
    the table; it has no part in the mean unless `has_unknown`. Of a text, `max_tokens` are read and not
    more than `max_characters` (None: all). `repeated` counts words that a file has twice.
    """

    vectors: np.ndarray
    tokenizer: Tokenizer
    unknown: int | None
    normalize: bool
    has_unknown: bool = False
    row_of: np.ndarray | None = None
    weights: np.ndarray | None = None
    max_tokens: int | None = None
    max_characters: int | None = None
    repeated: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    pools_prompt: bool = True


class StaticEmbedder:
    """Embeds texts by a table; to be used by one thread at a time.

    `tokens` counts those of the texts so far, `unknown` those of them that the table does not have,
    `truncated` the texts that were cut at `max_tokens`. A text that has no token in the table fails.
    """

    digest = None
    runs_on = "CPU"
    why_there = ""

    def __init__(self, table: Table, *, dimensions: int, normalize: bool, prompt: str) -> None:
        """Of a vector the first `dimensions` are kept; `prompt` stands before each text."""
        self.dimensions = dimensions
        self.limit = f"{table.max_tokens} tokens"
        self.truncated = self.tokens = self.unknown = 0
        self.repeated = table.repeated
        self._table = table
        self._ids = TokenIds(table.tokenizer)
        self._normalize = normalize
        self._prompt = prompt

    @property
    def notes(self) -> Sequence[str]:
        """How many words were not in the table, and how many of its file came again."""
        found = []
        if self.unknown:
            found.append(f"{self.unknown} of {self.tokens} words were not in the table")
        if self.repeated:
            lines = "1 line repeats" if self.repeated == 1 else f"{self.repeated} lines repeat"
            found.append(f"{lines} a word of its file: the first one counts")
        return found

    def embed(self, texts: Sequence[str]) -> list[np.ndarray | RowFailed]:
        """The vector of each text, float32 of shape (dimensions,), or why it has none."""
        distinct = list(dict.fromkeys(texts))
        ids = self._tokenise(distinct)
        vectors = self._means(ids)
        made = {
            text: vector if len(tokens) else _without(text)
            for text, tokens, vector in zip(distinct, ids, vectors, strict=True)
        }
        return [made[text] for text in texts]

    def _tokenise(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text that have a vector: ids of shape (tokens,)."""
        table, most, longest = self._table, self._table.max_tokens, self._table.max_characters
        written = [self._prompt + text for text in texts] if self._prompt else texts
        read = [text[:longest] for text in written]
        whole = self._ids.of(read)
        found = [np.array(ids[:most], np.int64) for ids in whole]
        if most:
            self.truncated += sum(
                len(ids) > most or len(part) < len(text)
                for text, part, ids in zip(written, read, whole, strict=True)
            )
        self.tokens += sum(map(len, found))
        if table.unknown is not None:
            known = [ids[ids != table.unknown] for ids in found]
            self.unknown += sum(map(len, found)) - sum(map(len, known))
            found = found if table.has_unknown else known
        return found

    def _means(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """The vectors of texts by their tokens: (len(ids), dimensions). One without tokens is zero."""
        table = self._table
        found = np.zeros((len(ids), table.vectors.shape[1]), np.float32)
        for tokens, vector in zip(ids, found, strict=True):
            # A look-up and a sum for each text: 4 times as fast as one of all, whose sums leave the cache.
            rows = tokens if table.row_of is None else table.row_of[tokens]
            vectors = table.vectors.take(rows, axis=0)
            if table.weights is not None:
                vectors = vectors * table.weights[tokens][:, None]
            np.add.reduce(vectors, axis=0, dtype=np.float32, out=vector)
        found /= np.array([[max(1, len(tokens))] for tokens in ids], np.float32)
        found = found[:, : self.dimensions]
        return unit(found) if self._normalize else found


def _without(text: str) -> RowFailed:
    shown = json.dumps(text[:60], ensure_ascii=False)
    return RowFailed("no_words", f"no word of {shown} is in the table, so there is no mean")


def is_table(path: Path) -> bool:
    """Whether a model, at a path, is a table of vectors: a text file, model2vec's, a StaticEmbedding."""
    return is_text(path) or _weights(path) is not None


def open_table(
    reference: str,
    path: Path,
    *,
    dimensions: int,
    pooling: str | None = None,
    normalize: bool | None = None,
    max_tokens: int | None = None,
    precision: str = "fp32",
    prompt: str | None = None,
    prompt_name: str | None = None,
    truncate: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> StaticEmbedder:
    """The embedder of the table at `path`; where it is an ordinary text model, of its input embeddings.

    The other settings are those of `open_embedder`, and `reference` is how the user named the model.
    Raises RunError: there is no table, it is broken, or a setting is not for tables.
    """
    if pooling not in (None, "mean"):
        raise RunError(
            f"`{reference}` is a table of vectors, whose mean is taken, not `{pooling}`",
            hint="leave `pooling` out",
        )
    if precision != "fp32":
        raise RunError(
            f"`{reference}` is a table of vectors, which is used as it is, not in {precision}",
            hint="leave `precision` out",
        )
    table = _read(path, cache or cache_folder(), progress)
    require_dimensions(reference, table.vectors.shape[1], dimensions, truncate=truncate)
    if max_tokens:
        longest = max_tokens * CHARACTERS_PER_TOKEN
        table = replace(table, max_tokens=max_tokens, max_characters=longest)
    return StaticEmbedder(
        table,
        dimensions=dimensions,
        normalize=table.normalize if normalize is None else normalize,
        prompt=prompt_of(table, prompt=prompt, prompt_name=prompt_name, source=reference),
    )


def _read(path: Path, cache: Path, progress: Progress | None) -> Table:
    if is_text(path):
        words = word_vectors(path, cache=cache, progress=progress)
        return Table(
            vectors=words.vectors,
            tokenizer=words.tokenizer,
            unknown=words.unknown,
            normalize=True,
            repeated=words.repeated,
        )
    match _weights(path):
        case "model2vec", folder:
            return _of_model2vec(folder)
        case "StaticEmbedding", folder:
            return _of_sentence_transformers(path, folder)
        case _:
            return _of_text_model(path)


def _weights(path: Path) -> tuple[str, Path] | None:
    """Whose table a folder is, and the folder of its weights; None where it is no table."""
    kind, folder = next(iter(steps(path)), ("", path)) if path.is_dir() else ("", path)
    if path.is_dir() and "embeddings" in tensors(folder):
        return "model2vec", folder
    return ("StaticEmbedding", folder) if kind == "StaticEmbedding" else None


def _of_model2vec(folder: Path) -> Table:
    """A model of model2vec, read as version 0.10 reads it: https://github.com/MinishLab/model2vec."""
    found = tensors(folder)
    config = read_json(folder / "config.json")
    tokenizer, _ = _tokenizer(folder)
    most = config.get("max_length", _MODEL2VEC_TOKENS)
    longest = None
    if most:
        longest = most * int(np.median([len(token) for token in tokenizer.get_vocab()]))
    row_of = found["mapping"].load() if "mapping" in found else None
    return Table(
        vectors=_table(found["embeddings"], tokenizer, row_of),
        tokenizer=tokenizer,
        unknown=_unknown(tokenizer),
        normalize=bool(config.get("normalize")),
        row_of=row_of,
        weights=found["weights"].load() if "weights" in found else None,
        max_tokens=most,
        max_characters=longest,
    )


def _of_sentence_transformers(folder: Path, weights: Path) -> Table:
    """A StaticEmbedding, and the unit length that may follow it; its table has the unknown token too."""
    other = [kind for kind, _ in steps(folder)[1:] if kind != "Normalize"]
    if other:
        raise RunError(
            f"the model in {folder} has a step `{other[0]}`, which is not supported behind a table",
            hint="a StaticEmbedding may be followed by Normalize alone",
        )
    found = tensors(weights)
    if "embedding.weight" not in found:
        raise RunError(f"{weights} has no `embedding.weight` in model.safetensors", hint=_NEEDED)
    tokenizer, most = _tokenizer(weights)
    prompts = read_json(folder / "config_sentence_transformers.json")
    return Table(
        vectors=_table(found["embedding.weight"], tokenizer),
        tokenizer=tokenizer,
        unknown=_unknown(tokenizer),
        has_unknown=True,
        normalize=len(steps(folder)) > 1,
        max_tokens=most,
        prompts=prompts.get("prompts") or {},
        default_prompt=prompts.get("default_prompt_name"),
    )


def _of_text_model(folder: Path) -> Table:
    """The input embeddings of a model that has layers behind them, which are not run."""
    model = read_text_model(folder, pooling="mean", normalize=None)
    found = tensors(model.folder)
    names = [name for name in found if name.endswith(_INPUT_EMBEDDINGS)]
    if not names:
        why = (
            "has no weights in .safetensors" if not found else "names no table of input embeddings"
        )
        raise RunError(f"{model.folder} {why}", hint=NEEDED)
    tokenizer = open_tokenizer(
        model.folder / "tokenizer.json", model.max_tokens, lowercase=model.lowercase
    )
    tokenizer.no_truncation()
    return Table(
        vectors=_table(found[min(names, key=len)], tokenizer),
        tokenizer=tokenizer,
        unknown=_unknown(tokenizer),
        normalize=model.normalize,
        max_tokens=model.max_tokens,
        max_characters=model.max_tokens * CHARACTERS_PER_TOKEN,
        prompts=model.prompts,
        default_prompt=model.default_prompt,
        pools_prompt=model.pools_prompt,
    )


def _table(tensor: Tensor, tokenizer: Tokenizer, row_of: np.ndarray | None = None) -> np.ndarray:
    """The vectors of a table, (rows, dimensions), which has a row for every token of its tokenizer."""
    if len(tensor.shape) != 2:
        raise RunError(
            f"`{tensor.name}` in {tensor.path} is no table: its shape is {list(tensor.shape)}",
            hint=_NEEDED,
        )
    last = max(tokenizer.get_vocab().values(), default=-1)
    rows = tensor.shape[0]
    short = rows <= last
    if row_of is not None:
        short = len(row_of) <= last or row_of.max(initial=0) >= rows
    if short:
        raise RunError(
            f"{tensor.path} has {rows} vectors for the {last + 1} tokens of its tokenizer",
            hint="fetch the model again",
        )
    return tensor.load()


def _tokenizer(folder: Path) -> tuple[Tokenizer, int | None]:
    """The tokenizer of a table, which neither pads nor cuts, and where its file says to cut."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise RunError(
            f"{folder} is not a table of vectors: it has no tokenizer.json", hint=_NEEDED
        )
    tokenizer = Tokenizer.from_file(str(path))
    most = tokenizer.truncation["max_length"] if tokenizer.truncation else None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, most


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The token that stands for all that a tokenizer does not know, if it has one."""
    model = json.loads(tokenizer.to_str())["model"]
    named = model.get("unk_token")
    return tokenizer.token_to_id(named) if named else model.get("unk_id")
