"""A spec, compiled and run against a server on the loopback, and what it left in its database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from bench.answers import Seen
from bench.faults import Fault
from bench.server import Server
from synthc.compiler.compile import compile_text
from synthc.compiler.plan import Plan
from synthc.runtime.run import Options, Report, run
from synthc.runtime.store.aside import Again

SYNTHC = Path(sys.executable).with_name("synthc")
BACKEND = """
backend b { url = env("SYNTH_URL")  model = "m"  attempts = 2 }
"""
SURE = """
backend b { url = env("SYNTH_URL")  model = "m"  attempts = 2  temperature = 0 }
"""
WRITE = """
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
"""


def compiled(text: str, base: Path, seed: int = 42) -> Plan:
    """The plan of a spec, which has to be sound."""
    found = compile_text(text, "x.synth", base, seed=seed)
    assert found.plan is not None, found.problems
    return found.plan


def made(
    text: str | Plan,
    base: Path,
    server: Server | str,
    *,
    limit: int | None = None,
    database: str = "x.duckdb",
    env: Mapping[str, str] | None = None,
    retry_failed: bool = False,
    again: Again | None = None,
) -> Report:
    """What a run of a spec (or a plan) reports; its database stands in `base`."""
    plan = compiled(text, base) if isinstance(text, str) else text
    url = server if isinstance(server, str) else server.url
    report = Report()
    options = Options(
        base / database,
        base,
        {"SYNTH_URL": url, **(env or {})},
        limit,
        retry_failed=retry_failed,
        again=again,
    )
    run(plan, options, report, lambda _note: None)
    return report


def rows(base: Path, query: str, database: str = "x.duckdb") -> list[tuple[Any, ...]]:
    """What a query gives of the database of a run."""
    with duckdb.connect(str(base / database), read_only=True) as connection:
        return connection.execute(query).fetchall()


def column(base: Path, query: str, database: str = "x.duckdb") -> list[Any]:
    """The first column of a query."""
    return [row[0] for row in rows(base, query, database)]


def lines(base: Path, name: str, records: Iterable[Mapping[str, Any]]) -> Path:
    """A JSON lines file."""
    path = base / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def topics(base: Path, count: int) -> Path:
    """`topics.jsonl` with the columns n and topic."""
    return lines(base, "topics.jsonl", ({"n": n, "topic": f"topic {n}"} for n in range(count)))


def answering(answer: Callable[[str], str | Fault]) -> Callable[[Seen], str | Fault]:
    """An answer that is made of the prompt alone."""
    return lambda seen: answer(seen.prompt)


def prompts(server: Server) -> list[str]:
    """What was asked, in order."""
    return [seen.prompt for seen in server.requests]


def started(folder: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """`synthc …` in a process of its own, in a folder."""
    return subprocess.Popen(
        [str(SYNTHC), *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], timeout_s: float = 60) -> tuple[int, str]:
    """The exit status of a process and all that it said."""
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out + err
