"""Loops: rounds, what ends them, what they give, and what is asked in them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.answers import Seen
from bench.faults import FAULTS, Fault
from bench.server import serving
from synthc.compiler import plan, types
from synthc.compiler.types import Field, Type
from synthc.runtime.errors import RunError
from tests.runtime.helpers import answering, column, made, prompts, rows, topics
from tests.runtime.plans import (
    INT,
    TEXT,
    TEXTS,
    ask,
    compute,
    constant,
    limit,
    maybe,
    of,
    read,
    render,
    repeat,
    table,
    unnest,
    where,
)
from tests.runtime.plans import rows as numbered

COUNT = repeat(
    4,
    "x",
    "zero",
    "more",
    compute("x + round", Field("more", INT), Field("x", INT), Field("round", INT)),
    write=Field("sum", INT),
)
ZERO = constant(0, "zero")


def run(tmp_path: Path, *ops: plan.Op, **outputs: Type) -> list[tuple[object, ...]]:
    made(of(table(numbered(2), *ops, outputs=outputs)), tmp_path, "")
    return rows(tmp_path, "FROM t")


def changed(loop: plan.Repeat, **fields: object) -> plan.Repeat:
    return msgspec.structs.replace(loop, **fields)


def test_a_loop_gives_its_last_value(tmp_path: Path) -> None:
    assert run(tmp_path, ZERO, COUNT, sum=INT) == [(10,)] * 2


def test_or_the_value_after_each_round(tmp_path: Path) -> None:
    ints = types.ListOf(INT)
    loop = changed(COUNT, collect=True, field=Field("sum", ints))
    assert run(tmp_path, ZERO, loop, sum=ints) == [([1, 3, 6, 10],)] * 2


def test_no_round_gives_the_start_or_an_empty_list(tmp_path: Path) -> None:
    ints = types.ListOf(INT)
    none = changed(COUNT, times=0)
    lists = changed(none, collect=True, field=Field("all", ints), write="all")
    assert run(tmp_path, ZERO, none, lists, sum=INT, all=ints) == [(0, [])] * 2


def test_a_loop_ends_when_its_condition_holds(tmp_path: Path) -> None:
    until = where("x >= 3 AND more = x", Field("x", INT), Field("more", INT))
    loop = changed(COUNT, times=100, until=until)
    assert run(tmp_path, ZERO, loop, sum=INT) == [(3,)] * 2


@pytest.mark.parametrize("collect", [False, True])
def test_a_condition_that_is_never_true(tmp_path: Path, collect: bool) -> None:
    type_ = types.ListOf(INT) if collect else INT
    until = where("x > 99", Field("x", INT))
    fails = changed(COUNT, until=until, collect=collect, field=Field("sum", type_))
    null = changed(fails, field=Field("sum", maybe(type_)))
    assert run(tmp_path, ZERO, fails, sum=type_) == []
    assert (
        rows(tmp_path, 'SELECT "column", reason, detail, stops_row FROM synth.failures')
        == [("sum", "until", "the condition was never true in 4 rounds", True)] * 2
    )
    assert run(tmp_path, ZERO, null, sum=maybe(type_)) == [(None,)] * 2
    assert column(tmp_path, "SELECT stops_row FROM synth.failures") == [False] * 2


def test_a_null_keeps_the_value(tmp_path: Path) -> None:
    following = compute(
        "CASE WHEN round % 2 = 1 THEN x + 1 END",
        Field("more", maybe(INT)),
        Field("x", INT),
        Field("round", INT),
    )
    loop = changed(COUNT, ops=(following,), collect=True, field=Field("sum", types.ListOf(INT)))
    assert run(tmp_path, ZERO, loop, sum=types.ListOf(INT)) == [([1, 1, 2, 2],)] * 2


def test_what_a_loop_promises_is_checked(tmp_path: Path) -> None:
    loop = changed(COUNT, field=Field("sum", types.Choice((1, 2))))
    assert run(tmp_path, ZERO, loop, sum=INT) == []
    assert column(tmp_path, "SELECT reason FROM synth.failures") == ["choice"] * 2


def test_a_loop_in_a_loop(tmp_path: Path) -> None:
    inner = repeat(
        2,
        "y",
        "x",
        "longer",
        render("{{ y }}{{ outer }}.{{ round }} ", "longer", "y", "outer", "round"),
        write=Field("text", TEXT),
    )
    outer = repeat(2, "x", "empty", "text", inner, write=Field("all", TEXT), round_="outer")
    assert run(tmp_path, constant("", "empty"), outer, all=TEXT) == [("1.1 1.2 2.1 2.2 ",)] * 2


def test_sql_that_fails_in_a_round_fails_the_row(tmp_path: Path) -> None:
    broken = compute("CAST('x' || round AS BIGINT)", Field("more", INT), Field("round", INT))
    assert run(tmp_path, ZERO, changed(COUNT, ops=(broken,)), sum=INT) == []
    until = where("CAST('x' AS BIGINT) = 1")
    assert run(tmp_path, ZERO, changed(COUNT, until=until), sum=INT) == []
    assert rows(tmp_path, 'SELECT "column", reason FROM synth.failures') == [("where", "sql")] * 2


@pytest.mark.parametrize("op", [limit(1), unnest("x", "y")])
def test_what_counts_rows_is_refused_in_a_loop(tmp_path: Path, op: plan.Op) -> None:
    with pytest.raises(RunError, match="cannot be in a loop"):
        run(tmp_path, ZERO, changed(COUNT, ops=(*COUNT.ops, op)), sum=INT)


# With a model

EVOLVE = repeat(
    3,
    "current",
    "topic",
    "draft",
    ask("Evolve {{ current }}", "draft", "current", type_=maybe(TEXT)),
    write=Field("all", TEXTS),
    collect=True,
)


def evolving(prompt: str) -> str:
    return prompt.removeprefix("Evolve ") + "+"


def test_asks_in_rounds(tmp_path: Path) -> None:
    topics(tmp_path, 6)
    outputs: dict[str, Type] = {"topic": TEXT, "all": TEXTS, "draft.model": TEXT}
    spec = of(table(read(), EVOLVE, outputs=outputs))
    with serving(answering(evolving), latency_s=(0.0, 0.02)) as server:
        made(spec, tmp_path, server)
        assert server.count == 18
    assert rows(tmp_path, "FROM t") == [
        (f"topic {n}", [f"topic {n}+", f"topic {n}++", f"topic {n}+++"], "m") for n in range(6)
    ]
    counts = "SELECT rounds, count(*) FROM synth.calls GROUP BY ALL ORDER BY ALL"
    assert rows(tmp_path, counts) == [("1", 6), ("2", 6), ("3", 6)]


def test_a_round_whose_answer_is_null_keeps_the_value(tmp_path: Path) -> None:
    topics(tmp_path, 1)
    spec = of(table(read(), EVOLVE, outputs={"all": TEXTS}))

    def answer(seen: Seen) -> str | Fault:
        return FAULTS["422"] if seen.number == 1 else evolving(seen.prompt)

    with serving(answer) as server:
        made(spec, tmp_path, server)
    assert column(tmp_path, "FROM t") == [["topic 0+", "topic 0+", "topic 0++"]]
    assert rows(tmp_path, 'SELECT "column", stops_row FROM synth.failures') == [("draft", False)]


def test_equal_prompts_of_two_rounds_are_two_calls(tmp_path: Path) -> None:
    topics(tmp_path, 1)
    loop = repeat(
        4, "x", "topic", "said", ask("Say it", "said"), write=Field("all", TEXTS), collect=True
    )
    spec = of(table(read(), loop, outputs={"all": TEXTS}))
    with serving(lambda seen: str(seen.number)) as server:
        made(spec, tmp_path, server)
        made(spec, tmp_path, server, limit=1)  # not done: it is asked again, and all is known
        assert server.count == 4
    assert column(tmp_path, "FROM t") == [["0", "1", "2", "3"]]


def test_loops_that_do_not_need_each_other_run_at_once(tmp_path: Path) -> None:
    topics(tmp_path, 1)

    def loop(name: str) -> plan.Repeat:
        prompt = f"{name} {{{{ current }}}}"
        inner = ask(prompt, f"{name}_draft", "current")
        return repeat(2, "current", "topic", f"{name}_draft", inner, write=Field(name, TEXT))

    spec = of(table(read(), loop("a"), loop("b"), outputs={"a": TEXT, "b": TEXT}))
    with serving(latency_s=0.05) as server:
        made(spec, tmp_path, server)
        assert server.count == 4
        assert server.peak == 2
        assert {prompt[0] for prompt in prompts(server)[:2]} == {"a", "b"}


def test_asks_of_one_round_run_at_once_and_all_count(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    inner = (
        ask("A {{ x }}", "a", "x"),
        ask("B {{ x }}", "b", "x"),
        render("{{ a }}{{ b }}", "both", "a", "b"),
        ask("unused {{ x }}", "c", "x"),
        ask("D {{ both }}", "d", "both"),
    )
    loop = repeat(1, "x", "topic", "d", *inner, write=Field("out", TEXT))
    spec = of(table(read(), limit(1), loop, outputs={"out": TEXT}))
    with serving(latency_s=0.05) as server:
        made(spec, tmp_path, server)
        assert server.peak == 3
        assert server.count == 4
    (tmp_path / "again").mkdir()
    topics(tmp_path / "again", 2)

    def refusing(prompt: str) -> str | Fault:
        return FAULTS["422"] if "unused" in prompt else prompt

    with serving(answering(refusing)) as server:
        report = made(spec, tmp_path / "again", server)
    assert report.tables["t"].failed == 1


def test_a_limit_holds_loops_back(tmp_path: Path) -> None:
    topics(tmp_path, 30)
    spec = of(table(read(), EVOLVE, limit(4), outputs={"all": TEXTS}))
    with serving(answering(evolving), latency_s=(0.0, 0.01)) as server:
        report = made(spec, tmp_path, server)
        assert server.count == 12
    assert report.tables["t"].not_asked == 26


def test_a_cancelled_run_leaves_no_loop_behind(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    other = ask("Other {{ topic }}", "other", "topic")
    spec = of(table(read(), EVOLVE, other, outputs={"all": TEXTS, "other": TEXT}))

    def answer(seen: Seen) -> str | Fault:
        return FAULTS["401"] if seen.number > 6 else evolving(seen.prompt)

    with serving(answer, latency_s=0.02) as server:
        with pytest.raises(RunError, match="refuses the key"):
            made(spec, tmp_path, server)
        server.answer = answering(evolving)
        made(spec, tmp_path, server)
        assert server.count <= 20 + 10
    assert column(tmp_path, 'SELECT len("all") FROM t') == [3] * 5


def test_a_plan_that_is_broken_is_refused_in_words(tmp_path: Path) -> None:
    for ops in ([COUNT], [ask("{{ x }}", "y", "x", backend="none")]):
        with pytest.raises(RunError, match="the plan is broken"):
            run(tmp_path, *ops, sum=INT)
    for source in ("later", "t"):
        spec = of(table(plan.From(COUNT.span, source), outputs={}))
        with pytest.raises(RunError, match="the plan is broken"):
            made(spec, tmp_path, "")
