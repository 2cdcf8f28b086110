"""One `ask` of a task, checked: its prompt, whom it asks and when, and what its answer becomes."""

from __future__ import annotations

import re

from synthc.compiler import ast, typed, types
from synthc.compiler.check import templates
from synthc.compiler.check.contracts import Columns, check_contract
from synthc.compiler.check.mutations import can_see
from synthc.compiler.check.task_scope import TaskScope
from synthc.compiler.check.values import described, resolve_type
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.typed import Guard
from synthc.compiler.types import Type

WITHOUT_FORMAT = ("text", "lines", "regex")
"""The contracts of which `{{ output_format }}` has nothing to say."""


def check_ask(scope: TaskScope, node: ast.Produce, ask: ast.Ask, guard: Guard) -> typed.Ask | None:
    """The ask with everything resolved; None where a problem was reported."""
    _said_once(scope, ask)
    names = scope.names(guard)
    each = _each(scope, ask, guard, names)
    if ask.eaches and each is None:
        return None
    if each is not None:
        names[each[0]] = each[2]
    count = scope.count(ask.counts[0], "`n`", least=1) if ask.counts else None
    columns = _columns(scope, node, several=bool(ask.eaches or ask.counts))
    contract = (
        None
        if columns is None
        else check_contract(ask, columns, tuple_=node.tuple_, report=scope.report)
    )
    per = _per(scope, ask, guard) if contract is None or contract.per else ()
    where = None
    if ask.wheres:
        where = scope.binder.condition(ask.wheres[0], scope.around(guard), scope.report)
        _may_be_null(scope, node)
        if where:
            scope.uses.names |= {p[0] for p in where.paths} | {p[0] for p in where.parameters}
    has_format = contract is None or contract.kind not in WITHOUT_FORMAT
    made = _prompt(scope, ask, names, guard, has_format=has_format)
    system = ask.systems[0] if ask.systems else None
    within = templates.IN_SYSTEM
    system_reads = (
        _template(scope, system, names, has_format=has_format, without=within) if system else ()
    )
    if has_format:
        _format_printed(scope, ask)
    backend = (
        scope.reference(ask.backends[0], "backend", scope.known.backends) if ask.backends else None
    )
    if (
        (ask.counts and count is None)
        or (ask.wheres and where is None)
        or (ask.backends and backend is None)
        or contract is None
        or per is None
        or made is None
        or system_reads is None
    ):
        return None
    prompt, reads = made
    reads = dict.fromkeys((*reads, *system_reads, *per))
    if each is not None:
        reads.pop(each[0], None)
        reads[each[1]] = None
    return typed.Ask(
        prompt,
        system.text if isinstance(system, ast.String) else None,
        backend,
        contract,
        tuple(reads),
        where,
        (each[0], each[1]) if each else None,
        count,
    )


def _format_printed(scope: TaskScope, ask: ast.Ask) -> None:
    """Warn of a prompt that names the output format, and prints it as other languages do."""
    for template in (ask.prompt, *ask.systems):
        text = template.text if isinstance(template, ast.String) else ""
        sign = re.search(r"(?<!\{)\{ ?output_format ?\}(?!\})|\$output_format\b", text)
        if isinstance(template, ast.String) and sign:
            scope.report(
                problems.Unused(
                    span=template.at(sign.start(), len(sign[0])),
                    kind="word",
                    name=templates.OUTPUT_FORMAT,
                    advice=f"`{sign[0]}` does not print it: `{{{{ output_format }}}}` does",
                )
            )


def _said_once(scope: TaskScope, ask: ast.Ask) -> None:
    for word, said in (
        ("system", ask.systems),
        ("using", ask.backends),
        ("as", ask.contracts),
        ("where", ask.wheres),
        ("each", ask.eaches),
        ("n", ask.counts),
    ):
        if len(said) > 1:
            scope.report(problems.SaidTwice(span=said[1].span, word=word))
    if ask.eaches and ask.counts:
        advice = "ask for each element in one column, and several times in another"
        scope.report(
            problems.BadValue(
                span=ask.counts[0].span,
                what="an `ask`",
                wanted="either `each` or `n`",
                found="both",
                advice=advice,
            )
        )


def _columns(scope: TaskScope, node: ast.Produce, *, several: bool) -> Columns | None:
    """What one answer has to fill; None where the types are reported elsewhere, or here."""
    found: Columns = []
    sound = True
    for column in node.columns:
        type_ = resolve_type(column.type, lambda _problem: None)
        if type_ is None:
            return None
        inner = types.required(type_)
        if several and not isinstance(inner, types.ListOf):
            scope.report(
                problems.WrongType(
                    span=column.type.span,
                    what=f"`{column.name.text}`, which gets several answers,",
                    expected=f"{types.name(inner)}[]",
                    found=types.name(type_),
                )
            )
            sound = False
        else:
            one = inner.element if several and isinstance(inner, types.ListOf) else type_
            found.append((column, one))
    return found if sound else None


def _may_be_null(scope: TaskScope, node: ast.Produce) -> None:
    """An ask with a `where` makes nothing for the rows that it leaves out."""
    for column in node.columns:
        type_ = resolve_type(column.type, lambda _problem: None)
        if type_ and not types.nullable(type_):
            scope.report(
                problems.WrongType(
                    span=column.type.span,
                    what=f"`{column.name.text}`, null where nothing is asked,",
                    expected=types.name(types.maybe(type_)),
                    found=types.name(type_),
                )
            )


