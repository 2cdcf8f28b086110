"""What could be written at a place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from synthc.compiler import ast, typed, types
from synthc.compiler.check.files import STANDARD
from synthc.compiler.check.settings import BACKEND, EMBEDDER
from synthc.compiler.gallery import namespaces
from synthc.compiler.parse.parse import parse
from synthc.compiler.parse.words import CONTRACTS, DECLARATIONS, FORMS, PRODUCERS, SAMPLES, SOURCES
from synthc.compiler.types import Field
from synthc.lsp import symbols
from synthc.lsp.analysis import Analysis, File, analysed, cut, of_pieces
from synthc.lsp.cursor import Cursor, cursor
from synthc.lsp.hover import described, signature
from synthc.lsp.pieces import outline
from synthc.lsp.text import Position

TYPES = ("text", "int", "float", "bool", "json", "chat", "image", "audio", "vector[384]")
AFTER_ASK = ("system", "using", "as", "where", "each", "n", "when")
_HEADS: Mapping[str, str] = {
    "use": 'use "${1:std/evol}"',
    "param": "param ${1:name}: ${2:int} = ${3:10}",
    "type": 'type ${1:Name} = ${2:"low" | "high"}',
    "backend": 'backend ${1:name} {\n  url   = env("SYNTH_URL")\n  model = "$2"\n}',
    "embedder": 'embedder ${1:name} { model = "$2"  dimensions = ${3:384} }',
    "mutations": 'mutations ${1:name} {\n  in ${2:current}: text\n  ${3:deepen} "$4"\n}',
    "task": 'task ${1:name} {\n  in  ${2:question}: text\n  out ${3:answer}: text = ask "$4"\n}',
    "table": "table ${1:name} = ${2:rows(10)}",
    "expect": 'expect ${1:name}: sql "SELECT $2"',
    "export": 'export ${1:table} to "$1.parquet"',
    "test": 'test "$1" of ${2:task} {\n  given  $3\n  reply  $4\n  expect $5\n}',
}
"""How declarations are begun, as snippets."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that could be written. `snippet` is what to insert, with `$1` for what is left open."""

    label: str
    kind: str
    detail: str = ""
    documentation: str = ""
    snippet: str = ""


def completions(file: File, place: Position) -> tuple[Cursor, list[Item]]:
    """What stands before a position, and what the word there could become."""
    here = cursor(file.text, place)
    if here.comment:
        return here, []
    items = _in_string(file, here) if here.string is not None else _outside(file, here)
    return here, list({item.label: item for item in items}.values())


def _known(file: File, here: Cursor) -> Analysis:
    """What is known if the declaration ends before what the cursor is in."""
    return cut(file, here.piece, _before(here))


def _before(here: Cursor) -> str:
    """The declaration up to the last part of it that was finished before the cursor."""
    text = here.piece.text
    match here.piece.kind:
        case "table":
            return text[: here.step.start] if here.step else ""
        case "task":
            return _closed(here) or ""
        case _:
            return ""


def _closed(here: Cursor) -> str | None:
    """A task without the line that the cursor is in, and with its braces closed."""
    starts = [
        sign.start
        for index, sign in enumerate(here.signs)
        if sign.text in ("in", "let", "out", "next") and not _in_brackets(here, index)
    ]
    ends = [here.signs[index].start + 1 for index in here.opened[:1]]
    start = starts[-1] if starts else (ends[0] if ends else None)
    return None if start is None else here.piece.text[:start]


def _in_brackets(here: Cursor, index: int) -> bool:
    depth = 0
    for sign in here.signs[:index]:
        depth += (sign.text in "([") - (sign.text in ")]") if len(sign.text) == 1 else 0
    return depth > 0


def _names(analysis: Analysis, kind: str) -> Iterator[Item]:
    for of, name, _ in symbols.declarations(analysis.linked):
        if of == kind:
            yield Item(name.text, kind)


def _broad(file: File, here: Cursor) -> Analysis:
    """What the file declares besides tables and the declaration at the cursor.

    It is the same text, and is looked at once, while something is typed in one declaration.
    """
    results = ("table", "expect", "export", "test")
    pieces = (p for p in outline(file.text) if p.line != here.piece.line and p.kind not in results)
    return analysed(file.with_text("\n".join(piece.text for piece in pieces)))


# Strings


