"""A run that is killed again and again (kill -9), with a server that fails now and then: what is lost?

    python -m bench.kill --kills 100

prints how often a run was killed, what was asked more than once, and whether the tables are those of a
run that nobody disturbed. The exit status is 0 where nothing is missing and nothing was paid for twice
that had been answered for a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from bench.answers import Seen, default_answer
from bench.faults import FAULTS, Fault
from bench.server import Server, serving

SPEC = """
backend b { url = env("SYNTH_URL")  model = "m"  concurrency = 32 }
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
task judge { in answer: text  out score: int = ask "Judge {{ answer }}" }
table t = read("topics.jsonl") |> write |> judge |> where("score > 2")
table u = sql "SELECT score, count(*) AS n, list(n ORDER BY n) AS which FROM t GROUP BY score" key score
"""
TABLES = ("t", "u")
LATENCY_S = (0.01, 0.06)
FAULTY = 0.05
"""The share of first answers that are faults."""
DURABLE_S = 1.0
"""Seconds after which an answer is never asked for again."""

_SYNTHC = Path(sys.executable).with_name("synthc")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run that was killed `kills` times.

    `late_s` is for each call that was asked more than once how long before the next kill it had been
    asked already, `allowed_s` how long that may be on this disk. `rows_in` and `expected` are rows of
    the source, `duplicates` calls that were stored twice, `different` tables that differ from those of an
    undisturbed run, `asked_when_done` what a run asked after everything was there.
    """

    kills: int
    rows_in: int
    expected: int
    late_s: tuple[float, ...]
    allowed_s: float
    duplicates: int
    different: tuple[str, ...]
    asked_when_done: int
    said: str

    @property
    def worst_s(self) -> float:
        """The oldest answer that was paid for twice, in seconds before its kill."""
        return max(self.late_s, default=0.0)

    @property
    def sound(self) -> bool:
        """Whether nothing is missing, and nothing was asked again that was safe."""
        whole = self.rows_in == self.expected and not self.different and not self.duplicates
        return whole and not self.asked_when_done and self.worst_s < self.allowed_s


def disturbed(folder: Path, rows: int, kills: int, seed: int = 3) -> Outcome:
    """Run a spec in an empty folder, killing it at random moments, and once more to its end."""
    disturbed, undisturbed = folder / "disturbed", folder / "undisturbed"
    for place in (disturbed, undisturbed):
        place.mkdir()
        lines = (json.dumps({"n": n, "topic": f"topic {n}"}) + "\n" for n in range(rows))
        (place / "topics.jsonl").write_text("".join(lines), encoding="utf-8")
        (place / "x.synth").write_text(SPEC, encoding="utf-8")
    rng = random.Random(seed)
    times = _Times(seed)
    killed: list[float] = []
    with serving(times.answer, latency_s=LATENCY_S) as server, _Disk(folder) as disk:
        for number in range(kills):
            process = _started(disturbed, server)
            if number % 4 == 3:  # at any time, also while it starts
                threading.Event().wait(rng.uniform(0.05, 0.6))
            else:
                _wait_for(server, server.count + rng.randint(1, 150), process)
            process.kill()
            process.communicate(timeout=30)
            while server.in_flight:  # requests that were sent, and which the server sees only now
                time.sleep(0.002)
            killed.append(time.monotonic())
        _, said = _started(disturbed, server).communicate(timeout=600)
        asked = server.count
        _started(disturbed, server).communicate(timeout=600)
        asked_when_done = server.count - asked
        late = tuple(
            min((kill for kill in killed if kill >= when), default=0.0) - when
            for whens in times.asked.values()
            for when in whens[:-1]
        )
        # An answer is sent at most so long after its request came; a busy disk is not ours.
        allowed_s = DURABLE_S + 2 * LATENCY_S[1] + 2 * disk.worst_s
        _started(undisturbed, server).communicate(timeout=600)
    found = {
        place: [_rows(place, f"FROM {t}") for t in TABLES] for place in (disturbed, undisturbed)
    }
    pairs = zip(TABLES, found[disturbed], found[undisturbed], strict=True)
    counts = _rows(disturbed, "SELECT rows_in FROM synth.tables WHERE table_name = 't'")
    stored = _rows(disturbed, "SELECT count(*) - count(DISTINCT digest) FROM synth.calls")
    return Outcome(
        kills=len(killed),
        rows_in=counts[0][0] if counts else 0,
        expected=rows,
        late_s=late,
        allowed_s=allowed_s,
        duplicates=stored[0][0],
        different=tuple(name for name, one, other in pairs if one != other or not one),
        asked_when_done=asked_when_done,
        said=said,
    )


class _Times:
    """When which prompt was answered. What is asked a third time is, so that no call fails for good."""

    def __init__(self, seed: int) -> None:
        self.asked: defaultdict[str, list[float]] = defaultdict(list)
        self._rng = random.Random(seed)

    def answer(self, seen: Seen) -> str | Fault:
        if seen.occurrence < 2 and self._rng.random() < FAULTY:
            return FAULTS[self._rng.choice(["500", "drop", "503"])]
        self.asked[seen.digest].append(time.monotonic())
        return default_answer(seen)


class _Disk:
    """`with _Disk(folder) as disk:` notes the longest time that the disk takes, meanwhile, for a page."""

    def __init__(self, folder: Path) -> None:
        self.worst_s = 0.0
        self._file = (folder / "page").open("wb", buffering=0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> _Disk:
        self._thread.start()
        return self

    def __exit__(self, *_rest: object) -> None:
        self._over.set()
        self._thread.join()
        self._file.close()

    def _measure(self) -> None:
        while not self._over.wait(0.1):
            started = time.monotonic()
            self._file.write(bytes(4096))
            os.fsync(self._file.fileno())
            self.worst_s = max(self.worst_s, time.monotonic() - started)


def _started(folder: Path, server: Server) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(_SYNTHC), "run"],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "SYNTH_URL": server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for(server: Server, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many requests came, or the process ended."""
    while server.count < count and process.poll() is None:
        time.sleep(0.002)


def _rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(folder / "x.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def main() -> None:
    """Kill a run as often as the command line says, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, help="rows of the source (60 for each kill)")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="synthc-kill-") as folder:
        rows = options.rows or 60 * options.kills
        found = disturbed(Path(folder), rows, options.kills, options.seed)
    print(f"killed             {found.kills} times")
    print(f"rows               {found.rows_in} of {found.expected}")
    print(
        f"tables             {'differ: ' + ', '.join(found.different) if found.different else 'equal'}"
    )
    print(f"stored twice       {found.duplicates} calls")
    print(
        f"asked twice        {len(found.late_s)} calls, the oldest {found.worst_s:.2f} s before its kill"
    )
    print(f"allowed            {found.allowed_s:.2f} s (a disk that was at times busy)")
    print(f"asked when done    {found.asked_when_done} calls")
    sys.exit(0 if found.sound else 1)


if __name__ == "__main__":
    main()
