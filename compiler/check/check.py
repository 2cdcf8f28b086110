"""AST → typed spec: every name is looked up, every prompt and every piece of SQL is checked.

All problems are reported at once; a declaration that does not hold stands as unknown, so that nothing
is reported only because of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthc.compiler import ast, typed, types
from synthc.compiler.check import graphs, settings, tables, task_scope, tests
from synthc.compiler.check.arguments import check_alias
from synthc.compiler.check.expand import expand
from synthc.compiler.check.files import Reader
from synthc.compiler.check.mutations import check_mutations
from synthc.compiler.check.scope import Known, Scope
from synthc.compiler.check.sql import Binder
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.steps import THIS
from synthc.compiler.check.tasks import check_task
from synthc.compiler.check.values import from_text, resolve_type, resolve_value, wanted
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest
from synthc.compiler.parse.words import FORMS
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type
from synthc.compiler.walk import nodes

Report = Callable[[Problem], None]

_KINDS: Mapping[type, str] = {
    ast.Parameter: "parameter",
    ast.Backend: "backend",
    ast.Embedder: "embedder",
    ast.Mutations: "mutations",
    ast.Task: "task",
    ast.TaskAlias: "task",
    ast.Table: "table",
    ast.Expect: "expect",
}


_WORDS: Mapping[str, tuple[str, ...]] = {"task": tuple(FORMS), "table": (THIS,)}
"""Names that would hide what the language has."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What holds of a spec that may have errors, and its problems, in no order.

    `columns` are those that a step of a table finds, by the step's place, and under the table's own
    place those that it ends with; a place is left out where they are not known.
    """

    spec: typed.Spec
    problems: list[Problem]
    columns: Mapping[Span, tuple[Field, ...]]


def check(
    spec: ast.Spec, given: Mapping[str, str], base: Path
) -> tuple[typed.Spec | None, list[Problem]]:
    """The typed spec (None where it has errors) and the problems, in no order.

    `given` holds the parameters of the command line, `base` is the folder that paths start from.
    """
    examined = examine(spec, given, base)
    sound = not any(problem.severity == "error" for problem in examined.problems)
    return (examined.spec if sound else None), examined.problems


def examine(
    spec: ast.Spec, given: Mapping[str, str], base: Path, reader: Reader | None = None
) -> Examined:
    """As `check`, with what holds of a spec that has errors: for editors, which show half a spec.

    They look at one again and again, and keep the `reader` that knows its data files.
    """
    found: list[Problem] = []
    told: set[tuple[object, ...]] = set()
    # A name that stood in a declaration that could not be read may well be declared there.
    broken = set(spec.broken)

    def report(problem: Problem) -> None:
        match problem:
            case (
                problems.UnknownDeclaration() | problems.UnknownParameter() | problems.UnknownType()
            ):
                follows = problem.name in broken or problem.name.split(".")[0] in broken
            case problems.UsingMissing(known=()):
                follows = problem.kind in broken
            case _:
                follows = False
        # A setting that two backends share is wrong once.
        same = problem.code, problem.span, getattr(problem, "name", None)
        # What a file that is used leaves unused is no concern of its user's.
        theirs = problem.severity == "warning" and problem.span.file != spec.file
        if not follows and same not in told and not theirs:
            told.add(same)
            found.append(problem)

    expanded = expand(spec, report)
    broken |= expanded.broken
    columns: dict[Span, tuple[Field, ...]] = {}
    reader = reader or Reader(base)
    checked = _check(expanded, _named(spec), given, base, reader, columns, report)
    return Examined(checked, found, columns)


def _check(
    spec: ast.Spec,
    named: frozenset[str],
    given: Mapping[str, str],
    base: Path,
    reader: Reader,
    columns: dict[Span, tuple[Field, ...]],
    report: Report,
) -> typed.Spec:
    by_kind = _declared(spec, report)
    constants = _constants(by_kind["parameter"].values(), given, report)
    backends = {name: settings.backend(node, report) for name, node in by_kind["backend"].items()}
    settings.check_fallbacks(by_kind["backend"], backends, report)
    embedders = {
        name: settings.embedder(node, report) for name, node in by_kind["embedder"].items()
    }
    fits = graphs.check_graphs(by_kind["embedder"], embedders, base, report)
    binder = Binder()
    binder.read_ahead(*_sql(spec))
    sets = {n: check_mutations(node, report) for n, node in by_kind["mutations"].items()}
    known = task_scope.Known(tuple(backends), constants, sets, reader)
    checked_tasks = _tasks(by_kind["task"], known, spec.file, binder, report)
    # A broken backend or table may be the one that a name means: then unknown names say nothing.
    checked_tables: dict[str, typed.Table | None] = dict.fromkeys(by_kind["table"])
    # In SQL names are the same whatever their case.
    folded = {name.lower(): name for name in by_kind["table"]}
    around = Known(known, embedders, fits, checked_tasks, checked_tables, folded)
    in_order: list[typed.Table] = []
    for node in _in_order(by_kind["table"], folded, binder, report):
        table = tables.check_table(node, around, binder, columns, report)
        checked_tables[node.name.text] = table
        if table:
            in_order.append(table)
            binder.define(table.name, table.columns)
    expects = [_expect(node, around, binder, report) for node in by_kind["expect"].values()]
    exports = [node for node in spec.declarations if isinstance(node, ast.Export)]
    _check_exports(exports, tuple(by_kind["table"]), report)
    checked_tests = [
        tests.check_test(Scope(node.title.text, around, binder, report), node)
        for node in spec.declarations
        if isinstance(node, ast.Test)
    ]
    _warn_unused(spec, by_kind, named, report)
    return typed.Spec(
        spec.file,
        constants,
        tuple(b for b in backends.values() if b),
        tuple(e for e in embedders.values() if e),
        {name: found for name, found in sets.items() if found},
        {name: task for name, task in checked_tasks.items() if task},
        tuple(in_order),
        tuple(e for e in expects if e),
        tuple(exports),
        tuple(t for t in checked_tests if t),
    )


def _sql(spec: ast.Spec) -> tuple[list[str], list[str]]:
    """The SQL of a spec that is about one row, and that which is whole queries."""
    expressions: list[ast.String | None] = []
    queries: list[ast.String] = []
    for node in nodes(spec.declarations):
        match node:
            case ast.Sql(text):
                expressions.append(text)
            case ast.Ask(wheres=wheres):
                expressions += wheres
            case ast.Repeat(until=until):
                expressions.append(until)
            case ast.Call(ast.Path((ast.Name("where" | "select"),)), (ast.Argument(value=text),)):
                expressions.append(text if isinstance(text, ast.String) else None)
            case ast.QuerySource(text) | ast.SqlStep(text) | ast.Expect(text=text):
                queries.append(text)
            case _:
                pass
    return [text.text for text in expressions if text], [text.text for text in queries]


def _tasks(
    nodes: Mapping[str, ast.Task | ast.TaskAlias],
    known: task_scope.Known,
    file: str,
    binder: Binder,
    report: Report,
) -> dict[str, typed.Task | None]:
    """The tasks by name. Those of used files do not see the spec's parameters."""
    alone = replace(known, constants={})
    found: dict[str, typed.Task | None] = {}
    for name, node in nodes.items():
        if isinstance(node, ast.Task):
            around = known if node.span.file == file else alone
            found[name] = check_task(node, around, binder, report)
    aliases = {name: node for name, node in nodes.items() if isinstance(node, ast.TaskAlias)}
    for _ in range(len(aliases)):  # one may stand for another
        for name, node in aliases.items():
            callee = str(node.call.callee)
            if name not in found and (callee not in aliases or callee in found):
                around = known if node.span.file == file else alone
                known_tasks = {**dict.fromkeys(nodes), **found}
                found[name] = check_alias(node, known_tasks, around, report)
    for circle in _circles({n: str(a.call.callee) for n, a in aliases.items() if n not in found}):
        span = aliases[circle[0]].name.span
        report(problems.Cycle(span=span, kind="tasks", names=circle))
    return {name: found.get(name) for name in nodes}


