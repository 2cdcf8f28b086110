"""How the tables of a plan are made: their steps, and where in the spec these stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from synthc.cli.report.asking import brief, shown
from synthc.cli.report.contents import Step
from synthc.cli.steps import in_words, source_in_words
from synthc.compiler import plan


def steps(table: plan.Table, calls: Mapping[str, int]) -> tuple[Step, ...]:
    """What a table is made by, in order; `calls` are how many each ask took, by its name."""
    source = Step(0, shown(source_in_words(table.source)), _line(table.source), 0)
    return (source, *_steps(table.ops, calls, 0))


def _steps(ops: tuple[plan.Op, ...], calls: Mapping[str, int], depth: int) -> Iterator[Step]:
    for op in ops:
        if isinstance(op, plan.Constant | plan.Require):
            continue  # they say nothing that the steps around them do not
        count = calls.get(op.what, 0) if isinstance(op, plan.Ask) else 0
        yield Step(depth, brief(in_words(op), 300), _line(op), count)
        if isinstance(op, plan.Repeat):
            yield from _steps(op.ops, calls, depth + 1)


def places(table: plan.Table) -> dict[str, str]:
    """Where in the spec each column of a table is made: `file:line`, by the name that the store has."""
    found: dict[str, str] = {}

    def walk(ops: tuple[plan.Op, ...]) -> None:
        for op in ops:
            if isinstance(op, plan.Ask | plan.Sample | plan.Draw):
                found.setdefault(op.what, _line(op))
            if isinstance(op, plan.Repeat):
                walk(op.ops)

    walk(table.ops)
    return found


def _line(op: plan.Op | plan.Source | plan.Table) -> str:
    return f"{shown(op.span.file)}:{op.span.line}"
