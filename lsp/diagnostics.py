"""What is wrong with a text, quickly after an edit and then as a whole."""

from __future__ import annotations

from msgspec.structs import replace

from synthc.compiler.diagnostics.catalogue import Unused
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span
from synthc.lsp.analysis import Analysis, File, analysed
from synthc.lsp.pieces import Piece, outline, sliced


def edited(file: File, before: Analysis) -> tuple[Problem, ...]:
    """The problems of a text whose former one was looked at whole.

    What changed is looked at again, with what it needs; what did not keeps its problems, at the lines
    where it stands now. What an edit does to other declarations, and whether any of them uses what
    changed, is known when the whole is looked at.
    """
    old = {piece.text: piece for piece in outline(before.file.text)}
    pieces = outline(file.text)
    changed = tuple(piece for piece in pieces if piece.text not in old)
    if not changed:
        found: list[Problem] = []
    else:
        slice_ = analysed(file.with_text(sliced(file.text, changed)))
        there = (p for p in slice_.problems if _in(p.span, changed, file.name))
        found = [p for p in there if not _of_users(p, changed)]
    for piece in pieces:
        if piece.text in old and piece not in changed:
            first = old[piece.text]
            kept = [p for p in before.problems if _in(p.span, (first,), file.name)]
            found += [_moved(problem, piece.line - first.line) for problem in kept]
    found += [problem for problem in before.problems if problem.span.file != file.name]
    return _told(found)


def _told(found: list[Problem]) -> tuple[Problem, ...]:
    """Warnings wait until there is no error, as they do for the whole."""
    errors = tuple(problem for problem in found if problem.severity == "error")
    return errors or tuple(found)


def _of_users(problem: Problem, changed: tuple[Piece, ...]) -> bool:
    """Whether a problem is that nothing uses a declaration: those that could are not looked at."""
    return isinstance(problem, Unused) and problem.name in {piece.name for piece in changed}


def _in(span: Span, pieces: tuple[Piece, ...], name: str) -> bool:
    return span.file == name and any(p.line < span.line <= p.end for p in pieces)


def _moved(problem: Problem, lines: int) -> Problem:
    if not lines:
        return problem
    span = problem.span
    moved = Span(span.file, span.line + lines, span.column, span.end_line + lines, span.end_column)
    return replace(problem, span=moved)
