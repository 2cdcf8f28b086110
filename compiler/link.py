"""AST → AST: what a spec uses of other files becomes part of it.

The declarations of a file that is used stand in the linked spec under qualified names
(`evol.instruct`), and every reference to them is qualified alike; a template in a file of its own
becomes a string whose places are in that file. The stages after this one see one spec.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from synthc.compiler import ast
from synthc.compiler.check.files import STANDARD, read_text
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.parse.parse import parse
from synthc.compiler.parse.words import RESERVED
from synthc.compiler.span import Span
from synthc.compiler.walk import nodes, rewritten

Report = Callable[[Problem], None]

Usable = ast.TypeAlias | ast.Backend | ast.Embedder | ast.Mutations | ast.Task | ast.TaskAlias
"""What comes of a file that is used; its tables, exports, expectations and tests are its own."""

_SAVE_IT = "compiling fetches nothing: save the file beside the spec, and name it"


@dataclass(frozen=True, slots=True)
class Linked:
    """A spec with all it uses, and the texts of the other files by the names that places carry."""

    spec: ast.Spec
    texts: Mapping[str, str]


def link(
    spec: ast.Spec, base: Path, report: Report, unsaved: Mapping[str, str] | None = None
) -> Linked:
    """The spec with what it uses of other files; `base` is the folder that its paths start from.

    A name that cannot be had because of a reported problem stands in `spec.broken`. `unsaved` are texts
    that stand for those of files, by their resolved paths: what an editor holds.
    """
    linker = _Linker(base, report, unsaved or {})
    linked = linker.linked(spec, "", (spec.file,))
    return Linked(linked, linker.texts)


def resolved(path: str, folder: str) -> str:
    """The name of the file that a path means in a file of `folder`, relative to the root's folder.

    `std/evol.synth` is of the standard library; in a folder `std` of one's own it is `./std/evol.synth`.
    """
    if path.startswith(STANDARD) or "://" in path:
        return path
    name = posixpath.normpath(posixpath.join(folder, path))
    in_library = f"{folder}/".startswith(STANDARD)
    return f"./{name}" if name.startswith(STANDARD) and not in_library else name


class _Linker:
    """Reads the files that are used, each once, and keeps their texts."""

    def __init__(self, base: Path, report: Report, unsaved: Mapping[str, str]) -> None:
        self.texts: dict[str, str] = {}
        self._unsaved = unsaved
        self._base = base
        self._report = report
        self._files: dict[str, ast.Spec | None] = {}

    def linked(self, spec: ast.Spec, folder: str, trail: tuple[str, ...]) -> ast.Spec:
        """A file with what it uses; `trail` are the files from the root to it."""
        uses = [d for d in spec.declarations if isinstance(d, ast.Use)]
        written = tuple(d for d in spec.declarations if not isinstance(d, ast.Use))
        own = rewritten(written, lambda node: self._inlined(node, folder))
        declarations, broken = list(own), set(spec.broken)
        for name, use in self._namespaces(uses).items():
            referred = _referred(own, name)
            used = self._used(use, folder, trail)
            if used is None:  # whatever is meant there may well be declared there
                broken.update(referred, ("backend", "embedder"))
                continue
            if not referred and len(trail) == 1:
                self._report(problems.Unused(span=use.span, kind="namespace", name=name))
            usable = [d for d in used.declarations if isinstance(d, Usable)]
            declarations += qualified(usable, name, own)
            broken.update(f"{name}.{word}" for word in used.broken)
            broken.update(used.broken & {"backend", "embedder"})
        whole = replace(spec, declarations=tuple(declarations), broken=frozenset(broken))
        unknown = _unknown(whole, self._report) if len(trail) > 1 else ()
        return replace(whole, broken=whole.broken.union(unknown))

    def _namespaces(self, uses: list[ast.Use]) -> dict[str, ast.Use]:
        """The uses by the name that stands before what they bring."""
        found: dict[str, ast.Use] = {}
        for use in uses:
            stem = posixpath.basename(use.path.text).removesuffix(".synth")
            name = use.name.text if use.name else stem
            first = next((u for n, u in found.items() if n.lower() == name.lower()), None)
            if use.name is None and (
                not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in RESERVED
            ):
                path = use.path.text
                self._report(problems.NoNamespace(span=use.path.span, path=path, stem=stem))
            elif first is not None:
                self._report(
                    problems.DuplicateDeclaration(
                        span=use.span,
                        kind="namespace",
                        name=name,
                        first=first.span,
                        advice=f'give one of them another name: `use "{use.path.text}" as …`',
                    )
                )
            else:
                found[name] = use
        return found

    def _used(self, use: ast.Use, folder: str, trail: tuple[str, ...]) -> ast.Spec | None:
        """The file that is used, or None where it cannot be had."""
        name = resolved(use.path.text.removesuffix(".synth") + ".synth", folder)
        if name in trail:
            circle = trail[trail.index(name) :]
            self._report(problems.Cycle(span=use.path.span, kind="files", names=circle))
            return None
        if name not in self._files:
            self._files[name] = self._file(name, use.path, trail)
        found = self._files[name]
        for node in found.declarations if found else ():
            if isinstance(node, ast.Parameter):
                self._report(
                    problems.ParameterInUsedFile(
                        span=use.path.span,
                        path=name,
                        name=node.name.text,
                        declared=node.name.span,
                    )
                )
        return found

    def _file(self, name: str, path: ast.String, trail: tuple[str, ...]) -> ast.Spec | None:
        text = self._text(name, path)
        if text is None:
            return None
        spec, unreadable = parse(text, name)
        for problem in unreadable:
            self._report(problem)
        return self.linked(spec, posixpath.dirname(name), (*trail, name))

    def _text(self, name: str, path: ast.String) -> str | None:
        """The text of a file that `path` names; None where a problem was reported."""
        advice = _SAVE_IT if "://" in path.text else None
        text = self._unsaved.get(str((self._base / name).resolve())) if self._unsaved else None
        if text is None:
            text = read_text(name, self._base, path.span, self._report, advice)
        else:
            text = text.replace("\r\n", "\n").removeprefix("\ufeff")
        if text is not None:
            self.texts[name] = text
        return text

    def _inlined(self, node: Any, folder: str) -> Any:
        """A node whose paths no longer depend on the file that it stands in."""
        match node:
            case ast.File(path):
                return self._template(node, resolved(path.text, folder))
            case ast.Sample(choices):
                return replace(node, choices=tuple(_from_root(c, folder) for c in choices))
            case _:
                return node

    def _template(self, node: ast.File, name: str) -> ast.String:
        """The text of a template's file, without its last line's end."""
        text = self._text(name, node.path)
        if text is None:
            return ast.String("", node.span, '""', (1,))
        literal = text.removesuffix("\n")
        lines = literal.split("\n")
        span = Span(name, 1, 1, len(lines), len(lines[-1]) + 1)
        return ast.String(literal, span, literal, tuple(range(len(literal) + 1)))


def _from_root(choice: ast.Weighted, folder: str) -> ast.Weighted:
    """`lines("words.txt")` with the path that it has from the root's folder."""
    match choice.value:
        case ast.Apply(function, (ast.String() as path, *rest)) if str(function) == "lines":
            text = resolved(path.text, folder)
            start, end = path.offsets[0], path.offsets[-1]
            moved = replace(path, text=text, offsets=(*[start] * len(text), end))
            return replace(choice, value=replace(choice.value, arguments=(moved, *rest)))
        case _:
            return choice


