"""`as text`, `after`, `tag` and `sections`: text as it is, or what stands behind its marks.

Marks are found as models write them: in another case, as a heading or in bold, with more or fewer
spaces. What is strict is tried before what is not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from synthc.compiler.plan import Contract
from synthc.runtime.engine.contracts.re2_patterns import SPACE, compiled, literally
from synthc.runtime.engine.contracts.reading import Reading, gathered, nothing
from synthc.runtime.engine.contracts.values import take_text, whole


def read_text(contract: Contract, answer: str) -> Reading:
    """The answer as it is."""
    if answer.strip():
        return Reading((whole(answer),))
    return nothing(contract, "the answer is empty")


def read_after(contract: Contract, answer: str) -> Reading:
    """What follows the mark: without one, the whole answer.

    Models think before they begin, so the last mark at the start of a line counts, else the first
    one anywhere. A code fence or quotes around the whole are no part of it.
    """
    (mark,) = contract.marks
    text = whole(answer)
    rest = _unwrapped(_behind(mark, text))
    if not text.strip():
        return nothing(contract, "the answer is empty")
    if not rest:
        return nothing(contract, f"there is nothing after `{mark}`")
    field = contract.fields[0]
    return gathered(contract, [take_text(rest, field.type, f"`{field.name}`")])


def read_tag(contract: Contract, answer: str) -> Reading:
    """What stands between a tag and its end, or the end of the answer where it is never closed.

    The last pair that holds something counts: models draft, and speak of tags before they use them.
    """
    (tag,) = contract.marks
    text = whole(answer)
    found = _tagged(tag, text)
    if not text.strip():
        return nothing(contract, "the answer is empty")
    if found is None:
        return nothing(contract, f"there is no <{tag}>…</{tag}> in it")
    if not found.strip():
        return nothing(contract, f"there is nothing between <{tag}> and </{tag}>")
    field = contract.fields[0]
    return gathered(contract, [take_text(found.strip(), field.type, f"`{field.name}`")])


def read_sections(contract: Contract, answer: str) -> Reading:
    """What stands under each heading, up to the next one or the end.

    Of headings that occur more than once the last counts that has text: models repeat the form
    before they fill it in. The strictest reading that finds most is taken, so that a line of a text
    that looks like a heading is none where the headings themselves stand as they were asked for.
    """
    text = _unfenced(whole(answer).strip())
    if not text:
        return nothing(contract, "the answer is empty")
    best: list[str | None] = [None] * len(contract.marks)
    for headings in _headings(contract.marks, text):
        found = _under(headings, text, len(contract.marks))
        if sum(map(bool, found)) > sum(map(bool, best)) or best.count(None) == len(best):
            best = found
        if all(best):
            break
    taken = [
        take_text(part, field.type, f"the section `{mark}`")
        for part, mark, field in zip(best, contract.marks, contract.fields, strict=True)
    ]
    return gathered(contract, taken)


# What is around a text


_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "`": "`"}


def _unwrapped(text: str) -> str:
    """A text without the spaces, and then the code fence or the quotes, around the whole of it."""
    text = text.strip()
    bare = _unfenced(text)
    closing = _QUOTES.get(text[:1])
    if bare is text and closing and len(text) > 1 and text.endswith(closing):
        inner = text[1:-1]
        if text[0] not in inner and closing not in inner:  # not `"a" or "b"`
            bare = inner
    return bare.strip()


def _unfenced(text: str) -> str:
    """A text without the code fence around the whole of it; the text itself where there is none."""
    fence = text[: len(text) - len(text.lstrip("`"))]
    first, line, rest = text.partition("\n")
    if len(fence) < 3 or not line or "`" in first[len(fence) :] or not rest.endswith(fence):
        return text
    inner = rest[: -len(fence)]
    return text if fence in inner else inner


# Marks

_LEAD = rf"(?:{SPACE}|>)*(?:(?:[-+*•]|\d{{1,2}}[.)]){SPACE}+)?"
_OPEN = rf"(?:[#*_`]+{SPACE}*)+"
_CLOSE = rf"{SPACE}*([#*_`]*){SPACE}*"
_WORDS = rf"(?:[\pL\pN'-]+{SPACE}+){{0,3}}"  # `#Rewritten Prompt#:`
_COLONS = (":", "\N{FULLWIDTH COLON}")
_COLON = f"[{''.join(_COLONS)}]"


def _core(mark: str) -> str:
    """The words of a mark, which are what models keep: `Prompt` of `## **Prompt**:`."""
    return mark.strip("".join(("#*_` \t\r\n", *_COLONS)))


@functools.lru_cache(maxsize=64)
def _marker_patterns(mark: str) -> tuple[str, str]:
    """A mark at the start of a line, and anywhere: the groups are its ornament before and after."""
    core = literally(_core(mark))
    if not core:
        sign = literally(mark)
        return rf"(?m)^{SPACE}*()()()()(?:{sign})", rf"()()(?:{sign})"
    colon = mark.rstrip().endswith(_COLONS)
    decorated = rf"({_OPEN}){_WORDS}(?:{core}){_CLOSE}(?:{_COLON}|$)"
    plain = rf"()(?:{core}){_CLOSE}" + (_COLON if colon else rf"(?:{_COLON}|$)")
    line = rf"(?im)^{_LEAD}(?:{decorated}|{plain})"
    if not colon:  # a word of the text is no mark
        return line, rf"(?i)()()(?:{literally(mark)})"
    word = r"\b" if re2.match(r"\w", core) else ""  # `Prompt:`, not `Subprompt:`
    return line, rf"(?i)([*_`]*){word}(?:{core}){_CLOSE}{_COLON}"


def _behind(mark: str, text: str) -> str:
    """What follows a mark in a text, the whole text where it has none."""
    line, anywhere = (compiled(pattern) for pattern in _marker_patterns(mark))
    last = None
    for last in line.finditer(text):  # noqa: B007
        pass
    if last is not None:
        opened, closed = (last[1], last[2]) if last[1] is not None else (last[3], last[4])
        return _behind_bold(text[last.end() :], opened, closed)
    found = anywhere.search(text)
    return text if found is None else _behind_bold(text[found.end() :], found[1], found[2])


def _behind_bold(rest: str, opened: str | None, closed: str | None) -> str:
    """What follows a mark, without the end of the emphasis that began before it: `**Prompt:** …`."""
    emphasis = "" if closed else (opened or "").strip("# \t\r")
    return rest.lstrip(" \t").removeprefix(emphasis) if emphasis else rest


def _tagged(tag: str, text: str) -> str | None:
    """The inside of the last pair of a tag that is not blank, else of one that is, or is not closed."""
    pattern = rf"(?i)<(/?)\s*{re2.escape(tag)}(?:\s[^<>]*)?(?:>|\z)"
    start: int | None = None
    inside: str | None = None
    for found in compiled(pattern).finditer(text):
        if not found[1]:
            start = found.end()
        elif start is not None:
            between = text[start : found.start()]
            inside = between if between.strip() or inside is None else inside
            start = None
    if start is not None and not (inside and inside.strip()):
        return text[start:]
    return inside


@dataclass(frozen=True, slots=True)
class _Heading:
    """A heading in a text: which of the marks, where it begins, and where its text does."""

    mark: int
    start: int
    end: int
    emphasis: str


@functools.lru_cache(maxsize=64)
def _heading_patterns(marks: tuple[str, ...]) -> tuple[str, str]:
    """Any of some headings as they were asked for, and as models write them."""
    exact = "|".join(f"({_as_asked(mark)})" for mark in marks)
    cores = "|".join(f"({literally(_core(mark) or mark)})" for mark in marks)
    tolerant = rf"({_OPEN})?(?:\d{{1,2}}[.)]{SPACE}*)?(?:{cores}){_CLOSE}({_COLON}|$|{SPACE})"
    return rf"(?im)^{SPACE}*(?:{exact})", rf"(?im)^{_LEAD}{tolerant}"


def _as_asked(mark: str) -> str:
    """A heading with the signs of its mark; what has no colon of its own ends with its line."""
    signs = mark.strip()
    core = _core(mark)
    before, _, after = signs.partition(core) if core else (signs, "", "")
    parts = (literally(part) for part in (before, core, after))
    literal = (SPACE + "*").join(part for part in parts if part)
    end = "" if signs.endswith(_COLONS) else rf"{SPACE}*(?:{_COLON}|$)"
    return literal + end


def _headings(marks: tuple[str, ...], text: str) -> Iterator[list[_Heading]]:
    """The headings of a text in its order, read ever less strictly.

    As they were asked for; as a line or with a colon, in any ornament; before text in their line, if
    they are a heading (`## Positive A cat`) or in bold.
    """
    # The longest first: `Positive document` is not `Positive`.
    order = sorted(range(len(marks)), key=lambda i: -len(_core(marks[i])))
    exact, tolerant = _heading_patterns(tuple(marks[i] for i in order))
    yield [
        _Heading(_which(found, 1, order), found.start(), found.end(), "")
        for found in compiled(exact).finditer(text)
    ]
    clear: list[_Heading] = []
    loose: list[_Heading] = []
    for found in compiled(tolerant).finditer(text):
        opened, closed, end = found[1] or "", found[len(marks) + 2], found[len(marks) + 3]
        emphasis = "" if closed else opened.strip("# \t\r")
        heading = _Heading(_which(found, 2, order), found.start(), found.end(), emphasis)
        if end in _ENDS:
            clear.append(heading)
        if end in _ENDS or "#" in opened or (opened and closed):
            loose.append(heading)
    yield clear
    yield loose


_ENDS = ("", *_COLONS)


def _which(found: Any, first: int, order: Sequence[int]) -> int:
    """Which mark a match is of: its groups begin with `first`, in that order."""
    return next(mark for group, mark in enumerate(order, first) if found[group] is not None)


def _under(headings: Sequence[_Heading], text: str, count: int) -> list[str | None]:
    """What stands under each mark: its last that is not blank; None where it has no heading."""
    found: list[str | None] = [None] * count
    end = len(text)
    for heading in reversed(headings):
        if not found[heading.mark]:
            part = _behind_bold(text[heading.end : end], heading.emphasis, "")
            found[heading.mark] = _without_rule(part)
        end = heading.start
    return found


def _without_rule(part: str) -> str:
    """A section without what only divides it from the next: a rule (`---`), or a fence left open."""
    lines = part.strip().split("\n")
    fences = sum(line.lstrip().startswith("```") for line in lines)
    while lines:
        last = lines[-1].strip()
        rule = len(last) > 2 and not last.strip(last[0]) and last[0] in "-*_="
        if last and not rule and not (last == "```" and fences % 2):
            break
        fences -= last == "```"
        lines.pop()
    return "\n".join(lines).strip()
