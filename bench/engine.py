"""The lines of `python -m bench engine`: synthc as a whole process, beside others or a goal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from bench.environments import PEERS, python_of
from bench.processes import Failed, Measured, Serving, measured, server
from bench.report import TIMES, Result
from bench.workload import answers_spec, chain_latencies, chain_spec, write_rows

SYNTHC = Path(sys.executable).with_name("synthc")
MOST = 256  # requests in flight, where nothing else is said
AT_ONCE = (64, 256, 1024)  # of which each tool takes what suits it best, where it is beside others


@dataclass(frozen=True, slots=True)
class Bench:
    """Where it works, how many times each comparison is made, and which share of the rows it takes."""

    folder: Path
    rounds: int
    scale: float

    def count(self, rows: int) -> int:
        """So many rows at this scale."""
        return max(1, round(rows * self.scale))

    def place(self, rows: int) -> Path:
        """A new folder with `rows.jsonl` in it: questions, of which each contender reads its own file."""
        made = self.folder / f"{rows}.jsonl"
        if not made.exists():
            write_rows(made, rows)
        place = Path(tempfile.mkdtemp(dir=self.folder))
        os.link(made, place / "rows.jsonl")
        return place

    def synthc(self, place: Path, spec: str, url: str) -> Measured:
        """`synthc run`, whole, with a cache of its own that all runs share."""
        (place / "bench.synth").write_text(spec, encoding="utf-8")
        env = {"BENCH_URL": url, "SYNTHC_CACHE": str(self.folder / "cache")}
        return measured([SYNTHC, "run", "bench.synth"], place, env)

    def durable(self, rows: int, spec: str, url: str, asks: int = 1) -> Measured:
        """A run in a new folder, after which every answer has to be in the database."""
        place = self.place(rows)
        run = self.synthc(place, spec, url)
        with duckdb.connect(str(place / "bench.duckdb"), read_only=True) as database:
            found = [
                database.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
                for table in ("answers", "synth.calls")
            ]
        if found != [rows, rows * asks]:
            raise Failed(
                f"{found[0]} of {rows} rows and {found[1]} of {rows * asks} calls are there"
            )
        shutil.rmtree(place)  # a million rows are large
        return run

    def bare(self, rows: int, url: str, concurrency: int = MOST) -> Measured:
        """The same questions, asked by nothing but a loop over aiohttp."""
        place = self.place(rows)
        script = [python_of("bare"), PEERS / "bare_run.py", "aiohttp"]
        run = measured(_told(script, url, place / "rows.jsonl", concurrency), place)
        if json.loads(run.stdout)["rows"] != rows:
            raise Failed(f"aiohttp answered {run.stdout}")
        return run

    def best(self, options: Sequence[object], *contenders: Contender) -> list[Measured]:
        """The quickest run of each contender, each against a new server, one after the other in turn."""
        runs: list[list[Measured]] = [[] for _ in contenders]
        for _ in range(self.rounds):
            for made, contender in zip(runs, contenders, strict=True):
                with server(*options) as serving:
                    made.append(contender(serving.url))
        return [min(made, key=lambda run: run.wall_s) for made in runs]


Contender = Callable[[str], Measured]
Line = Callable[[Bench], Iterator[Result]]


def latency(bench: Bench) -> Iterator[Result]:
    """Bound by the server's latency: nothing is lost to what synthc does besides."""
    rows = bench.count(20_000)
    for most in (64, 256):
        spec = answers_spec(most)
        ours, bare = bench.best(
            ["--latency", 0.05],
            lambda url, spec=spec: bench.durable(rows, spec, url),
            lambda url, most=most: bench.bare(rows, url, most),
        )
        yield Result(
            "latency",
            f"{rows:,} rows, 50 ms, {most} in flight, durable; bare aiohttp",
            f"{ours.wall_s:.2f} s",
            f"{bare.wall_s:.2f} s",
            bare.wall_s / ours.wall_s,
            TIMES,
            "≥",
            0.97,
            _runs(ours=ours, aiohttp=bare),
        )