def _referred(declarations: tuple[ast.Declaration, ...], namespace: str) -> set[str]:
    """What the declarations name of a namespace: `evol.instruct`."""
    named = [node for node in nodes(declarations) if isinstance(node, ast.Path | ast.NamedType)]
    texts = [str(node) if isinstance(node, ast.Path) else node.name.text for node in named]
    return {text for text in texts if text.startswith(f"{namespace}.")}


# Names


def qualified(
    declarations: list[Usable], namespace: str, outside: tuple[ast.Declaration, ...]
) -> list[Usable]:
    """The declarations of a file as the file that uses it sees them: `namespace.` before their names.

    Every reference is qualified, so that a file never means what happens to stand in the one that
    uses it (`outside`). A type may be a word of the language: only what is declared is qualified.
    """
    types = _names((*declarations, *outside), ast.TypeAlias)
    tasks = _tasks(declarations)

    def word(name: ast.Name) -> ast.Name:
        return replace(name, text=f"{namespace}.{name.text}")

    def under(_kind: str, path: ast.Path) -> ast.Path:
        first = ast.Name(namespace, path.names[0].span)
        return replace(path, names=(first, *path.names))

    def change(node: Any) -> Any:
        if isinstance(node, ast.NamedType):
            return replace(node, name=word(node.name)) if node.name.text in types else node
        node = _referring(node, under, tasks)
        return replace(node, name=word(node.name)) if isinstance(node, Usable) else node

    return [rewritten(node, change) for node in declarations]


