"""Every random choice is a function of the row: not of order, concurrency, kills or neighbours."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bench.answers import Seen, default_answer
from bench.server import Server, serving
from tests.runtime.helpers import finished, lines, made, rows, started

SPEC = """
use "std/evol"

backend b {{ url = env("SYNTH_URL")  model = "m"  concurrency = {concurrency} }}

mutations mine extends evol.deita {{ shorten weight 3 "Shorten {{{{ current }}}}" }}

task describe(mood: "glad" | "sad" | "calm" = sample) {{
  in  id: int
  let size: int = sample uniform(1, 1000)
  let words: text[] = sample 1..4 of "amber" | "basin" | "cedar" | "delta" | "ember"
  out instruction: text = "{{{{ id }}}} {{{{ mood }}}} {{{{ size }}}} {{{{ words | join(' ') }}}}"
  out kind: "long" | "short" = sample "long" weight 3 | "short"
}}

task vary(rounds: int = 3) {{
  in  topic: text
  let tries: text[] = repeat $rounds times current: text = topic {{
    let pick: text[] = sample 2 of "red" | "green" | "blue"
    next ask "{{{{ pick | join(' and ') }}}}: {{{{ current }}}}"
  }}
  out versions: text[] = ask "Again: {{{{ x }}}}" each x in tries
  out others: text[] = ask "Once more: {{{{ topic }}}}" n 2
}}

table gold = rows(7) |> shots
task shots {{ out shot: text = sample "a" | "b" | "c" | "d" | "e" }}

table described = read("ids.jsonl", key = id) |> describe |> draw(2, from = gold) as examples
table evolved = described
  |> evol.instruct(num_evolutions = 3, store_evolutions = true, generate_answers = true, mutations = mine)
  |> unnest(evolved_instructions as topic)
  |> vary using b as v
"""
TABLES = ("described", "evolved")


def ids(base: Path, count: int, *, shuffled: bool = False) -> None:
    records: list[dict[str, Any]] = [{"id": n} for n in range(count)]
    if shuffled:
        random.Random(5).shuffle(records)
    lines(base, "ids.jsonl", records)


def choices(base: Path) -> dict[str, Any]:
    """All that was drawn, sent and made, by row: nothing in it tells when."""
    found: dict[str, Any] = {
        "draws": rows(base, 'SELECT table_name, row_key, "column", round, value FROM synth.draws'),
        "mutations": rows(
            base,
            'SELECT table_name, row_key, "column", round, mutation, value FROM synth.mutations',
        ),
        "calls": rows(base, 'SELECT row_key, "column", rounds, "index", request FROM synth.calls'),
    }
    for name in TABLES:
        stored = rows(base, f"SELECT to_json(t)::VARCHAR FROM main.{name} t")
        keys = rows(
            base,
            "SELECT row_key FROM synth.rows WHERE status = 'kept'"
            f" AND table_name = '{name}' ORDER BY position",
        )
        found[name] = [(key[0], row[0]) for key, row in zip(keys, stored, strict=True)]
    return {name: sorted(map(repr, values)) for name, values in found.items()}


def slow(seen: Seen) -> str:
    """An answer at a moment of its own: the order of answers is another in each run."""
    time.sleep(random.random() * 0.002)
    return f"Prompt: {default_answer(seen)}"


def reference(base: Path, server: Server, *, count: int = 12) -> dict[str, Any]:
    folder = base / "reference"
    folder.mkdir()
    ids(folder, count)
    made(SPEC.format(concurrency=1), folder, server)
    return choices(folder)


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
def test_one_and_many_in_flight_choose_alike(tmp_path: Path, shuffled: bool) -> None:
    with serving(answer=slow) as server:
        expected = reference(tmp_path, server)
        ids(tmp_path, 12, shuffled=shuffled)
        made(SPEC.format(concurrency=64), tmp_path, server)
    found = choices(tmp_path)
    assert len(expected["mutations"]) == 36
    assert found == expected


def test_a_row_chooses_alike_whatever_stands_beside_it(tmp_path: Path) -> None:
    with serving(answer=slow) as server:
        many = reference(tmp_path, server)
        ids(tmp_path, 3)
        made(SPEC.format(concurrency=64), tmp_path, server)
    few = choices(tmp_path)
    assert few["mutations"]
    for name, values in few.items():
        assert set(values) <= set(many[name])


def test_a_run_that_is_killed_and_resumed_chooses_alike(tmp_path: Path) -> None:
    (tmp_path / "x.synth").write_text(SPEC.format(concurrency=8), encoding="utf-8")
    ids(tmp_path, 12)
    with serving(answer=slow, latency_s=0.01) as server:
        expected = reference(tmp_path, server)
        asked = server.count
        for already in (30, 80):
            process = started(tmp_path, "run", "x.synth", SYNTH_URL=server.url)
            while server.count < asked + already and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            finished(process)
        process = started(tmp_path, "run", "x.synth", SYNTH_URL=server.url)
        code, text = finished(process)
        assert code == 0, text
    found = choices(tmp_path)
    assert found == expected
    assert json.loads(rows(tmp_path, "SELECT to_json(t) FROM described t LIMIT 1")[0][0])