def cpu(bench: Bench) -> Iterator[Result]:
    """Bound by the processor."""
    rows = bench.count(200_000)
    of_server: list[float] = []

    def synthc(url: str) -> Measured:
        run = bench.durable(rows, answers_spec(MOST), url)
        of_server.append(1e6 * Serving(url).stats()["cpu_s"] / rows)
        return run

    ours, bare = bench.best(["--latency", 0.005], synthc, lambda url: bench.bare(rows, url))
    what = f"{rows:,} rows, 5 ms, {MOST} in flight"
    runs = _runs(ours=ours, aiohttp=bare)
    yield Result(
        "cpu",
        f"{what}, start-up included; bare aiohttp",
        f"{ours.wall_s:.2f} s",
        f"{bare.wall_s:.2f} s",
        bare.wall_s / ours.wall_s,
        TIMES,
        "≥",
        1.2,
        runs,
    )
    ours_us, bare_us = (1e6 * run.cpu_s / rows for run in (ours, bare))
    yield Result(
        "cpu",
        f"{what}: CPU time of a row; bare aiohttp",
        f"{ours_us:.0f} µs",
        f"{bare_us:.0f} µs",
        ours_us,
        "µs",
        "≤",
        80,
        runs,
    )
    yield Result(
        "cpu",
        "CPU time of the server that all of them ask, a request",
        "",
        f"{min(of_server):.0f} µs",
        min(of_server),
        "µs",
        "≤",
        None,
    )


def peers(bench: Bench) -> Iterator[Result]:
    """The same job in other tools, at the best of a few settings; of theirs, imports do not count."""
    rows, fewer = bench.count(20_000), bench.count(5_000)
    runs = bench.best(
        ["--latency", 0.05],
        *(lambda url, most=most: bench.durable(rows, answers_spec(most), url) for most in AT_ONCE),
    )
    ours, our_setting = min(
        zip(runs, AT_ONCE, strict=True), key=lambda run_and_most: run_and_most[0].wall_s
    )
    ours_rate = rows / ours.wall_s
    for name, title, script, goal in (
        ("data-designer", "Data Designer", "data_designer_run.py", 10),
        ("distilabel", "distilabel", "distilabel_run.py", 20),
    ):
        rates: dict[int, float] = {}
        for most in AT_ONCE:
            place = bench.place(fewer)
            with server("--latency", 0.05) as serving:
                command = [python_of(name), PEERS / script]
                run = measured(_told(command, serving.url, place / "rows.jsonl", most), place)
            said = json.loads(run.stdout.splitlines()[-1])
            if said["rows"] != fewer:
                raise Failed(f"{title} answered {said['rows']} of {fewer} rows")
            rates[most] = fewer / said["seconds"]
        setting = max(rates, key=rates.__getitem__)
        yield Result(
            "peers",
            f"{rows:,} rows, 50 ms, {our_setting} at once; {title}, {fewer:,} rows, {setting} at once",
            f"{ours_rate:.0f} rows/s",
            f"{rates[setting]:.0f} rows/s",
            ours_rate / rates[setting],
            TIMES,
            "≥",
            goal,
            {**_runs(ours=ours), name: rates},
        )


def chain(bench: Bench) -> Iterator[Result]:
    """Four asks of which each needs the one before: no row waits for the slowest of others.

    No run can be quicker than the longest row alone, nor than all latencies together, packed without a
    gap into the requests that may be in flight: the bound is the longer of the two.
    """
    rows, bounds = bench.count(2_000), (0.02, 0.4)
    (ours,) = bench.best(
        ["--latency", *bounds], lambda url: bench.durable(rows, chain_spec(MOST), url, asks=4)
    )
    sums = [sum(waits) for waits in chain_latencies(rows, bounds)]
    longest, packed = max(sums), sum(sums) / MOST
    bound = max(longest, packed)
    yield Result(
        "chain",
        f"{rows:,} rows of 4 asks in a row, 20 to 400 ms, {MOST} in flight; the bound",
        f"{ours.wall_s:.2f} s",
        f"{bound:.2f} s",
        ours.wall_s / bound,
        TIMES,
        "≤",
        1.4,
        {**_runs(ours=ours), "longest_s": longest, "packed_s": packed},
    )


