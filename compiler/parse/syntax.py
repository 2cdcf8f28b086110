"""What is wrong where a spec cannot be read: Lark's error → a problem in words of the language."""

from __future__ import annotations

import re
from collections.abc import Callable

from lark import Lark
from lark.exceptions import UnexpectedInput

from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.parse.advice import TEMPLATES, advice
from synthc.compiler.parse.place import CLOSING, Place, signs
from synthc.compiler.parse.words import CONTEXTUAL, DECLARATIONS, FORMS, PRODUCERS, RESERVED

MOST_EXPECTED = 5
"""Of more things that could stand at a place, none is listed."""


def problem(error: UnexpectedInput, text: str, file: str, parser: Lark) -> Problem:
    """The problem that kept `text` from being read."""
    place = Place.of(error, text, file, parser)
    for rule in _RULES:
        if found := rule(place):
            return found
    return _unexpected(place)


_BLOCKS = ("backend", "embedder")


# What a stumble means, the most telling first. Each gives None where it is about something else.


def _open_string(place: Place) -> Problem | None:
    opening = next((s for s in signs(place.text) if s.text in ('"', '"""')), None)
    if opening is None or opening.start > place.at:
        return None
    return problems.Unclosed(
        span=place.of_sign(opening), opening=opening.text, closing=opening.text
    )


def _unquoted_sql(place: Place) -> Problem | None:
    """`where(size > 3)`, and `select` without its quotes or brackets."""
    if place.callee in ("where", "select") and not place.found.startswith("'"):
        opening = place.opened[-1]
        if place.before[-1].text.startswith('"'):
            return None
        rest = re.match(r'\(\s*([^"\n]*?)\s*\)[ \t]*(?=\n|$|\|>)', place.text[opening.start :])
        form = f'{place.callee}("{_expression(rest[1])}")' if rest else FORMS[place.callee]
        start = place.before[place.before.index(opening) - 1].start
        end = opening.start + len(rest[0].rstrip()) if rest else place.at
        span = place.span(start, end - start)
        return problems.WrongCall(span=span, callee=place.callee, form=form)
    if place.last() in FORMS and place.last(2) in ("|>", "=") and place.found not in ("", "|>"):
        word = place.last()
        argument = place.found if place.found.startswith('"') or place.found.isdigit() else ""
        if word in ("dedup", "embed") and place.found.isidentifier():
            argument = place.found
        form = f"{word}({argument})" if argument and "\n" not in argument else FORMS[word]
        span = place.of_sign(place.before[-1])
        return problems.WrongCall(span=span, callee=word, form=form)
    return None


def _expression(written: str) -> str:
    """SQL that was written without its quotes, and maybe as a function of the row."""
    function = re.match(r"(?:lambda\s+(\w+)\s*:|\(?(\w+)\)?\s*[-=]>)\s*(.+)", written)
    if not function:
        return written
    row = function[1] or function[2]
    return re.sub(rf"\b{row}(?:\.(\w+)|\[['\"](\w+)['\"]\])", r"\1\2", function[3])


def _open_bracket(place: Place) -> Problem | None:
    """A bracket that nothing closes, met by something that cannot stand inside of it."""
    if not place.opened or place.found not in ("", "|>", *CLOSING.values(), "in", "let", "out"):
        return None
    closing = CLOSING[place.opened[-1].text]
    depth = 0
    for sign in signs(place.text[place.at :]):
        if sign.text == place.opened[-1].text:
            depth += 1
        elif sign.text == closing:
            depth -= 1
        if depth < 0:
            return None
    opening = place.opened[-1]
    return problems.Unclosed(span=place.of_sign(opening), opening=opening.text, closing=closing)


def _jinja(place: Place) -> Problem | None:
    """`{{ n }}` where no template is: the second brace is what cannot be read."""
    if place.found != "{" or place.text[place.at - 1 : place.at] != "{":
        return None
    return problems.UnexpectedWord(
        span=place.span(place.at - 1, 2), found="{{", expected=(), advice=TEMPLATES
    )


_WITH_A_UNIT = re.compile(r"(?!-?[\d.]+[eE][+-]?\d+\b)-?\d[\d.]*[A-Za-z_%]\w*")


