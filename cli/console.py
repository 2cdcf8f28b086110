"""What a person reads: everything but results goes to stderr, coloured only on a terminal."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from synthc.compiler.diagnostics.problem import Problem
    from synthc.runtime.errors import RunError

_COLOURS = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "message": {"bold": True},
    "place": {"fg": "cyan"},
    "help": {"fg": "green", "bold": True},
}
_JOINERS = "\u200c\u200d"  # they steer no terminal, and some scripts are wrong without them


def coloured() -> bool:
    """Whether stderr is a terminal that wants colours (https://no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def style(role: str, text: str) -> str:
    """A part of a message in its colour, where colours are wanted."""
    return click.style(text, **_COLOURS.get(role, {})) if coloured() else text


def say(text: str = "") -> None:
    """A line for a person. Work does not end because nobody reads."""
    with suppress(BrokenPipeError):
        click.echo(text, err=True)


def wrapped(text: str, indent: int = 0) -> list[str]:
    """A text in lines that leave room for an indent, where there is a terminal to fit."""
    if not sys.stderr.isatty():
        return [text]
    return textwrap.wrap(text, max(get_terminal_size().columns - indent, 20))


def visible(text: str) -> str:
    """Text of unknown origin, with what could steer a terminal made visible."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    harmless = character.isprintable() or character in f"\n\t{_JOINERS}"
    if harmless or unicodedata.category(character) == "Zs":
        return character
    return repr(character)[1:-1]


def counted(count: int, thing: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def command(*words: str | Path) -> str:
    """A command to type next, as a shell takes it."""
    return visible(" ".join(_word(str(word)) for word in words))


def _word(word: str) -> str:
    if word == shlex.quote(word):
        return word
    # Double quotes read better, where nothing in them means something to a shell.
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


class Failure(Exception):
    """The command ends here, with an exit status and a last message (if any)."""

    def __init__(self, exit_code: int, message: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message

    def show(self) -> None:
        """Print the message, if there is one."""
        if self.message:
            say(self.message)


def usage(message: str, help_: str | None = None) -> Failure:
    """The command was called in a way it cannot be."""
    return Failure(2, _told("error", message, help_))


def failed(error: RunError, sources: Mapping[str, str] | None = None) -> Failure:
    """An error of a run as the end of a command, shown at its place in the spec."""
    places: list[str] = []
    if error.span is not None:
        places.append(style("place", visible(f"  --> {error.span}")))
        lines = (sources or {}).get(error.span.file, "").split("\n")
        if any(lines) and error.span.line <= len(lines):
            margin = " " * len(str(error.span.line))
            places.append(style("place", f"{margin} |"))
            line = visible(lines[error.span.line - 1])
            places.append(style("place", f"{error.span.line} |") + f" {line}")
    word = "stopped" if error.exit_code == 3 else "error"
    return Failure(error.exit_code, _told(word, error.message, error.hint, places))


def _told(word: str, message: str, help_: str | None, places: Sequence[str] = ()) -> str:
    lines = [style("error", word) + style("message", f": {visible(message)}"), *places]
    if help_:
        lines.append(helping(help_))
    return "\n".join(lines)


def helping(text: str) -> str:
    """What to do next, as the last line of a message."""
    return style("help", "  = help") + f": {visible(text)}"


def only_file(pattern: str, what: str, none: str) -> Path:
    """The one file of a kind in this folder. Ends the command where there is none, or several."""
    found = sorted(path for path in Path().glob(pattern) if path.is_file())
    if not found:
        raise usage(f"there is no {what} in this folder", none)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise usage(f"there are several {what}s in this folder: {names}", "name one of them")
    return found[0]


def show_problems(problems: Sequence[Problem], sources: Mapping[str, str]) -> None:
    """Every problem of a spec, and how many there are."""
    from synthc.compiler.diagnostics.render import plain, render, summary

    for problem in problems:
        text = render(problem, sources, plain)
        # A spec may come from anywhere: what could steer the terminal costs it its colours.
        clean = visible(text)
        say((render(problem, sources, style) if text == clean else clean) + "\n")
    if problems:
        say(summary(problems))
