"""AST → AST: a name for a type becomes the type, and what extends another says everything itself.

The stages after this one know neither.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar, assert_never

from msgspec.structs import replace

from synthc.compiler import ast
from synthc.compiler.check.values import NAMED, REPORTED, resolve_type
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.walk import rewritten

Report = Callable[[Problem], None]
Part = TypeVar("Part")
Extending = TypeVar("Extending", ast.Backend, ast.Mutations, ast.Task)

_WORDS = (*NAMED, "vector", "mutations", "backend", "true", "false", "null")
"""What stands where types stand and is no name for one."""


def expand(spec: ast.Spec, report: Report) -> ast.Spec:
    """The spec without `type` declarations and without `extends`.

    A set or a task that extends what is not there is left out; its name is then among `broken`.
    """
    spec = _without_names_of_types(spec, report)
    backends = {d.name.text: d for d in spec.declarations if isinstance(d, ast.Backend)}
    sets = {d.name.text: d for d in spec.declarations if isinstance(d, ast.Mutations)}
    tasks = {d.name.text: d for d in spec.declarations if isinstance(d, ast.Task)}
    aliases = {d.name.text: d for d in spec.declarations if isinstance(d, ast.TaskAlias)}
    expanded: list[ast.Declaration] = []
    broken = set(spec.broken)
    for node in spec.declarations:
        whole: ast.Declaration | None = node
        match node:
            case ast.Backend():
                whole = _backend(node, backends, report)
            case ast.Mutations():
                whole = _set(node, sets, report)
            case ast.Task():
                whole = _task(node, tasks, aliases, report)
            case _:
                pass
        if whole is not None:
            expanded.append(whole)
        elif isinstance(node, ast.Mutations | ast.Task):
            broken.add(node.name.text)
    return replace(spec, declarations=tuple(expanded), broken=frozenset(broken))


# Types


def _aliases(spec: ast.Spec, report: Report) -> dict[str, ast.TypeExpression]:
    """Each name with the type that it stands for, written out. Circles and second names are reported."""
    declared: dict[str, ast.TypeAlias] = {}
    for node in spec.declarations:
        if not isinstance(node, ast.TypeAlias):
            continue
        name = node.name.text
        if name in declared:
            first = declared[name].name.span
            report(
                problems.DuplicateDeclaration(
                    span=node.name.span, kind="type", name=name, first=first
                )
            )
        elif name in _WORDS:
            report(
                problems.BadValue(
                    span=node.name.span,
                    what="the name of a type",
                    wanted="a new one",
                    found=f"`{name}`, which there is already",
                )
            )
        else:
            declared[name] = node
    written: dict[str, ast.TypeExpression] = {}
    for name, node in declared.items():
        circle = _circle(name, declared)
        if circle and name == min(circle):
            report(problems.Cycle(span=node.name.span, kind="types", names=circle))
        written[name] = _stand_in(node.name) if circle else node.type
    quiet = {name: _stand_in(node.name) for name, node in declared.items()}
    for name in declared:
        found: list[Problem] = []
        alone = _written_out(written[name], quiet, found.append)
        if resolve_type(alone, found.append) is None and found:
            written[name] = quiet[name]
        for problem in found:
            report(problem)
    for _ in declared:  # a name of a name of a name is as deep as there are names
        written = {name: _written_out(type_, written, report) for name, type_ in written.items()}
    return written


def _circle(name: str, declared: Mapping[str, ast.TypeAlias]) -> tuple[str, ...]:
    """The names from a name back to itself; () where there is no way back."""

    def follow(trail: tuple[str, ...]) -> tuple[str, ...]:
        for needed in _names(declared[trail[-1]].type):
            if needed == name:
                return trail
            if needed in declared and needed not in trail and (way := follow((*trail, needed))):
                return way
        return ()

    return follow((name,))


def _names(type_: ast.TypeExpression) -> tuple[str, ...]:
    match type_:
        case ast.NamedType(name):
            return (name.text,)
        case ast.ListType(inner) | ast.MaybeType(inner):
            return _names(inner)
        case ast.RecordType(fields):
            return tuple(name for field in fields for name in _names(field.type))
        case ast.ChoiceType():
            return ()
        case _:
            assert_never(type_)


_Aliases = Mapping[str, ast.TypeExpression]


def _stand_in(name: ast.Name) -> ast.TypeExpression:
    """A type for a name that has none, so that its uses are not reported too."""
    return ast.NamedType(ast.Name(REPORTED, name.span), name.span)


def _without_names_of_types(spec: ast.Spec, report: Report) -> ast.Spec:
    aliases = _aliases(spec, report)
    rest = tuple(d for d in spec.declarations if not isinstance(d, ast.TypeAlias))
    return replace(spec, declarations=_written_out(rest, aliases, report))


def _written_out(node: Part, aliases: _Aliases, report: Report) -> Part:
    """The node with names of types replaced; what is wrong with a type is said where it is used."""

    def change(part: object) -> object:
        return _meant(part, aliases, report) if isinstance(part, ast.NamedType) else part

    return rewritten(node, change)


def _meant(node: ast.NamedType, aliases: _Aliases, report: Report) -> ast.TypeExpression:
    name = node.name.text
    if name in aliases:
        return replace(aliases[name], span=node.span)
    near = None if name in _WORDS else nearest(name, aliases)
    if near is None:
        return node
    known = (*NAMED, "vector[n]", *aliases)
    report(problems.UnknownType(span=node.span, name=name, here=near, known=known))
    return replace(aliases[near], span=node.span)


# What extends another


def _chain(
    node: Extending, declared: Mapping[str, Extending], kind: str, kinds: str, report: Report
) -> tuple[list[Extending], bool]:
    """The declaration and those that it extends, the nearest first, and whether all of them are there.

    What is wrong is reported for the declaration that says it, not for those that extend that one.
    """
    chain = [node]
    while (base := chain[-1].extends) is not None:
        trail = [part.name.text for part in chain]
        if str(base) in trail:
            circle = tuple(trail[trail.index(str(base)) :])
            if node.name.text == min(circle):
                report(problems.Cycle(span=base.span, kind=kinds, names=circle))
            return chain, False
        if str(base) not in declared:
            if len(chain) == 1:
                known = tuple(name for name in declared if name != node.name.text)
                report(
                    problems.UnknownDeclaration(
                        span=base.span, kind=kind, name=str(base), known=known
                    )
                )
            return chain, False
        chain.append(declared[str(base)])
    return chain, True


def _backend(node: ast.Backend, backends: Mapping[str, ast.Backend], report: Report) -> ast.Backend:
    """The backend with the settings of those it extends, its own before theirs."""
    chain, sound = _chain(node, backends, "backend", "backends", report)
    settings = list(node.settings)
    for base in chain[1:]:
        own = {setting.name.text for setting in settings}
        settings += [
            setting
            for setting in base.settings
            if setting.name.text not in own and not _falls_back_to(node, setting)
        ]
    if not sound and "model" not in {setting.name.text for setting in settings}:
        # it may stand in what cannot be found
        model = ast.String("?", node.name.span, '"?"', (1, 2))
        settings.append(ast.Setting(ast.Name("model", node.name.span), model, node.name.span))
    return replace(node, settings=tuple(settings), extends=None)


def _falls_back_to(node: ast.Backend, setting: ast.Setting) -> bool:
    """Whether it is a backend that a setting names as a fallback: for itself it cannot be one."""
    value = setting.value
    return isinstance(value, ast.Path) and (setting.name.text, str(value)) == (
        "fallback",
        node.name.text,
    )


def _set(
    node: ast.Mutations, sets: Mapping[str, ast.Mutations], report: Report
) -> ast.Mutations | None:
    """The set with the columns and prompts of those it extends before its own."""
    chain, sound = _chain(node, sets, "set of mutations", "sets of mutations", report)

    def merged(base: ast.Mutations, own: ast.Mutations) -> ast.Mutations:
        _same_types(base, own, report)
        return replace(
            own,
            inputs=_merged(base.inputs, own.inputs, _of_column),
            prompts=_merged(base.prompts, own.prompts, lambda prompt: {prompt.name.text}),
        )

    return replace(functools.reduce(merged, reversed(chain)), extends=None) if sound else None


def _same_types(base: ast.Mutations, own: ast.Mutations, report: Report) -> None:
    """The prompts of the base see its columns: a set cannot give these another type."""
    there = {column.name.text: column for column in base.inputs}
    for column in own.inputs:
        first = there.get(column.name.text)
        if first is None or resolve_type(first.type, _quietly) == resolve_type(
            column.type, _quietly
        ):
            continue
        report(
            problems.DuplicateDeclaration(
                span=column.name.span,
                kind="column",
                name=column.name.text,
                first=first.name.span,
                advice=f"the prompts of `{base.name.text}` see it with the type that it has there",
            )
        )


def _quietly(_problem: Problem) -> None:
    """A type that does not hold is reported where it is checked."""


def _task(
    node: ast.Task,
    tasks: Mapping[str, ast.Task],
    aliases: Mapping[str, ast.TaskAlias],
    report: Report,
) -> ast.Task | None:
    """The task with the parts of those it extends, each replaced by its own of the same name."""
    if node.extends and (alias := aliases.get(str(node.extends))):
        report(
            problems.ExtendsAlias(
                span=node.extends.span, name=alias.name.text, callee=str(alias.call.callee)
            )
        )
        return None
    chain, sound = _chain(node, tasks, "task", "tasks", report)
    return replace(functools.reduce(_extended, reversed(chain)), extends=None) if sound else None


def _extended(base: ast.Task, own: ast.Task) -> ast.Task:
    return replace(
        own,
        description=own.description or base.description,
        tags=own.tags or base.tags,
        parameters=_merged(base.parameters, own.parameters, lambda p: {p.name.text}),
        inputs=_merged(base.inputs, own.inputs, _of_column),
        produces=_merged(base.produces, own.produces, _of_produce),
    )


def _merged(
    base: tuple[Part, ...], own: tuple[Part, ...], names: Callable[[Part], set[str]]
) -> tuple[Part, ...]:
    """The base's parts, those with a name of an own one replaced in their place, then the new ones."""
    merged: list[Part] = []

    def new(parts: tuple[Part, ...] | list[Part]) -> list[Part]:
        return [part for part in parts if not any(part is other for other in merged)]

    for part in base:
        instead = [other for other in own if names(part) & names(other)]
        merged += new(instead) if instead else [part]
    return (*merged, *new(own))


def _of_column(column: ast.Column) -> set[str]:
    return {column.name.text.lower()}


def _of_produce(produce: ast.Produce) -> set[str]:
    return {column.name.text.lower() for column in produce.columns}
