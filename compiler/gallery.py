"""A checked spec → its gallery: a page for each task, with what it takes, gives and asks.

The standard library's pages are made from its own files: nothing is described twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthc.compiler import typed, types
from synthc.compiler.check.check import check
from synthc.compiler.check.files import STANDARD, located
from synthc.compiler.check.tasks import MODEL_NAME
from synthc.compiler.diagnostics.problem import Problem
from synthc.compiler.link import link
from synthc.compiler.parse.parse import parse
from synthc.compiler.parse.words import RESERVED
from synthc.compiler.span import Span
from synthc.compiler.types import Type

REFERENCES: Mapping[str, str] = {
    "chat.reply": "ChatGeneration",
    "score.complexity": "ComplexityScorer",
    "evol.instruct": "EvolInstruct",
    "evol.complexity": "EvolComplexity",
    "evol.instruct_generator": "EvolInstructGenerator",
    "evol.complexity_generator": "EvolComplexityGenerator",
    "evol.quality": "EvolQuality",
    "embedding.tasks": "EmbeddingTaskGenerator",
    "embedding.text_retrieval": "GenerateTextRetrievalData",
    "embedding.text_classification": "GenerateTextClassificationData",
    "embedding.short_text_matching": "GenerateShortTextMatchingData",
    "embedding.long_text_matching": "GenerateLongTextMatchingData",
    "embedding.bitext_retrieval": "BitextRetrievalGenerator",
    "embedding.monolingual_triplet": "MonolingualTripletGenerator",
    "embedding.sentence_pair": "GenerateSentencePair",
}
"""The class of distilabel that a task of the standard library stands for."""

LINE = 90
"""Characters of a line of a snippet, about: longer SQL gets lines of its own."""


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper that a description names."""

    title: str | None
    arxiv: str


@dataclass(frozen=True, slots=True)
class Input:
    """A column that a task needs."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that a step can give. `default` is as a spec writes it; None where it is required.

    A `constant` one must be known before a run: a column cannot be given for it.
    """

    name: str
    type: str
    default: str | None
    required: bool
    constant: bool


@dataclass(frozen=True, slots=True)
class Output:
    """A column that a task adds, and under which parameters it exists (None: always)."""

    name: str
    type: str
    when: str | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template; of a set also its name and its weight."""

    name: str | None
    weight: float
    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to a model, and the columns that its answer becomes.

    With `chat` the messages are in that column. With `set` one of the prompts is drawn; where the set
    is a parameter's, it is the one that the parameter has by default.
    """

    columns: tuple[str, ...]
    when: str | None
    chat: str | None
    set: str | None
    prompts: tuple[Prompt, ...]
    system: str | None
    contract: str


@dataclass(frozen=True, slots=True)
class Worked:
    """A test of the task: what it is given, what the model replies, what comes of it.

    All values are as a spec writes them; a reply of None is a call that fails.
    """

    title: str
    arguments: Mapping[str, str]
    given: Mapping[str, str]
    replies: Mapping[str, tuple[str | None, ...]]
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """How a task is used, in a snippet that compiles where there is a backend; and one of its tests."""

    snippet: str
    test: Worked | None


@dataclass(frozen=True, slots=True)
class Page:
    """A task. `name` is how it is called; `use` the line that this needs (None in its own file)."""

    name: str
    namespace: str | None
    use: str | None
    summary: str
    description: str
    tags: tuple[str, ...]
    papers: tuple[Paper, ...]
    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[Output, ...]
    asks: tuple[Ask, ...]
    reference: str | None
    example: Example


@dataclass(frozen=True, slots=True)
class Shelf:
    """The tasks of one file, in its order. `about` is what the file's first comment says."""

    file: str
    use: str | None
    about: str
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class Browsed:
    """The tasks of a file; None where it has errors, which `problems` then tell."""

    shelf: Shelf | None
    problems: tuple[Problem, ...]
    sources: Mapping[str, str]


def namespaces() -> tuple[str, ...]:
    """The names of the standard library's files, without their ending."""
    names = (file.name for file in located(STANDARD, Path()).iterdir())
    return tuple(sorted(name.removesuffix(".synth") for name in names if name.endswith(".synth")))


