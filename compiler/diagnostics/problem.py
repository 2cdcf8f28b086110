"""What every problem of a spec has in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from msgspec import Struct

from synthc.compiler.span import Span


class Problem(Struct, frozen=True):
    """One thing that is wrong with a spec, at its place. Subclasses hold the facts and the prose.

    Their docstrings are what `synthc explain CODE` prints: a first line, then What, Why, Example, Fix.
    """

    code: ClassVar[str]
    severity: ClassVar[Literal["error", "warning"]] = "error"

    span: Span

    def message(self) -> str:
        """What is wrong, in one line."""
        raise NotImplementedError

    def label(self) -> str:
        """A few words beside the place."""
        return ""

    def meant(self) -> str | None:
        """What was probably meant to stand in this place; None where that cannot be told."""
        return None

    def help(self) -> str | None:
        """What to do."""
        meant = self.meant()
        return f"did you mean `{meant}`?" if meant else None

    def other(self) -> tuple[Span, str] | None:
        """The other place where two clash, and a few words beside it."""
        return None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant: near in letters, or the same but for case."""
    known = list(known)
    folded = {name.lower(): name for name in known}
    if word.lower() in folded:
        return folded[word.lower()]
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def listed(words: Iterable[str], limit: int = 12) -> str:
    """Words in a row, the long tail cut."""
    words = list(words)
    shown = ", ".join(words[:limit])
    return f"{shown}, … ({len(words)} in all)" if len(words) > limit else shown
