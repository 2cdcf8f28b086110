"""The lines of `python -m bench editor`: how soon `synthc lsp` answers while a long spec is typed."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.compiler import SALES, SQL, TASKS, long
from bench.engine import Bench, Line
from bench.report import Result
from synthc.lsp.analysis import File, analysed, around
from synthc.lsp.completion import completions
from synthc.lsp.diagnostics import edited
from synthc.lsp.hover import hover
from synthc.lsp.text import position

LENGTH = 2_000
"""Lines of the spec, as long ones have them."""


def edits(bench: Bench) -> Iterator[Result]:
    """An edit in a long spec: its problems (with the wait for the next key), completion and hover.

    The medians of some edits, without the pipe between the editor and the server.
    """
    from synthc.lsp.server import AFTER_KEYS  # the `lsp` extra is needed for this line only

    for what, block, before, after, mark in (
        ("tasks", TASKS, "Which desk is it for?", "Which desk, {{ ticke }}?", "{{ ticket"),
        ("SQL", SQL, "place <= 3", "plce <= 3", "total < 1e6"),
    ):
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            Path(folder, "sales.jsonl").write_text(SALES, encoding="utf-8")
            text = long(block, bench.count(LENGTH))
            whole = File(text, "long.synth", Path(folder))
            start = time.perf_counter()
            known = analysed(whole)
            all_s = time.perf_counter() - start
            times: dict[str, list[float]] = {"problems": [], "completion": [], "hover": []}
            for number in range(2 + 5 * bench.rounds):
                at = text.index(before, len(text) * (number + 1) // (4 + 5 * bench.rounds))
                typed = whole.with_text(text[:at] + after + text[at + len(before) :])
                place = position(typed.text, typed.text.rindex(mark, 0, at) + len(mark))
                start = time.perf_counter()
                assert any(p.span.line for p in edited(typed, known)), "the mistake is not found"
                times["problems"].append(time.perf_counter() - start + AFTER_KEYS)
                start = time.perf_counter()
                completions(typed, place)
                times["completion"].append(time.perf_counter() - start)
                start = time.perf_counter()
                hover(around(typed, place.line), place)
                times["hover"].append(time.perf_counter() - start)
        for name, seconds in times.items():
            value = statistics.median(seconds) * 1_000
            shown = f"{name} in {text.count(chr(10)):,} lines of {what}"
            yield Result("edits", shown, f"{value:.0f} ms", "", value, "ms", "≤", 100)
        yield Result(
            "edits", f"the whole, {what}", f"{all_s * 1_000:.0f} ms", "", all_s, "s", "≤", 3
        )


LINES: dict[str, Line] = {edits.__name__: edits}
