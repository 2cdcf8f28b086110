"""`synthc fmt`: specs in the one layout."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synthc.cli.compiling import json_option, print_json, spec_path
from synthc.cli.console import Failure, counted, say, show_problems, usage, visible

if TYPE_CHECKING:
    from synthc.compiler.diagnostics.problem import Problem

STDIN = Path("-")
_STDIN_NAME = "<stdin>"


@dataclass(frozen=True, slots=True)
class _Formatted:
    """What became of a spec: its text in the layout, or None with what is wrong with it."""

    path: Path
    name: str
    before: bytes
    text: str
    after: bytes | None
    problems: tuple[Problem, ...] = ()

    @property
    def changed(self) -> bool:
        return self.after is not None and self.after != self.before


@click.command("fmt")
@click.argument("specs", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--check", "only_check", is_flag=True, help="Change nothing; 1 if a file would change."
)
@json_option
def fmt(specs: tuple[Path, ...], only_check: bool, as_json: bool) -> None:
    """Write specs in the one layout: those named, those of a folder, or - for stdin to stdout."""
    if STDIN in specs and len(specs) > 1:
        raise usage("`-` stands for the only spec, and there are others")
    formatted = [_format(path) for path in dict.fromkeys(_paths(specs))]
    for file in formatted:
        if file.path != STDIN and file.changed and not only_check:
            _write(file)
    if as_json:
        print_json(_document(formatted, only_check))
    else:
        _tell(formatted, only_check)
    if not _ok(formatted, only_check):
        raise Failure(1)


def _paths(specs: tuple[Path, ...]) -> Iterator[Path]:
    for spec in specs or (spec_path(None),):
        if not spec.is_dir():
            yield spec
            continue
        found = [path for path in sorted(spec.rglob("*.synth")) if _shown(path, spec)]
        if not found:
            raise usage(f"there is no .synth file in {spec}")
        yield from found


def _shown(path: Path, folder: Path) -> bool:
    """Whether a file is one, and is in no hidden folder."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden


def _format(path: Path) -> _Formatted:
    from synthc.compiler.format.format import Unreadable, format_text

    name = _STDIN_NAME if path == STDIN else path.as_posix()
    before = _read(path)
    try:
        # Lines end as they do where a spec is compiled.
        text = io.StringIO(before.decode("utf-8"), newline=None).read()
    except UnicodeDecodeError:
        raise usage(f"{name} is not text in UTF-8") from None
    try:
        after = format_text(text, name).encode()
    except Unreadable as unreadable:
        return _Formatted(path, name, before, text, None, unreadable.problems)
    return _Formatted(path, name, before, text, after)


def _read(path: Path) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}") from None


def _missing(path: Path) -> Failure:
    from synthc.compiler.diagnostics.problem import nearest

    near = nearest(path.name, (spec.name for spec in path.parent.glob("*.synth")))
    meant = f"did you mean {path.with_name(near)}?" if near else None
    return usage(f"there is no file {path}", meant)


def _write(file: _Formatted) -> None:
    """Puts the new text where the old one was, all of it or nothing."""
    assert file.after is not None
    target = file.path.resolve()  # a link goes on being one
    try:
        if not os.access(target, os.W_OK):
            raise PermissionError(0, "Permission denied")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        new = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(file.after)
            shutil.copymode(target, new)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise usage(f"{file.path} cannot be written: {error.strerror}") from None


def _ok(formatted: list[_Formatted], only_check: bool) -> bool:
    broken = any(file.after is None for file in formatted)
    return not broken and not (only_check and any(file.changed for file in formatted))


def _document(formatted: list[_Formatted], only_check: bool) -> dict[str, object]:
    from synthc.compiler.diagnostics.render import as_json

    files: list[dict[str, object]] = []
    for file in formatted:
        said: dict[str, object] = {"file": file.name, "changed": file.changed}
        if file.path == STDIN and file.after is not None and not only_check:
            said["text"] = file.after.decode()
        files.append(said)
    sources = {file.name: file.text for file in formatted}
    problems = [as_json(problem, sources) for file in formatted for problem in file.problems]
    return {"ok": _ok(formatted, only_check), "files": files, "problems": problems}


def _tell(formatted: list[_Formatted], only_check: bool) -> None:
    for file in formatted:
        if file.path == STDIN and file.after is not None and not only_check:
            sys.stdout.buffer.write(file.after)
            return
        if file.changed:
            say(visible(f"{file.name}: {'would be formatted' if only_check else 'formatted'}"))
    problems = [problem for file in formatted for problem in file.problems]
    show_problems(problems, {file.name: file.text for file in formatted})
    if not problems and not any(file.changed for file in formatted):
        names = formatted[0].name if len(formatted) == 1 else counted(len(formatted), "file")
        say(visible(f"{names}: nothing to change"))