def standard(namespace: str) -> Browsed:
    """The tasks of a file of the standard library. Raises FileNotFoundError where there is none."""
    return browse(Path(str(located(f"{STANDARD}{namespace}.synth", Path()))), namespace=namespace)


def browse(path: Path, given: Mapping[str, str] | None = None, namespace: str = "") -> Browsed:
    """The tasks that a file declares. `given` are its parameters, as the command line gives them.

    Raises OSError or UnicodeDecodeError where the file cannot be read as text.
    """
    text = path.read_text(encoding="utf-8").removeprefix("\ufeff")
    spec, found = parse(text, path.name)
    linked = link(spec, path.parent, found.append)
    checked, problems = check(linked.spec, given or {}, path.parent)
    sources = {**linked.texts, path.name: text}
    errors = tuple(p for p in (*found, *problems) if p.severity == "error")
    if checked is None or errors:
        return Browsed(None, errors, sources)
    file = _File(namespace, checked, sources)
    own = (task for task in checked.tasks.values() if task.span.file == path.name)
    use = f'use "{STANDARD}{namespace}"' if namespace else None
    pages = tuple(_page(task, file) for task in own)
    return Browsed(Shelf(path.name, use, _about(text), pages), (), sources)


def _about(text: str) -> str:
    """The first paragraph of the comment that a file starts with."""
    words: list[str] = []
    for line in text.split("\n"):
        comment = line.removeprefix("#").strip() if line.startswith("#") else ""
        if not comment:
            break
        words.append(comment)
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class _File:
    """What a page needs to know of the file that its task stands in."""

    namespace: str
    spec: typed.Spec
    sources: Mapping[str, str]

    def called(self, name: str) -> str:
        """The name of a declaration where the file is used."""
        return f"{self.namespace}.{name}" if self.namespace else name

    def written(self, span: Span) -> str:
        """What stands at a place, on one line."""
        lines = self.sources[span.file].split("\n")[span.line - 1 : span.end_line]
        lines[-1] = lines[-1][: span.end_column - 1]
        lines[0] = lines[0][span.column - 1 :]
        return " ".join(" ".join(lines).split())


def _page(task: typed.Task, file: _File) -> Page:
    name = file.called(task.name)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", task.description)]
    test = next((t for t in file.spec.tests if _shows(t, task)), None)
    return Page(
        name,
        file.namespace or None,
        f'use "{STANDARD}{file.namespace}"' if file.namespace else None,
        paragraphs[0],
        task.description,
        task.tags,
        tuple(paper for part in paragraphs for paper in _papers(part)),
        tuple(Input(column.name, types.name(column.type)) for column in task.inputs),
        tuple(_parameter(parameter, file) for parameter in task.open),
        tuple(_outputs(task)),
        tuple(_asks(task, file)),
        REFERENCES.get(name) if file.namespace else None,
        Example(_snippet(task, test, file), _worked(test, task, file) if test else None),
    )


def _shows(test: typed.Test, task: typed.Task) -> bool:
    """Whether a test is one to show: of the task, and of what comes of a reply."""
    return test.step.task.name == task.name and not test.fails and bool(test.expected)


_PAPER = re.compile(r"(?:\bPapers?: (?P<title>.+?), )?\barXiv: ?(?P<arxiv>\d{4}\.\d{4,5})")


def _papers(paragraph: str) -> Iterator[Paper]:
    for found in _PAPER.finditer(paragraph):
        yield Paper(found["title"], found["arxiv"])


def _parameter(parameter: typed.Parameter, file: _File) -> Parameter:
    default = parameter.default
    if not parameter.has_default:
        text = None
    elif isinstance(default, typed.Sample):
        text = file.written(default.span)
    elif parameter.kind == "mutations":
        text = file.called(str(default))
    elif parameter.kind == "backend":
        text = str(default)
    else:
        text = written(default)
    value = parameter.kind == "value"
    return Parameter(
        parameter.name,
        types.name(parameter.type) if value else parameter.kind,
        text,
        required=not parameter.has_default,
        constant=parameter.constant or not value,
    )


def _outputs(task: typed.Task) -> Iterator[Output]:
    for column in task.outputs:
        yield Output(column.name, types.name(column.type), _when((column.guard,)))
    if task.asks and MODEL_NAME not in (column.name for column in task.outputs):
        yield Output(MODEL_NAME, "text", _when(guard for guard, _, _ in _asking(task)))