def _in_string(file: File, here: Cursor) -> Iterable[Item]:
    text = here.string or ""
    match here.flavour:
        case "use":
            return _usable(file)
        case "template":
            if not _in_jinja(text):
                return ()
            return [*_task_names(file, here), *_params(file)]
        case "sql":
            return _sql(file, here)
        case _:
            files = here.callee in ("read", "files", "file", "lines")
            return _files(file.base) if files else ()


def _in_jinja(text: str) -> bool:
    return max(text.rfind("{{"), text.rfind("{%")) > max(text.rfind("}}"), text.rfind("%}"))


def _usable(file: File) -> Iterator[Item]:
    yield from (Item(f"{STANDARD}{name}", "file", "standard library") for name in namespaces())
    for found in sorted(file.base.glob("*.synth")):
        if found.name != file.name:
            yield Item(found.stem, "file", found.name)


def _files(base: Path) -> Iterator[Item]:
    for found in sorted(base.iterdir()):
        if found.is_file() and not found.name.startswith(".") and found.suffix != ".synth":
            yield Item(found.name, "file")


def _sql(file: File, here: Cursor) -> Iterator[Item]:
    if here.prefix.startswith("$"):
        yield from (Item(f"${item.label}", "param", item.detail) for item in _params(file))
        return
    kind, text = here.piece.kind, here.string or ""
    if kind == "table" and here.callee in ("where", "select"):
        yield from _columns(_row(file, here), text)
    elif kind == "task":
        yield from _task_names(file, here)
    else:
        yield from (Item(name, "table") for name in _tables(file, here))
        if here.step:
            yield Item("this", "table", "the rows so far")
            yield from _columns(_row(file, here), "")
        yield from _of_named_tables(file, here)


def _row(file: File, here: Cursor) -> tuple[Field, ...]:
    """The columns that the step at the cursor finds."""
    analysis = _known(file, here)
    for node in analysis.spec.declarations:
        if isinstance(node, ast.Table) and node.name.text == here.piece.name:
            return analysis.columns.get(node.span, ())
    return ()


def _columns(fields: Iterable[Field], text: str) -> Iterator[Item]:
    """Columns, or the parts of the struct before a dot."""
    if path := re.search(r"(\w+(?:\.\w+)*)\.\w*$", text):
        for name in path[1].split("."):
            found = next((f for f in fields if f.name.lower() == name.lower()), None)
            record = types.required(found.type) if found else None
            fields = record.fields if isinstance(record, types.Record) else ()
    yield from (Item(field.name, "column", types.name(field.type)) for field in fields)


def _tables(file: File, here: Cursor) -> list[str]:
    return [p.name for p in outline(file.text) if p.kind == "table" and p.line != here.piece.line]


def _of_named_tables(file: File, here: Cursor) -> Iterator[Item]:
    """The columns of the tables that the query names, before the cursor or behind it."""
    words = here.piece.words
    named = [p for p in outline(file.text) if p.kind == "table" and p.name.lower() in words]
    others = tuple(piece for piece in named if piece.line != here.piece.line)
    if not others:
        return
    analysis = of_pieces(file, others)
    wanted = {piece.name for piece in others}
    for table in analysis.typed.tables:
        if table.name in wanted:
            yield from _columns(table.columns, "")


def _task_names(file: File, here: Cursor) -> Iterator[Item]:
    """The columns and parameters of a task, or a set's inputs, that stand before the cursor."""
    text = _closed(here)
    if text is None:
        return
    opened = [here.signs[index].text for index in here.opened]
    braces = opened.count("{")
    if here.piece.kind == "mutations":
        text = here.piece.text
    text += _closing(braces)
    spec, _ = parse(text, file.name)
    for node in spec.declarations:
        if isinstance(node, ast.Mutations):
            yield from (_as_written(column, text) for column in node.inputs)
        if not isinstance(node, ast.Task):
            continue
        yield from (_as_written(parameter, text, "param") for parameter in node.parameters)
        yield from (_as_written(column, text) for column in node.inputs)
        for produce in node.produces:
            loop = produce.producer
            if not isinstance(loop, ast.Repeat) or produce is not node.produces[-1] or braces < 2:
                made = (column for column in produce.columns if column.name.text != _STAND_IN)
                yield from (_as_written(column, text) for column in made)
            else:
                yield _as_written(loop.variable, text)
                yield Item("round", "column", "int")
                for inner in loop.produces:
                    yield from (_as_written(column, text) for column in inner.columns)
    if here.flavour == "template" and here.piece.kind == "task":
        yield Item("output_format", "keyword", "how the answer must be written")


