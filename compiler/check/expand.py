"""AST → AST: a name for a type becomes the type, and a backend that extends another says everything.

The stages after this one know neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from synthc.compiler import ast
from synthc.compiler.check.values import NAMED
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest

Report = Callable[[Problem], None]


def expand(spec: ast.Spec, report: Report) -> ast.Spec:
    """The spec without `type` declarations and without `extends`."""
    aliases = _aliases(spec, report)
    backends = {d.name.text: d for d in spec.declarations if isinstance(d, ast.Backend)}
    expanded: list[ast.Declaration] = []
    for node in spec.declarations:
        match node:
            case ast.TypeAlias():
                pass
            case ast.Parameter():
                expanded.append(replace(node, type=_written_out(node.type, aliases, report)))
            case ast.Task():
                expanded.append(_task(node, aliases, report))
            case ast.Backend():
                expanded.append(_backend(node, backends, report))
            case _:
                expanded.append(node)
    return replace(spec, declarations=tuple(expanded))


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
        elif name in NAMED or name == "vector":
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
    return ast.NamedType(ast.Name("text", name.span), name.span)


def _written_out(
    type_: ast.TypeExpression, aliases: _Aliases, report: Report
) -> ast.TypeExpression:
    """The type with names replaced; what is wrong with it is then said where the name is used."""
    match type_:
        case ast.NamedType(name, span) if name.text in aliases:
            return replace(aliases[name.text], span=span)
        case ast.NamedType(name, span) if name.text not in NAMED and nearest(name.text, aliases):
            near = nearest(name.text, aliases)
            known = (*NAMED, "vector[n]", *aliases)
            report(problems.UnknownType(span=span, name=name.text, meant=near, known=known))
            return _stand_in(name)
        case ast.ListType(element):
            return replace(type_, element=_written_out(element, aliases, report))
        case ast.MaybeType(inner):
            return replace(type_, inner=_written_out(inner, aliases, report))
        case ast.RecordType(fields):
            return replace(type_, fields=tuple(_column(f, aliases, report) for f in fields))
        case _:
            return type_


def _column(node: ast.Column, aliases: _Aliases, report: Report) -> ast.Column:
    return replace(node, type=_written_out(node.type, aliases, report))


def _task(node: ast.Task, aliases: _Aliases, report: Report) -> ast.Task:
    return replace(
        node,
        parameters=tuple(
            replace(p, type=_written_out(p.type, aliases, report)) for p in node.parameters
        ),
        inputs=tuple(_column(column, aliases, report) for column in node.inputs),
        produces=tuple(
            replace(made, columns=tuple(_column(c, aliases, report) for c in made.columns))
            for made in node.produces
        ),
    )


# Backends


def _backend(node: ast.Backend, backends: Mapping[str, ast.Backend], report: Report) -> ast.Backend:
    """The backend with the settings of those it extends, its own before theirs."""
    settings = {setting.name.text: setting for setting in node.settings}
    own = list(node.settings)
    trail = [node.name.text]
    base = node.extends
    broken = False
    while base is not None:
        if base.text not in backends:
            known = tuple(name for name in backends if name != node.name.text)
            report(
                problems.UnknownDeclaration(
                    span=base.span, kind="backend", name=base.text, known=known
                )
            )
            broken = True
            break
        if base.text in trail:
            circle = tuple(trail[trail.index(base.text) :])
            if node.name.text == min(circle):
                report(problems.Cycle(span=base.span, kind="backends", names=circle))
            broken = True
            break
        trail.append(base.text)
        for setting in backends[base.text].settings:
            if setting.name.text not in settings:
                settings[setting.name.text] = setting
                own.append(setting)
        base = backends[base.text].extends
    if broken and "model" not in settings:  # it may stand in what cannot be found
        model = ast.String("?", node.name.span, '"?"', (1, 2))
        own.append(ast.Setting(ast.Name("model", node.name.span), model, node.name.span))
    return replace(node, settings=tuple(own), extends=None)
