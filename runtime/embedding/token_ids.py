"""Token ids of many texts, sooner than by their tokenizer: a word is taken apart once.

Where a tokenizer never looks across a space, the ids of a text are those of its words, one after the
other, and most words were there before: of the 920,000 of 20,000 texts of Python's manual, 99 in 100.
Other tokenizers are given whole texts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

# What these do to a character does not depend on what stands behind a space.
_NORMALIZERS = {
    *("BertNormalizer", "Lowercase", "StripAccents"),
    *("NFC", "NFD", "NFKC", "NFKD"),
}
_SPLITTERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_MODELS = {"WordPiece", "WordLevel"}

_KEPT = 100_000
"""Words that are kept, with their ids: some 20 MB."""


class TokenIds:
    """Gives the token ids of texts, without special tokens; to be used by one thread at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """`tokenizer` neither cuts nor pads."""
        self._tokenizer = tokenizer
        self._by_word = _splits_at_spaces(json.loads(tokenizer.to_str()))
        self._known: dict[str, list[int]] = {}

    def of(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as the tokenizer gives them."""
        if not self._by_word:
            return self._encoded(texts)
        words = [text.split(" ") for text in texts]
        if len(self._known) > _KEPT:
            self._known.clear()
        known = self._known
        new = list(set(itertools.chain.from_iterable(words)).difference(known))
        known.update(zip(new, self._encoded(new), strict=True))
        chained = itertools.chain.from_iterable
        return [list(chained([known[word] for word in part])) for part in words]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]


def _splits_at_spaces(tokenizer: dict[str, Any]) -> bool:
    """Whether a tokenizer, as its file says it, gives the same ids for a text and for its words."""
    normalizers, splitters = (
        {part["type"] for part in _parts(tokenizer.get(name) or {})}
        for name in ("normalizer", "pre_tokenizer")
    )
    return (
        tokenizer["model"].get("type") in _MODELS
        and normalizers <= _NORMALIZERS
        and bool(splitters & _SPLITTERS)
        and splitters <= _SPLITTERS | {"Punctuation", "Digits"}
        and not any(" " in token["content"] for token in tokenizer.get("added_tokens") or ())
    )


def _parts(step: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps that a step is made of, of those that are a sequence."""
    if step.get("type") != "Sequence":
        return [step] if step else []
    inner = step.get("normalizers") or step.get("pretokenizers") or []
    return [part for one in inner for part in _parts(one)]