def _closing(braces: int) -> str:
    """What ends a task that was cut: a loop must have its `next`, and a task an `out`."""
    if braces > 1:
        return "\n next null } }"
    return f"\n out {_STAND_IN}: text = null }}" if braces else ""


_STAND_IN = "_"
"""The name of a column that stands for those which are not written yet."""


def _as_written(node: ast.Column | ast.Parameter, text: str, kind: str = "column") -> Item:
    span = node.type.span
    line = text.split("\n")[span.line - 1]
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    return Item(node.name.text, kind, line[span.column - 1 : end])


def _params(file: File) -> Iterator[Item]:
    for piece in outline(file.text):
        if piece.kind == "param" and (
            found := re.match(r"param\s+\w+\s*:\s*([^=\n]*)", piece.text)
        ):
            yield Item(piece.name, "param", found[1].strip())


# Outside of strings


def _words(words: Iterable[str]) -> Iterator[Item]:
    return (Item(word, "keyword") for word in words)


def _outside(file: File, here: Cursor) -> Iterable[Item]:
    last, kind = here.last(), here.piece.kind
    if here.prefix.startswith("$"):
        return [Item(f"${i.label}", "param", i.detail) for i in [*_params(file), *_own(here)]]
    if not here.signs or (here.on_new_line and not here.opened and _first_column(here)):
        return [Item(word, "keyword", snippet=_HEADS[word]) for word in DECLARATIONS]
    if last == "extends" or (last == "of" and here.last(2) == "one") or last == "fallback":
        of = "mutations" if last == "of" else "backend" if last == "fallback" else kind
        return list(_names(_broad(file, here), of))
    match kind:
        case "table":
            return _of_table(file, here)
        case "task":
            return _of_task(file, here)
        case "backend" | "embedder":
            return _settings(file, here)
        case "export":
            return (
                [] if here.last() != "export" else [Item(n, "table") for n in _tables(file, here)]
            )
        case "test":
            return _of_test(file, here)
        case "param" | "type":
            return _types(file) if last in (":", "=") and (kind, last) != ("param", "=") else ()
        case _:
            return ()


def _first_column(here: Cursor) -> bool:
    start = here.offset - len(here.prefix)
    return start == 0 or here.piece.text[start - 1] == "\n"


def _own(here: Cursor) -> Iterator[Item]:
    """The parameters of the task that the cursor is in."""
    found = re.match(
        r"task\s+\w+\s*\((.*?)\)\s*(?:extends\s+[\w.]+\s*)?\{", here.piece.text, re.DOTALL
    )
    for name, type_ in re.findall(r"(\w+)\s*:\s*([^=,]+)", found[1]) if found else ():
        yield Item(name, "param", type_.strip())


def _types(file: File) -> list[Item]:
    own = [Item(p.name, "type") for p in outline(file.text) if p.kind == "type"]
    return [*(Item(name, "type") for name in TYPES), *own]


def _tasks(analysis: Analysis) -> Iterator[Item]:
    for name, task in analysis.typed.tasks.items():
        if task is not None:
            yield Item(
                name,
                "task",
                signature(task, name).split("\n", 1)[0],
                described(task, name),
                call(task, name),
            )


def call(task: typed.Task, name: str) -> str:
    """How a task is called: what must be given is left open, in the order of the declaration."""
    needed = [parameter.name for parameter in task.open if not parameter.has_default]
    inputs = [column.name for column in task.inputs]
    given = [f"{word} = ${{{number}:{word}}}" for number, word in enumerate((*inputs, *needed), 1)]
    return f"{name}({', '.join(given)})" if given else name


def _of_table(file: File, here: Cursor) -> Iterable[Item]:
    last = here.last()
    if last == "=" and not here.opened and here.step is None:
        tables = [Item(name, "table") for name in _tables(file, here)]
        sources = [Item(word, "step", FORMS[word].split("` or `")[0]) for word in SOURCES]
        return [*sources, Item("sql", "keyword"), *tables]
    if last == "|>":
        steps = [
            Item(word, "step", form.split("` or `")[0])
            for word, form in FORMS.items()
            if word not in SOURCES
        ]
        return [*steps, Item("sql", "keyword"), *_tasks(_broad(file, here))]
    if last == "using":
        step = here.step
        embeds = step and re.match(r"\|>\s*embed\b", here.piece.text[step.start :])
        return list(_names(_broad(file, here), "embedder" if embeds else "backend"))
    if here.bracket == "(" and last in ("(", ",", "="):
        return _arguments(file, here)
    return _words(("using", "as")) if here.step and not here.opened and last != "as" else ()


