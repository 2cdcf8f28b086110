"""Checks the tests of a spec: what a task is given, answered, and expected to make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from synthc.compiler import ast, typed, types
from synthc.compiler.check.arguments import bind_arguments
from synthc.compiler.check.samples import check_draws
from synthc.compiler.check.scope import Scope
from synthc.compiler.check.values import described, resolve_value
from synthc.compiler.diagnostics import catalogue as problems

_FAIL = "fail"


def check_test(scope: Scope, node: ast.Test) -> typed.Test | None:
    """The test with everything resolved; None where it does not hold. `scope` has no columns."""
    name = str(node.call.callee)
    if name not in scope.known.tasks:
        scope.report(
            problems.UnknownDeclaration(
                span=node.call.callee.span,
                kind="task",
                name=name,
                known=tuple(scope.known.tasks),
            )
        )
        return None
    task = scope.known.tasks[name]
    if task is None:
        return None
    kinds = {parameter.name: parameter.kind for parameter in task.open}
    literal = [
        argument
        for argument in (*node.call.arguments, *node.given)
        if isinstance(argument.value, ast.Path)
        and kinds.get(argument.name.text if argument.name else "", "value") == "value"
    ]
    for argument in literal:
        scope.report(
            problems.BadValue(
                span=argument.value.span,
                what="what a test gives",
                wanted="a literal",
                found=described(argument.value),
            )
        )
    wanted = (*(column.name for column in task.inputs), *kinds)
    misnamed = [a.name for a in node.given if a.name and a.name.text not in wanted]
    for name_ in misnamed:
        scope.report(
            problems.UnknownArgument(
                span=name_.span, callee=task.name, name=name_.text, known=wanted
            )
        )
    if misnamed:
        return None
    said = {argument.name.text for argument in node.given if argument.name}
    missing = [column.name for column in task.inputs if column.name not in said]
    for column in missing:
        scope.report(
            problems.MissingArgument(
                span=node.call.callee.span,
                task=task.name,
                name=column,
                kind="input",
                columns=(),
                advice=f"say it: `given {column} = …`",
            )
        )
    if literal or missing:
        return None
    arguments = (*node.call.arguments, *node.given)
    call = ast.Call(node.call.callee, arguments, brackets=True, span=node.call.span)
    step = ast.Step(call, (), (), node.span)
    # A test may give what a table could hold, and a task refuses.
    nullable = tuple(replace(c, type=types.maybe(c.type)) for c in task.inputs)
    given, sound = bind_arguments(scope, step, replace(task, inputs=nullable))
    if not sound:
        return None
    if not check_draws(task.with_given(given), given, node.call.span, scope.report):
        return None
    for owner in (_asked(task), _made(task)):
        scope.absent |= {(owner, name): ways for name, ways in task.left_out(given).items()}
    task = task.with_given(given)
    replies, repeats = _replies(scope, node, task)
    expected = _expected(scope, node, task)
    fails = _fails(scope, node)
    if replies is None or expected is None or fails is None:
        return None
    if not _answered(scope, node, task, replies, expected):
        return None
    bound = typed.TaskStep(task, given, None, None, node.span)
    return typed.Test(node.title.text, bound, replies, repeats, expected, fails, node.span)


def _fails(scope: Scope, node: ast.Test) -> bool | None:
    if node.word is None:
        return False
    if node.word.text == _FAIL and not node.expected:
        return True
    scope.report(
        problems.WrongCall(
            span=node.word.span,
            callee=node.word.text,
            form="expect column = value` or `expect fail",
        )
    )
    return None


def _replies(
    scope: Scope, node: ast.Test, task: typed.Task
) -> tuple[dict[str, tuple[str | None, ...]] | None, frozenset[str]]:
    asks = {
        column.name: produce.columns[0].name
        for produce, _ in typed.asking(task.produces)
        for column in produce.columns
    }
    replies: dict[str, tuple[str | None, ...]] = {}
    repeats: set[str] = set()
    sound = True
    for reply in node.replies:
        assert reply.name is not None
        name = reply.name
        if name.text not in asks:
            scope.report(_unknown(name, _asked(task), tuple(asks)))
            sound = False
            continue
        if asks[name.text] in replies:
            scope.report(problems.SaidTwice(span=name.span, word=name.text))
            sound = False
            continue
        several = isinstance(reply.value, ast.ListValue)
        values = reply.value.items if isinstance(reply.value, ast.ListValue) else (reply.value,)
        texts = [_reply(scope, value) for value in values]
        sound = sound and None not in texts
        replies[asks[name.text]] = tuple(text[0] for text in texts if text)
        if not several:
            repeats.add(asks[name.text])
    return (replies if sound else None), frozenset(repeats)


def _answered(
    scope: Scope,
    node: ast.Test,
    task: typed.Task,
    replies: Mapping[str, Any],
    expected: Mapping[str, Any],
) -> bool:
    """Whether there is a reply to every ask whose columns are expected; reports where there is none.

    What is expected to be null, or an empty list, may be what no one was asked for.
    """
    sound = True
    names = {pair.name.text: pair.name for pair in node.expected if pair.name}
    for produce in task.produces:
        columns = [column.name for column in produce.columns]
        wanted = [name for name in columns if expected.get(name) not in (None, [])]
        if not isinstance(produce.producer, typed.Ask) or columns[0] in replies or not wanted:
            continue
        name = names[wanted[0]]
        reply = _reply_for(produce.producer, columns, expected)
        scope.report(
            problems.MissingReply(span=name.span, name=name.text, asked=columns[0], reply=reply)
        )
        sound = False
    return sound


def _reply_for(ask: typed.Ask, columns: list[str], expected: Mapping[str, Any]) -> str:
    """What a model would say for the columns to be what is expected, as a spec writes it."""
    values = {name: expected[name] for name in columns if name in expected}
    if len(values) == len(columns) and ask.each is None and ask.count is None:
        (first, *_) = values.values()
        if ask.contract.kind == "text" and isinstance(first, str) and "\n" not in first:
            return json.dumps(first, ensure_ascii=False)
        if ask.contract.kind == "json":
            whole = first if len(values) == 1 and isinstance(first, list) else values
            return f'"""{json.dumps(whole, ensure_ascii=False)}"""'
    return '"…"'


def _asked(task: typed.Task) -> str:
    return f"what `{task.name}` asks"


def _made(task: typed.Task) -> str:
    return f"the task `{task.name}`"


def _unknown(name: ast.Name, owner: str, known: tuple[str, ...]) -> problems.UnknownColumn:
    return problems.UnknownColumn(span=name.span, owner=owner, name=name.text, known=known)


def _reply(scope: Scope, value: ast.Value) -> tuple[str | None] | None:
    """What a model is made to say, in a tuple of one; None where a problem was reported."""
    match value:
        case ast.String(text):
            return (text,)
        case ast.Literal(bool() | None) | ast.Literal():
            return (described(value),)
        case ast.Path() if str(value) == _FAIL:
            return (None,)
        case _:
            scope.report(
                problems.BadValue(
                    span=value.span,
                    what="a reply",
                    wanted="text in quotes, a list of texts, or `fail`",
                    found=described(value),
                )
            )
            return None


def _expected(scope: Scope, node: ast.Test, task: typed.Task) -> dict[str, Any] | None:
    columns = {column.name: column.type for column in task.outputs}
    expected: dict[str, Any] = {}
    sound = True
    for pair in node.expected:
        assert pair.name is not None
        name = pair.name
        if name.text not in columns:
            scope.report(_unknown(name, _made(task), tuple(columns)))
            sound = False
            continue
        if name.text in expected:
            scope.report(problems.SaidTwice(span=name.span, word=name.text))
            sound = False
            continue
        type_ = types.maybe(columns[name.text])
        value = resolve_value(pair.value, type_, f"`{name.text}`", scope.report)
        sound = sound and value is not None
        expected[name.text] = value[0] if value else None
    return expected if sound else None