def _asking(task: typed.Task) -> Iterator[tuple[typed.Guard, typed.Produce, typed.Ask]]:
    """Everything that asks, and when; what a loop asks is under the loop's guard."""
    for outer in task.produces:
        for inner, ask in typed.asking((outer,)):
            yield inner.guard or outer.guard, inner, ask


def _when(guards: Iterable[typed.Guard]) -> str | None:
    """Where one of the guards holds; None where one always does."""
    texts = dict.fromkeys(" and ".join(map(str, guard)) for guard in guards)
    return None if "" in texts else " or ".join(texts)


def _asks(task: typed.Task, file: _File) -> Iterator[Ask]:
    for guard, produce, ask in _asking(task):
        chat = set_ = None
        prompts: tuple[Prompt, ...] = ()
        match ask.prompt:
            case str(text):
                prompts = (Prompt(None, 1, text),)
            case typed.Conversation(column):
                chat = column
            case typed.OneOf(reference):
                set_ = _set(reference, task)
                prompts = tuple(_prompts(file.spec.mutations.get(set_ or "")))
        yield Ask(
            tuple(column.name for column in produce.columns),
            _when((guard,)),
            chat,
            file.called(set_) if set_ else None,
            prompts,
            ask.system,
            _contract(ask.contract),
        )


def _prompts(set_: typed.Mutations | None) -> Iterator[Prompt]:
    for mutation in set_.prompts if set_ else ():
        yield Prompt(mutation.name, mutation.weight, mutation.template)


def _set(reference: typed.Reference, task: typed.Task) -> str | None:
    """The name of the set that is drawn from, where no argument says another."""
    if isinstance(reference, str):
        return reference
    if reference.name in task.filled:
        return task.filled[reference.name].value
    return next(p.default for p in task.parameters if p.name == reference.name)


def _contract(contract: typed.Contract) -> str:
    """A contract as a spec writes it, about."""
    told = [written(mark) for mark in contract.marks]
    if contract.pattern is not None:
        told = [f"/{contract.pattern}/"]
    per = f" per {contract.per}" if contract.per else ""
    return contract.kind + (f"({', '.join(told)})" if told else "") + per


# Examples


def _worked(test: typed.Test, task: typed.Task, file: _File) -> Worked:
    inputs = {column.name for column in task.inputs}
    given = {name: known for name, known in test.step.given.items() if known.sample is None}
    return Worked(
        test.title,
        {p.name: _value(p, given[p.name].value, file) for p in _said(task, given)},
        {name: written(known.value) for name, known in given.items() if name in inputs},
        {
            name: tuple(None if text is None else _reply(text) for text in texts)
            for name, texts in test.replies.items()
        },
        {name: written(value) for name, value in test.expected.items()},
    )


def _reply(text: str) -> str:
    """What a model says, as a spec writes it: where there are quotes in it, without escapes."""
    raw = '"' in text and not set("\n\\") & set(text) and '"""' not in f'{text}"'
    return f'"""{text}"""' if raw else written(text)


def _said(task: typed.Task, given: Mapping[str, typed.Given]) -> list[typed.Parameter]:
    """The parameters that are given something else than they have by default."""
    return [
        parameter
        for parameter in task.open
        if parameter.name in given
        and not (parameter.has_default and given[parameter.name].value == parameter.default)
    ]


def _value(parameter: typed.Parameter, value: Any, file: _File) -> str:
    match parameter.kind:
        case "mutations":
            return file.called(value)
        case "backend":
            return value
        case _:
            return written(value)


def _snippet(task: typed.Task, test: typed.Test | None, file: _File) -> str:
    """A use of the task, with what a test of it gives; it compiles wherever there is a backend."""
    known = test.step.given if test else {}
    values = {
        column.name: known[column.name].value if column.name in known else _placeholder(column.type)
        for column in task.inputs
    }
    arguments = [
        f"{_word(p.name)} = {_required(p, known.get(p.name), file)}"
        for p in task.open
        if not p.has_default
    ]
    brackets = f"({', '.join(arguments)})" if arguments else ""
    use = f'use "{STANDARD}{file.namespace}"\n\n' if file.namespace else ""
    callee = file.called(_word(task.name))
    return f"{use}table results = {_source(task.inputs, values)}\n  |> {callee}{brackets}"


