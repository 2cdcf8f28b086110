"""What is shown of a name: its type, its task's signature, where a column comes from. In Markdown."""

from __future__ import annotations

import re

from synthc.compiler import ast, plan, typed, types
from synthc.compiler.parse.words import FORMS
from synthc.compiler.span import Span
from synthc.lsp import symbols
from synthc.lsp.analysis import Analysis
from synthc.lsp.definition import declared, made_by
from synthc.lsp.symbols import Occurrence
from synthc.lsp.text import Position, offset, word_at


def hover(analysis: Analysis, place: Position) -> tuple[str, Span | None] | None:
    """What to show at a position, and the stretch that it is about."""
    found = symbols.at(analysis, place)
    if found is None:
        word, _ = word_at(analysis.file.text, offset(analysis.file.text, place))
        form = FORMS.get(word)
        return (f"```synth\n{form.replace('` or `', chr(10))}\n```", None) if form else None
    text = _shown(analysis, found)
    return (text, found.span) if text else None


def _shown(analysis: Analysis, found: Occurrence) -> str | None:
    match found.kind:
        case "task":
            task = analysis.typed.tasks.get(found.name)
            return described(task, found.name) if task else None
        case "table":
            table = next((t for t in analysis.typed.tables if t.name == found.name), None)
            if table is None:
                return None
            lines = [f"  {field.name}: {types.name(field.type)}" for field in table.columns]
            return _code("\n".join([f"table {table.name}", *lines]))
        case "param":
            return _parameter(analysis, found)
        case "backend" | "embedder":
            return _server(analysis, found)
        case "mutations":
            prompts = analysis.typed.mutations.get(found.name)
            names = ", ".join(p.name for p in prompts.prompts) if prompts else ""
            return f"{_code(f'mutations {found.name}')}\n{names}" if prompts else None
        case "type":
            span = declared(analysis, found)
            return _code(_written(analysis, span)) if span else None
        case _:
            return _column(analysis, found)


def _code(text: str) -> str:
    return f"```synth\n{text}\n```"


def _written(analysis: Analysis, span: Span) -> str:
    """The line that a declaration starts on, without its comment."""
    line = analysis.sources[span.file].split("\n")[span.line - 1].strip()
    return re.sub(r"\s+#[^\"]*$", "", line)


def signature(task: typed.Task, name: str) -> str:
    """How a task is called, what it takes and gives."""
    parameters = ", ".join(_declared(parameter) for parameter in task.open)
    lines = [f"task {name}({parameters})" if parameters else f"task {name}"]
    lines += [f"  in  {column.name}: {types.name(column.type)}" for column in task.inputs]
    for column in task.outputs:
        when = f" when {' and '.join(map(str, column.guard))}" if column.guard else ""
        lines.append(f"  out {column.name}: {types.name(column.type)}{when}")
    return "\n".join(lines)


def _declared(parameter: typed.Parameter) -> str:
    kind = types.name(parameter.type) if parameter.kind == "value" else parameter.kind
    if not parameter.has_default:
        return f"{parameter.name}: {kind}"
    default = parameter.default
    match default:
        case typed.Sample():
            shown = "sample …"
        case str() if parameter.kind == "value":
            shown = f'"{default}"'
        case bool():
            shown = str(default).lower()
        case None:
            shown = "null"
        case _:
            shown = str(default)
    return f"{parameter.name}: {kind} = {shown if len(shown) < 40 else shown[:36] + ' …'}"


def described(task: typed.Task, name: str) -> str:
    """A task's signature and its description."""
    return "\n\n".join(filter(None, (_code(signature(task, name)), task.description)))


def _parameter(analysis: Analysis, found: Occurrence) -> str | None:
    if not found.owner:
        if found.name not in analysis.typed.constants:
            return None
        span = declared(analysis, found)
        return _code(_written(analysis, span)) if span else None
    task = analysis.typed.tasks.get(found.owner)
    own = next((p for p in task.parameters if p.name == found.name), None) if task else None
    return f"{_code(_declared(own))}\na parameter of the task `{found.owner}`" if own else None


def _server(analysis: Analysis, found: Occurrence) -> str | None:
    """A backend or an embedder: which model it asks. Keys and headers are not shown."""
    named = analysis.typed.backends if found.kind == "backend" else analysis.typed.embedders
    record = next((one for one in named if one.name == found.name), None)
    if record is None:
        return None
    lines = [f"{found.kind} {found.name}", f"  model = {_setting(record.model)}"]
    if isinstance(record, plan.Backend):
        lines += [f"  url = {_setting(record.url)}"] if record.url else []
    else:
        lines.append(f"  dimensions = {record.dimensions}")
    return _code("\n".join(lines))


def _setting(value: str | plan.Env) -> str:
    return f'env("{value.name}")' if isinstance(value, plan.Env) else f'"{value}"'


def _column(analysis: Analysis, found: Occurrence) -> str | None:
    for node in analysis.spec.declarations:
        if isinstance(node, ast.Table) and node.name.text == found.owner:
            return _of_table(analysis, node, found)
    for task in symbols.base_tasks(analysis, found.owner):
        if isinstance(task, ast.Task) and (type_ := _type_in(analysis, task, found.name)):
            return f"{_code(f'{found.name}: {type_}')}\na column of the task `{found.owner}`"
    return None


def _type_in(analysis: Analysis, task: ast.Task, name: str) -> str | None:
    checked = analysis.typed.tasks.get(task.name.text)
    if checked is None:
        return None
    waiting = list(checked.produces)
    columns = list(checked.inputs)
    while waiting:
        produce = waiting.pop()
        columns += produce.columns
        if isinstance(produce.producer, typed.Repeat):
            columns.append(produce.producer.variable)
            waiting += produce.producer.produces
    return next((types.name(c.type) for c in columns if c.name == name), None)


def _of_table(analysis: Analysis, table: ast.Table, found: Occurrence) -> str | None:
    if found.declares:  # the struct that a step adds
        later = analysis.columns.get(table.span, ())
        after = [step.span for step in table.steps]
        if found.within in after and after.index(found.within) + 1 < len(after):
            later = analysis.columns.get(after[after.index(found.within) + 1], later)
    else:
        later = analysis.columns.get(found.within or table.span, ())
    field = next((f for f in later if f.name.lower() == found.name.lower()), None)
    if field is None:
        return None
    maker = None if found.declares else made_by(analysis, table, found)
    lines = [_code(f"{field.name}: {types.name(field.type)}")]
    return "\n".join([*lines, f"from `{maker[0]}`"] if maker else lines)
