"""Made-up text that a pattern matches, for answers without a model."""

from __future__ import annotations

import random
import re
import string
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import re2
import rstr

MAX_MORE = 3
"""How often more than it must what `*` and `+` repeat is repeated."""

_ANYTHING = 64  # a choice of more characters is one of all but a few

_SPELLED = {
    r"\z": r"\Z",
    "[:alnum:]": "a-zA-Z0-9",
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:punct:]": ".,;!?",
    "[:space:]": " ",
    "[:upper:]": "A-Z",
    "[:word:]": r"\w",
    "[:xdigit:]": "0-9a-f",
    r"\p{L}": "[a-zA-Z]",
    r"\pL": "[a-zA-Z]",
    r"\p{Lu}": "[A-Z]",
    r"\p{Ll}": "[a-z]",
    r"\p{N}": "[0-9]",
    r"\pN": "[0-9]",
}
"""What RE2 spells in another way than Python. Of a class of all scripts some letters are enough."""

_SPELLED_IN_CLASS = {key: value.strip("[]") for key, value in _SPELLED.items()}
_TOKEN = re.compile(
    r"\\[pP]\{[^}]*\}|\\[pP].|\\.|\[:\w+:\]|\[\^?\]?|\]|\((?:\?P?<(?![=!])(?P<name>\w+)>|\?)?|\)",
    re.DOTALL,
)
_QUOTED = re.compile(r"(\\\\)|\\Q(.*?)(?:\\E|\Z)", re.DOTALL)
_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")


@dataclass(frozen=True, slots=True)
class Group:
    """A group of a pattern: its name, if it has one, and where its inside stands."""

    name: str | None
    start: int
    end: int


def groups(pattern: str) -> list[Group]:
    """The groups that are captured and stand in no other such group, in their order."""
    found: list[Group] = []
    open_: list[tuple[bool, str | None, int]] = []
    in_class = False
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if in_class:
            in_class = text != "]"
        elif text.startswith("[") and not text.startswith("[:"):
            in_class = True
        elif text.startswith("("):
            open_.append((text != "(?", token["name"], token.end()))
        elif text == ")" and open_:
            captures, name, start = open_.pop()
            if captures and not any(outer for outer, _, _ in open_):
                found.append(Group(name, start, token.start()))
    return sorted(found, key=lambda group: group.start)


def match(
    pattern: str,
    wanted: Callable[[Group], Iterable[str]],
    rng: random.Random,
    shape: int,
) -> str | None:
    """A text that matches, holding in each group the first that fits of what is wanted there.

    What is outside of the groups is the same for the same `shape`. None where the pattern is beyond
    what can be made up. What comes out is a likely match: nothing is known of anchors and of the
    borders of words.
    """
    pattern = _QUOTED.sub(lambda found: found[1] or re.escape(found[2]), pattern)
    flags = _FLAGS.match(pattern)
    prefix = flags[0] if flags else ""
    pieces: list[str] = []
    end = 0
    for group in groups(pattern):
        inside = f"{prefix}(?:{pattern[group.start : group.end]})"
        text = next((text for text in wanted(group) if _fits(inside, text)), None)
        text = _made_up(inside, rng) if text is None else text
        if text is None:
            return None
        pieces += [pattern[end : group.start], re.escape(text)]
        end = group.end
    return _made_up("".join((*pieces, pattern[end:])), random.Random(shape))


def _fits(pattern: str, text: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options).fullmatch(text) is not None
    except re2.error:
        return False


def _made_up(pattern: str, rng: random.Random) -> str | None:
    letters = string.ascii_lowercase
    maker = rstr.Rstr(_Orderly(rng), printable=letters + " ", whitespace=" ", nonwhitespace=letters)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return maker.xeger(_as_python_writes(pattern))
    except (re.error, LookupError, ValueError, OverflowError, RecursionError):
        return None


def _as_python_writes(pattern: str) -> str:
    """A pattern of RE2's in Python's spelling, without its flags: the letters are right as they are."""
    pieces: list[str] = []
    pattern = _FLAGS.sub("", pattern, count=1) if _FLAGS.match(pattern) else pattern
    in_class = False
    end = 0
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        spelled = (_SPELLED_IN_CLASS if in_class else _SPELLED).get(text, text)
        if token["name"]:
            spelled = "("
        if in_class:
            in_class = text != "]"
        elif text.startswith("[") and not text.startswith("[:"):
            in_class = True
        pieces += [pattern[end : token.start()], spelled]
        end = token.end()
    return "".join((*pieces, pattern[end:]))


class _Orderly(random.Random):
    """What draws for rstr: few repetitions, letters where anything may be, and the same each time.

    (rstr draws from sets of texts, whose order is another in each process.)
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng.getrandbits(64))

    def choice(self, seq: Any) -> Any:
        """One of some: of a sequence of texts it does not matter how it is ordered."""
        if not all(isinstance(item, str) for item in seq):
            return super().choice(seq)
        letters = [item for item in seq if item in string.ascii_lowercase]
        return super().choice(sorted(letters if letters and len(seq) > _ANYTHING else seq))

    def randint(self, a: int, b: int) -> int:
        """How often something is repeated."""
        return super().randint(a, min(b, a + MAX_MORE))
