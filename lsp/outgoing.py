"""Answers as the protocol has them: places in an editor's units, problems as diagnostics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lsprotocol import types as lsp
from pygls import uris

from synthc.compiler import ast
from synthc.compiler.cache import kept
from synthc.compiler.check.files import located
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.diagnostics.render import as_json, as_markdown
from synthc.compiler.link import resolved
from synthc.compiler.span import Span
from synthc.compiler.walk import nodes
from synthc.lsp.analysis import Analysis
from synthc.lsp.completion import Item
from synthc.lsp.cursor import Cursor
from synthc.lsp.text import Position, column, units

_KINDS: Mapping[str, lsp.CompletionItemKind] = {
    "keyword": lsp.CompletionItemKind.Keyword,
    "task": lsp.CompletionItemKind.Function,
    "step": lsp.CompletionItemKind.Function,
    "table": lsp.CompletionItemKind.Class,
    "column": lsp.CompletionItemKind.Field,
    "input": lsp.CompletionItemKind.Field,
    "param": lsp.CompletionItemKind.Variable,
    "type": lsp.CompletionItemKind.TypeParameter,
    "backend": lsp.CompletionItemKind.Module,
    "embedder": lsp.CompletionItemKind.Module,
    "mutations": lsp.CompletionItemKind.Enum,
    "setting": lsp.CompletionItemKind.Property,
    "file": lsp.CompletionItemKind.File,
}


def to_position(text: str, line: int, character: int, encoding: str) -> lsp.Position:
    """A line and a column of the compiler's (from 1) as a position."""
    lines = text.split("\n")
    if line > len(lines):
        return lsp.Position(len(lines) - 1, units(lines[-1], encoding))
    return lsp.Position(line - 1, units(lines[line - 1][: character - 1], encoding))


def to_range(text: str, span: Span, encoding: str) -> lsp.Range:
    """A stretch of a text as a range."""
    return lsp.Range(
        to_position(text, span.line, span.column, encoding),
        to_position(text, span.end_line, span.end_column, encoding),
    )


def from_position(text: str, place: lsp.Position, encoding: str) -> Position:
    """A client's position; one behind the end of a line or of the text is its end."""
    lines = text.split("\n")
    if place.line >= len(lines):
        return Position(len(lines) - 1, len(lines[-1]))
    return Position(place.line, column(lines[place.line], place.character, encoding))


def uri(name: str, base: Path) -> str:
    """The address of a file by the name that places carry."""
    path = Path(str(located(name, base)))
    return uris.from_fs_path(str(path.resolve())) or ""


def location(analysis: Analysis, span: Span, own: str, encoding: str) -> lsp.Location:
    """A place in the file, whose address is `own`, or in one that it uses."""
    file = analysis.file
    text = analysis.sources.get(span.file, "")
    address = own if span.file == file.name else uri(span.file, file.base)
    return lsp.Location(address, to_range(text, span, encoding))


def diagnostic(
    problem: Problem, analysis: Analysis, own: str, encoding: str, *, related: bool
) -> lsp.Diagnostic:
    """A problem. One of a file that is used stands where that is used, and says where it is.

    `related` says whether the client shows other places beside it; else they are part of the message.
    """
    file, span = analysis.file, problem.span
    others: list[tuple[Span, str]] = []
    message = problem.message()
    if span.file != file.name:
        others.append((span, problem.label() or message))
        message = f"{span}: {message}"
        span = _use_of(analysis, span.file)
    elif label := problem.label():
        message = f"{message}: {label}"
    if other := problem.other():
        others.append(other)
    if help_ := problem.help():
        others.append((span, f"help: {help_}"))
    if not related:
        message = "\n".join([message, *(said for _, said in others if said)])
    page = _page()
    return lsp.Diagnostic(
        range=to_range(file.text, span, encoding),
        message=message,
        severity=lsp.DiagnosticSeverity.Error
        if problem.severity == "error"
        else lsp.DiagnosticSeverity.Warning,
        code=problem.code,
        code_description=lsp.CodeDescription(f"{page}#{problem.code.lower()}") if page else None,
        source="synthc",
        related_information=[
            lsp.DiagnosticRelatedInformation(location(analysis, place, own, encoding), said)
            for place, said in others
        ]
        if related
        else None,
        data=as_json(problem, analysis.sources)["edit"] if problem.span == span else None,
    )


def _page() -> str | None:
    """The address of the page of all errors, which is kept beside the compiler's other files."""
    file = kept("errors.md")
    if file is None:
        return None
    try:
        text = as_markdown()
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    except OSError:
        return None
    return uris.from_fs_path(str(file))


def _use_of(analysis: Analysis, name: str) -> Span:
    """Where a file is used; of one that is used by another, the first `use`."""
    first = Span(analysis.file.name, 1, 1, 1, 1)
    uses = [n for n in nodes(analysis.spec.declarations) if isinstance(n, ast.Use | ast.File)]
    for node in uses:
        path = node.path.text
        path = path.removesuffix(".synth") + ".synth" if isinstance(node, ast.Use) else path
        if resolved(path, "") == name:
            return node.path.span
    return uses[0].path.span if uses else first


def completion_item(
    item: Item, here: Cursor, place: lsp.Position, encoding: str, *, snippets: bool
) -> lsp.CompletionItem:
    """A completion that takes the place of what is written of the word before the cursor."""
    written = here.path + here.prefix if "." in item.label else here.prefix
    start = max(0, place.character - units(written, encoding))
    snippet = item.snippet if snippets else ""
    text = snippet or _plain(item.snippet) or item.label
    return lsp.CompletionItem(
        label=item.label,
        kind=_KINDS.get(item.kind, lsp.CompletionItemKind.Text),
        detail=item.detail or None,
        documentation=lsp.MarkupContent(lsp.MarkupKind.Markdown, item.documentation)
        if item.documentation
        else None,
        filter_text=item.label,
        insert_text_format=lsp.InsertTextFormat.Snippet if snippet else None,
        text_edit=lsp.TextEdit(lsp.Range(lsp.Position(place.line, start), place), text),
    )


def _plain(snippet: str) -> str:
    """A snippet's text for an editor that knows none."""
    return re.sub(r"\$\d", "", re.sub(r"\$\{\d+:([^}]*)\}", r"\1", snippet))
