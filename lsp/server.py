"""`synthc lsp`: the protocol's requests, answered by the functions beside this file."""

from __future__ import annotations

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.format.format import Unreadable, format_text
from synthc.lsp import completion, outgoing, symbols
from synthc.lsp import definition as places
from synthc.lsp import hover as hovering
from synthc.lsp import rename as renaming
from synthc.lsp.analysis import Analysis, File, analysed, around
from synthc.lsp.diagnostics import edited
from synthc.lsp.text import Position, plain

AFTER_KEYS = 0.015
"""Seconds without an edit after which what it changed is looked at."""

AFTER_PAUSE = 0.4
"""Seconds without an edit after which a long spec is looked at as a whole."""

QUICK = 0.08
"""Seconds in which a whole spec is looked at that needs no quicker look before."""

_SYMBOLS = {
    "task": lsp.SymbolKind.Function,
    "table": lsp.SymbolKind.Class,
    "type": lsp.SymbolKind.Struct,
    "param": lsp.SymbolKind.Variable,
    "backend": lsp.SymbolKind.Module,
    "embedder": lsp.SymbolKind.Module,
    "mutations": lsp.SymbolKind.Enum,
    "expect": lsp.SymbolKind.Event,
}


class Server(LanguageServer):
    """The open specs, and what was found when each was last looked at as a whole."""

    def __init__(self) -> None:
        # Editors and Python do not agree on what ends a line (U+2028): so texts come whole.
        super().__init__(
            "synthc", version("synthc"), text_document_sync_kind=lsp.TextDocumentSyncKind.Full
        )
        self.whole: dict[str, tuple[Analysis, float]] = {}
        self.checks: dict[str, asyncio.Task[None]] = {}
        self.worker = ThreadPoolExecutor(max_workers=1)

    @property
    def encoding(self) -> str:
        """The units that the client counts characters in."""
        encoding = self.workspace.position_encoding
        return encoding.value if isinstance(encoding, lsp.PositionEncodingKind) else str(encoding)

    def supports(self, *names: str) -> bool:
        """Whether the client says that it can do something; an older one says nothing."""
        found: Any = self.client_capabilities
        for name in names:
            found = getattr(found, name, None)
        return bool(found)

    def file(self, uri: str) -> File:
        """A spec as it stands in the editor, and the others that do."""
        path = _path(uri)
        unsaved = tuple(
            sorted(
                (str(_path(other)), document.source)
                for other, document in self.workspace.text_documents.items()
                if other != uri
            )
        )
        text = plain(self.workspace.get_text_document(uri).source)
        return File(text, path.name, path.parent, unsaved)

    def place(self, file: File, position: lsp.Position) -> Position:
        """A client's position in a file."""
        return outgoing.from_position(file.text, position, self.encoding)

    # Looking at specs

    def look(self, uri: str) -> None:
        """Have a spec, and the open ones that use it, looked at; what was under way is given up."""
        name = str(_path(uri))
        users = [
            other
            for other, (analysis, _) in self.whole.items()
            if any(str((analysis.file.base / used).resolve()) == name for used in analysis.sources)
        ]
        for one in dict.fromkeys((uri, *users)):
            if one not in self.workspace.text_documents:
                continue
            if one in self.checks:
                self.checks[one].cancel()
            self.checks[one] = asyncio.get_running_loop().create_task(self._looked(one))

    async def _looked(self, uri: str) -> None:
        await asyncio.sleep(AFTER_KEYS)
        run = asyncio.get_running_loop().run_in_executor
        file = self.file(uri)
        before, seconds = self.whole.get(uri, (None, 0.0))
        if before and seconds > QUICK:
            found = await run(self.worker, functools.partial(edited, file, before))
            self.publish(uri, before, file, found)
            await asyncio.sleep(AFTER_PAUSE)
        analysis, seconds = await run(self.worker, functools.partial(_whole, file))
        self.whole[uri] = analysis, seconds
        self.publish(uri, analysis, file, analysis.problems)

    def publish(self, uri: str, analysis: Analysis, file: File, found: tuple[Problem, ...]) -> None:
        """Show the problems of a text; `analysis` knows the files that it uses."""
        sources = {**analysis.sources, file.name: file.text}
        known = Analysis(
            file,
            analysis.spec,
            analysis.linked,
            analysis.typed,
            found,
            analysis.columns,
            sources,
        )
        related = self.supports("text_document", "publish_diagnostics", "related_information")
        shown = [
            outgoing.diagnostic(problem, known, uri, self.encoding, related=related)
            for problem in found
        ]
        document = self.workspace.get_text_document(uri)
        self.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(uri, shown, document.version)
        )

    def forget(self, uri: str) -> None:
        """A spec was closed: what was said about it goes."""
        if uri in self.checks:
            self.checks.pop(uri).cancel()
        self.whole.pop(uri, None)
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))


def _path(uri: str) -> Path:
    """The path of an address; of a text that is no file, one that is not there."""
    path = uris.to_fs_path(uri)
    return Path(path).resolve() if path else Path.cwd() / "untitled.synth"


def _whole(file: File) -> tuple[Analysis, float]:
    """A spec looked at anew (files may have changed), and the seconds that it took."""
    start = time.perf_counter()
    analysed.cache_clear()
    analysis = analysed(file)
    return analysis, time.perf_counter() - start


server = Server()