def _unit(place: Place) -> Problem | None:
    """`30s` and `1_000`: a number, and a name that touches it."""
    if place.kind in _BLOCKS and len(place.before) > 2:
        equals, number, unit = place.before[-3:]
        between = place.text[number.end : unit.start]
        if equals.text == "=" and re.fullmatch(r"-?[\d.]+", number.text) and between == " ":
            return problems.UnexpectedWord(
                span=place.of_sign(unit),
                found=unit.text,
                expected=("a name", "`}`"),
                advice=f"a number has no unit: `{number.text}`",
            )
    for sign in place.before[-2:]:
        whole = _WITH_A_UNIT.match(place.text, sign.start)
        if whole and re.fullmatch(r"-?[\d.]+", sign.text):
            digits = whole[0].replace("_", "")
            plain = digits if re.fullmatch(r"-?[\d.]+", digits) else sign.text
            why = "`_` between its digits" if plain == digits else "unit"
            return problems.UnexpectedWord(
                span=place.span(sign.start, len(whole[0])),
                found=whole[0],
                expected=("a value",),
                advice=f"a number has no {why}: `{plain}`",
            )
    return None


def _no_template(place: Place) -> Problem | None:
    """`system persona`: a column, where only a template can stand."""
    if place.accepted - {"DOT"} != {"LPAR"}:
        return None
    start = len(place.before) - 1
    while start > 1 and place.before[start - 1].text == ".":
        start -= 2
    first, last = place.before[start], place.before[-1]
    path = place.text[first.start : last.end]
    word = place.before[start - 1].text
    if word != "system":
        return None
    return problems.UnexpectedWord(
        span=place.span(first.start, len(path)),
        found=path,
        expected=("a template",),
        advice=f'a template prints it: `{word} "{{{{ {path} }}}}"`',
    )


def _input_among_parameters(place: Place) -> Problem | None:
    """`task answer(in topic: text)`."""
    head = place.kind == "task" and len(place.opened) == 1 and place.opened[0].text == "("
    if not head or place.found not in ("in", "out", "let"):
        return None
    column = re.match(rf"{place.found}\s+\w+\s*:\s*\w+(\[\]|\?)*", place.text[place.at :])
    shown = " ".join(column[0].split()) if column else f"{place.found} name: text"
    what = "inputs" if place.found == "in" else "columns"
    made = "" if place.found == "in" else " = …"
    return problems.UnexpectedWord(
        span=place.span(),
        found=place.found,
        expected=("a parameter",),
        advice=f"{what} stand inside of the task: `task {place.before[1].text} {{ {shown}{made} … }}`",
    )


def _group(place: Place) -> Problem | None:
    """`extra = { a = 1 }`: a group of settings, written as a value."""
    if place.found not in ("=", "}") or not place.opened or place.kind not in _BLOCKS:
        return None
    index = place.before.index(place.opened[-1])
    if place.opened[-1].text != "{" or index < 2 or place.before[index - 1].text != "=":
        return None
    name = place.before[index - 2]
    span = place.span(name.start, place.opened[-1].start - name.start + 1)
    return problems.WrongCall(span=span, callee=name.text, form=f"{name.text} {{ … }}")


def _reserved(place: Place) -> Problem | None:
    """A reserved word where something else than the language's own use of it follows."""
    if place.found not in RESERVED or "NAME" not in place.accepted:
        return None
    rest = place.text[place.at + len(place.found) :].lstrip()
    if (place.found in PRODUCERS and rest.startswith('"')) or place.last() == "each":
        return None
    as_name = rest[:1] in (":", "=", ",", ")", ".", "]", "{") or place.on_new_line is False
    if not as_name or (place.last() == "ask" and place.on_new_line):
        return None
    if told := _not_here(place, rest):
        return problems.UnexpectedWord(
            span=place.span(), found=place.found, expected=(), advice=told
        )
    return problems.ReservedWord(span=place.span(), word=place.found)


def _not_here(place: Place, rest: str) -> str | None:
    """Where a word of the language belongs that was written among arguments, or as a step."""
    word = place.found
    if place.callee and word in ("using", "as", "where", "when"):
        value = re.match(r"[=:]\s*(\$?[\w.]+|\"[^\"\n]*\")", rest)
        if value and word == "using":
            return f"it follows the brackets: `{place.callee}(…) using {value[1].strip(chr(34))}`"
        if value and word == "as" and value[1].strip('"').isidentifier():
            return f"it follows the brackets: `{place.callee}(…) as {value[1].strip(chr(34))}`"
        if value and word == "where":
            return 'rows are kept by a step: `|> where("…")`'
    if place.last() == "|>" and word == "sample":
        return "rows of another table are drawn with `draw(3, from = examples) as shots`"
    if place.last() == "|>" and word == "ask":
        return 'what is asked stands in a task: `task name { out answer: text = ask "…" }`'
    return None


