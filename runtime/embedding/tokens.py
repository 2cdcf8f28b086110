"""Parts of texts become vectors: tokens, words, labelled spans.

```
passages ──distinct──▶ texts ──tokenise, pack──▶ batches ──graph──▶ vectors of tokens ──pool──▶ of parts
```
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding

from synthc.runtime.embedding.export import Graph
from synthc.runtime.embedding.passages import Passage, told
from synthc.runtime.embedding.pipeline import (
    AHEAD,
    BATCH_TOKENS,
    CHARACTERS_PER_TOKEN,
    NOT_FINITE,
    engine_of,
    inputs_of,
    is_truncated,
    open_graph,
    open_tokenizer,
    pack,
    pad,
)
from synthc.runtime.embedding.session import Gpu, Runs, Sessions
from synthc.runtime.embedding.tensorrt import Engine
from synthc.runtime.errors import RowFailed
from synthc.runtime.model_cache import Progress, cache_folder

TEXTS = 128
"""Texts at a time: 256 vectors of 384 dimensions for each of them are 50 MB."""

Failed = tuple[str, str]
"""What RowFailed says of a passage: each row has one of its own."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text, without those that only the model needs.

    `places` are where they stand in the model's input, (tokens,); `offsets` in the text, as the first
    character and that behind the last, (tokens, 2); `words` the numbers of their words, (tokens,). All
    are whole numbers that never fall. `cut` says that the text goes on behind the last of them.
    """

    ids: list[int]
    places: np.ndarray
    offsets: np.ndarray
    words: np.ndarray
    cut: bool


class TokenEmbedder:
    """Embeds parts of texts with a graph whose pooling is `none`; to be used by one thread at a time.

    `truncated` counts the texts so far, once a call of `embed`, that were longer than `max_tokens`;
    `runs_on` and `why_there` say what the graph runs on and why not on something better.
    """

    digest = None
    notes = ()

    def __init__(
        self,
        graph: Graph,
        *,
        normalize: bool = False,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        threads: int | None = None,
        gpus: Sequence[Gpu] | None = None,
        session: Runs | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Open a graph, unless it is open as `session`.

        `normalize` gives each part's vector unit length, after its tokens were averaged; `max_tokens`
        (None: the model's own) counts the special tokens too; `threads`, `gpus` and `engine` are as in
        Sessions.
        """
        self.dimensions = graph.dimensions
        self.max_tokens = max_tokens or graph.max_tokens
        self.limit = f"{self.max_tokens} tokens"
        self.truncated = 0
        self._normalize = normalize
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

    def embed(self, passages: Sequence[Passage]) -> list[list[dict[str, Any]] | RowFailed]:
        """The parts of each passage in their order, with `text`, `start`, `end`, `label` (of a span),
        and `embedding`, float32 of shape (dimensions,).

        Of words and tokens, those that the model reads: none of an empty text. Where a span has no token
        that is read, the passage fails.
        """
        wanted: dict[str, dict[Passage, None]] = {}
        for passage in passages:
            wanted.setdefault(passage.text, {})[passage] = None
        texts = list(wanted)
        tokens = self._tokenise(texts)
        self.truncated += sum(one.cut for one in tokens)
        made: dict[Passage, list[dict[str, Any]] | Failed] = {}
        lengths = np.array([len(one.ids) for one in tokens])
        batches = list(self._pack(lengths))
        inputs = (
            inputs_of(*pad([tokens[row].ids for row in rows], self._pad_id)) for rows in batches
        )
        # Of each batch (rows, tokens of the longest, dimensions).
        for rows, hidden in zip(batches, self._sessions.run(inputs), strict=True):
            for row, states in zip(rows, hidden, strict=True):
                vectors = states[tokens[row].places]
                for passage in wanted[texts[row]]:
                    made[passage] = self._parts(passage, tokens[row], vectors)
        found = (made[passage] for passage in passages)
        return [RowFailed(*one) if isinstance(one, tuple) else one for one in found]

    def _tokenise(self, texts: list[str]) -> list[Tokens]:
        longest = self.max_tokens * CHARACTERS_PER_TOKEN
        encodings = self._tokenizer.encode_batch([text[:longest] for text in texts])
        return [
            tokens_of(
                encoding,
                self._pad_id,
                cut=len(text) > longest or is_truncated(encoding, self.max_tokens),
            )
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _parts(
        self, passage: Passage, tokens: Tokens, vectors: np.ndarray
    ) -> list[dict[str, Any]] | Failed:
        """The parts of a passage, or why one of them has no vector. `vectors`: (tokens, dimensions)."""
        if not np.isfinite(vectors).all():
            return NOT_FINITE
        match passage.parts:
            case "tokens":
                offsets = tokens.offsets
            case "words" | "first tokens":
                ranges = word_ranges(tokens.words)
                first, last = ranges[:, 0], ranges[:, 1] - 1
                offsets = np.stack([tokens.offsets[first, 0], tokens.offsets[last, 1]], axis=1)
                whole = passage.parts == "words"
                vectors = means(vectors, ranges) if whole else vectors[first]
            case "spans":
                offsets = np.array([(s.start, s.end) for s in passage.spans], np.intp).reshape(
                    -1, 2
                )
                ranges = span_ranges(tokens.offsets, offsets)
                without = np.flatnonzero(ranges[:, 0] >= ranges[:, 1])
                if without.size:
                    return "spans", self._without(passage, tokens, int(without[0]))
                vectors = means(vectors, ranges)
        if self._normalize:
            vectors = unit(vectors)
        labels = [{"label": span.label} for span in passage.spans] or [{}] * len(offsets)
        return [
            {
                "text": passage.text[start:end],
                "start": start,
                "end": end,
                **label,
                "embedding": vector,
            }
            for (start, end), label, vector in zip(offsets.tolist(), labels, vectors, strict=True)
        ]

    def _without(self, passage: Passage, tokens: Tokens, at: int) -> str:
        span = passage.spans[at]
        read = int(tokens.offsets[-1, 1]) if len(tokens.offsets) else 0
        if tokens.cut and span.end > read:
            why = f"lies behind the {self.max_tokens} tokens that the model reads of a text"
        else:
            why = "has no token"
        return f"{told(span, at + 1)} {why}"


def tokens_of(encoding: Encoding, pad_id: int, *, cut: bool) -> Tokens:
    """The tokens of an encoding. One without any has a padding token as its input, for the graph."""
    words = np.array([-1 if word is None else word for word in encoding.word_ids], np.intp)
    places = np.flatnonzero(np.array(encoding.special_tokens_mask, np.intp) == 0)
    offsets = np.array(encoding.offsets, np.intp).reshape(-1, 2)
    return Tokens(encoding.ids or [pad_id], places, offsets[places], words[places], cut)


def word_ranges(words: np.ndarray) -> np.ndarray:
    """The tokens of each word, from one to before another: (words, 2). `words`: (tokens,), as in Tokens."""
    first = np.flatnonzero(np.diff(words, prepend=-2))
    return np.stack([first, np.append(first[1:], len(words))[: len(first)]], axis=1)


def span_ranges(offsets: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """The tokens that share a character with each span, from one to before another: (spans, 2).

    `offsets` (tokens, 2) and `spans` (spans, 2) are characters, from one to before another. Where a span
    has no token, its range is empty.
    """
    first = np.searchsorted(offsets[:, 1], spans[:, 0], side="right")
    behind = np.searchsorted(offsets[:, 0], spans[:, 1], side="left")
    return np.stack([first, behind], axis=1)


def means(vectors: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """The mean of the vectors (tokens, dimensions) in each range (parts, 2): (parts, dimensions).

    Ranges may overlap; none is empty.
    """
    if not len(ranges):
        return vectors[:0]
    # Sums between two ranges are made too, and left out; a range may end where the vectors do.
    padded = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    sums = np.add.reduceat(padded, ranges.ravel(), axis=0)[::2]
    return sums / (ranges[:, 1:] - ranges[:, :1]).astype(vectors.dtype)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors (parts, dimensions) with unit length; a zero vector stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def open_token_embedder(
    reference: str,
    *,
    base: Path,
    dimensions: int,
    normalize: bool | None = None,
    max_tokens: int | None = None,
    precision: str = "fp32",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> TokenEmbedder:
    """The embedder of the parts of texts, as `open_embedder` opens that of texts. Raises RunError."""
    cache = cache or cache_folder()
    graph = open_graph(
        reference,
        base=base,
        dimensions=dimensions,
        pooling="none",
        normalize=False,  # words and spans are means of what the model gives
        max_tokens=max_tokens,
        precision=precision,
        cache=cache,
        progress=progress,
    )
    return TokenEmbedder(
        graph,
        normalize=bool(normalize),
        max_tokens=max_tokens,
        engine=engine_of(graph, max_tokens, cache=cache, progress=progress),
    )