@server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
async def did_open(ls: Server, params: lsp.DidOpenTextDocumentParams) -> None:
    """A spec is looked at when it is opened."""
    ls.look(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
async def did_change(ls: Server, params: lsp.DidChangeTextDocumentParams) -> None:
    """… when it was edited,"""
    ls.look(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
async def did_save(ls: Server, params: lsp.DidSaveTextDocumentParams) -> None:
    """… and when it is saved: files that it reads may be others by now."""
    ls.look(params.text_document.uri)


@server.feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
async def did_change_files(ls: Server, params: lsp.DidChangeWatchedFilesParams) -> None:  # noqa: ARG001
    """A file was changed by something else."""
    for uri in list(ls.workspace.text_documents):
        ls.look(uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
async def did_close(ls: Server, params: lsp.DidCloseTextDocumentParams) -> None:
    """A closed spec has no problems to show."""
    ls.forget(params.text_document.uri)


@server.feature(
    lsp.TEXT_DOCUMENT_COMPLETION,
    lsp.CompletionOptions(trigger_characters=[".", "$", "{", ">", '"', "(", " "]),
)
def complete(ls: Server, params: lsp.CompletionParams) -> lsp.CompletionList:
    """What could be written here."""
    file = ls.file(params.text_document.uri)
    here, items = completion.completions(file, ls.place(file, params.position))
    snippets = ls.supports("text_document", "completion", "completion_item", "snippet_support")
    return lsp.CompletionList(
        is_incomplete=False,
        items=[
            outgoing.completion_item(item, here, params.position, ls.encoding, snippets=snippets)
            for item in items
        ],
    )


@server.feature(lsp.TEXT_DOCUMENT_HOVER)
def hover(ls: Server, params: lsp.HoverParams) -> lsp.Hover | None:
    """What stands here."""
    file = ls.file(params.text_document.uri)
    place = ls.place(file, params.position)
    found = hovering.hover(around(file, place.line), place)
    if found is None:
        return None
    text, span = found
    range_ = outgoing.to_range(file.text, span, ls.encoding) if span else None
    return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text), range_)


@server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
def define(ls: Server, params: lsp.DefinitionParams) -> lsp.Location | None:
    """Where it is declared."""
    file = ls.file(params.text_document.uri)
    place = ls.place(file, params.position)
    analysis = around(file, place.line)
    span = places.definition(analysis, place)
    if span is None:
        return None
    return outgoing.location(analysis, span, params.text_document.uri, ls.encoding)


@server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
def refer(ls: Server, params: lsp.ReferenceParams) -> list[lsp.Location]:
    """Where else it stands in the file."""
    file = ls.file(params.text_document.uri)
    analysis = analysed(file)
    spans = places.references(analysis, ls.place(file, params.position))
    return [
        outgoing.location(analysis, span, params.text_document.uri, ls.encoding) for span in spans
    ]


@server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
def prepare(ls: Server, params: lsp.PrepareRenameParams) -> lsp.Range:
    """The word that would be renamed."""
    file = ls.file(params.text_document.uri)
    try:
        span = renaming.renamable(analysed(file), ls.place(file, params.position))
    except renaming.Refused as refused:
        raise _refusal(refused) from refused
    return outgoing.to_range(file.text, span, ls.encoding)


@server.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
def rename(ls: Server, params: lsp.RenameParams) -> lsp.WorkspaceEdit:
    """Another name, here and in the files of the folder that use this one."""
    own = params.text_document.uri
    file = ls.file(own)
    users = {uri: ls.file(uri) for uri in _beside(file, own)}
    try:
        edits = renaming.renamed(
            analysed(file), ls.place(file, params.position), params.new_name, users
        )
    except renaming.Refused as refused:
        raise _refusal(refused) from refused
    return lsp.WorkspaceEdit(
        changes={
            own if key == file.name else key: [
                lsp.TextEdit(
                    outgoing.to_range(
                        file.text if key == file.name else users[key].text, edit.span, ls.encoding
                    ),
                    edit.text,
                )
                for edit in changed
            ]
            for key, changed in edits.items()
        }
    )


def _beside(file: File, own: str) -> list[str]:
    """The addresses of the other specs in a file's folder."""
    found = (uris.from_fs_path(str(path)) for path in sorted(file.base.glob("*.synth")))
    return [uri for uri in found if uri and _path(uri) != _path(own)]


def _refusal(refused: renaming.Refused) -> JsonRpcException:
    """What an editor shows as the reason."""
    error = JsonRpcException(str(refused))
    error.code = lsp.LSPErrorCodes.RequestFailed.value
    return error


@server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
def format_(ls: Server, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
    """The one layout; nothing where the spec cannot be read."""
    file = ls.file(params.text_document.uri)
    try:
        text = format_text(file.text, file.name)
    except Unreadable:
        return None
    if text == file.text:
        return []
    end = outgoing.to_position(file.text, file.text.count("\n") + 2, 1, ls.encoding)
    return [lsp.TextEdit(lsp.Range(lsp.Position(0, 0), end), text)]


@server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
def outline(ls: Server, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
    """The declarations of the file."""
    file = ls.file(params.text_document.uri)
    return [
        lsp.DocumentSymbol(
            name=name.text,
            detail=kind,
            kind=_SYMBOLS[kind],
            range=outgoing.to_range(file.text, node.span, ls.encoding),
            selection_range=outgoing.to_range(file.text, name.span, ls.encoding),
        )
        for kind, name, node in symbols.declarations(analysed(file).spec)
    ]


@server.feature(
    lsp.TEXT_DOCUMENT_CODE_ACTION,
    lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix]),
)
def fix(ls: Server, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:  # noqa: ARG001
    """What was probably meant, in the place of what is wrong."""
    return [
        lsp.CodeAction(
            title=f"Replace with `{problem.data}`",
            kind=lsp.CodeActionKind.QuickFix,
            diagnostics=[problem],
            is_preferred=True,
            edit=lsp.WorkspaceEdit(
                changes={params.text_document.uri: [lsp.TextEdit(problem.range, problem.data)]}
            ),
        )
        for problem in params.context.diagnostics
        if problem.source == "synthc" and isinstance(problem.data, str)
    ]
