"""Every random choice is a function of the row: no order, no concurrency and no kill changes one."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.answers import Seen
from bench.faults import FAULTS
from bench.server import serving
from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.errors import RunError
from tests.runtime.helpers import lines, made, rows
from tests.runtime.plans import (
    INT,
    TEXT,
    TEXTS,
    ask,
    backend,
    choices,
    dedup,
    draw,
    limit,
    of,
    one_of,
    read,
    render,
    repeat,
    sample,
    table,
    unnest,
)

MOODS = ("calm", "glad", "sad")
WIZARD = one_of(
    ("deepen", 2.0, "Deepen in {{ mood }}, {{ size }}: {{ current }}"),
    ("widen", 1.0, "Widen, {{ mood }}: {{ current }}"),
    ("turn", 1.0, "Turn {{ current }}"),
    of="current",
)
GOLD = table(
    read(Field("id", TEXT), Field("topic", TEXT), key="id"),
    sample(plan.Lines("words.txt"), Field("word", TEXT)),
    outputs={"topic": TEXT, "word": TEXT},
    name="gold",
)
EXAMPLE = Field("topic", TEXT)
MADE = table(
    read(Field("id", TEXT), Field("topic", TEXT), key="id"),
    sample(choices(*MOODS, weights=(3.0, 2.0, 1.0)), Field("mood", types.Choice(MOODS))),
    sample(plan.Uniform(1.0, 9.0), Field("size", INT)),
    sample(plan.Lines("words.txt"), Field("words", TEXTS), least=1, most=3),
    draw("gold", 2, EXAMPLE),
    render("{{ topic }} like {{ examples }}", "begun", "topic", "examples"),
    repeat(
        3,
        "current",
        "begun",
        "draft",
        sample(choices("a", "b"), Field("turned", TEXT)),
        ask(WIZARD, "draft", "mood", "size", "current"),
        write=Field("evolved", TEXTS),
        collect=True,
    ),
    ask("Comment on {{ x }}", "comments", "evolved", each=plan.Each("x", "evolved")),
    ask("Answer {{ topic }}", "answers", "topic", count=2),
    unnest("words", "word"),
    sample(choices("x", "y"), Field("kind", types.Choice(("x", "y")))),
    dedup("word", "mood", "kind"),
    ask(
        "{{ kind }} {{ word }} {{ comments }} {{ answers }}",
        "last",
        "kind",
        "word",
        "comments",
        "answers",
    ),
    limit(6, per="kind", labels=2),
    outputs={"id": TEXT, "mood": TEXT, "word": TEXT, "evolved": TEXTS, "last": TEXT},
)
UNLIMITED = msgspec.structs.replace(MADE, ops=MADE.ops[:-1])
ROWS = 16


def spec(concurrency: int, made_: plan.Table = UNLIMITED) -> plan.Plan:
    return of(GOLD, made_, backends=(backend(concurrency=concurrency),))


def inputs(folder: Path, order: random.Random | None = None) -> None:
    """Seeds with keys, in any order; and the words."""
    folder.mkdir(exist_ok=True)
    seeds = [{"id": f"k{n}", "topic": f"topic {n}"} for n in range(ROWS)]
    if order:
        order.shuffle(seeds)
    lines(folder, "topics.jsonl", seeds)
    (folder / "words.txt").write_text("\n".join(f"word {n}" for n in range(30)))


def left(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Draws, mutations and prompts, by row key."""
    queries = {
        "draws": """SELECT row_key, "column", round, value FROM synth.draws
            WHERE table_name = 't' ORDER BY ALL""",
        "mutations": """SELECT row_key, "column", round, set, mutation, value FROM synth.mutations
            ORDER BY ALL""",
        "calls": """SELECT row_key, "column", rounds, "index", request, answer FROM synth.calls
            ORDER BY ALL""",
        "rows": "SELECT * FROM t ORDER BY ALL",
    }
    return {name: rows(folder, query) for name, query in queries.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """What a run leaves that asks one thing after the other."""
    folder = tmp_path_factory.mktemp("undisturbed")
    inputs(folder)
    with serving() as server:
        made(spec(1), folder, server)
    found = left(folder)
    assert len(found["mutations"]) == 3 * ROWS
    assert len({mutation for *_, mutation, _ in found["mutations"]}) == 3
    assert len(found["calls"]) > 8 * ROWS
    assert len(found["rows"]) > ROWS
    return found


def test_concurrency_changes_nothing(
    tmp_path: Path, undisturbed: dict[str, list[tuple[Any, ...]]]
) -> None:
    inputs(tmp_path)
    with serving(latency_s=(0.0, 0.02)) as server:
        made(spec(64), tmp_path, server)
    assert left(tmp_path) == undisturbed


def test_a_stop_changes_nothing(
    tmp_path: Path, undisturbed: dict[str, list[tuple[Any, ...]]]
) -> None:
    inputs(tmp_path)
    for stop in (7, 31, 60):
        with serving(latency_s=(0.0, 0.01)) as server:

            def answer(seen: Seen, stop: int = stop, after: Any = server.answer) -> Any:
                return FAULTS["401"] if seen.number >= stop else after(seen)

            server.answer = answer
            with pytest.raises(RunError):
                made(spec(5), tmp_path, server)
    with serving() as server:
        made(spec(64), tmp_path, server)
        assert server.count < len(undisturbed["calls"]) - 60
    assert left(tmp_path) == undisturbed


KILLED = """
import sys
from pathlib import Path
from tests.runtime.helpers import made
from tests.runtime.test_determinism import spec
made(spec(8), Path(sys.argv[1]), sys.argv[2])
"""


def test_a_kill_changes_nothing(
    tmp_path: Path, undisturbed: dict[str, list[tuple[Any, ...]]]
) -> None:
    inputs(tmp_path)
    with serving(latency_s=(0.02, 0.05)) as server:
        for asked in (30, 60):
            process = subprocess.Popen(
                [sys.executable, "-c", KILLED, str(tmp_path), server.url],
                cwd=Path(__file__).parents[2],
            )
            server.wait_for(server.count + asked)
            process.kill()
            process.wait(timeout=30)
        made(spec(64), tmp_path, server)
    assert left(tmp_path) == undisturbed


def test_the_order_of_the_input_changes_no_choice(
    tmp_path: Path, undisturbed: dict[str, list[tuple[Any, ...]]]
) -> None:
    # `dedup` keeps the first of equal rows, which others are now: without it.
    ops = tuple(op for op in UNLIMITED.ops if not isinstance(op, plan.Dedup))
    found = []
    for n in range(2):
        folder = tmp_path / str(n)
        inputs(folder, random.Random(n))
        with serving(latency_s=(0.0, 0.01)) as server:
            made(spec(16, msgspec.structs.replace(UNLIMITED, ops=ops)), folder, server)
        found.append(left(folder))
    assert found[0] == found[1]
    assert found[0]["mutations"] == undisturbed["mutations"]
    assert set(found[0]["draws"]) >= set(undisturbed["draws"])
    assert set(found[0]["calls"]) >= set(undisturbed["calls"])


def test_a_limit_keeps_the_same_rows(tmp_path: Path) -> None:
    found = []
    for n, concurrency in enumerate((1, 64)):
        folder = tmp_path / str(n)
        inputs(folder)
        with serving(latency_s=(0.0, 0.01)) as server:
            report = made(spec(concurrency, MADE), folder, server)
            assert report.tables["t"].kept == 12
        everything = left(folder)
        calls = everything.pop("calls")
        last = [row for row in calls if row[1] == "last"]
        found.append((everything, last, report.tables["t"].counts()))
        assert len(last) == 12
    assert found[0] == found[1]
