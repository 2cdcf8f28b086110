"""What was measured, as a table for people and as JSON, with the machine that it was measured on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

TIMES = "\u00d7"
PACKAGES = ("synthc", "duckdb", "pyreqwest", "msgspec", "uvloop", "jinja2")


@dataclass(frozen=True, slots=True)
class Result:
    """One line: what is compared, and `value`, the number that the goal is about.

    `ours` and `other` are for people, with their units; `runs` has all that was measured for it. A
    line without a goal is for information.
    """

    line: str
    what: str
    ours: str
    other: str
    value: float
    unit: str
    sign: Literal["≥", "≤"]
    goal: float | None
    runs: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached, None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.sign == "≥" else self.value <= self.goal


def machine() -> dict[str, Any]:
    """What the numbers depend on; `load` says how busy the machine was before."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def show(results: Sequence[Result], about: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("line", "what"):
        table.add_column(name)
    for name in ("ours", "other", "measured", "goal"):
        table.add_column(name, justify="right")
    table.add_column("met")
    for result in results:
        met = {True: "yes", False: "NO", None: ""}[result.met]
        goal = "" if result.goal is None else f"{result.sign} {result.goal:g} {result.unit}"
        measured = f"{result.value:.3g} {result.unit}"
        table.add_row(
            result.line, result.what, result.ours, result.other, measured, goal.strip(), met
        )
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(
        f"{about['cores']} cores, {about['cpu']}, {about['memory_gb']} GB, {about['system']}, "
        f"Python {about['python']}\n{packages}\nload before: {about['load']}",
        highlight=False,
    )


def document(results: Sequence[Result], about: dict[str, Any], options: dict[str, Any]) -> Any:
    """The same for programs."""
    lines = [{**asdict(result), "met": result.met} for result in results]
    return {"machine": about, "options": options, "results": lines}
