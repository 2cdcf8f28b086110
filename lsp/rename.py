"""Other names for what a file declares, in it and in the files that use it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from synthc.compiler import ast
from synthc.compiler.parse.words import FORMS, RESERVED
from synthc.compiler.span import Span
from synthc.lsp import symbols
from synthc.lsp.analysis import Analysis, File, analysed
from synthc.lsp.definition import declared
from synthc.lsp.symbols import Occurrence
from synthc.lsp.text import Position

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DECLARED = ("task", "type", "param", "backend", "embedder", "mutations", "table", "expect")
_OWN = ("param", "table", "expect")
"""What no other file can name."""


class Refused(Exception):
    """Something that cannot be renamed, with a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A stretch of a file and the text that takes its place."""

    span: Span
    text: str


def renamable(analysis: Analysis, place: Position) -> Span:
    """The stretch of the name at a position. Raises Refused where it cannot be renamed."""
    return _last(_found(analysis, place))


def _last(found: Occurrence) -> Span:
    """The last word of a name: `instruct` of `evol.instruct`."""
    span, word = found.span, found.name.rsplit(".", maxsplit=1)[-1]
    if span.line == span.end_line and span.end_column - span.column > len(word):
        if span.end_column - span.column == len(word) + 2 and "." not in found.name:
            return span  # in backquotes
        return Span(span.file, span.line, span.end_column - len(word), span.line, span.end_column)
    return span


def _found(analysis: Analysis, place: Position) -> Occurrence:
    found = symbols.at(analysis, place)
    if found is None:
        raise Refused("there is no name here that a spec declares")
    if found.kind == "column":
        if not _local(analysis, found):
            raise Refused(
                f"`{found.name}` is a column that tables and their SQL know by its name: "
                "rename it where it is made, and in each step that names it"
            )
    elif "." in found.name:
        raise Refused(f"`{found.name}` is declared in another file: rename it there")
    elif found.kind not in _DECLARED or declared(analysis, found) is None:
        raise Refused(f"`{found.name}` is not declared in this file")
    elif found.name in FORMS:
        raise Refused(f"`{found.name}` is a word of the language")
    return found


def _local(analysis: Analysis, found: Occurrence) -> bool:
    """Whether only its own task knows a column: what `let`, `each` or a loop makes."""
    for node in analysis.spec.declarations:
        if isinstance(node, ast.Task) and node.name.text == found.owner:
            public = [column.name.text for column in node.inputs]
            public += [
                column.name.text
                for produce in node.produces
                if produce.keyword == "out"
                for column in produce.columns
            ]
            return found.name not in public
    return False


def renamed(
    analysis: Analysis, place: Position, name: str, users: Mapping[str, File]
) -> dict[str, list[Edit]]:
    """The edits by file (the spec's own under its name, `users` under their keys).

    `users` are other files of the folder. What comes of the edits is compiled before they are given:
    raises Refused where the new name is none, is taken, or would change what is wrong with a spec.
    """
    found = _found(analysis, place)
    word = name.strip("`")
    if not _NAME.fullmatch(word) or word in RESERVED:
        raise Refused(f"`{name}` is no name: letters, digits and `_`, and no reserved word")
    if word == found.name:
        return {}
    if any(
        o.declares and o.kind == found.kind and o.owner == found.owner and o.name == word
        for o in symbols.occurrences(analysis)
    ):
        raise Refused(f"`{word}` is declared already")
    own = analysis.file
    edits = {own.name: _edits(analysis, found, word)}
    texts = {own.name: applied(own.text, edits[own.name])}
    theirs = found.kind == "param" if found.owner else found.kind not in _OWN
    for key, user in users.items() if theirs else ():
        if changed := _in_user(own.name, found, word, analysed(user)):
            edits[key] = changed
            texts[key] = applied(user.text, changed)
    unsaved = dict(own.unsaved) | {str(own.base / own.name): texts[own.name]}
    for key, text in texts.items():
        file = own if key == own.name else users[key]
        after = analysed(File(text, file.name, file.base, tuple(sorted(unsaved.items()))))
        if _codes(after) != _codes(analysed(file)):
            raise Refused(
                f"`{found.name}` cannot become `{word}`: `{file.name}` would mean something else"
            )
    return edits


def _codes(analysis: Analysis) -> list[str]:
    return sorted(problem.code for problem in analysis.problems)


def _edits(analysis: Analysis, found: Occurrence, word: str) -> list[Edit]:
    spans = {_last(o) for o in symbols.occurrences(analysis) if o.same == found.same}
    return [Edit(span, word) for span in sorted(spans)]


def _in_user(file: str, found: Occurrence, word: str, user: Analysis) -> list[Edit]:
    """The edits of a file that uses the renamed one, under the names that it knows its things by."""
    spans: set[Span] = set()
    for node in user.spec.declarations:
        if not isinstance(node, ast.Use) or f"{node.path.text}.synth" != file:
            continue
        stem = node.path.text.rsplit("/", maxsplit=1)[-1]
        namespace = node.name.text if node.name else stem
        for one in symbols.occurrences(user):
            name = one.owner if found.owner else one.name
            wanted = f"{namespace}.{found.owner or found.name}"
            same = one.kind == found.kind and name == wanted
            if same and (not found.owner or one.name == found.name):
                spans.add(_last(one))
    return [Edit(span, word) for span in sorted(spans)]


def applied(text: str, edits: list[Edit]) -> str:
    """The text with the edits made; each is within one line."""
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda e: e.span, reverse=True):
        line = lines[edit.span.line - 1]
        start, end = edit.span.column - 1, edit.span.end_column - 1
        lines[edit.span.line - 1] = line[:start] + edit.text + line[end:]
    return "\n".join(lines)
