"""Samples, prompts of a set, rows of another table: what is drawn, how it is kept, and that it stays."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.server import serving
from synthc.compiler import plan, types
from synthc.compiler.types import Field, Type
from synthc.runtime.engine.draws import Draws
from synthc.runtime.engine.scope import Place
from synthc.runtime.errors import RowFailed, RunError
from tests.runtime.helpers import column, made, prompts, rows
from tests.runtime.plans import (
    INT,
    TEXT,
    TEXTS,
    ask,
    choices,
    draw,
    of,
    one_of,
    repeat,
    sample,
    table,
)
from tests.runtime.plans import rows as numbered

FLOAT = types.Float()
DRAWS = Draws(42, {"w.txt": ("a", "b", "b", "c")})


def drawn(
    source: plan.Distribution, type_: Type, count: int = 2_000, draws: Draws = DRAWS, **more: Any
) -> list[Any]:
    """What so many rows draw."""
    op = sample(source, Field("x", type_), **more)
    return [draws.sample(op, Place("t", str(key))) for key in range(count)]


# Distributions


def test_choices_come_as_often_as_they_weigh() -> None:
    found = Counter(drawn(choices("a", "b", "c", weights=(3.0, 1.0, 0.0)), TEXT))
    assert found.keys() == {"a", "b"}
    assert 0.70 < found["a"] / 2_000 < 0.80


def test_choices_are_values_as_they_are() -> None:
    type_ = types.Choice((4, 4.5, 5))
    assert {repr(value) for value in drawn(choices(4, 4.5, 5), type_)} == {"4", "4.5", "5"}


def test_whole_numbers_have_both_ends() -> None:
    found = Counter(drawn(plan.Uniform(1.0, 4.0), INT))
    assert sorted(found) == [1, 2, 3, 4]
    assert min(found.values()) > 420


def test_numbers_of_an_interval() -> None:
    found = drawn(plan.Uniform(-1.0, 3.0), FLOAT)
    assert -1 <= min(found) < -0.9
    assert 2.9 < max(found) < 3


def test_normal_numbers() -> None:
    found = drawn(plan.Normal(10.0, 2.0), FLOAT)
    assert abs(statistics.mean(found) - 10) < 0.15
    assert abs(statistics.stdev(found) - 2) < 0.15
    assert all(float(f"{value:.12g}") == value for value in found)
    assert {type(value) for value in drawn(plan.Normal(10.0, 2.0), INT)} == {int}


@pytest.mark.parametrize("mean", [0.0, 0.5, 4.0, 25.0, 3000.0])
def test_poisson_counts(mean: float) -> None:
    found = drawn(plan.Poisson(mean), INT)
    assert min(found) >= 0
    assert abs(statistics.mean(found) - mean) <= 4 * math.sqrt(mean / 2_000)
    assert abs(statistics.variance(found) - mean) <= 0.2 * mean


def test_lines_of_a_file() -> None:
    assert Counter(drawn(plan.Lines("w.txt"), TEXT)).keys() == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("source", "element", "all_"),
    [
        (choices("a", "b", "c", "d", weights=(9.0, 1.0, 1.0, 1.0)), TEXT, {"a", "b", "c", "d"}),
        (plan.Lines("w.txt"), TEXT, {"a", "b", "c"}),
        (plan.Uniform(1.0, 3.0), INT, {1, 2, 3}),
    ],
)
def test_several_are_different_and_as_many_as_is_said(
    source: plan.Distribution, element: Type, all_: set[Any]
) -> None:
    found = drawn(source, types.ListOf(element), least=1, most=3)
    assert {len(values) for values in found} == {1, 2, 3}
    assert all(len(set(values)) == len(values) for values in found)
    assert {value for values in found for value in values} == all_
    firsts = Counter(values[0] for values in found)
    assert firsts.keys() == all_


def test_several_numbers_are_different() -> None:
    for source in (plan.Normal(0.0, 1.0), plan.Uniform(0.0, 1.0), plan.Poisson(5.0)):
        type_ = types.ListOf(INT if isinstance(source, plan.Poisson) else FLOAT)
        assert all(len(set(v)) == 3 for v in drawn(source, type_, 200, least=3, most=3))


@pytest.mark.parametrize(
    "source", [choices("a", "b"), plan.Lines("w.txt"), plan.Uniform(1.0, 3.0), plan.Poisson(0.0)]
)
def test_more_than_there_are_cannot_be_drawn(source: plan.Distribution) -> None:
    type_ = types.ListOf(TEXT if isinstance(source, plan.Lines | plan.Choices) else INT)
    with pytest.raises(RowFailed, match=r"4 different values are wanted, and there are [123]"):
        drawn(source, type_, 1, least=4, most=4)


def test_what_is_drawn_never_changes() -> None:
    """These values stand in databases and papers: no later version may draw others."""
    keys = 4
    assert drawn(choices("a", "b", "c"), TEXT, keys) == ["a", "b", "c", "a"]
    assert drawn(plan.Uniform(1.0, 100.0), INT, keys) == [98, 65, 10, 74]
    assert drawn(plan.Normal(0.0, 1.0), FLOAT, keys) == [
        -1.44782441121,
        0.261737301563,
        -0.199123884129,
        0.828062988036,
    ]
    assert drawn(plan.Poisson(3.0), INT, keys) == [6, 2, 4, 2]
    assert drawn(plan.Poisson(40.0), INT, keys) == [43, 41, 49, 29]
    assert drawn(plan.Lines("w.txt"), TEXTS, keys, least=1, most=2) == [
        ["a"],
        ["c", "b"],
        ["b", "c"],
        ["c", "b"],
    ]


def test_what_a_draw_depends_on() -> None:
    source = plan.Uniform(0.0, 1.0)
    op = sample(source, Field("x", FLOAT))
    place = Place("t", "1")

    def value(draws: Draws = DRAWS, op: plan.Sample = op, place: Place = place) -> float:
        return draws.sample(op, place)

    others = {
        value(Draws(43, {})),
        value(op=sample(source, Field("x", FLOAT), ordinal=1)),
        value(op=sample(plan.Uniform(0.0, 1.1), Field("x", FLOAT))) / 1.1,
        value(place=Place("t", "2")),
        value(place=Place("t", "1", (1,))),
        value(place=Place("t", "1", (1, 1))),
    }
    assert len(others | {value()}) == 7
    assert value(op=sample(source, Field("renamed", FLOAT)), place=Place("u", "1")) == value()


def test_lines_are_drawn_by_what_they_are_and_not_by_the_name_of_their_file() -> None:
    lines = tuple("abcdefgh")
    found = [
        drawn(plan.Lines(path), TEXT, 50, Draws(42, {path: lines})) for path in ("a.txt", "b/c.txt")
    ]
    assert found[0] == found[1]
    assert drawn(plan.Lines("a.txt"), TEXT, 50, Draws(42, {"a.txt": (*lines, "i")})) != found[0]


# In a run


def test_samples_are_columns_and_are_kept(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("\ufeff  red \r\n\n  \nblue\n", encoding="utf-8")
    ops = (
        sample(choices("a", "b"), Field("kind", types.Choice(("a", "b")))),
        sample(plan.Lines("w.txt"), Field("colours", TEXTS), least=1, most=2),
        sample(plan.Uniform(1.0, 6.0), Field("die", INT)),
    )
    outputs: dict[str, Type] = {"kind": TEXT, "colours": TEXTS, "die": INT}
    made(of(table(numbered(30), *ops, outputs=outputs)), tmp_path, "")
    found = rows(tmp_path, "FROM t")
    assert {value for row in found for value in row[1]} == {"red", "blue"}
    kept = 'SELECT row_key, "column", round, value FROM synth.draws ORDER BY CAST(row_key AS INT)'
    by_key: dict[str, dict[str, Any]] = {}
    for key, name, round_, value in rows(tmp_path, kept):
        assert round_ is None
        by_key.setdefault(key, {})[name] = json.loads(value)
    assert [tuple(by_key[str(n + 1)][name] for name in outputs) for n in range(30)] == found


def test_more_than_there_are_fails_the_row(tmp_path: Path) -> None:
    op = sample(choices("a", "b"), Field("kinds", TEXTS), least=1, most=3)
    report = made(of(table(numbered(40), op, outputs={"kinds": TEXTS})), tmp_path, "")
    assert report.tables["t"].failed > 5
    assert report.tables["t"].kept > 5
    assert set(rows(tmp_path, 'SELECT "column", reason, place FROM synth.failures')) == {
        ("kinds", "draw", "x.synth:1:1")
    }


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b" \n\n", "no line"), (b"\xff\n", "UTF-8")]
)
def test_a_file_without_lines_is_said_before_anything_is_made(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "w.txt").write_bytes(content)
    op = sample(plan.Lines("w.txt"), Field("word", TEXT))
    with pytest.raises(RunError, match=said) as caught:
        made(of(table(numbered(2), op, outputs={"word": TEXT})), tmp_path, "")
    assert caught.value.span == op.span
    assert not (tmp_path / "x.duckdb").exists()


def test_new_lines_make_the_table_again_and_forget_the_old_draws(tmp_path: Path) -> None:
    spec = of(
        table(numbered(9), sample(plan.Lines("w.txt"), Field("word", TEXT)), outputs={"word": TEXT})
    )
    for word in ("red", "blue"):
        (tmp_path / "w.txt").write_text(word)
        assert not made(spec, tmp_path, "").skipped
        assert made(spec, tmp_path, "").skipped == ["t"]
        assert set(column(tmp_path, "FROM t")) == {word}
        assert column(tmp_path, "SELECT value FROM synth.draws") == [json.dumps(word)] * 9


# Prompts of a set


def test_a_set_of_prompts_is_drawn_from_and_what_was_drawn_is_kept(tmp_path: Path) -> None:
    set_ = one_of(
        ("deeper", 3.0, "Deepen {{ kind }}"),
        ("wider", 1.0, "Widen {{ kind }}"),
        ("never", 0.0, "{{ kind }}"),
        of="kind",
        set_="wizard",
    )
    ops = (sample(choices("a", "b"), Field("kind", TEXT)), ask(set_, "answer", "kind"))
    spec = of(table(numbered(80), *ops, outputs={"kind": TEXT, "answer": TEXT}))
    with serving() as server:
        made(spec, tmp_path, server)
        assert Counter(prompt.split()[0] for prompt in prompts(server)).keys() == {
            "Deepen",
            "Widen",
        }
    drawn_ = """SELECT m.row_key, m.mutation, m.value, m.set, m.round, m."column", m.table_name,
        c.request FROM synth.mutations AS m JOIN synth.calls AS c USING (row_key)"""
    found = rows(tmp_path, drawn_)
    assert len(found) == 80
    for _, mutation, value, *rest, request in found:
        verb = {"deeper": "Deepen", "wider": "Widen"}[mutation]
        assert json.loads(request)[0]["content"] == f"{verb} {value}"
        assert rest == ["wizard", None, "answer", "t"]
    assert 40 < sum(row[1] == "deeper" for row in found) < 75
    first = sorted(found)
    with serving() as server:  # a run of its own draws the same
        made(spec, tmp_path, server, database="y.duckdb")
        assert sorted(rows(tmp_path, drawn_, "y.duckdb")) == first


def test_each_round_and_each_of_several_draws_for_itself(tmp_path: Path) -> None:
    set_ = one_of(("x", 1.0, "x {{ v }}"), ("y", 1.0, "y {{ v }}"), of="v")
    inner = ask(set_, "answers", "v", count=2)
    loop = repeat(
        3,
        "v",
        "start",
        "answers",
        inner,
        write=Field("all", types.ListOf(types.Json())),
        collect=True,
    )
    first = sample(choices("s"), Field("start", types.Json()))
    spec = of(table(numbered(12), first, loop, outputs={"all": types.ListOf(types.Json())}))
    with serving() as server:
        made(spec, tmp_path, server)
    by_round = "SELECT round, count(*), count(DISTINCT mutation) FROM synth.mutations GROUP BY 1 ORDER BY 1"
    assert rows(tmp_path, by_round) == [(1, 24, 2), (2, 24, 2), (3, 24, 2)]
    values = "SELECT DISTINCT value FROM synth.mutations WHERE round = 1"
    assert column(tmp_path, values) == ["s"]
    lists = "SELECT value FROM synth.mutations WHERE round = 2 LIMIT 1"
    assert len(json.loads(column(tmp_path, lists)[0])) == 2
    places = 'SELECT DISTINCT rounds, "index" FROM synth.calls ORDER BY ALL'
    assert rows(tmp_path, places) == [(str(n), i) for n in (1, 2, 3) for i in (0, 1)]


# Rows of another table


GOLD = table(
    numbered(5), sample(plan.Uniform(1.0, 99.0), Field("n", INT)), outputs={"n": INT}, name="gold"
)
EXAMPLES = types.ListOf(types.Record((Field("n", INT),)))


def test_rows_of_another_table_are_drawn(tmp_path: Path) -> None:
    few = table(numbered(40), draw("gold", 3, Field("n", INT)), outputs={"examples": EXAMPLES})
    made(of(GOLD, few), tmp_path, "")
    gold = dict(
        rows(
            tmp_path,
            "SELECT r.row_key, g.n FROM gold AS g POSITIONAL JOIN"
            " (FROM synth.rows WHERE table_name = 'gold' ORDER BY position) AS r",
        )
    )
    keys = [json.loads(value) for value in column(tmp_path, _DRAWN)]
    assert all(len(set(drawn_)) == 3 for drawn_ in keys)
    assert len({tuple(drawn_) for drawn_ in keys}) > 10
    examples = column(tmp_path, "FROM t")
    assert examples == [[{"n": gold[key]} for key in drawn_] for drawn_ in keys]


_DRAWN = """SELECT value FROM synth.draws WHERE table_name = 't' ORDER BY CAST(row_key AS INT)"""


def test_more_rows_than_there_are_fail_the_row(tmp_path: Path) -> None:
    few = table(numbered(2), draw("gold", 6, Field("n", INT)), outputs={"examples": EXAMPLES})
    report = made(of(GOLD, few), tmp_path, "")
    assert report.tables["t"].failed == 2
    assert (
        column(tmp_path, "SELECT detail FROM synth.failures")
        == ["6 rows are wanted from `gold`, which has 5"] * 2
    )


def test_another_content_of_the_table_makes_what_drew_from_it_again(tmp_path: Path) -> None:
    few = table(numbered(9), draw("gold", 2, Field("n", INT)), outputs={"examples": EXAMPLES})
    made(of(GOLD, few), tmp_path, "")
    assert made(of(GOLD, few), tmp_path, "").skipped == ["gold", "t"]
    report = made(of(GOLD, few, seed=43), tmp_path, "")
    assert report.skipped == []