def _unknown(file: ast.Spec, report: Report) -> set[str]:
    """The names of a file that is used and that it does not have; they are reported.

    They are said here, in the file's own words: later they would be looked up among all names.
    """
    kinds: Mapping[str, Any] = {
        "backend": ast.Backend,
        "mutations": ast.Mutations,
        "task": ast.Task | ast.TaskAlias,
    }
    found: set[str] = set()

    def look(kind: str, path: ast.Path) -> ast.Path:
        known = _names(file.declarations, kinds[kind])
        if str(path) not in known | file.broken | found:
            found.add(str(path))
            report(
                problems.UnknownDeclaration(
                    span=path.span, kind=kind, name=str(path), known=tuple(sorted(known))
                )
            )
        return path

    tasks = _tasks(file.declarations)
    rewritten(file.declarations, lambda node: _referring(node, look, tasks))
    return found


_Refer = Callable[[str, ast.Path], ast.Path]
_Tasks = Mapping[str, ast.Task | ast.TaskAlias]


def _referring(node: Any, refer: _Refer, tasks: _Tasks) -> Any:
    """A node whose references to declarations are what `refer` makes of their kind and name."""

    def given(kind: str, value: Any) -> Any:
        return refer(kind, value) if isinstance(value, ast.Path) else value

    match node:
        case ast.Ask(backends=backends):
            return replace(node, backends=tuple(given("backend", b) for b in backends))
        case ast.OneOf(reference):
            return replace(node, set=given("mutations", reference))
        case ast.Parameter() if kind := _kind(node):
            return replace(node, default=given(kind, node.default))
        case ast.Backend():
            settings = tuple(
                replace(setting, value=given("backend", setting.value))
                if setting.name.text == "fallback"
                else setting
                for setting in node.settings
            )
            return replace(node, extends=given("backend", node.extends), settings=settings)
        case ast.Mutations():
            return replace(node, extends=given("mutations", node.extends))
        case ast.Task():
            return replace(node, extends=given("task", node.extends))
        case ast.TaskAlias(call=call):
            kinds = _kinds(str(call.callee), tasks)
            arguments = tuple(
                replace(a, value=given(kinds[a.name.text], a.value))
                if a.name and a.name.text in kinds
                else a
                for a in call.arguments
            )
            callee = refer("task", call.callee)
            return replace(node, call=replace(call, callee=callee, arguments=arguments))
        case _:
            return node


def _names(declarations: Any, kind: Any) -> frozenset[str]:
    return frozenset(d.name.text for d in declarations if isinstance(d, kind))


def _tasks(declarations: Any) -> _Tasks:
    return {d.name.text: d for d in declarations if isinstance(d, ast.Task | ast.TaskAlias)}


def _kinds(task: str, tasks: _Tasks, seen: tuple[str, ...] = ()) -> dict[str, str]:
    """The parameters of a task that are given the name of a declaration, and of which kind it is."""
    if task in seen:
        return {}
    match tasks.get(task):
        case ast.TaskAlias(call=call):
            return _kinds(str(call.callee), tasks, (*seen, task))
        case ast.Task(parameters=parameters, extends=base):
            own = {p.name.text: kind for p in parameters if (kind := _kind(p))}
            return _kinds(str(base), tasks, (*seen, task)) | own
        case _:
            return {}


def _kind(parameter: ast.Parameter) -> str | None:
    """`mutations` or `backend` where a parameter is given the name of one."""
    type_ = parameter.type
    word = type_.name.text if isinstance(type_, ast.NamedType) else None
    return word if word in ("mutations", "backend") else None
