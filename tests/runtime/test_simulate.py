"""Simulated answers hold every contract, and tests of specs run through the real engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import assume, given, settings
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
    st.just(types.Chat()),
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


keys = st.binary(min_size=16, max_size=16)


@settings(deadline=None)
@given(st.recursive(leaves, _deeper, max_leaves=6), keys)
def test_a_simulated_answer_is_json_of_any_type(type_: Type, key: bytes) -> None:
    for fields in ((Field("x", type_), Field("y", types.Text())), (Field("x", type_),)):
        holds(Contract(kind="json", fields=fields), key)


words = st.text("abcdefghij XYZéβ", min_size=1, max_size=12).filter(
    lambda word: word == word.strip() and word[0].isalpha()
)
scalars = st.one_of(
    st.sampled_from((types.Text(), types.Int(), types.Float(), types.Bool())),
    st.lists(words, min_size=1, max_size=4, unique_by=str.casefold).map(
        lambda values: types.Choice(tuple(values))
    ),
    st.sampled_from((types.Choice((4, 4.5, 5)), types.Choice((1, 2, 3)))),
)
fields_ = st.lists(
    st.tuples(names, st.one_of(scalars, scalars.map(types.maybe))),
    min_size=1,
    max_size=4,
    unique_by=lambda pair: pair[0],
).map(lambda found: tuple(Field(name, type_) for name, type_ in found))
decorated = st.sampled_from(("{}", "## {}", "{}:", "**{}**", "**{}:**", "#{}#:", "=> {}", "[{}]"))


@settings(deadline=None)
@given(fields_, st.data(), keys)
def test_a_simulated_answer_has_its_marks(
    fields: tuple[Field, ...], data: st.DataObject, key: bytes
) -> None:
    form = data.draw(decorated)
    found = data.draw(
        st.lists(
            words,
            min_size=len(fields),
            max_size=len(fields),
            unique_by=lambda w: "".join(w.casefold().split()),
        )
    )
    values = [value for f in fields for value in getattr(types.required(f.type), "values", ())]
    assume(not {str(value).casefold() for value in values} & {word.casefold() for word in found})
    marks = tuple(form.format(word) for word in found)
    holds(Contract(kind="sections", fields=fields, marks=marks), key)
    holds(Contract(kind="after", fields=(Field("x", types.Text()),), marks=marks[:1]), key)
    holds(Contract(kind="tag", fields=fields[:1], marks=(data.draw(names),)), key)
    holds(Contract(kind="text", fields=(Field("x", types.Text()),)), key)


GROUPS = {
    types.Text: (".+", r"\S.*", r"[^\n]+", r"\pL+", r"\w+( \w+)*?", "[[:alpha:]]+", '[^"]{3,9}'),
    types.Int: (r"\d+", r"-?\d{1,3}", "[1-5]", "[0-9]|10", r"\S+"),
    types.Float: (r"\d+(?:\.\d+)?", r"[\d.]*\d", r"\S+", r"\d{2}"),
    types.Bool: (r"\w+", "(?i:yes|no)", "true|false", r"\S+"),
    types.Choice: (".+", r"[^\n]*\S"),
}
BEFORE = (
    r"{}: ",
    r"(?:The )?{}\s*[:=]\s*",
    r"\Q{}.\E",
    r"<{}>",
    r"\({}\) ?",
    r"{}\[|{}\(",
    r"{}\t",
)


def _group(data: st.DataObject, name: str, type_: Type) -> str:
    inside = data.draw(st.sampled_from(GROUPS[type(types.required(type_))]))
    before = data.draw(st.sampled_from(BEFORE)).replace("{}", name)
    form = data.draw(st.sampled_from(("(?P<{}>", "(?<{}>")))
    return f"(?:{before}){form.format(name)}{inside})"


@settings(deadline=None, max_examples=200)
@given(fields_, st.data(), st.none() | st.integers(0, 6), keys)
def test_a_simulated_answer_has_what_a_pattern_matches(
    fields: tuple[Field, ...], data: st.DataObject, count: int | None, key: bytes
) -> None:
    parts = [_group(data, field.name, field.type) for field in fields]
    flags = data.draw(st.sampled_from(("", "(?i)", "(?m)", "(?im)")))
    holds(Contract(kind="regex", fields=fields, pattern=flags + r"\s*\n".join(parts)), key)
    numbered = data.draw(
        st.sampled_from((r"\[(?P<index>\d+)\] ", r"^(?P<index>[1-9]\d*)\. ", "- "))
    )
    lists = tuple(Field(field.name, types.ListOf(field.type)) for field in fields)
    pattern = (
        f"{flags or '(?m)'}{numbered if 'm' in flags else '- '}" + ", ".join(parts) + "(?:;|$)"
    )
    per = None if count is None else "things"
    holds(Contract(kind="lines", fields=lists, pattern=pattern, per=per), key, count)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i)\[(?P<index>\d+)\]\s*score:\s*(?P<value>\d+(?:\.\d+)?)",
        r"(?i)\[(?P<index>\d+)\]\W*score[^\w\n]*(?P<score>\d+(?:\.\d+)?)",
        r"(?m)^\s*(?P<index>\d+)[.)]\s+.*?(?P<value>\d+(?:\.\d+)?)\s*$",
        r"(?m)^\|\s*(?P<index>\d+)\s*\|\s*(\d+)\s*\|$",
        r"(?s)<score(?: id=\"(?P<index>\d+)\")>\s*(?P<value>[\d.]+)\s*</score>",
        r"Rating: (\d\.\d)",
        r"(?U)score (\d+) *\.",
    ],
)
def test_a_simulated_answer_has_a_line_for_each_element(pattern: str) -> None:
    scores = Field("scores", types.ListOf(types.Float()))
    contract = Contract(kind="lines", fields=(scores,), pattern=pattern, per="instructions")
    for count in (0, 1, 2, 12, 60):
        holds(contract, bytes(range(16)), count)


def test_a_pattern_that_cannot_be_made_up_is_said_to_be_missing() -> None:
    for pattern in (r"(\C\pN\PN)$^x", r"\b\B(x)", "(x)(?i)y{900}(?-i)z", "(" * 60 + "x" + ")" * 60):
        contract = Contract(kind="regex", fields=(Field("x", types.Int()),), pattern=pattern)
        assert contracts.read(contract, answer_to(contract, b"")).problems


def answer_to(contract: Contract, key: bytes, count: int | None = None) -> str:
    """What the simulation answers where a contract is asked for."""
    request = Request(
        (Message("user", "?"),), contracts.schema(contract), key, contract=contract, count=count
    )
    return asyncio.run(_answer(request))


def holds(contract: Contract, key: bytes, count: int | None = None) -> None:
    """A simulated answer is read without problems, and is the same each time."""
    answer = answer_to(contract, key, count)
    found = contracts.read(contract, answer, count)
    assert not found.problems, (answer, contract.pattern, contract.marks)
    assert not found.broken
    assert answer_to(contract, key, count) == answer


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
test "silent" of compare { given question = "?"  expect high = true }
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
        faults = list(run_test(test, Path()).faults)
        assert faults[: len(FAULTS[test.title]) or None] == FAULTS[test.title], test.title
