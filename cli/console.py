"""What a person reads: colours only on a terminal, everything but results to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from synthc.compiler.compile import Compiled
    from synthc.runtime.errors import RunError

_COLOURS = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "message": {"bold": True},
    "place": {"fg": "cyan"},
    "help": {"fg": "green", "bold": True},
}


def coloured() -> bool:
    """Whether stderr is a terminal that wants colours (https://no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def style(role: str, text: str) -> str:
    """A part of a message in its colour, where colours are wanted."""
    return click.style(text, **_COLOURS.get(role, {})) if coloured() else text


def say(text: str = "") -> None:
    """A line for a person."""
    click.echo(text, err=True)


class Failure(Exception):
    """The command ends here, with an exit status and (if any) a last message."""

    def __init__(self, exit_code: int, message: str | None = None) -> None:
        super().__init__(message or "")
        self.exit_code = exit_code
        self.message = message

    def show(self) -> None:
        """Print the message, if there is one."""
        if self.message:
            say(self.message)


def failed(error: RunError, sources: Mapping[str, str] | None = None) -> Failure:
    """An error of a run as the end of a command, shown at its place in the spec."""
    word = "stopped" if error.exit_code == 3 else "error"
    lines = [style("error", word) + style("message", f": {visible(error.message)}")]
    if error.span is not None:
        lines.append(style("place", f"  --> {error.span}"))
        text = (sources or {}).get(error.span.file)
        if text is not None and error.span.line <= text.count("\n") + 1:
            line = text.split("\n")[error.span.line - 1]
            margin = " " * len(str(error.span.line))
            lines.append(style("place", f"{margin} |"))
            lines.append(style("place", f"{error.span.line} |") + f" {line}")
    if error.hint:
        lines.append(style("help", "  = help") + f": {visible(error.hint)}")
    return Failure(error.exit_code, "\n".join(lines))


def visible(text: str) -> str:
    """Text of unknown origin, with what could steer a terminal made visible."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def usage(message: str) -> Failure:
    """The command was called in a way it cannot be."""
    return Failure(2, style("error", "error") + style("message", f": {message}"))


def only_file(pattern: str, what: str, folder: Path | None = None) -> Path:
    """The one file of a kind in the folder. Ends the command where there is none, or several."""
    found = sorted((folder or Path()).glob(pattern))
    if len(found) == 1:
        return found[0]
    if not found:
        raise usage(f"there is no {what} in this folder: name one")
    names = ", ".join(path.name for path in found)
    raise usage(f"there are several {what}s in this folder ({names}): name one")


def show_problems(compiled: Compiled) -> None:
    """Every problem of a spec, and how many there are."""
    from synthc.compiler.diagnostics.render import render, summary

    for problem in compiled.problems:
        say(render(problem, compiled.sources, style) + "\n")
    if compiled.problems:
        say(summary(compiled.problems))