def _arguments(file: File, here: Cursor) -> Iterator[Item]:
    callee = here.callee
    start = here.signs[here.opened[-1]].start
    if callee == "draw" and here.argument == "from":
        yield from (Item(name, "table") for name in _tables(file, here))
        return
    analysis = _known(file, here) if here.step else _broad(file, here)
    task = analysis.typed.tasks.get(callee) or _broad(file, here).typed.tasks.get(callee)
    if task and here.last() != "=" and not here.path:
        said = set(re.findall(r"(\w+)\s*=", here.piece.text[start : here.offset]))
        for column in task.inputs:
            if column.name not in said:
                yield Item(
                    column.name, "input", types.name(column.type), snippet=f"{column.name} = $1"
                )
        for parameter in task.open:
            if parameter.name not in said:
                detail = types.name(parameter.type) if parameter.kind == "value" else parameter.kind
                yield Item(parameter.name, "param", detail, snippet=f"{parameter.name} = $1")
        return
    parameter = next((p for p in task.open if p.name == here.argument), None) if task else None
    if parameter and parameter.kind != "value":
        yield from _names(_broad(file, here), parameter.kind)
        return
    yield from _columns(_row(file, here), here.path)


def _of_task(file: File, here: Cursor) -> Iterable[Item]:
    last = here.last()
    if last == ":":
        return [*_types(file), *_words(("backend", "mutations"))]
    if last == "using":
        return list(_names(_broad(file, here), "backend"))
    if last == "=" and here.bracket in ("{", ""):
        return [*_words(PRODUCERS), *_task_names(file, here)]
    if last == "sample":
        return [Item(word, "keyword", form) for word, form in SAMPLES.items()]
    if last in ("as",):
        return [Item(word, "keyword", form) for word, form in CONTRACTS.items()]
    if last in ("ask", "in", "per", "when", "until"):
        return list(_task_names(file, here))
    if here.bracket != "{":
        return ()
    starts = ["in", "let", "out"] if len(here.opened) == 1 else ["let", "next"]
    asked = _closed(here) is not None and "ask" in [
        sign.text for sign in here.signs if sign.start >= len(_closed(here) or "")
    ]
    return [*_words(starts), *_words(AFTER_ASK if asked else ("when", "tags"))]


def _settings(file: File, here: Cursor) -> Iterable[Item]:
    words = BACKEND if here.piece.kind == "backend" else EMBEDDER
    if here.last() == "=":
        if here.last(2) == "fallback":
            return list(_names(_broad(file, here), "backend"))
        return [Item("env", "keyword", 'env("NAME")', snippet='env("$1")')]
    if len(here.opened) != 1:
        group = here.signs[here.opened[-1] - 1].text if here.opened else ""
        prices = ("input_usd_per_mtok", "output_usd_per_mtok") if group == "price" else ()
        return _words(prices) if here.opened else _words(("extends",))
    said = set(re.findall(r"(\w+)\s*[={]", here.piece.text))
    items = [
        Item(name, "setting", wanted, snippet=f"{name} = ")
        for name, (wanted, _) in words.items()
        if name not in said or name == here.prefix
    ]
    groups = ("headers", "extra", "price") if here.piece.kind == "backend" else ()
    return [*items, *(Item(name, "setting", snippet=f"{name} {{ $1 }}") for name in groups)]


def _of_test(file: File, here: Cursor) -> Iterable[Item]:
    if here.last() == "of":
        return list(_names(_broad(file, here), "task"))
    if here.bracket != "{" or here.last() == "=":
        return ()
    found = re.match(r'test\s+"[^"\n]*"\s+of\s+([\w.]+)', here.piece.text)
    task = _broad(file, here).typed.tasks.get(found[1]) if found else None
    part = next(
        (s.text for s in reversed(here.signs) if s.text in ("given", "reply", "expect")), ""
    )
    words = (
        [] if task is None else [c.name for c in (task.inputs if part == "given" else task.outputs)]
    )
    return [
        *(Item(word, "column", snippet=f"{word} = $1") for word in words if part),
        *_words(("given", "reply", "expect")),
    ]
