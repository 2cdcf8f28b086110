"""Files whose lines are drawn from, read once a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from synthc.compiler import plan
from synthc.runtime.errors import RunError
from synthc.runtime.ops import every


def lines_of(plan_: plan.Plan, base: Path) -> dict[str, tuple[str, ...]]:
    """The lines of each file that is drawn from, by the path the plan has for it.

    Those are left out that are empty. Raises RunError where a file is not there, no text, or has none.
    """
    found: dict[str, tuple[str, ...]] = {}
    for table in plan_.tables:
        for op in every(table.ops):
            if isinstance(op, plan.Sample) and isinstance(op.source, plan.Lines):
                path = op.source.path
                if path not in found:
                    found[path] = _read(op, path, base)
    return found


def digest_of_lines(lines: Sequence[str]) -> str:
    """What stands for the lines of a file, in hexadecimal."""
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _read(op: plan.Sample, path: str, base: Path) -> tuple[str, ...]:
    try:
        text = plan.located(path, base).read_text(encoding="utf-8-sig")
    except OSError as error:
        hint = "paths are relative to the folder of the spec (or of the plan)"
        why = error.strerror or str(error)
        raise RunError(f"`{path}` cannot be read: {why}", hint=hint, span=op.span) from None
    except UnicodeDecodeError:
        raise RunError(f"`{path}` is no text in UTF-8", span=op.span) from None
    lines = tuple(line for line in map(str.strip, text.splitlines()) if line)
    if not lines:
        raise RunError(f"`{path}` has no line to draw", span=op.span)
    return lines
