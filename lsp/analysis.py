"""What the compiler knows of a text that may be half a spec."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synthc.compiler import ast, typed
from synthc.compiler.check.check import examine
from synthc.compiler.check.files import Reader
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.link import link
from synthc.compiler.parse.parse import parse
from synthc.compiler.span import Span
from synthc.compiler.types import Field
from synthc.lsp.pieces import Piece, outline, piece_at, sliced

_SMALL = 3_000
"""Characters below which a spec is looked at whole."""


@dataclass(frozen=True, slots=True)
class File:
    """A spec in an editor: its text, its name and folder, and the texts of others that are not saved."""

    text: str
    name: str
    base: Path
    unsaved: tuple[tuple[str, str], ...] = ()

    def with_text(self, text: str) -> File:
        """The file, if its text were another."""
        return File(text, self.name, self.base, self.unsaved)


@dataclass(frozen=True, slots=True)
class Analysis:
    """A file's own tree, the tree with all it uses, what holds of it, and what is wrong.

    `columns` are what `check.Examined` says of them; `sources` the texts that places are in.
    """

    file: File
    spec: ast.Spec
    linked: ast.Spec
    typed: typed.Spec
    problems: tuple[Problem, ...]
    columns: Mapping[Span, tuple[Field, ...]]
    sources: Mapping[str, str]


@functools.lru_cache(maxsize=64)
def analysed(file: File) -> Analysis:
    """The analysis of a whole text. Files that it uses are read once for each text of it."""
    spec, found = parse(file.text, file.name)
    linked = link(spec, file.base, found.append, dict(file.unsaved))
    examined = examine(linked.spec, {}, file.base, _reader(file.base))
    problems = [*found, *examined.problems]
    errors = [problem for problem in problems if problem.severity == "error"]
    # What is unused may be so only because of an error.
    told = tuple(dict.fromkeys(errors or problems))
    sources = {**linked.texts, file.name: file.text}
    return Analysis(file, spec, linked.spec, examined.spec, told, examined.columns, sources)


@functools.lru_cache(maxsize=8)
def _reader(base: Path) -> Reader:
    """What looks into the data files of a folder, and remembers what it found."""
    return Reader(base)


def around(file: File, line: int) -> Analysis:
    """What is known of the declaration at a line (from 0), and of those that it needs."""
    return of_pieces(file, (piece_at(file.text, line),))


def of_pieces(file: File, chosen: tuple[Piece, ...]) -> Analysis:
    """What is known of some declarations, and of those that they need."""
    if len(file.text) < _SMALL or len(outline(file.text)) < 2:
        return analysed(file)
    return analysed(file.with_text(sliced(file.text, chosen)))


def cut(file: File, piece: Piece, text: str) -> Analysis:
    """What would be known if a declaration had another text: its beginning, up to where it breaks."""
    return analysed(file.with_text(sliced(file.text, (piece,), {piece.line: text})))
