"""Checks one table: its source, and each of its steps in turn."""

from __future__ import annotations

from collections.abc import Mapping

from synthc.compiler import ast, typed
from synthc.compiler.check.scope import Known, Report, Scope
from synthc.compiler.check.sources import check_source
from synthc.compiler.check.sql import Binder
from synthc.compiler.check.steps import check_names_only, check_step
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type


def check_table(
    node: ast.Table,
    known: Known,
    binder: Binder,
    seen: dict[Span, tuple[Field, ...]],
    report: Report,
) -> typed.Table | None:
    """The table with everything resolved, or None where a problem was reported (here or earlier).

    The columns that each step finds are put into `seen` under its place, the last under the table's.
    """
    scope = Scope(node.name.text, known, binder, report)
    source = check_source(scope, node.source)
    if source is None:
        for step in node.steps:
            check_names_only(scope, step)
        return None
    source_columns = _fields(scope.columns)
    steps: list[typed.Step] = []
    for step in node.steps:
        if scope.columns_known:
            seen[step.span] = _fields(scope.columns)
        checked = check_step(scope, step) if scope.columns_known else check_names_only(scope, step)
        if checked:
            steps.append(checked)
    if scope.columns_known:
        seen[node.span] = _fields(scope.columns)
    if len(steps) < len(node.steps):
        return None
    if not scope.columns:
        report(problems.NoColumns(span=node.name.span, name=node.name.text))
        return None
    return typed.Table(
        node.name.text, node.span, source, source_columns, tuple(steps), _fields(scope.columns)
    )


def _fields(columns: Mapping[str, Type]) -> tuple[Field, ...]:
    return tuple(Field(name, type_) for name, type_ in columns.items())
