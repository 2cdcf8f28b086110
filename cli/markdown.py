"""Pages of the gallery as Markdown: `synthc tasks --markdown`, which docs/tasks.md is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from synthc.cli.pages import notes, worked

if TYPE_CHECKING:
    from synthc.compiler.gallery import Ask, Page, Shelf

HEAD = """\
# The standard library

<!-- Made by `synthc tasks --markdown > docs/tasks.md` from the specs themselves: change those. -->

Every task here is written in `.synth`, under `specs/std/`: read it, copy it, change it. A spec names
the file that it takes tasks from (`use "std/evol"`) and calls them by the file's name and their own
(`evol.instruct`). The snippets need a backend, such as this one:

<!-- block: backend -->
```synth
backend small {
  url   = env("SYNTH_URL", "http://localhost:8000/v1")
  model = "llama-3.1-8b-instruct"
}
```
"""


def gallery(shelves: Sequence[Shelf]) -> str:
    """The whole page."""
    standard = all(shelf.use for shelf in shelves)
    head = HEAD if standard else f"# {', '.join(shelf.file for shelf in shelves)}\n"
    return "\n".join([head, *_contents(shelves), *(part for s in shelves for part in _shelf(s))])


def _contents(shelves: Sequence[Shelf]) -> Iterator[str]:
    yield "| task | what it does |"
    yield "| --- | --- |"
    for shelf in shelves:
        for page in shelf.pages:
            yield f"| [`{page.name}`](#{_anchor(page.name)}) | {_cell(page.summary)} |"
    yield ""


def _shelf(shelf: Shelf) -> Iterator[str]:
    if shelf.use:
        yield f"## `{shelf.use}`\n"
    if shelf.about:
        yield f"{shelf.about}\n"
    for page in shelf.pages:
        yield from _page(page)


def _page(page: Page) -> Iterator[str]:
    yield f"### `{page.name}`\n"
    yield f"{_linked(page)}\n"
    if page.tags:
        yield f"Tags: {', '.join(page.tags)}.\n"
    yield f"<!-- after: backend -->\n```synth\n{page.example.snippet}\n```\n"
    if page.inputs:
        yield from _table(("takes", "type"), [(_code(i.name), _code(i.type)) for i in page.inputs])
    if page.parameters:
        rows = [
            (_code(p.name), _code(p.type), _code(p.default) or "required") for p in page.parameters
        ]
        yield from _table(("parameter", "type", "default"), rows)
        yield from (f"{note}\n" for note in notes(page.parameters))
    outputs = [(_code(o.name), _code(o.type), _code(o.when)) for o in page.outputs]
    yield from _table(("gives", "type", "when"), outputs)
    if page.example.test:
        lines = "\n".join(f"{word:<6} {text}" for word, text in worked(page.example.test))
        yield f"Example: {page.example.test.title}.\n\n```\n{lines}\n```\n"
    if page.asks:
        yield "<details><summary>What it asks</summary>\n"
        yield from (part for ask in page.asks for part in _asked(ask))
        yield "</details>\n"


def _linked(page: Page) -> str:
    """The description, with links to its papers."""
    text = page.description
    for number in {paper.arxiv for paper in page.papers}:
        link = f"[arXiv:{number}](https://arxiv.org/abs/{number})"
        text = text.replace(f"arXiv:{number}", link)
    return text


def _asked(ask: Ask) -> Iterator[str]:
    columns = ", ".join(f"`{column}`" for column in ask.columns)
    when = f" (when `{ask.when}`)" if ask.when else ""
    what = f"the conversation in `{ask.chat}`" if ask.chat else "this prompt"
    if ask.set:
        what = f"one prompt of `{ask.set}`, drawn for each answer"
    yield f"For {columns}{when}: {what}. The answer is read as `{ask.contract}`.\n"
    if ask.system:
        yield f"The system message:\n\n{_fenced(ask.system)}\n"
    for prompt in ask.prompts:
        weight = f" (weight {prompt.weight:g})" if prompt.weight != 1 else ""
        yield (f"`{prompt.name}`{weight}:\n\n" if prompt.name else "") + f"{_fenced(prompt.text)}\n"


def _fenced(text: str) -> str:
    fence = "~~~" if "```" in text else "```"
    return f"{fence}\n{text}\n{fence}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A table; a column of it that is empty everywhere is left out."""
    kept = [n for n, _ in enumerate(head) if any(row[n] for row in rows)]
    yield f"| {' | '.join(head[n] for n in kept)} |"
    yield f"|{' --- |' * len(kept)}"
    for row in rows:
        yield f"| {' | '.join(row[n] for n in kept)} |"
    yield ""


def _code(text: str | None) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(name: str) -> str:
    """What GitHub makes of a heading."""
    return name.replace(".", "").lower()
