"""How an ask says that its answer becomes columns, checked: the right marks, the right groups."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from synthc.compiler import ast, typed, types
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse.words import CONTRACTS
from synthc.compiler.span import Span
from synthc.compiler.types import Type

Report = Callable[[Problem], None]
Columns = list[tuple[ast.Column, Type]]
"""The columns of an ask, with the types that one answer has to fill."""

INDEX = "index"
"""The group of `lines` that says which element of the list a line is about."""

_FLAGS = "ims"
_OTHERS = {
    **dict.fromkeys(("xml", "xpath"), 'what stands in a tag is `as tag("answer")`'),
    **dict.fromkeys(
        ("int", "float", "bool", "list", "object", "string", "number"),
        "leave it out: the declared type says how the answer is read",
    ),
}
"""Contracts that other tools have, and ours for them."""


def check_contract(ask: ast.Ask, columns: Columns, *, tuple_: bool, report: Report) -> Any:
    """The contract of an ask; None where a problem was reported. `per` is only a name here."""
    plain = len(columns) == 1 and isinstance(types.required(columns[0][1]), types.Text)
    if not ask.contracts:
        kind = "text" if plain and not tuple_ else "json"
        return typed.Contract(kind) if _fills(kind, columns, None, report) else None
    node = ask.contracts[0]
    kind = node.name.text
    if kind not in CONTRACTS:
        known = tuple(CONTRACTS)
        advice = _OTHERS.get(kind)
        report(
            problems.UnknownDeclaration(
                span=node.name.span, kind="contract", name=kind, known=known, advice=advice
            )
        )
        return None
    if node.per and kind != "lines":
        report(problems.WrongCall(span=node.span, callee=kind, form=CONTRACTS[kind]))
        return None
    if not _fills(kind, columns, node, report):
        return None
    match kind:
        case "text" | "json":
            return typed.Contract(kind) if not node.details else _wrong(node, report)
        case "after" | "tag":
            return _one_mark(node, report)
        case "sections":
            return _sections(node, columns, report)
        case _:
            return _pattern(node, columns, report)


def _fills(kind: str, columns: Columns, node: ast.Contract | None, report: Report) -> bool:
    """Whether an answer of this kind can be values of the columns' types."""
    for column, type_ in columns:
        if not _can_fill(kind, types.required(type_)) or (
            kind in ("text", "after", "tag") and len(columns) > 1
        ):
            span = node.name.span if node else column.name.span
            names = tuple(types.name(t) for _, t in columns)
            picture = any(types.has_image(t) for _, t in columns)
            report(
                problems.ContractCannotFill(span=span, contract=kind, types=names, picture=picture)
            )
            return False
    return True


_UNANSWERED = (types.Vector, types.Other, types.Audio)


def _can_fill(kind: str, type_: Type) -> bool:
    match kind:
        case "text" | "after" | "tag":
            return isinstance(type_, types.Text)
        case "json":
            # What a model says must never name a file to be sent.
            return not isinstance(type_, _UNANSWERED) and not types.has_image(type_)
        case "lines":
            return isinstance(type_, types.ListOf) and _is_scalar(types.required(type_.element))
        case _:
            return _is_scalar(type_)


def _is_scalar(type_: Type) -> bool:
    return isinstance(type_, types.Text | types.Int | types.Float | types.Bool | types.Choice)


def _wrong(node: ast.Contract, report: Report) -> None:
    kind = node.name.text
    report(problems.WrongCall(span=node.span, callee=kind, form=CONTRACTS[kind]))


def _one_mark(node: ast.Contract, report: Report) -> typed.Contract | None:
    match node.details:
        case (ast.Detail(None, ast.String(text)),) if text.strip():
            mark = text.strip().strip("<>/") if node.name.text == "tag" else text.strip()
            if node.name.text != "tag" or re.fullmatch(r"[A-Za-z][\w.-]*", mark):
                return typed.Contract(node.name.text, marks=(mark,))
        case _:
            pass
    return _wrong(node, report)


