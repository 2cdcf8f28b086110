"""How many tokens a text has: as a server counted, as a tokenizer counts, or as its length suggests."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthc.runtime.backends.protocol import Content
from synthc.runtime.backends.sizes import IMAGE
from synthc.runtime.planning.kept import Answered

CHARACTERS_A_TOKEN = 4.0
"""What English text has with most tokenizers, where nothing better is known."""

_ON_THE_HUB = re.compile(
    r"(?:hf:)?(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[^@#]+))?"
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts tokens of a text; a picture has `image` of them. `how` says in words how it does."""

    count: Callable[[str], float]
    how: str
    image: float = IMAGE / CHARACTERS_A_TOKEN

    def of(self, content: Content) -> float:
        """How many a message has."""
        if isinstance(content, str):
            return self.count(content)
        return sum(self.count(p) if isinstance(p, str) else self.image for p in content)


def by_length(characters: float, said: str = "") -> Tokens:
    """Counts a token for so many characters; `said` is who said that they are as many."""
    return Tokens(
        lambda text: len(text) / characters,
        f"estimated at {characters:.3g} characters a token{said}",
        IMAGE / characters,
    )


def as_counted(calls: list[Answered]) -> Tokens | None:
    """Counts as a server did for the prompts of calls, None where it did not say."""
    known = [call for call in calls if call.input_tokens]
    characters = sum(call.prompt_characters for call in known)
    tokens = sum(call.input_tokens or 0 for call in known)
    asked = sum(call.calls for call in known)
    if not tokens or not characters:
        return None
    stored = "1 stored call" if asked == 1 else f"{asked} stored calls"
    return by_length(characters / tokens, f", as the server counted in {stored}")


def of_tokenizer(model: str, base: Path) -> Tokens | None:
    """Counts with the model's own tokenizer, where it is on this machine: nothing is fetched."""
    file = _tokenizer_file(model, base)
    if file is None:
        return None
    try:
        from tokenizers import Tokenizer

        tokenizer: Any = Tokenizer.from_file(str(file))
    except Exception:  # noqa: BLE001 - tokenizers raises nothing narrower; then it is none of use
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> float:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return Tokens(count, f"counted with the tokenizer of {model}")


def _tokenizer_file(model: str, base: Path) -> Path | None:
    path = base / model
    beside = (path if path.is_dir() else path.parent) / "tokenizer.json"
    if path.exists() and beside.is_file():
        return beside
    named = _ON_THE_HUB.fullmatch(model.partition("#")[0])
    if named is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        named["repository"], "tokenizer.json", revision=named["revision"]
    )
    return Path(found) if isinstance(found, str) else None
