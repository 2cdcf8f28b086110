"""Pages of the gallery on a terminal, or as plain text: `synthc tasks`."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from synthc.cli.console import visible

if TYPE_CHECKING:
    from synthc.compiler.gallery import Ask, Page, Parameter, Shelf, Worked

WIDTH = 100
"""Columns that text is wrapped to: those of the terminal, but no more than are easy to read."""

NARROW = 30
"""Columns that a text needs beside its name: where there are fewer it stands below."""

_COLOURS = {"name": {"bold": True}, "heading": {"fg": "cyan", "bold": True}, "quiet": {"dim": True}}

Line = tuple[tuple[str, str], ...]
"""A line in parts, each with its role before it; "" is plain text."""


def show(lines: Iterable[Line]) -> None:
    """Print lines on stdout, in colours where it is a terminal that wants them."""
    colours = _on_terminal() and not os.environ.get("NO_COLOR")
    for line in lines:
        # What a spec says is shown, never obeyed: it may come from anywhere.
        parts = [(role, visible(text)) for role, text in line]
        texts = (click.style(t, **_COLOURS[r]) if colours and r else t for r, t in parts)
        click.echo("".join(texts).rstrip())


def listing(shelves: Sequence[Shelf]) -> Iterator[Line]:
    """A line for each task, under the file that it is of."""
    width = max((len(page.name) for shelf in shelves for page in shelf.pages), default=0)
    for number, shelf in enumerate(shelves):
        if number:
            yield ()
        yield (("heading", shelf.use or shelf.file),)
        for line in _wrapped(shelf.about):
            yield (("quiet", line),)
        for task in shelf.pages:
            # On no terminal a task has one line: it may be searched.
            yield from _entry(
                task.name, task.summary, width, _columns() if _on_terminal() else None
            )


def page(task: Page, *, prompts: bool) -> Iterator[Line]:
    """All that there is to know of a task, with its prompts where they are wanted."""
    yield (("name", task.name),)
    for paragraph in task.description.split("\n\n"):
        yield from _prose(" ".join(paragraph.split()))
        yield ()
    if task.tags:
        yield from _prose(f"Tags: {', '.join(task.tags)}")
        yield ()
    yield from _block("Use", task.example.snippet.split("\n"))
    yield from _entries("Takes", [(column.name, column.type) for column in task.inputs])
    yield from _entries("Parameters", [(p.name, _parameter(p)) for p in task.parameters])
    found = notes(task.parameters)
    for note in found:
        yield from _prose(note)
    if found:
        yield ()
    given = [(o.name, f"{o.type}, when {o.when}" if o.when else o.type) for o in task.outputs]
    yield from _entries("Gives", given)
    if task.example.test:
        yield from _entries(f"Example: {task.example.test.title}", list(worked(task.example.test)))
    for ask in task.asks if prompts else ():
        yield from _asked(ask)


def notes(parameters: Sequence[Parameter]) -> list[str]:
    """What holds for several parameters."""
    found: list[str] = []
    if any(p.default and p.default.split()[0] == "sample" for p in parameters):
        found.append("What is `sample` is drawn anew for each row, unless it is given.")
    free = [p.name for p in parameters if not p.constant]
    if free and len(free) == len(parameters):
        found.append(f"A column of the table can be given too: `{free[0]} = some_column`.")
    elif free:
        found.append(f"A column of the table can be given for {', '.join(free)}.")
    return found


def worked(test: Worked) -> Iterator[tuple[str, str]]:
    """A test of a task: what is given, replied and made of it, each with a word before it."""
    replies = {
        name: ", then ".join("fail" if text is None else text for text in texts)
        for name, texts in test.replies.items()
    }
    for word, values in (
        ("with", test.arguments),
        ("given", test.given),
        ("reply", replies),
        ("gives", test.columns),
    ):
        for number, (name, text) in enumerate(values.items()):
            yield "" if number else word, f"{name} = {text}"


def _parameter(parameter: Parameter) -> str:
    default = ", required" if parameter.required else f" = {parameter.default}"
    return f"{parameter.type}{default}"


def _asked(ask: Ask) -> Iterator[Line]:
    """What one `ask` sends."""
    when = f", when {ask.when}" if ask.when else ""
    yield (("heading", f"Asks for {', '.join(ask.columns)}{when}"),)
    if ask.chat:
        yield from _prose(f"The conversation in `{ask.chat}`.")
    if ask.set:
        yield from _prose(f"One prompt of `{ask.set}`, drawn for each answer.")
    yield from _prose(f"The answer is read as {ask.contract}.")
    yield ()
    if ask.system:
        yield from _template("system", ask.system)
    for prompt in ask.prompts:
        weight = f", weight {prompt.weight:g}" if prompt.weight != 1 else ""
        yield from _template(f"{prompt.name}{weight}" if prompt.name else "prompt", prompt.text)


def _template(title: str, text: str) -> Iterator[Line]:
    yield ("", "  "), ("name", title)
    for line in text.split("\n"):
        for part in (_wrapped(line, 4) or [""]) if _on_terminal() else [line]:
            yield ("quiet", "  | "), ("", part)
    yield ()


# Parts of a page


def _block(title: str, lines: Iterable[str]) -> Iterator[Line]:
    """Lines that are kept as they are: they may be copied."""
    yield (("heading", title),)
    for line in lines:
        yield (("", f"  {line}"),)
    yield ()


def _entries(title: str, entries: Sequence[tuple[str, str]]) -> Iterator[Line]:
    if not entries:
        return
    yield (("heading", title),)
    width = max(len(name) for name, _ in entries)
    for name, text in entries:
        yield from _entry(name, text, width)
    yield ()


def _entry(name: str, text: str, width: int, columns: int | None = WIDTH) -> Iterator[Line]:
    """A name, and beside it what there is to say of it, in so many columns (None: on one line)."""
    if columns and min(_columns(), columns) < width + 4 + NARROW:
        yield ("", "  "), ("name", name)
        for line in _wrapped(text, 4):
            yield (("", f"    {line}"),)
        return
    first, *rest = (_wrapped(text, width + 4, columns) if columns else [text]) or [""]
    yield ("", "  "), ("name", name.ljust(width)), ("", f"  {first}")
    for line in rest:
        yield (("", " " * (width + 4) + line),)


def _prose(text: str) -> Iterator[Line]:
    for line in _wrapped(text, 2):
        yield (("", f"  {line}"),)


_PLACE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")


def _wrapped(text: str, indent: int = 0, columns: int = WIDTH) -> list[str]:
    """A text in lines that leave room for an indent; what Jinja replaces is not broken."""
    width = max(min(_columns(), columns) - indent, 20)
    joined = _PLACE.sub(lambda place: place[0].replace(" ", "\xa0"), text)
    lines = textwrap.wrap(joined, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _columns() -> int:
    """The columns that there are."""
    return get_terminal_size().columns if _on_terminal() else WIDTH
