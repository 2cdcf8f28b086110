"""What a run shows while it goes on: live lines on a terminal, one plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from synthc.cli.console import counted, say, visible

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.engine.engine import Progress
    from synthc.runtime.run import Report

PLAIN_EVERY_S = 10.0
NAME_WIDTH = 20
"""Columns for the names of tables and backends, so that on 80 columns there is room for the rest."""
LATE_S = 10.0
"""Seconds of the past by which speeds and the time left are told."""
NOTE_S = 2.0
"""Seconds that a note stays when rows or calls move on without it."""


class Display:
    """`with Display(plan, report):` shows the report, which the run fills, until the run ends."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._started = time.monotonic()
        self._seen: dict[str, deque[tuple[float, int]]] = {}
        self._note = ""
        self._noted = (0.0, 0)
        self._over = threading.Event()
        self._live: Any = None

    def __enter__(self) -> Display:
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._renderable,
                console=Console(stderr=True, highlight=False),
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
        text = visible(text)
        # Without a terminal, the first line of `downloading x: 12 MB`, `downloading x: 24 MB`, …
        if self._live is None and _subject(text) != _subject(self._note):
            say(text)
        self._note, self._noted = text, (time.monotonic(), self._moved())

    def lines(self) -> Iterator[str]:
        """One line per table and one per backend, then the time, what it cost, and the note."""
        now = time.monotonic()
        seconds = max(now - self._started, 1e-3)
        tables = list(self._report.tables.values())
        backends = list(self._report.backends.items())
        names = [*(progress.name for progress in tables), *(name for name, _ in backends)]
        width = min(max(map(len, names), default=0), NAME_WIDTH)
        for progress in tables:
            yield f"{_fitted(progress.name, width)}  {self._table(progress, now)}"
        for name, counts in backends:
            speed = self._speed(f"backend {name}", now, counts.output_tokens)
            yield (
                f"{_fitted(name, width)}  {counted(counts.sent, 'call')}, "
                f"{counts.from_store} from the store, {speed:.0f} tokens/s"
            )
        cost = self._report.cost(self._plan)
        yield duration(seconds) + (f", ${cost:.4f} so far" if cost is not None else "")
        noted, moved = self._noted
        if self._note and (now - noted < NOTE_S or moved == self._moved()):
            yield self._note

    def _table(self, progress: Progress, now: float) -> str:
        if progress.state == "waiting":
            return "waiting"
        over = _over(progress)
        speed = self._speed(f"table {progress.name}", now, over)
        text = f"{over} of {'?' if progress.total is None else progress.total} rows"
        if progress.failed:
            text += f", {progress.failed} failed"
        if progress.dropped:
            text += f", {progress.dropped} dropped"
        if progress.total and over < progress.total and speed:
            text += f", about {duration((progress.total - over) / speed)} left"
        return text

    def _speed(self, of: str, now: float, count: int) -> float:
        """How much a count grows in a second, of late: what the store answered at once says nothing of
        what is to come. 0 while too little is known.
        """
        seen = self._seen.setdefault(of, deque())
        if not seen or count != seen[-1][1]:
            seen.append((now, count))
        while len(seen) > 2 and now - seen[1][0] > LATE_S:
            seen.popleft()
        then, before = seen[0]
        return (count - before) / (now - then) if now - then > 1 else 0.0

    def _moved(self) -> int:
        """A number that grows with everything that is done."""
        rows = sum(_over(progress) for progress in list(self._report.tables.values()))
        return rows + sum(c.sent + c.from_store for c in list(self._report.backends.values()))

    def _renderable(self) -> Any:
        from rich.text import Text

        return Text("\n".join(self.lines()), no_wrap=True, overflow="ellipsis")

    def _print_now_and_then(self) -> None:
        while not self._over.wait(PLAIN_EVERY_S):
            say("; ".join(" ".join(line.split()) for line in self.lines()))


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`: as exact as one needs to know."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _fitted(name: str, width: int) -> str:
    return f"{name:{width}}" if len(name) <= width else name[: width - 1] + "…"


def _over(progress: Progress) -> int:
    return progress.kept + progress.dropped + progress.failed + progress.not_asked


def _subject(note: str) -> str:
    return note.rpartition(": ")[0] or note
