"""Texts become vectors: distinct texts, tokens, batches of like lengths, the graph, their order.

```
texts ──distinct──▶ texts ──tokenise──▶ ids ──sort, pack──▶ batches ──graph──▶ vectors, as given
```
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer, normalizers

from synthc.compiler import graphs
from synthc.runtime.backends.protocol import Message
from synthc.runtime.embedding.chat_template import Rendered, render
from synthc.runtime.embedding.export import Graph, graph_for, prompt_of
from synthc.runtime.embedding.samples import EDGES, SENTENCES
from synthc.runtime.embedding.session import Gpu, Runs, Sessions
from synthc.runtime.embedding.tensorrt import Engine, asked
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import Progress, cache_folder
from synthc.runtime.models import fetch

# Tokens a batch, padding included. On two cores MiniLM embeds 228 texts/s of 34 tokens with 256 to
# 1,024 of them, 189 with 2,048 and 113 with 8,192, which no longer fit the cores' own caches. A GPU
# wants more work at once (not measured yet).
BATCH_TOKENS = {"CPU": 512, "GPU": 32_768}

# As long as most texts are, on what people embed: TensorRT is to be quickest at it.
USUAL_TOKENS = 64

# Texts tokenised at a time, beside the graph that runs on those before: enough to find texts of like
# lengths, and a bound on memory.
AHEAD = 512

# A token of natural text has 3 to 5 characters. Of a text longer than this many times its tokens
# the rest is cut before it is tokenised: one thread does that at two megabytes a second.
CHARACTERS_PER_TOKEN = 64

# What RowFailed says of a text whose vector is none: in fp16, numbers may be too large.
NOT_FINITE = "embedding", "the model gives no vector of finite numbers"


class TextEmbedder:
    """Embeds texts with a graph; to be used by one thread at a time.

    `digest` is the graph's. `truncated` counts the distinct texts so far that were longer than
    `max_tokens`, which `limit` says in words; `runs_on` and `why_there` say what the graph runs on and
    why not on something better.
    """

    notes = ()

    def __init__(
        self,
        graph: Graph,
        *,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        threads: int | None = None,
        gpus: Sequence[Gpu] | None = None,
        prompt: str = "",
        dimensions: int | None = None,
        session: Runs | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Open a graph, unless it is open as `session`.

        `max_tokens` (None: the model's own) counts the special tokens too; `threads`, `gpus` and `engine`
        are as in Sessions. `prompt` stands before each text. Of a vector the first `dimensions` are kept, and
        have unit length again where the graph gives that.
        """
        self.dimensions = dimensions or graph.dimensions
        self.digest = graph.digest
        self._prompt = prompt
        self._unit_length = graph.normalize
        self._template = graph.chat_template
        self.has_template = graph.chat_template is not None
        self._wraps_text = graph.wraps_text
        self.max_tokens = max_tokens or graph.max_tokens
        self.limit = f"{self.max_tokens} tokens"
        self.truncated = 0
        self._sessions = session or Sessions(graph.path, gpus=gpus, threads=threads, engine=engine)
        self.runs_on, self.why_there = self._sessions.told, self._sessions.why
        self._pack = functools.partial(
            pack,
            budget=batch_tokens or BATCH_TOKENS[self._sessions.device],
            share=self._sessions.count,
            most=engine.rows if engine else AHEAD,
        )
        self._pad_id = graph.pad_id
        self._tokenizer = open_tokenizer(
            graph.tokenizer, self.max_tokens, lowercase=graph.lowercase
        )

    def written(self, item: str | Sequence[Message]) -> str | Rendered:
        """A text or a conversation as the model reads it; the prompt stands in the last turn.

        Raises RowFailed where the model's template refuses it.
        """
        if isinstance(item, str):
            if not self._wraps_text:
                return item
            item = [Message("user", item)]
        assert self._template is not None
        *before, last = item
        assert isinstance(last.content, str)  # only prompts hold pictures
        last = Message(last.role, self._prompt + last.content)
        return render(self._template, (*before, last))

    def embed(self, texts: Sequence[str | Rendered]) -> np.ndarray:
        """The vectors of the texts: float32 of shape (len(texts), dimensions), in their order.

        Raises RowFailed where one of them is no text that `written` gives.
        """
        texts = [self.written(text) if isinstance(text, str) else text for text in texts]
        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        distinct = list(place)
        vectors = np.empty((len(distinct), self.dimensions), np.float32)
        starts = range(0, len(distinct), AHEAD)
        parts = [distinct[start : start + AHEAD] for start in starts]
        with ThreadPoolExecutor(1, "tokenise") as beside:
            for start, ids in zip(starts, beside.map(self._tokenise, parts), strict=True):
                lengths = np.array([len(row) for row in ids])
                batches = list(self._pack(lengths))
                inputs = (
                    inputs_of(*pad([ids[row] for row in rows], self._pad_id)) for rows in batches
                )
                for rows, made in zip(batches, self._sessions.run(inputs), strict=True):
                    vectors[start + rows] = first_of(
                        made, self.dimensions, unit_length=self._unit_length
                    )
        return vectors[np.array([place[text] for text in texts], np.intp)]

    def _tokenise(self, texts: list[str | Rendered]) -> list[list[int]]:
        """The token ids of each text, at least one and at most max_tokens of them."""
        found: list[list[int]] = [[] for _ in texts]
        plain = {n: self._prompt + text for n, text in enumerate(texts) if isinstance(text, str)}
        rendered = {n: text.text for n, text in enumerate(texts) if isinstance(text, Rendered)}
        longest = self.max_tokens * CHARACTERS_PER_TOKEN
        for part, special in ((plain, True), (rendered, False)):
            encodings = self._tokenizer.encode_batch_fast(
                [text[:longest] for text in part.values()], add_special_tokens=special
            )
            for (place, text), encoding in zip(part.items(), encodings, strict=True):
                self.truncated += len(text) > longest or is_truncated(encoding, self.max_tokens)
                # An empty text has no token where the tokenizer adds none: one padding token
                # stands for it.
                found[place] = encoding.ids or [self._pad_id]
        return found


