"""The tests of a spec, run: each task on one row, through the real engine, with canned replies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from synthc.compiler import plan, types
from synthc.runtime.backends.protocol import Answer, Backend, Request
from synthc.runtime.embedding.passages import Passage
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.run import Options, Report, run
from synthc.runtime.store.arrow import from_cell


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a test: `faults` are empty where it passed."""

    test: plan.Test
    faults: tuple[str, ...]


def run_test(test: plan.Test, base: Path) -> Outcome:
    """Run one test of a spec in the folder `base`.

    Raises nothing but bugs: a test that cannot be run has failed, and says why.
    """
    canned = _Canned(test)
    with tempfile.TemporaryDirectory(prefix="synthc-test-") as folder:
        database = Path(folder) / "test.duckdb"
        options = Options(database, base, {}, stand_in=canned)
        try:
            run(test.plan, options, Report(), lambda _text: None)
        except RunError as error:
            return Outcome(test, (str(error),))
        with duckdb.connect(str(database), read_only=True) as connection:
            name = types.quote(test.plan.tables[0].name)
            rows = connection.sql(f"SELECT * FROM main.{name}").fetchall()
            reasons = connection.sql(
                "SELECT reason, detail FROM synth.failures WHERE stops_row"
            ).fetchall()
    return Outcome(test, (*canned.faults, *_faults(test, rows, reasons)))


def _faults(
    test: plan.Test, rows: list[tuple[Any, ...]], reasons: list[tuple[str, str]]
) -> list[str]:
    if not rows:
        if test.fails:
            return []
        return [f"the row failed ({reason}): {detail}" for reason, detail in reasons]
    if test.fails:
        return ["the row was expected to fail, and did not"]
    outputs = test.plan.tables[0].outputs
    made = {o.name: from_cell(v, o.type) for o, v in zip(outputs, rows[0], strict=True)}
    return [
        f"`{name}` is {_shown(made[name])}, expected {_shown(value)}"
        for name, value in test.expected.items()
        if made[name] != value
    ]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:198] + " …"


class _Canned:
    """Stands in for the backends of a test: each answers one ask of the task, in turn."""

    def __init__(self, test: plan.Test) -> None:
        self._test = test
        self.faults: list[str] = []

    def backend(self, spec: plan.Backend) -> Backend:
        """What answers the ask that the backend is named after."""
        return _CannedBackend(self._test, spec.name, self.faults)

    def vectors(self, texts: Sequence[str | Passage], dimensions: int) -> list[np.ndarray]:
        raise NotImplementedError(f"no task embeds, and {len(texts)} texts of {dimensions} came")


class _CannedBackend:
    def __init__(self, test: plan.Test, column: str, faults: list[str]) -> None:
        self._replies = test.replies.get(column, ())
        self._repeats = column in test.repeats
        self._column = column
        self._faults = faults
        self._asked = 0

    async def complete(self, request: Request) -> Answer:
        """The next reply, whatever is asked: its prompt is not looked at."""
        del request
        number = 0 if self._repeats else self._asked
        self._asked += 1
        if number >= len(self._replies):
            there = (
                f"there are {len(self._replies)} replies" if self._replies else "there is no reply"
            )
            often = f" {self._asked} times" if self._asked > 1 else ""
            fault = f"`{self._column}` was asked for{often}, and {there} to it"
            if fault not in self._faults:
                self._faults.append(fault)
            raise RowFailed("no_reply", fault)
        text = self._replies[number]
        if text is None:
            raise RowFailed("call_failed", "the test lets this call fail")
        return Answer(text, "test", "stop", 0, 0)