def memory(bench: Bench) -> Iterator[Result]:
    """Memory does not grow with the rows."""
    small, large = (bench.count(rows) for rows in (200_000, 1_000_000))
    runs: list[Measured] = []
    for rows in (small, large):
        with server() as serving:
            runs.append(bench.durable(rows, answers_spec(MOST), serving.url))
    few, many = (run.peak_bytes / 1e6 for run in runs)
    kept = _runs(small=runs[0], large=runs[1])
    yield Result(
        "memory", f"{large:,} rows: peak", f"{many:.0f} MB", "", many, "MB", "≤", 400, kept
    )
    yield Result(
        "memory",
        f"{large:,} rows; {small:,} rows",
        f"{many:.0f} MB",
        f"{few:.0f} MB",
        many / few,
        TIMES,
        "≤",
        1.33,
        kept,
    )


def resume(bench: Bench) -> Iterator[Result]:
    """Run again, where all is done."""
    rows = bench.count(200_000)
    place = bench.place(rows)
    with server() as serving:
        bench.synthc(place, answers_spec(MOST), serving.url)
        asked = serving.stats()["total"]
        runs = [bench.synthc(place, answers_spec(MOST), serving.url) for _ in range(bench.rounds)]
        _asked_nothing(serving, asked)
    again = min(runs, key=lambda run: run.wall_s)
    yield Result(
        "resume",
        f"{rows:,} rows, all done: run again, no request",
        f"{again.wall_s:.2f} s",
        "",
        again.wall_s,
        "s",
        "≤",
        3,
        _runs(ours=again),
    )


def _asked_nothing(serving: Serving, asked: int) -> None:
    if (more := serving.stats()["total"] - asked) != 0:
        raise Failed(f"a run with nothing to do sent {more} requests")


def adaptive(bench: Bench) -> Iterator[Result]:
    """A server that bears 40 at once: synthc, which is not told, beside the best of fixed settings."""
    rows = bench.count(8_000)
    fixed = (32, 40, 48)
    settings = (*fixed, None, MOST)
    found = bench.best(
        ["--latency", 0.05, "--cap", 40],
        *(lambda url, most=most: bench.durable(rows, answers_spec(most), url) for most in settings),
    )
    by_setting = dict(zip(settings, found, strict=True))
    best = min(fixed, key=lambda most: by_setting[most].wall_s)
    kept = _runs(**{str(most or "default"): run for most, run in by_setting.items()})
    for most in (None, MOST):
        told = "no `concurrency`" if most is None else f"`concurrency = {most}`"
        yield Result(
            "adaptive",
            f"{rows:,} rows, 50 ms, 429 above 40; {told}; `concurrency = {best}`",
            f"{by_setting[most].wall_s:.2f} s",
            f"{by_setting[best].wall_s:.2f} s",
            by_setting[best].wall_s / by_setting[most].wall_s,
            TIMES,
            "≥",
            0.9,
            kept,
        )


def startup(bench: Bench) -> Iterator[Result]:
    """From the start of the process to the first request that the server sees, caches being warm."""
    found: list[float] = []
    for number in range(1 + max(3, bench.rounds)):
        with server() as serving:
            run = bench.durable(10, answers_spec(), serving.url)
            if number:  # the first one fills the cache
                found.append(serving.stats()["first_at"] - run.started_at)
    yield Result(
        "startup",
        "10 rows: from the start to the first request",
        f"{min(found):.2f} s",
        "",
        min(found),
        "s",
        "≤",
        0.5,
        {"seconds": found},
    )


LINES: dict[str, Line] = {
    line.__name__: line for line in (latency, cpu, peers, chain, memory, resume, adaptive, startup)
}


def _told(script: Sequence[str | Path], url: str, rows: Path, concurrency: int) -> list[str | Path]:
    return [*script, "--url", url, "--rows", rows, "--concurrency", str(concurrency)]


def _runs(**runs: Measured) -> dict[str, Any]:
    kept = {name: asdict(run) for name, run in runs.items()}
    for run in kept.values():
        del run["stdout"], run["started_at"]
    return kept