def _each(
    scope: TaskScope, ask: ast.Ask, guard: Guard, names: dict[str, Type]
) -> tuple[str, str, Type] | None:
    """The name of an element, that of its list, and its type."""
    if not ask.eaches:
        return None
    each = ask.eaches[0]
    match each.list:
        case ast.Path() as path:
            source = scope.column(path, guard)
        case ast.ParameterValue(name, span):
            source = scope.parameter(name, span, guard)
        case other:
            wanted, found = "a list column or a `$parameter`", described(other)
            what = "what `each` goes through"
            scope.report(problems.BadValue(span=other.span, what=what, wanted=wanted, found=found))
            return None
    if source is None or names[source] == types.NULL:
        return None
    element = types.element(names[source])
    if element is None:
        scope.report(
            problems.WrongType(
                span=each.list.span,
                what="what `each` goes through",
                expected="a list",
                found=types.name(names[source]),
            )
        )
        return None
    if not _never_null(scope, ask, each.list, names[source], source):
        return None
    if each.name.text in names:
        owner = scope.owner
        scope.report(problems.ColumnTwice(span=each.name.span, name=each.name.text, owner=owner))
        return None
    return each.name.text, source, element


def _per(scope: TaskScope, ask: ast.Ask, guard: Guard) -> tuple[str, ...] | None:
    """The list that a contract's lines belong to; None where there is no such list."""
    node = ask.contracts[0].per if ask.contracts else None
    if node is None:
        return ()
    name = scope.column(node, guard)
    if name is None:
        return None
    found = scope.visible(guard)[name]
    if found == types.NULL:
        return None
    if not isinstance(types.required(found), types.ListOf):
        scope.report(
            problems.WrongType(
                span=node.span,
                what="what follows `per`",
                expected="a list",
                found=types.name(found),
            )
        )
        return None
    return (name,) if _never_null(scope, ask, node, found, name) else None


def _never_null(scope: TaskScope, ask: ast.Ask, node: ast.Value, found: Type, name: str) -> bool:
    """Whether a list is there for each row that is asked about; reports where it may be null.

    A `where` that reads the list leaves out the rows in which it is null.
    """
    sign = re.escape(name)
    asked = any(re.search(rf"(?i)\b{sign}\b", where.text) for where in ask.wheres)
    if not types.nullable(found) or asked:
        return True
    shown = f"${name}" if isinstance(node, ast.ParameterValue) else name
    scope.report(problems.NullableList(span=node.span, name=shown, type=types.name(found)))
    return False


_Made = tuple[typed.Prompt, tuple[str, ...]]


def _prompt(
    scope: TaskScope, ask: ast.Ask, names: dict[str, Type], guard: Guard, *, has_format: bool
) -> _Made | None:
    match ask.prompt:
        case ast.Path() as path:
            return _conversation(scope, path, guard)
        case ast.OneOf(reference):
            return _one_of(scope, reference, names)
        case template:
            reads = _template(scope, template, names, has_format=has_format)
            text = template.text if isinstance(template, ast.String) else ""
            return None if reads is None else (text, reads)


def _template(
    scope: TaskScope,
    node: ast.Template,
    names: dict[str, Type],
    *,
    has_format: bool,
    without: str | None = None,
) -> tuple[str, ...] | None:
    if isinstance(node, ast.File):
        return None  # it could not be read, and that was reported
    if re.fullmatch(r"[\w./-]+\.(jinja2?|j2|txt|md|prompt)", node.text.strip()):
        form = f'ask file("{node.text.strip()}")'
        scope.report(problems.WrongCall(span=node.span, callee="ask", form=form))
        return None
    reads = templates.check(
        node,
        names,
        has_format=has_format,
        report=scope.report,
        later=scope.later,
        without=without,
    )
    scope.uses.names.update(reads or ())
    return reads


def _conversation(scope: TaskScope, path: ast.Path, guard: Guard) -> _Made | None:
    name = scope.column(path, guard)
    if name is None:
        return None
    found = scope.visible(guard)[name]
    if found == types.NULL:
        return None
    if not isinstance(types.required(found), types.Chat):
        scope.report(
            problems.WrongType(
                span=path.span,
                what="what is asked",
                expected="chat",
                found=types.name(found),
                advice='a prompt is a template: `ask "…"`',
            )
        )
        return None
    return typed.Conversation(name), (name,)


def _one_of(scope: TaskScope, node: ast.Reference, names: dict[str, Type]) -> _Made | None:
    found = scope.reference(node, "mutations", tuple(scope.known.mutations))
    if found is None:
        return None
    if isinstance(found, typed.FromParameter):
        seen = scope.uses.seen.setdefault(found.name, dict(names))
        scope.uses.seen[found.name] = {n: t for n, t in seen.items() if n in names}
        scope.uses.names |= set(names)
        return typed.OneOf(found), ()
    mutations = scope.known.mutations[found]
    if mutations is None or not can_see(mutations, names, node.span, scope.report):
        return None
    reads = tuple(column.name for column in mutations.inputs)
    scope.uses.names.update(reads)
    return typed.OneOf(found), reads