def _misspelt(place: Place) -> Problem | None:
    """A word before a string or a number that was meant as what makes a column."""
    word = place.last()
    if place.last(2) != "=" or not word.isidentifier() or word in RESERVED:
        return None
    producer = nearest(word, PRODUCERS)
    if not place.found.startswith('"') and not (producer and place.found[:1].isdigit()):
        return None
    if len(word) == 1:
        return None  # a letter before a string, as Python has it
    return problems.UnexpectedWord(
        span=place.of_sign(place.before[-1]),
        found=word,
        expected=(*(f"`{producer}`" for producer in PRODUCERS), "a value"),
        advice=f"did you mean `{producer}`?" if producer else 'a prompt is written `ask "…"`',
    )


_RULES: tuple[Callable[[Place], Problem | None], ...] = (
    _open_string,
    _unquoted_sql,
    _open_bracket,
    _jinja,
    _unit,
    _no_template,
    _input_among_parameters,
    _group,
    _reserved,
    _misspelt,
)


def _unexpected(place: Place) -> Problem:
    expected = _expected(place)
    shown = place.found.split("\n")[0]
    shown = shown if len(shown) < 40 and shown == place.found else shown[:36] + " …"
    if place.before and expected and "a declaration" not in expected:
        # What is missing at the end of a line is missing there, not where the next line starts.
        word = place.found.isidentifier() or place.found in CLOSING.values()
        unfinished = len(expected) <= 2 or place.last() in ("=", "|", ",", ":")
        if not place.found or (word and place.on_new_line and unfinished):
            last = place.before[-1]
            return problems.UnexpectedWord(
                span=place.of_sign(last),
                found=shown,
                expected=expected,
                after=last.text if len(last.text) < 40 and "\n" not in last.text else "…",
                advice=advice(place, expected),
            )
    if not place.found:
        place_span = place.span(max(0, place.at - 1), 1)
        return problems.UnexpectedWord(span=place_span, found="", expected=expected)
    return problems.UnexpectedWord(
        span=place.span(), found=shown, expected=expected, advice=advice(place, expected)
    )


_NAME = {"NAME", "QUOTED_NAME", *(word.upper() for word in (*DECLARATIONS, *CONTEXTUAL))}
_TEXT = {"STRING", "LONG_STRING"}
_VALUE = {*_TEXT, "NUMBER", "DOLLAR_NAME", "LSQB", "LBRACE", "NAME"}
_TYPE = {*_TEXT, "NUMBER", "LBRACE", "LPAR", "NAME"}
_GROUPS: tuple[tuple[str, set[str], set[str]], ...] = (
    # What it is called, the terminals that must all be accepted, those that it stands for.
    ("a pattern `/…/`", {"REGEX"}, {"REGEX", *_NAME}),
    ("a template", {*_TEXT, "NAME", "ONE"}, {*_TEXT, *_NAME, "ONE"}),
    ("a value", _VALUE, {*_VALUE, *_NAME}),
    ("a type", _TYPE, {*_TYPE, *_NAME}),
    ("a template", {*_TEXT, "NAME"}, {*_TEXT, *_NAME}),
    ("a declaration", {"EMBEDDER", "TABLE"}, {word.upper() for word in DECLARATIONS}),
    ("a name", {"NAME"}, _NAME),
    ("a string", _TEXT, _TEXT),
    ("a number", {"NUMBER"}, {"NUMBER"}),
    ("a `$parameter`", {"DOLLAR_NAME"}, {"DOLLAR_NAME"}),
)
_LINES = {"IN", "LET", "OUT"}
_MINOR = (".", "?", "[")
"""Signs that could nearly always follow, and that nobody forgets."""


def _expected(place: Place) -> tuple[str, ...]:
    """What could have stood at the place, in words of the language; () where that is too much to say."""
    left = set(place.accepted)
    if left >= _LINES:
        left -= {*_TEXT, "TAGS"}  # nobody who stumbles here meant a description
    words: list[str] = []
    for name, needed, stands_for in _GROUPS:
        if left >= needed and (name != "a declaration" or place.declares):
            words.append(name)
            left -= stands_for
    accepted = [place.patterns.get(terminal, terminal) for terminal in left]
    telling = [sign for sign in accepted if sign not in _MINOR]
    telling = [sign for sign in telling if sign != "(" or not (words or len(telling) > 1)]
    words += sorted(
        (f"`{sign}`" for sign in telling),
        key=lambda sign: (sign.strip("`").isalpha(), sign),
    )
    return tuple(words) if len(words) <= MOST_EXPECTED else ()
