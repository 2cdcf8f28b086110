"""What a run tells other programs (`--json`): what happens, one JSON object a line, on stdout."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from synthc.cli import summary

if TYPE_CHECKING:
    from synthc.compiler.plan import Plan
    from synthc.runtime.run import Report

EVERY_S = 1.0


class Events:
    """`with Events(plan, report):` tells how far the run is, once a second while something moves."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._started = time.monotonic()
        self._over = threading.Event()
        self._telling = threading.Thread(target=self._tell_now_and_then, daemon=True)

    def __enter__(self) -> Events:
        self._telling.start()
        return self

    def __exit__(self, *_rest: object) -> None:
        self._over.set()
        self._telling.join()

    def note(self, text: str) -> None:
        """Tell what is going on besides rows (a download, an export)."""
        tell("note", {"text": text})

    def _tell_now_and_then(self) -> None:
        told: dict[str, object] = {}
        while not self._over.wait(EVERY_S):
            counts = summary.counts(self._plan, self._report)
            if counts != told:
                seconds = round(time.monotonic() - self._started, 3)
                tell("progress", {"seconds": seconds, **counts})
            told = counts


def tell(event: str, facts: dict[str, object]) -> None:
    """One event on a line. Work does not end because nobody reads."""
    with suppress(BrokenPipeError):
        click.echo(json.dumps({"event": event, **facts}))
