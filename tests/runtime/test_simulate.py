"""Simulated answers hold every contract, and tests of specs run through the real engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthc.compiler import plan, types
from synthc.compiler.compile import compile_text
from synthc.compiler.plan import Contract
from synthc.compiler.span import Span
from synthc.compiler.types import Field, Type
from synthc.runtime.backends.protocol import Message, Request
from synthc.runtime.engine import contracts
from synthc.runtime.errors import RunError
from synthc.runtime.run import Options, Report, run
from synthc.runtime.simulate import MODEL, Simulated
from synthc.runtime.testing import run_test

SPEC = """
backend small { url = "http://127.0.0.1:9/v1"  model = env("NEVER_SET") }
embedder minilm { model = "hf:nobody/nothing"  dimensions = 12 }
task judge {
  in  topic: text
  out (mood: "good" | "bad", score: float?) = ask "{{ topic }} {{ output_format }}"
  out says: text = ask "Say it."
}
table judged = sql "SELECT 'topic ' || range AS topic FROM range(40)"
  |> judge |> embed(says) as v using minilm
export judged to "judged.jsonl"
"""

names = st.sampled_from(("a", "b", "c", "d"))
leaves = st.one_of(
    st.sampled_from((types.Text(), types.Int(), types.Float(), types.Bool(), types.Json())),
    st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True).map(
        lambda values: types.Choice(tuple(values))
    ),
    st.lists(st.integers(-9, 9), min_size=1, max_size=4, unique=True).map(
        lambda values: types.Choice(tuple(values))
    ),
)


def _deeper(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    fields = st.lists(st.tuples(names, inner), min_size=1, max_size=3, unique_by=lambda f: f[0])
    return st.one_of(
        inner.map(types.ListOf),
        inner.map(types.maybe),
        fields.map(lambda found: types.Record(tuple(Field(n, t) for n, t in found))),
    )


@settings(deadline=None)
@given(st.recursive(leaves, _deeper, max_leaves=6), st.binary(min_size=16, max_size=16))
def test_a_simulated_answer_holds_any_contract(type_: Type, key: bytes) -> None:
    for fields in ((Field("x", type_), Field("y", types.Text())), (Field("x", type_),)):
        contract = Contract(kind="json", fields=fields)
        request = Request((Message("user", "?"),), contracts.schema(contract), key)
        answer = asyncio.run(_answer(request))
        reading = contracts.read(contract, answer)
        assert not reading.broken, (answer, reading.problems)


async def _answer(request: Request) -> str:
    backend = plan.Backend(name="b", span=Span("x", 1, 1, 1, 1), model="m")
    return (await Simulated(7).backend(backend).complete(request)).text


def simulate(folder: Path, seed: int = 42) -> list[tuple[Any, ...]]:
    made = compile_text(SPEC, "x.synth", folder, seed=seed).plan
    assert made is not None
    database = folder / f"{seed}.duckdb"
    run(made, Options(database, folder, {}, stand_in=Simulated(seed)), Report(), lambda _note: None)
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.sql("SELECT * FROM judged").fetchall()


def test_a_spec_runs_whole_without_a_model(tmp_path: Path) -> None:
    rows = simulate(tmp_path)
    assert len(rows) == 40
    assert {row[4] for row in rows} == {MODEL}
    assert len({row[3] for row in rows}) == 40  # sampled: each row has an answer of its own
    assert all(abs(np.linalg.norm(row[5]) - 1) < 1e-5 for row in rows)
    assert (tmp_path / "judged.simulated.jsonl").exists()
    assert not (tmp_path / "judged.jsonl").exists()


def test_the_seed_decides(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    assert simulate(first) == simulate(second)
    assert simulate(first, seed=1) != simulate(second)


def test_made_up_answers_never_mix_with_real_ones(tmp_path: Path) -> None:
    simulate(tmp_path)
    real = compile_text('table t = sql "SELECT 1 AS y"', "x.synth", tmp_path).plan
    assert real is not None
    with pytest.raises(RunError, match="holds simulated answers"):
        run(real, Options(tmp_path / "42.duckdb", tmp_path, {}), Report(), lambda _note: None)


TESTED = """
backend b { model = "never asked" url = "http://127.0.0.1:9/v1" }
task compare(scale: int = 10) {
  in  question: text
  out (x: float, y: float?) = ask "{{ question }} to {{ scale }} {{ output_format }}" using b
  let half: float = sql "$scale / 2"
  out high: bool = sql "x > half"
}
test "prose" of compare(scale = 4) {
  given question = "?"  reply x = "Sure! {\\"x\\": 3, \\"y\\": 8.5}"  expect x = 3  y = 8.5  high = true
}
test "asked again" of compare {
  given question = "?"  reply y = ["no", "{'x': 1,}"]  expect x = 1  y = null  high = false
}
test "never" of compare { given question = "?"  reply x = "no"  expect fail }
test "down" of compare { given question = "?"  reply x = fail  expect fail }
test "wrong" of compare { given question = "?"  reply x = "{\\"x\\": 1, \\"y\\": 2}"  expect x = 2 }
test "stops" of compare { given question = "?"  reply x = "no"  expect x = 2 }
test "goes on" of compare { given question = "?"  reply x = "{\\"x\\": 1, \\"y\\": 2}"  expect fail }
test "silent" of compare { given question = "?"  expect x = 2 }
test "too few" of compare { given question = "?"  reply x = ["no"]  expect x = 2 }
"""

FAULTS = {
    "prose": [],
    "asked again": [],
    "never": [],
    "down": [],
    "wrong": ["`x` is 1.0, expected 2.0"],
    "stops": ["the row failed (contract): there is no JSON object in it"],
    "goes on": ["the row was expected to fail, and did not"],
    "silent": ["`x` was asked for, and there is no reply to it"],
    "too few": ["`x` was asked for 2 times, and there are 1 replies to it"],
}


def test_tests_of_a_spec(tmp_path: Path) -> None:
    compiled = compile_text(TESTED, "x.synth", tmp_path)
    assert [test.title for test in compiled.tests] == list(FAULTS)
    for test in compiled.tests:
        faults = list(run_test(test).faults)
        assert faults[: len(FAULTS[test.title]) or None] == FAULTS[test.title], test.title