def first_of(vectors: np.ndarray, dimensions: int, *, unit_length: bool) -> np.ndarray:
    """The first numbers of vectors (rows, longer), with unit length again where they have it."""
    if vectors.shape[-1] == dimensions:
        return vectors
    vectors = vectors[..., :dimensions]
    if not unit_length:
        return vectors
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def pack(
    lengths: np.ndarray, budget: int, *, share: int = 1, most: int = AHEAD
) -> Iterator[np.ndarray]:
    """Batches of row numbers, longest rows first: rows times longest row is within `budget` tokens.

    `lengths` is (rows,), tokens a row; every row is in one batch of `most` at most, a row over the budget
    alone. Where `share` work on them, no batch is much more than the part of one.
    """
    if share > 1:
        budget = min(budget, -(-int(lengths.sum()) // share))
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, min(most, budget // int(lengths[order[start]])))
        yield order[start : start + count]
        start += count


def pad(ids: list[list[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids as two int64 arrays (rows, longest row): the ids, and 1 where a token stands."""
    shape = len(ids), max(len(row) for row in ids)
    padded = np.full(shape, pad_id, np.int64)
    mask = np.zeros(shape, np.int64)
    for number, row in enumerate(ids):
        padded[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return padded, mask


def inputs_of(input_ids: np.ndarray, attention_mask: np.ndarray) -> dict[str, np.ndarray]:
    """All that a graph may take, for tokens that are padded on the right: int64 (rows, tokens)."""
    columns = np.arange(input_ids.shape[1], dtype=np.int64)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": np.zeros_like(input_ids),
        "position_ids": np.broadcast_to(columns, input_ids.shape),
    }


def open_tokenizer(path: Path, max_tokens: int, *, lowercase: bool) -> Tokenizer:
    """The model's tokenizer, cutting at `max_tokens` and not padding, whatever its file says."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    if lowercase:
        inner = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *inner])
    return tokenizer


def is_truncated(encoding: Encoding, max_tokens: int) -> bool:
    """Whether a text had more tokens than it was given."""
    # Asking for what overflowed copies it, so only a full encoding is asked.
    return len(encoding.ids) == max_tokens and bool(encoding.overflowing)


def engine_of(
    graph: Graph, max_tokens: int | None, *, cache: Path, progress: Progress | None
) -> Engine | None:
    """What TensorRT must know of a model's graph, where it was asked for.

    Shapes are (rows, tokens): of as many rows as are within a batch's tokens where each is the longest.
    """
    if not asked():
        return None
    longest = max_tokens or graph.max_tokens
    rows = max(1, min(AHEAD, BATCH_TOKENS["GPU"] // longest))
    shapes = (1, 1), (rows, min(longest, USUAL_TOKENS)), (rows, longest)
    tokenizer = open_tokenizer(graph.tokenizer, longest, lowercase=graph.lowercase)
    texts = tokenizer.encode_batch_fast([*EDGES, *SENTENCES])
    ids = [text.ids or [graph.pad_id] for text in texts]
    batches = pack(np.array([len(row) for row in ids]), BATCH_TOKENS["GPU"], most=rows)
    return Engine(
        shapes={port.name: shapes for port in graphs.read(graph.path).inputs},
        samples=[inputs_of(*pad([ids[row] for row in batch], graph.pad_id)) for batch in batches],
        folder=cache / "tensorrt" / graph.digest,
        progress=progress,
    )


def open_embedder(
    reference: str,
    *,
    base: Path,
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
) -> TextEmbedder:
    """The embedder of a text model, with `open_graph`'s arguments.

    `prompt` stands before each text; `prompt_name` takes one of the model's own instead, and where
    both are None it is the model's default. Raises RunError: there is no such prompt, or as
    `open_graph` does.
    """
    cache = cache or cache_folder()
    graph = open_graph(
        reference,
        base=base,
        dimensions=dimensions,
        pooling=pooling,
        normalize=normalize,
        max_tokens=max_tokens,
        precision=precision,
        truncate=truncate,
        cache=cache,
        progress=progress,
    )
    stands_before = prompt_of(graph, prompt=prompt, prompt_name=prompt_name, source=reference)
    return TextEmbedder(
        graph,
        max_tokens=max_tokens,
        prompt=stands_before,
        dimensions=dimensions,
        engine=engine_of(graph, max_tokens, cache=cache, progress=progress),
    )


def open_graph(
    reference: str,
    *,
    base: Path,
    dimensions: int,
    pooling: str | None,
    normalize: bool | None,
    max_tokens: int | None,
    precision: str,
    cache: Path,
    progress: Progress | None,
    truncate: bool = False,
) -> Graph:
    """The graph of a text model, fetched and exported where that was not done before.

    `pooling` is `mean`, `cls`, `last`, `max` or `none`; None leaves it, `normalize` and `max_tokens`
    to the model's files. `truncate` takes a graph of more than `dimensions`. Raises RunError: the
    model cannot be had, is no text model, cannot be exported, or does not have `dimensions`.
    """
    folder = fetch(reference, base=base, cache=cache, progress=progress)
    graph = graph_for(
        folder,
        pooling=pooling,
        normalize=normalize,
        precision=precision,
        cache=cache,
        source=reference,
        progress=progress,
    )
    require_dimensions(
        reference, graph.dimensions, dimensions, truncate=truncate, can_truncate=pooling != "none"
    )
    if max_tokens and graph.position_limit and max_tokens > graph.position_limit:
        raise RunError(
            f"`{reference}` reads {graph.position_limit} tokens of a text, not {max_tokens}",
            hint=f"write `max_tokens = {graph.position_limit}` or less",
        )
    return graph


def require_dimensions(
    reference: str, found: int, wanted: int, *, truncate: bool, can_truncate: bool = True
) -> None:
    """Raise RunError unless a model has as many dimensions as are wanted, or more if they are cut off."""
    if found == wanted or (found > wanted and truncate):
        return
    hint = f"write `dimensions = {found}`"
    if wanted < found and can_truncate:
        hint += ", or `truncate = true` to keep the first of them"
    raise RunError(f"`{reference}` has {found} dimensions, not {wanted}", hint=hint)