def _source(inputs: tuple[typed.Column, ...], values: Mapping[str, Any]) -> str:
    """Rows that have the columns."""
    if not inputs:
        return "rows(3)"
    columns = [f"{_sql(values[c.name], c.type)} AS {_label(c.name)}" for c in inputs]
    held = next((types.required(c.type) for c in inputs if _in_files(c.type)), None)
    if held is not None:
        ending = "jpg" if isinstance(held, types.Image) else "wav"
        return f'files("*.{ending}")\n  |> select({written(", ".join(columns))})'
    query = f"SELECT {', '.join(columns)}"
    plain = '"' not in query and "\\" not in query and "\n" not in query
    if plain and len(query) + len('table results = sql ""') <= LINE:
        return f'sql "{query}"'
    if "\n" in query or '"""' in query:  # in triple quotes its lines would lose their indent
        return f"sql {written(query)}"
    return 'sql """\n  SELECT ' + ",\n         ".join(columns) + '\n"""'


def _required(parameter: typed.Parameter, given: typed.Given | None, file: _File) -> str:
    """A value for a parameter that must be given."""
    if given is not None:
        return _value(parameter, given.value, file)
    match parameter.kind:
        case "mutations":
            fitting = (s.name for s in file.spec.mutations.values() if _fits(s, parameter))
            return next((file.called(name) for name in fitting), "…")
        case "backend":
            return next((backend.name for backend in file.spec.backends), "…")
        case _:
            return written(_placeholder(parameter.type))


def _fits(set_: typed.Mutations, parameter: typed.Parameter) -> bool:
    return {column.name for column in set_.inputs} <= set(parameter.sees)


def _placeholder(type_: Type) -> Any:
    """Some value of a type, None where a spec cannot write any."""
    match types.required(type_):
        case types.Text() | types.Json():
            return "…"
        case types.Int() | types.Float():
            return 1
        case types.Bool():
            return True
        case types.Choice(values):
            return values[0]
        case types.Chat():
            return [{"role": "user", "content": "…"}]
        case types.ListOf(element):
            return [_placeholder(element)]
        case types.Record(fields):
            return {field.name: _placeholder(field.type) for field in fields}
        case types.Image():
            return "picture.jpg"
        case types.Audio():
            return "recording.wav"
        case _:
            return None


def written(value: Any) -> str:
    """A value as a spec writes it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(map(_character, value)) + '"'
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case list() | tuple():
            return f"[{', '.join(map(written, value))}]"
        case dict():
            return "{" + ", ".join(f"{_word(n)}: {written(v)}" for n, v in value.items()) + "}"
        case _:
            return str(value)


_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\u{ord(character):04x}" if ord(character) < 0x20 else character


def _word(name: str) -> str:
    """A name as a spec writes it."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name not in RESERVED
    return name if plain else f"`{name}`"


def _label(name: str) -> str:
    """The name of a column behind AS."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else types.quote(name)


def _in_files(type_: Type) -> bool:
    return isinstance(types.required(type_), types.Image | types.Audio)


def _sql(value: Any, type_: Type) -> str:
    """A value as SQL writes it; a picture is the column that `files` has for it."""
    if isinstance(types.required(type_), types.Json):
        return f"CAST({_sql(json.dumps(value), types.Text())} AS JSON)"
    match value:
        case str() if _in_files(type_):
            return types.name(types.required(type_))
        case None | []:
            text = "NULL" if value is None else "[]"
            return f"CAST({text} AS {types.sql(type_)})"
        case bool():
            return "true" if value else "false"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case list():
            element = _element(type_)
            return f"[{', '.join(_sql(item, element) for item in value)}]"
        case dict():
            fields = {f.name: f.type for f in _fields(type_)}
            parts = (f"'{n}': {_sql(v, fields.get(n, types.Text()))}" for n, v in value.items())
            return "{" + ", ".join(parts) + "}"
        case _:
            return str(value)


def _element(type_: Type) -> Type:
    match types.required(type_):
        case types.ListOf(element):
            return element
        case types.Chat():
            return types.MESSAGES.element
        case _:
            return types.Text()


def _fields(type_: Type) -> tuple[types.Field, ...]:
    inner = types.required(type_)
    return inner.fields if isinstance(inner, types.Record) else ()
