"""What a run shows while it goes on: live lines on a terminal, one plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from synthc.cli.console import say

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.run import Report

PLAIN_EVERY_S = 10.0


class Display:
    """`with Display(plan, report):` shows the report, which the run fills, until the run ends."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._started = time.monotonic()
        self._note = ""
        self._over = threading.Event()
        self._live: Any = None

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._renderable,
                console=Console(stderr=True),
                refresh_per_second=5,
                transient=True,
            )
            self._live.start()
        else:
            threading.Thread(target=self._print_now_and_then, daemon=True).start()
        return self

    def __exit__(self, *_rest: object) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Show what is going on besides rows (a download, an export)."""
        if self._live is None and text.split(":", maxsplit=1)[0] != self._note.split(":")[0]:
            say(text)
        self._note = text

    def lines(self) -> list[str]:
        """One line per table and one per backend."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        lines: list[str] = []
        for progress in list(self._report.tables.values()):
            if progress.state == "waiting":
                lines.append(f"{progress.name}: waiting")
                continue
            over = progress.kept + progress.dropped + progress.failed + progress.not_asked
            total = "?" if progress.total is None else progress.total
            lines.append(
                f"{progress.name}: {over} of {total} rows, {progress.failed} failed, "
                f"{progress.dropped} dropped"
            )
        for name, counts in list(self._report.backends.items()):
            cost = self._report.cost(self._plan)
            money = f", ${cost:.4f} so far" if cost is not None else ""
            lines.append(
                f"{name}: {counts.sent} calls, {counts.from_store} from the store, "
                f"{counts.output_tokens / seconds:.0f} tokens/s{money}"
            )
        return lines

    def _renderable(self) -> Any:
        from rich.text import Text

        lines = self.lines()
        if self._note:
            lines.append(self._note)
        return Text("\n".join(lines))

    def _print_now_and_then(self) -> None:
        while not self._over.wait(PLAIN_EVERY_S):
            say("; ".join(self.lines()))
