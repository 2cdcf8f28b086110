"""A set of mutations, checked by itself: it says which columns its prompts see."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from synthc.compiler import ast, typed, types
from synthc.compiler.check import templates
from synthc.compiler.check.values import assignable, resolve_type
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.span import Span
from synthc.compiler.types import Type

Report = Callable[[Problem], None]


def check_mutations(node: ast.Mutations, report: Report) -> typed.Mutations | None:
    """The set with its prompts checked; None where one of them does not hold."""
    name = node.name.text
    inputs: dict[str, typed.Column] = {}
    sound = True
    for column in node.inputs:
        type_ = resolve_type(column.type, report)
        if column.name.text in inputs:
            first = inputs[column.name.text].span
            owner = f"the set `{name}`"
            report(
                problems.ColumnTwice(
                    span=column.name.span, name=column.name.text, owner=owner, first=first
                )
            )
        sound = sound and type_ is not None
        inputs[column.name.text] = typed.Column(
            column.name.text, type_ or types.NULL, column.name.span
        )
    if not node.prompts:
        report(problems.EmptySet(span=node.name.span, name=name))
        return None
    scope = {column.name: column.type for column in inputs.values()}
    names: dict[str, ast.Name] = {}
    prompts: dict[str, typed.Mutation] = {}
    for prompt in node.prompts:
        made = _prompt(prompt, scope, report)
        first = names.setdefault(prompt.name.text, prompt.name)
        if first is not prompt.name:
            report(
                problems.DuplicateDeclaration(
                    span=prompt.name.span, kind="prompt", name=first.text, first=first.span
                )
            )
        if made is None:
            sound = False
        else:
            prompts[made.name] = made
    if not sound:
        return None
    return typed.Mutations(name, node.name.span, tuple(inputs.values()), tuple(prompts.values()))


def _prompt(node: ast.Mutation, scope: Mapping[str, Type], report: Report) -> typed.Mutation | None:
    weight = node.weight.value if node.weight else 1
    if node.weight and (not isinstance(weight, int | float) or not 0 < weight < 1e9):
        wanted = "a number above 0"
        report(
            problems.BadValue(
                span=node.weight.span, what="a weight", wanted=wanted, found=str(weight)
            )
        )
        return None
    if isinstance(node.template, ast.File):
        return None  # it could not be read, and that was reported
    reads = templates.check(node.template, scope, has_format=True, report=report)
    if reads is None:
        return None
    return typed.Mutation(node.name.text, float(weight or 1), node.template.text)


def can_see(
    mutations: typed.Mutations, names: Mapping[str, Type], span: Span, report: Report
) -> bool:
    """Whether everything that a set's prompts see is there; reports what is not."""
    for column in mutations.inputs:
        found = names.get(column.name)
        null = found and types.nullable(found) and not types.nullable(column.type)
        if found is None or null or not assignable(found, column.type):
            report(
                problems.SetCannotSee(
                    span=span,
                    set=mutations.name,
                    column=column.name,
                    type=types.name(column.type),
                    known=tuple(names),
                    found=types.name(found) if found else None,
                )
            )
            return False
    return True
