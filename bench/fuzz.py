"""Spoilt specs through the parser and the whole checker: nothing may raise, and nothing may be slow.

    python -m bench.fuzz                              # a million parsed, 20,000 checked
    python -m bench.fuzz --parse 10000 --check 500    # a share of it

The specs are those of the repository, each with a few pieces taken out, doubled, swapped or replaced by
pieces of others. What goes wrong is kept in `--out`, a file each. Exit status 1 if anything did.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthc.compiler.compile import compile_text
from synthc.compiler.diagnostics.render import render
from synthc.compiler.parse.parse import parse

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests/golden/diagnostics", "tests/golden/plans", "specs/std", "specs/examples")
SLOW_S = 1.0
"""What no spec of ordinary size may take, in seconds of this process."""

BATCH = 250


@dataclass(frozen=True, slots=True)
class Fault:
    """A spec that raised, or took too long."""

    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A batch: how many specs, the longest one's seconds, and what went wrong."""

    count: int
    worst_s: float
    faults: tuple[Fault, ...]


def corpus() -> list[tuple[Path, str]]:
    """The specs that are spoilt, each with the folder that its paths start from."""
    return [
        (path.parent, path.read_text(encoding="utf-8"))
        for folder in FOLDERS
        for path in sorted((ROOT / folder).glob("*.synth"))
    ]


def spoilt(text: str, words: list[str], rng: random.Random) -> str:
    """The spec after one to four accidents."""
    pieces = re.findall(r"\w+|\s+|[^\w\s]", text) or [""]
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        match rng.randrange(5):
            case 0:
                pieces[at] = ""
            case 1:
                pieces.insert(at, rng.choice(words))
            case 2:
                pieces[at] = rng.choice(words)
            case 3:
                pieces[at] = pieces[other]
            case _:
                pieces[at], pieces[other] = pieces[other], pieces[at]
    return "".join(pieces)


def parsed(text: str, _base: Path) -> None:
    """The parser: whatever it cannot read it says, at a place that can be shown."""
    _, problems = parse(text, "x.synth")
    for problem in problems:
        render(problem, {"x.synth": text})


def checked(text: str, base: Path) -> None:
    """Everything up to the plan: there is one, or there are errors."""
    result = compile_text(text, "x.synth", base)
    errors = [problem for problem in result.problems if problem.severity == "error"]
    if (result.plan is None) != bool(errors):
        raise AssertionError("no plan and no errors, or both")
    for problem in result.problems:
        render(problem, result.sources)


STAGES: dict[str, Callable[[str, Path], None]] = {"parse": parsed, "check": checked}


def batch(job: tuple[str, int, int]) -> Outcome:
    """Some spoilt specs through a stage; `job` is the stage, how many, and the seed."""
    stage, count, seed = job
    rng = random.Random(seed)
    specs = corpus()
    words = sorted({piece for _, text in specs for piece in re.findall(r"\w+|[^\w\s]+", text)})
    faults: list[Fault] = []
    worst = 0.0
    for _ in range(count):
        base, text = rng.choice(specs)
        text = spoilt(text, words, rng)
        started = time.process_time()
        try:
            STAGES[stage](text, base)
        except Exception:  # noqa: BLE001 - that is what is looked for
            faults.append(Fault(traceback.format_exc(limit=-3), text))
        took = time.process_time() - started
        worst = max(worst, took)
        if took > SLOW_S:
            faults.append(Fault(f"{took:.1f} s", text))
    return Outcome(count, worst, tuple(faults))


def jobs(stage: str, count: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """The work in batches, each with a seed of its own."""
    for start in range(0, count, BATCH):
        yield stage, min(BATCH, count - start), seed * 1_000_003 + start


def main() -> int:
    """Run what the command line asks for, and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--parse", type=int, default=1_000_000, help="specs for the parser")
    parser.add_argument("--check", type=int, default=20_000, help="specs for the checker")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", type=Path, default=Path("fuzz-faults"))
    options = parser.parse_args()
    failed = False
    print(f"seed {options.seed}, {len(corpus())} specs, {multiprocessing.cpu_count()} processes")
    with multiprocessing.Pool() as pool:
        for stage, count in (("parse", options.parse), ("check", options.check)):
            started = time.monotonic()
            done, worst = 0, 0.0
            faults: list[Fault] = []
            for outcome in pool.imap_unordered(batch, jobs(stage, count, options.seed)):
                done += outcome.count
                worst = max(worst, outcome.worst_s)
                faults += outcome.faults
            took = time.monotonic() - started
            print(
                f"{stage}: {done} specs in {took:.0f} s, the longest {worst:.2f} s, {len(faults)} faults"
            )
            for number, fault in enumerate(faults):
                options.out.mkdir(exist_ok=True)
                note = "".join(f"# {line}\n" for line in fault.what.splitlines())
                path = options.out / f"{stage}-{number}.synth"
                path.write_text(note + fault.text, encoding="utf-8", errors="surrogatepass")
            failed = failed or bool(faults)
    if failed:
        print(f"what went wrong is in {options.out}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
