"""Problems as text for people, and as plain values for programs."""

from __future__ import annotations

import inspect
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from synthc.compiler.diagnostics.catalogue import catalogue
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span

Style = Callable[[str, str], str]
"""How a part of a message is shown: the role (`error`, `place`, …) and its text give a text."""


def plain(_role: str, text: str) -> str:
    """No colours."""
    return text


def render(problem: Problem, sources: Mapping[str, str], style: Style = plain) -> str:
    """One problem as a person reads it: headline, place, the line with its mark, what to do."""
    lines = [
        style(problem.severity, f"{problem.severity}[{problem.code}]")
        + style("message", f": {problem.message()}")
    ]
    marks = [(problem.span, problem.label(), "^")]
    if other := problem.other():
        marks.append((*other, "-"))
    margin = " " * len(str(max(span.line for span, _, _ in marks)))
    for span, label, mark in marks:
        arrow = "-->" if mark == "^" else ":::"
        lines.append(style("place", f"{margin}{arrow} {span}"))
        lines += _snippet(span, label, mark, margin, sources, style)
    if help_ := problem.help():
        lines.append(style("place", f"{margin} = ") + style("help", "help") + f": {help_}")
    return "\n".join(lines)


def _snippet(
    span: Span, label: str, mark: str, margin: str, sources: Mapping[str, str], style: Style
) -> list[str]:
    text = sources.get(span.file)
    if text is None:
        return []
    source = text.split("\n")
    line = source[span.line - 1] if span.line <= len(source) else ""
    end = span.end_column if span.end_line == span.line else len(line) + 1
    # Tabs stay tabs under the mark too, so that it stands where the text does.
    before, marked_text = line[: span.column - 1], line[span.column - 1 : end - 1]
    indent = "".join("\t" if c == "\t" else " " * _columns(c) for c in before)
    width = max(1, _columns(marked_text))
    bar = style("place", f"{margin} |")
    number = style("place", f"{span.line:>{len(margin)}} |")
    marked = style("error" if mark == "^" else "place", f"{mark * width} {label}".rstrip())
    return [bar, f"{number} {line}", f"{bar} {indent}{marked}"]


def _columns(text: str) -> int:
    """How wide a terminal shows the text: signs of East Asia take two columns, accents none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def summary(problems: Iterable[Problem]) -> str:
    """How many errors and warnings there are, in one line."""
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.severity] = counts.get(problem.severity, 0) + 1
    return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts.items())


def as_json(problem: Problem, sources: Mapping[str, str]) -> dict[str, Any]:
    """One problem as a program reads it: file, range (from 1, the end exclusive), code, message.

    Where what was meant can be told, `edit` is the text to put in the place of the range.
    """
    span = problem.span
    other = problem.other()
    return {
        "file": span.file,
        "range": {
            "start": {"line": span.line, "column": span.column},
            "end": {"line": span.end_line, "column": span.end_column},
        },
        "edit": _edit(problem, sources),
        "severity": problem.severity,
        "code": problem.code,
        "message": problem.message(),
        "label": problem.label() or None,
        "help": problem.help(),
        "other": {"place": str(other[0]), "label": other[1]} if other else None,
    }


def _edit(problem: Problem, sources: Mapping[str, str]) -> str | None:
    """What was meant, in quotes where what it takes the place of has them."""
    meant, span = problem.meant(), problem.span
    text = sources.get(span.file)
    if meant is None or text is None or span.line != span.end_line:
        return None
    marked = text.split("\n")[span.line - 1][span.column - 1 : span.end_column - 1]
    quoted = marked.startswith('"') and not meant.startswith('"')
    return json.dumps(meant, ensure_ascii=False) if quoted else meant


def as_annotation(problem: Problem, folder: str) -> str:
    """One problem as GitHub shows it beside the line of a pull request, `folder` that of the spec.

    The form is that of its workflow commands; what it cannot hold is escaped as they say.
    """
    span = problem.span
    place = {
        "file": f"{folder}/{span.file}" if folder else span.file,
        "line": str(span.line),
        "endLine": str(span.end_line),
        "col": str(span.column),
        "endColumn": str(span.end_column),
        "title": problem.code,
    }
    text = "\n".join(filter(None, (problem.message(), problem.label(), problem.help())))
    shown = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in place.items())
    return f"::{problem.severity} {shown}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    for sign in f"%\r\n{more}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


_PAGE = """\
# Errors and warnings

<!-- Made by `synthc explain --markdown > docs/errors.md` from compiler/diagnostics/catalogue.py. -->

What the compiler can say of a spec, by code; `synthc explain CODE` prints one of them. All of it is said
before anything is sent.
"""


def as_markdown() -> str:
    """The pages of all codes, as one page."""
    parts = [_PAGE]
    for code, problem in sorted(catalogue().items()):
        first, _, rest = _page(problem).partition("\n")
        facts = re.sub(r"^(What|Why|Example|Fix):", r"- **\1**:", rest.strip(), flags=re.M)
        facts = re.sub(r"^(?!- )", "  ", facts, flags=re.M)
        parts.append(f"## {code}\n\n{first} ({problem.severity.capitalize()}.)\n\n{facts}\n")
    return "\n".join(parts)


def explain(code: str) -> str | None:
    """The page of a code: what, why, an example, the fix. None where there is no such code."""
    problem = catalogue().get(code.upper())
    if problem is None:
        return None
    return f"{problem.code} ({problem.severity})\n\n{_page(problem)}"


def _page(problem: type[Problem]) -> str:
    # Three quotes cannot stand in a docstring as they are.
    return inspect.cleandoc(problem.__doc__ or "").replace('\\"', '"')
