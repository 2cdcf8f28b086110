"""Templates → Jinja's own tree, with the offset of every node, and errors in words of our own.

Jinja keeps the line of a node. It never looks at that number itself, so what stands there here is
the offset of the node's first character: places in prompts are as exact as places in the spec.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.lexer import TokenStream
from jinja2.parser import Parser

from synthc.compiler.diagnostics.problem import nearest

_TAGS = ("if", "elif", "else", "endif", "for", "endfor", "set", "endset", "filter", "endfilter")
_TAGS += ("with", "endwith", "macro", "endmacro", "call", "endcall", "raw", "endraw")
_CLOSING = {"{{": "}}", "{%": "%}", "{#": "#}"}
_NAMES = {
    "end of print statement": "`}}`",
    "end of statement block": "`%}`",
    "begin of print statement": "`{{`",
    "begin of statement block": "`{%`",
    "end of template": "the end of the template",
    "name": "a name",
}
_SIGNS = {
    "$": "a parameter stands in a template without `$`",
    "&": "write `and`",
    "!": "write `not`",
    "?": "write `{{ a if b else c }}`",
}


@dataclass(frozen=True, slots=True)
class Unreadable(Exception):
    """What keeps a template from being read, and where in it."""

    offset: int
    length: int
    reason: str
    advice: str | None = None


_Token = tuple[int, str, str]
"""Offset, kind and text of a token, as Jinja's lexer gives them (with the line for the offset)."""


def read(text: str, environment: Environment) -> nodes.Template:
    """The tree of a template; each node's `lineno` is the offset of its start.

    Raises Unreadable.
    """
    tokens: list[_Token] = []
    parser = Parser(environment, "")
    try:
        tokens.extend(_located(text, environment))  # those before an error stay
        parser.stream = TokenStream(environment.lexer.wrap(tokens), None, None)
        return parser.parse()
    except TemplateSyntaxError as error:
        raise _unreadable(text, tokens, error) from None


def _located(text: str, environment: Environment) -> Iterator[_Token]:
    """The tokens with their offsets; an error of the lexer carries the offset where it stopped."""
    at = 0
    try:
        for _, kind, value in environment.lexer.tokeniter(text, None):
            found = text.find(value, at)  # `{%-` leaves out the blanks before it
            at = found if found >= 0 else at
            yield at, kind, value
            at += len(value)
    except TemplateSyntaxError as error:
        raise TemplateSyntaxError(error.message or "", at) from None


def _unreadable(text: str, tokens: list[_Token], error: TemplateSyntaxError) -> Unreadable:
    message = (error.message or "").rstrip(".")
    at = min(error.lineno, len(text))
    opened = _last_opened(text, tokens, at)
    if message.startswith(("Missing end of comment", "Missing end of raw")):
        at = max(text.rfind("{#"), text.rfind("{%")) if "raw" in message else text.rfind("{#")
        return _not_closed(at, text[at : at + 2])
    if opened is not None and (
        message.startswith("unexpected end of template, expected 'end of")
        or (message == "unexpected '}'" and text[at : at + 2] != "}}")
    ):
        return _not_closed(*opened)
    if message.startswith(("Encountered unknown tag", "Unexpected end of template")):
        return _wrong_tag(text, tokens, at, message)
    word = re.match(r"\w+|\S\S?|", text[at:])
    length = len(word[0]) if word else 1
    if found := re.match(r"unexpected char '(.)' at \d+", message):
        reason = f"`{found[1]}` cannot stand here"
        return Unreadable(at, 1, reason, _SIGNS.get(found[1]))
    if found := re.match(r"Expected an expression, got '(.+)'", message):
        return Unreadable(at, length, f"a value is missing before {_named(found[1])}")
    if found := re.match(r"unexpected '(end of .+|begin of .+)'", message):
        return Unreadable(at, length, f"a value is missing before {_named(found[1])}")
    if found := re.match(r"expected token '(.+)', got '(.+)'", message):
        reason = f"expected {_named(found[1])}, found {_named(found[2])}"
        return Unreadable(at, length, reason, _habit(text, at, found[2]))
    reason = message[:1].lower() + message[1:].replace("'", "`")
    return Unreadable(at, length, reason)


def _habit(text: str, at: int, found: str) -> str | None:
    """What is written otherwise in other template languages, in Python and in SQL."""
    begin = max(text.rfind("{{", 0, at), text.rfind("{%", 0, at))
    before, after = text[begin:at].rstrip(), text[at:]
    if before.endswith(("{{", "{{'", '{{"')) or re.match(r"\{\{-?\s*[\"'][^\"']*[\"']$", before):
        return (
            "braces of JSON that are meant as text are single: `{`, `}`" if found == ":" else None
        )
    if before.endswith("else") and found == "if":
        return "write `elif`"
    if found == "=" and "set" not in before:
        return "write `==`"
    if found == ":" and re.search(r"\|\s*\w+$", before):
        return 'what a filter is given stands in brackets: `join(", ")`'
    if found == "|" or (found == "name" and after.startswith("|")):
        return "texts are joined by `~`"
    return None


def _named(token: str) -> str:
    return _NAMES.get(token, f"`{token}`")


def _not_closed(at: int, opening: str) -> Unreadable:
    return Unreadable(at, 2, f"`{opening}` is not closed with `{_CLOSING.get(opening, '…')}`")


def _last_opened(text: str, tokens: list[_Token], at: int) -> tuple[int, str] | None:
    begins = [o for o, kind, _ in tokens if kind in ("variable_begin", "block_begin") and o <= at]
    return (begins[-1], text[begins[-1] : begins[-1] + 2]) if begins else None


def _wrong_tag(text: str, tokens: list[_Token], at: int, message: str) -> Unreadable:
    """A tag that there is not, that closes nothing, or that is not closed."""
    open_tags: list[tuple[int, str]] = []
    words = [token for token in tokens if token[1] != "whitespace"]
    for begin, (offset, _, tag) in itertools.pairwise(words):
        if begin[1] != "block_begin" or offset >= at:
            continue
        if tag.startswith("end") and open_tags:
            open_tags.pop()
        elif f"end{tag}" in _TAGS and not (
            tag == "set" and "=" in text[offset:].split("%}", maxsplit=1)[0]
        ):
            open_tags.append((offset, tag))
    if message.startswith("Unexpected end"):
        named = re.search(r"needs to be closed is '(\w+)'", message)
        offset, tag = open_tags[-1] if open_tags else (at, named[1] if named else "if")
        return Unreadable(
            offset, len(tag), f"`{{% {tag} %}}` is not closed with `{{% end{tag} %}}`"
        )
    found = re.search(r"unknown tag '(\w+)'", message)
    tag = found[1] if found else text[at:].split(maxsplit=1)[0]
    if tag in _TAGS:
        inner = f": what is open is `{{% {open_tags[-1][1]} %}}`" if open_tags else ""
        return Unreadable(at, len(tag), f"`{{% {tag} %}}` belongs to nothing here{inner}")
    near = nearest(tag, _TAGS)
    if tag.startswith("end") and open_tags:
        near = f"end{open_tags[-1][1]}"
    advice = f"did you mean `{near}`?" if near else "to print a value, write `{{ … }}`"
    return Unreadable(at, len(tag), f"there is no tag `{tag}`", advice)