def _circles(callees: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The ways from a name back to itself, each once; every name has one that follows it."""
    circles: dict[frozenset[str], tuple[str, ...]] = {}
    for name in callees:
        trail = [name]
        while callees[trail[-1]] not in trail:
            trail.append(callees[trail[-1]])
        circle = tuple(trail[trail.index(callees[trail[-1]]) :])
        circles.setdefault(frozenset(circle), circle)
    return list(circles.values())


def _expect(node: ast.Expect, known: Known, binder: Binder, report: Report) -> typed.Expect | None:
    if known.unsound(binder.query_tables(node.text)):
        return None
    around = Surroundings("the query", {}, known.parameters, known.folded)
    bound = binder.query(node.text, around, report)
    return typed.Expect(node.name.text, bound, node.span) if bound else None


def _declared(spec: ast.Spec, report: Report) -> dict[str, dict[str, Any]]:
    """The declarations by kind and name; a second of the same name is reported and left out."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS.values()}
    folded: dict[tuple[str, str], ast.Name] = {}
    for node in spec.declarations:
        if isinstance(node, ast.Export | ast.Test | ast.TypeAlias | ast.Use):
            continue
        kind = _KINDS[type(node)]
        if node.name.text in _WORDS.get(kind, ()):
            what, wanted_ = f"the name of a {kind}", "one that means nothing else"
            shown = f"`{node.name.text}`"
            report(problems.BadValue(span=node.name.span, what=what, wanted=wanted_, found=shown))
        first = folded.setdefault((kind, node.name.text.lower()), node.name)
        if first is not node.name:
            report(
                problems.DuplicateDeclaration(
                    span=node.name.span, kind=kind, name=node.name.text, first=first.span
                )
            )
        else:
            found[kind][node.name.text] = node
    return found


def _constants(
    nodes: Iterable[ast.Parameter], given: Mapping[str, str], report: Report
) -> dict[str, tuple[Any, Type]]:
    """The spec's parameters with their values: from the command line, else their defaults."""
    constants: dict[str, tuple[Any, Type]] = {}
    for node in nodes:
        name = node.name.text
        type_ = resolve_type(node.type, report)
        if type_ is None:
            constants[name] = None, types.NULL
            continue
        value: tuple[Any] | None = None
        if node.default is not None and not isinstance(node.default, ast.Sample):
            value = resolve_value(node.default, type_, f"the default of `{name}`", report)
        elif name not in given:
            report(problems.ParameterWithoutValue(span=node.name.span, name=name))
        if name in given:
            value = from_text(given[name], type_)
            if value is None:
                options = type_.values if isinstance(type_, types.Choice) else ()
                report(
                    problems.BadValue(
                        span=node.type.span,
                        what=f"`-p {name}`",
                        wanted=wanted(type_),
                        found=f"`{given[name]}`",
                        near=nearest(given[name], [str(value) for value in options]),
                    )
                )
        constants[name] = (value[0] if value else None, type_)
    return constants


def _in_order(
    nodes: Mapping[str, ast.Table], known: Mapping[str, str], binder: Binder, report: Report
) -> list[ast.Table]:
    """The tables, each after those it reads; those in a circle are reported and left out.

    `known` are their names by those in lower case.
    """
    needs = {
        name: [known[n.lower()] for n in _needs(node, binder) if n.lower() in known]
        for name, node in nodes.items()
    }
    order: list[ast.Table] = []
    done: set[str] = set()
    circular: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = trail[trail.index(name) :]
            if not circular.intersection(circle):
                first = min(circle, key=lambda n: nodes[n].span)
                at = circle.index(first)
                names = circle[at:] + circle[:at]
                report(problems.Cycle(span=nodes[first].name.span, kind="tables", names=names))
            circular.update(circle)
            return
        if name in done:
            return
        for needed in needs[name]:
            visit(needed, (*trail, name))
        if name not in done:
            done.add(name)
            order.append(nodes[name])

    for name in nodes:
        visit(name, ())
    return [node for node in order if node.name.text not in circular]


def _needs(node: ast.Table, binder: Binder) -> tuple[str, ...]:
    needed: list[str] = []
    if isinstance(node.source, ast.QuerySource):
        needed += binder.query_tables(node.source.text)
    elif not node.source.brackets:
        needed.append(str(node.source.callee))
    for step in node.steps:
        if isinstance(step, ast.SqlStep):
            needed += (n for n in binder.query_tables(step.text) if n.lower() != THIS)
        elif str(step.call.callee) == "draw":
            given = (argument.value for argument in step.call.arguments if argument.name)
            needed += (str(value) for value in given if isinstance(value, ast.Path))
    return tuple(needed)


def _check_exports(exports: list[ast.Export], known: tuple[str, ...], report: Report) -> None:
    formats = (".parquet", ".jsonl", ".csv")
    paths: dict[str, ast.Export] = {}
    for node in exports:
        if node.table.text not in known:
            report(
                problems.UnknownDeclaration(
                    span=node.table.span, kind="table", name=node.table.text, known=known
                )
            )
        if "://" in node.path.text:
            name = node.path.text.rstrip("/").rsplit("/", maxsplit=1)[-1]
            name = name if Path(name).suffix in formats else f"{node.table.text}.parquet"
            report(
                problems.BadValue(
                    span=node.path.span,
                    what="the file of an export",
                    wanted="a path on this machine",
                    found="an address",
                    advice=f'write it here, `"{name}"`, and copy it there when the run is done',
                )
            )
        elif Path(node.path.text).suffix not in formats:
            report(problems.UnknownFormat(span=node.path.span, path=node.path.text, known=formats))
        if node.path.text in paths:
            report(
                problems.DuplicateDeclaration(
                    span=node.path.span,
                    kind="export to",
                    name=node.path.text,
                    first=paths[node.path.text].path.span,
                )
            )
        paths[node.path.text] = node


def _named(spec: ast.Spec) -> frozenset[str]:
    """What the declarations of a spec's own file name, also what they extend."""
    own = [node for node in spec.declarations if node.span.file == spec.file]
    return frozenset(name for node in own for name in _names_in(node))


def _warn_unused(
    spec: ast.Spec,
    by_kind: Mapping[str, Mapping[str, Any]],
    named: frozenset[str],
    report: Report,
) -> None:
    """Warn of parameters, models, sets and tasks that nothing names. Tables are results.

    Of a file that is used, what is not needed is no mistake.
    """
    for kind in ("parameter", "backend", "embedder", "mutations", "task"):
        names = {n: node for n, node in by_kind[kind].items() if node.span.file == spec.file}
        alone = len(by_kind[kind]) == 1 and kind in ("backend", "embedder")
        for name, node in names.items():
            if name in named or (alone and _needs_model(spec, kind)):
                continue
            report(problems.Unused(span=node.name.span, kind=kind, name=name))


def _needs_model(spec: ast.Spec, kind: str) -> bool:
    if kind == "backend":
        tasks_ = [node for node in spec.declarations if isinstance(node, ast.Task)]
        return any(isinstance(part, ast.Ask) for task in tasks_ for part in nodes(task))
    steps = [s for d in spec.declarations if isinstance(d, ast.Table) for s in d.steps]
    calls = [step.call for step in steps if isinstance(step, ast.Step)]
    return any(str(call.callee) == "embed" for call in calls)


def _names_in(node: ast.Declaration) -> set[str]:
    """Every word that could name something, wherever it stands: a warning must not be wrong."""
    used: set[str] = set()
    for part in nodes(node):
        match part:
            case ast.Path():
                used.add(str(part))
            case ast.ParameterValue(name):
                used.add(name)
            case ast.String(text):
                used.update(re.findall(r"\w+", text))
            case _:
                pass
    return used