def _sections(node: ast.Contract, columns: Columns, report: Report) -> typed.Contract | None:
    """Every column has its heading, and no two the same."""
    headings: dict[str, str] = {}
    names = [column.name.text for column, _ in columns]
    for detail in node.details:
        name = detail.name.text if detail.name else names[0]
        if not isinstance(detail.mark, ast.String) or (detail.name is None and len(names) > 1):
            return _wrong(node, report)
        if name not in names and detail.name:
            owner = "what this `ask` makes"
            report(
                problems.UnknownColumn(
                    span=detail.name.span, owner=owner, name=name, known=tuple(names)
                )
            )
            return None
        same = [n for n, mark in headings.items() if _bare(mark) == _bare(detail.mark.text)]
        if name in headings or same or not _bare(detail.mark.text):
            word = name if name in headings else detail.mark.text
            if not _bare(detail.mark.text):
                return _wrong(node, report)
            report(problems.SaidTwice(span=detail.span, word=word))
            return None
        headings[name] = detail.mark.text
    missing = [name for name in names if name not in headings]
    if missing:
        report(
            problems.MissingMark(
                span=node.name.span, contract="sections", columns=tuple(missing), groups=()
            )
        )
        return None
    return typed.Contract("sections", marks=tuple(headings[name] for name in names))


def _bare(heading: str) -> str:
    return heading.strip().strip("#*_: \t").casefold()


def _pattern(node: ast.Contract, columns: Columns, report: Report) -> typed.Contract | None:
    match node.details:
        case (ast.Detail(None, ast.Regex() as regex),):
            pass
        case _:
            return _wrong(node, report)
    import re2  # only the specs that have one pay for it

    flags = "".join(dict.fromkeys(regex.flags))
    text = f"(?{flags}){regex.pattern}" if flags else regex.pattern
    if set(flags) - set(_FLAGS):
        wanted, found = "made of the flags `i`, `m` and `s`", f"`{regex.flags}`"
        what = "what follows a pattern"
        report(problems.BadValue(span=regex.span, what=what, wanted=wanted, found=found))
        return None
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else "it cannot be read"
        reason = reason.decode() if isinstance(reason, bytes) else str(reason)
        report(_bad_pattern(regex, reason))
        return None
    names = [column.name.text for column, _ in columns]
    groups = tuple(sorted(compiled.groupindex, key=lambda name: compiled.groupindex[name]))
    own = [group for group in groups if group != INDEX or node.name.text == "regex"]
    missing = [name for name in names if name not in groups]
    alone = len(names) == 1 and (len(own) == 1 or (not groups and compiled.groups == 1))
    if missing and not alone:
        report(
            problems.MissingMark(
                span=regex.inner,
                contract=node.name.text,
                columns=tuple(missing),
                groups=groups,
                only=len(names) == 1,
            )
        )
        return None
    if node.name.text == "lines" and not node.per and INDEX in groups and INDEX not in names:
        at = regex.pattern.find(f"<{INDEX}>") + 1
        place = Span(
            regex.inner.file,
            regex.inner.line,
            regex.inner.column + at,
            regex.inner.line,
            regex.inner.column + at + len(INDEX),
        )
        report(problems.IndexWithoutList(span=place))
        return None
    per = str(node.per) if node.per else None
    return typed.Contract(node.name.text, pattern=text, per=per)


_REASONS = {
    "invalid perl operator": "RE2 has no `{}`",
    "invalid escape sequence": "RE2 has no `{}`",
    "missing )": "a `(` is not closed",
    "unexpected )": "this `)` closes nothing",
    "missing ]": "a `[` is not closed",
    "no argument for repetition operator": "`{}` repeats nothing",
    "bad repetition operator": "`{}` repeats a repetition",
    "invalid repetition size": "`{}` repeats too often",
    "invalid character class range": "`{}` is no range",
    "invalid named capture group": "`{}` is no name for a group",
}
"""What RE2 says, and how it is said here."""


def _bad_pattern(regex: ast.Regex, reason: str) -> Problem:
    """What RE2 says of a pattern, at the part that it quotes."""
    kind, _, part = reason.partition(": ")
    shown = _REASONS.get(kind, reason).format(part)
    start = regex.pattern.find(part) if part and kind not in ("missing )", "unexpected )") else -1
    span = regex.inner
    if start >= 0:
        column = span.column + start
        span = Span(span.file, span.line, column, span.line, column + len(part))
    return problems.BadPattern(span=span, reason=shown)
