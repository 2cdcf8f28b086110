"""Where a name is declared, and where else it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from synthc.compiler import ast
from synthc.compiler.link import resolved
from synthc.compiler.span import Span
from synthc.compiler.walk import nodes
from synthc.lsp import symbols
from synthc.lsp.analysis import Analysis
from synthc.lsp.symbols import Occurrence
from synthc.lsp.text import Position, holds


def definition(analysis: Analysis, place: Position) -> Span | None:
    """The place that declares what stands at a position; the start of a file that is named there."""
    if file := used_file(analysis, place):
        return Span(file, 1, 1, 1, 1)
    found = symbols.at(analysis, place)
    return declared(analysis, found) if found else None


def used_file(analysis: Analysis, place: Position) -> str | None:
    """The file that `use "…"` or `file("…")` names at a position, if it could be read."""
    for node in nodes(analysis.spec.declarations):
        if isinstance(node, ast.Use | ast.File) and holds(node.path.span, place):
            path = node.path.text
            if isinstance(node, ast.Use):
                path = path.removesuffix(".synth") + ".synth"
            name = resolved(path, "")
            return name if name in analysis.sources else None
    return None


def declared(analysis: Analysis, found: Occurrence) -> Span | None:
    """Where a name is declared; None where that is not in a file (a column of the data, say)."""
    if found.declares and found.kind != "column":
        return found.span
    if found.kind == "param" and found.owner:
        for task in symbols.base_tasks(analysis, found.owner):
            for parameter in task.parameters if isinstance(task, ast.Task) else ():
                if parameter.name.text == found.name:
                    return parameter.name.span
        return None
    if found.kind == "column":
        return _column(analysis, found)
    for kind, name, _ in symbols.declarations(analysis.linked):
        if kind == found.kind and name.text == found.name:
            return name.span
    for kind, name, _ in symbols.declarations(analysis.spec):  # types are gone once they are linked
        if kind == found.kind and name.text == found.name:
            return name.span
    return None


def _column(analysis: Analysis, found: Occurrence) -> Span | None:
    if found.declares:
        return found.span
    for task in symbols.base_tasks(analysis, found.owner):
        if isinstance(task, ast.Task) and (span := _of_task(task, found.name)):
            return span
    for node in analysis.spec.declarations:
        if isinstance(node, ast.Mutations) and node.name.text == found.owner:
            return next((c.name.span for c in node.inputs if c.name.text == found.name), None)
        if isinstance(node, ast.Table) and node.name.text == found.owner:
            maker = made_by(analysis, node, found)
            return maker[1] if maker else None
    return None


def _of_task(task: ast.Task, name: str) -> Span | None:
    places: Iterator[ast.Name] = (
        part.name if isinstance(part, ast.Column | ast.Each) else part.variable.name
        for part in nodes((task.inputs, task.produces))
        if isinstance(part, ast.Column | ast.Each | ast.Repeat)
    )
    return next((place.span for place in places if place.text == name), None)


def made_by(analysis: Analysis, table: ast.Table, found: Occurrence) -> tuple[str, Span] | None:
    """What a column of a table comes from, in a few words, and the place of it.

    It is followed through tables that take their rows from another.
    """
    seen: set[str] = set()
    steps: list[ast.Step | ast.SqlStep] = list(table.steps)
    here = next((i for i, step in enumerate(steps) if step.span == found.within), len(steps))
    steps = steps[:here]
    name = found.name.lower()
    while True:
        for step in reversed(steps):
            before = analysis.columns.get(step.span)
            if before is None:
                return None
            if isinstance(step, ast.SqlStep):
                return "SQL over all rows", step.span
            names = [field.name.lower() for field in before]
            callee = str(step.call.callee)
            if name in names and not (callee == "select" and _computed(step, name)):
                continue
            return _maker(analysis, step, name)
        seen.add(table.name.text)
        source = table.source
        if isinstance(source, ast.QuerySource):
            return "SQL", source.text.span
        inner = _table(analysis, str(source.callee)) if not source.brackets else None
        if inner is None or inner.name.text in seen:
            return _source(source), source.span
        table, steps = inner, list(inner.steps)


def _table(analysis: Analysis, name: str) -> ast.Table | None:
    return next(
        (n for n in analysis.spec.declarations if isinstance(n, ast.Table) and n.name.text == name),
        None,
    )


def _computed(step: ast.Step, name: str) -> bool:
    """Whether a `select` gives a new column of a name that there was."""
    texts = [a.value.text for a in step.call.arguments if isinstance(a.value, ast.String)]
    return any(re.search(rf"(?i)\bAS\s+\"?{re.escape(name)}\b", text) for text in texts)


def _source(source: ast.Call) -> str:
    first = source.arguments[0].value if source.arguments else None
    shown = f'"{first.text}"' if isinstance(first, ast.String) else "…"
    return f"{source.callee}({shown})" if source.brackets else f"the table {source.callee}"


def _maker(analysis: Analysis, step: ast.Step, name: str) -> tuple[str, Span]:
    callee = str(step.call.callee)
    if not step.aliases:
        for task in symbols.base_tasks(analysis, callee):
            if isinstance(task, ast.Task) and (span := _of_task(task, name)):
                return f"the task {callee}", span
    return f"the step {callee}", step.call.callee.span


def references(analysis: Analysis, place: Position) -> list[Span]:
    """Where the name at a position stands in its file, its declaration among them."""
    found = symbols.at(analysis, place)
    if found is None:
        return []
    same = (o.span for o in symbols.occurrences(analysis) if o.same == found.same)
    return sorted(dict.fromkeys(same))
