"""The files that values of a run may name: those alone that a `files(…)` of its plan lists.

Whatever a model or a file says, no other is opened, let alone sent to a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synthc.compiler import plan, types
from synthc.compiler.types import Type
from synthc.runtime.store.source import names_of

_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Listed:
    """Files by their names, which start from the folder `base`."""

    names: frozenset[str]
    base: Path

    def path(self, name: str) -> Path | None:
        """Where a file lies; None of a name that is not listed."""
        return self.base / name if name in self.names else None


def listed(plan_: plan.Plan, base: Path, kind: Type) -> Listed:
    """The files of a plan whose column is an image, or a recording, as `kind` says.

    Raises RunError where a source lists no file.
    """
    wanted = type(types.required(kind))
    sources = [table.source for table in plan_.tables]
    return Listed(
        frozenset(
            name
            for source in sources
            if isinstance(source, plan.Files)
            and any(isinstance(column.type, wanted) for column in source.columns)
            for name in names_of(source, base)
        ),
        base,
    )


def not_listed(name: str) -> tuple[str, str]:
    """What a failure says of a name that is not listed: what it is, and why it is not read."""
    shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 2]} …"
    return f"`{shown}`", "is listed by no `files(…)` of the spec, and no other file is read"
