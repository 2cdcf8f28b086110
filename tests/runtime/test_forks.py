"""Rows that become many, and gates behind them: what a plain loop over all rows says is what happens."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.faults import Fault
from bench.server import serving
from synthc.compiler import plan, types
from synthc.compiler.types import Field, Type
from synthc.runtime.engine.segments import ahead
from synthc.runtime.store import store
from tests.runtime.helpers import answering, column, lines, made, prompts, rows
from tests.runtime.plans import (
    INT,
    TEXT,
    TEXTS,
    ask,
    backend,
    choices,
    compute,
    dedup,
    limit,
    of,
    read,
    sample,
    table,
    unnest,
    where,
)
from tests.runtime.plans import rows as numbered
from tests.runtime.test_engine import counts

WORDS = Field("words", TEXTS)
STATUSES = "SELECT row_key, status FROM synth.rows WHERE table_name = 't' ORDER BY ordinal"


def words(tmp_path: Path, *values: list[str] | None) -> plan.Read:
    """Rows with a list of words, keyed by their numbers from 0."""
    lines(tmp_path, "topics.jsonl", ({"n": str(n), "words": v} for n, v in enumerate(values)))
    return read(Field("n", TEXT), WORDS, key="n")


@pytest.mark.parametrize("forks", [False, True])
def test_a_table_that_is_put_in_its_place_in_parts_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    source = words(tmp_path, ["a", "b"], ["x"], ["c"], [], ["d", "e", "f"], None, ["g"])
    steps = [unnest("words", "word")] if forks else []
    column_ = "word" if forks else "n"
    kept = where(f"{column_} NOT IN ('b', 'x', '1', '4')", Field(column_, TEXT))
    spec = of(table(source, *steps, kept, outputs={"n": TEXT, column_: TEXT}))
    found: list[list[list[Any]]] = []
    for part, name in ((store._PART, "whole"), (1, "one"), (2, "two"), (3, "three")):
        monkeypatch.setattr(store, "_PART", part)
        made(spec, tmp_path, "", database=f"{name}.duckdb")
        about = "SELECT row_key, ordinal, position, status FROM synth.rows ORDER BY ordinal"
        found.append([rows(tmp_path, query, f"{name}.duckdb") for query in ("FROM t", about)])
    assert found[1:] == found[:1] * 3
    assert len(found[0][0]) == (6 if forks else 5)


def test_a_row_becomes_one_for_each_element(tmp_path: Path) -> None:
    source = words(tmp_path, ["a", "b"], None, ["c"], [], ["d", "e", "f"])
    spec = of(table(source, unnest("words", "word"), outputs={"n": TEXT, "word": TEXT}))
    report = made(spec, tmp_path, "")
    assert rows(tmp_path, "FROM t") == [
        ("0", "a"),
        ("0", "b"),
        ("2", "c"),
        ("4", "d"),
        ("4", "e"),
        ("4", "f"),
    ]
    assert counts(report.tables["t"]) == (8, 6, 2, 0, 0)
    assert report.tables["t"].total == 8
    dropped = [("1", "dropped"), ("3", "dropped")]
    kept = [(key, "kept") for key in ("0/1", "0/2", "2/1", "4/1", "4/2", "4/3")]
    assert rows(tmp_path, STATUSES) == sorted([*kept, *dropped])
    positions = "SELECT ordinal, position FROM synth.rows ORDER BY row_key"
    assert rows(tmp_path, positions) == [
        (0, 0),
        (1, 1),
        (2, None),
        (3, 2),
        (4, None),
        (5, 3),
        (6, 4),
        (7, 5),
    ]
    assert made(spec, tmp_path, "").skipped == ["t"]


def test_what_is_no_list_fails_the_row(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", [{"words": ["a"]}, {"words": 3}, {"words": {"a": 1}}])
    ops = unnest("words", "word")
    spec = of(table(read(Field("words", types.Json())), ops, outputs={"word": types.Json()}))
    report = made(spec, tmp_path, "")
    assert counts(report.tables["t"]) == (3, 1, 0, 2, 0)
    assert set(rows(tmp_path, 'SELECT "column", reason, place FROM synth.failures')) == {
        ("unnest", "no_list", "x.synth:1:1")
    }


def test_rows_are_in_their_order_whatever_the_latencies(tmp_path: Path) -> None:
    source = words(tmp_path, *([f"{n}.{m}" for m in range(n % 5)] for n in range(40)))
    first = ask("First {{ n }}", "first", "n")
    second = ask("Second {{ word }}", "second", "word")
    spec = of(
        table(
            source, first, unnest("words", "word"), second, outputs={"word": TEXT, "second": TEXT}
        )
    )
    with serving(answering(str.upper), latency_s=(0.0, 0.03)) as server:
        made(spec, tmp_path, server)
        assert server.count == 40 + 80
    expected = [f"{n}.{m}" for n in range(40) for m in range(n % 5)]
    assert rows(tmp_path, "FROM t") == [(word, f"SECOND {word}") for word in expected]
    keys = "SELECT row_key FROM synth.calls WHERE \"column\" = 'second'"
    assert set(column(tmp_path, keys)) == {f"{n}/{m + 1}" for n in range(40) for m in range(n % 5)}
    keys = "SELECT row_key FROM synth.calls WHERE \"column\" = 'first'"
    assert set(column(tmp_path, keys)) == {str(n) for n in range(40)}


def test_an_ask_before_the_fork_goes_on_beside_those_behind_it(tmp_path: Path) -> None:
    source = words(tmp_path, ["a", "b"])
    first, second = ask("First", "first"), ask("Second {{ word }}", "second", "word")
    outputs: dict[str, Type] = {"first": TEXT, "second": TEXT}
    spec = of(table(source, first, unnest("words", "word"), second, outputs=outputs))
    with serving(answering(str.lower), latency_s=0.05) as server:
        made(spec, tmp_path, server)
        assert (server.count, server.peak) == (3, 3)
    assert rows(tmp_path, "FROM t") == [("first", "second a"), ("first", "second b")]


def test_an_ask_before_the_fork_that_fails_fails_those_who_need_it(tmp_path: Path) -> None:
    source = words(tmp_path, ["a", "b", "c"])
    first = ask("First", "first", type_=INT)
    second = ask("Second {{ word }}", "second", "word")
    ops = (first, unnest("words", "word"), second, where("word <> 'b'", Field("word", TEXT)))
    spec = of(table(source, *ops, outputs={"first": INT, "second": TEXT}))
    with serving(answering(lambda _: "no number")) as server:
        report = made(spec, tmp_path, server)
    assert counts(report.tables["t"]) == (3, 0, 1, 2, 0)
    assert rows(tmp_path, 'SELECT row_key, "column" FROM synth.failures ORDER BY 1') == [
        ("0/1", "first"),
        ("0/3", "first"),
    ]


def test_many_children_are_on_their_way_in_bounded_number(tmp_path: Path) -> None:
    source = words(tmp_path, [str(n) for n in range(5_000)], ["x"], ["y"] * 300)
    ops = (unnest("words", "word"), ask("Say {{ word }}", "said", "word"), limit(4_900))
    few = backend(concurrency=32)
    spec = of(table(source, *ops, outputs={"word": TEXT}), backends=(few,))
    with serving(record=False) as server:
        report = made(spec, tmp_path, server)
        assert server.count == 4_900
    assert counts(report.tables["t"])[1] == 4_900
    assert column(tmp_path, "FROM t") == [str(n) for n in range(4_900)]


def test_a_limit_behind_a_fork_stops_the_source(tmp_path: Path) -> None:
    source = words(tmp_path, *([f"{n}.{m}" for m in range(3)] for n in range(5_000)))
    first = ask("First {{ n }}", "first", "n")
    ops = (first, unnest("words", "word"), ask("Second {{ word }}", "second", "word"), limit(10))
    spec = of(table(source, *ops, outputs={"word": TEXT}))
    found = set()
    for n in range(2):
        with serving(latency_s=(0.0, 0.02)) as server:
            report = made(spec, tmp_path, server, database=f"{n}.duckdb")
            asked = prompts(server)
        assert sum(prompt.startswith("Second") for prompt in asked) == 10
        assert len(asked) < 1_500
        found.add(counts(report.tables["t"]))
        assert rows(tmp_path, STATUSES, f"{n}.duckdb") == [
            (f"{n // 3}/{n % 3 + 1}", "kept") for n in range(10)
        ]
    # The fourth row became three, of which two were not asked; 4,996 others were not either.
    assert found == {(5_008, 10, 0, 0, 4_998)}


def test_exact_numbers_of_each_label_from_draws(tmp_path: Path) -> None:
    moods = ("calm", "glad", "sad")
    ops = (
        sample(choices(*moods, weights=(5.0, 2.0, 1.0)), Field("mood", types.Choice(moods))),
        ask("Be {{ mood }}", "text", "mood"),
        limit(5, per="mood", labels=3),
    )
    spec = of(table(numbered(500), *ops, outputs={"mood": TEXT, "text": TEXT}))
    with serving(answering(lambda prompt: prompt), latency_s=(0.0, 0.03)) as server:
        report = made(spec, tmp_path, server)
        assert server.count == 15
    found = rows(tmp_path, "SELECT mood, count(*) FROM t GROUP BY 1 ORDER BY 1")
    assert found == [(mood, 5) for mood in moods]
    assert counts(report.tables["t"]) == (500, 15, 0, 0, 485)
    # What was drawn is kept for those rows alone: how many others were looked at is chance.
    assert column(tmp_path, "SELECT count(*) FROM synth.draws") == [15]


def test_a_row_without_a_label_fails(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", [{"n": 1, "topic": "a"}, {"n": 2, "topic": None}])
    ops = (ask("Say {{ n }}", "said", "n"), limit(1, per="topic"))
    spec = of(table(read(), *ops, outputs={"n": INT}))
    with serving() as server:
        report = made(spec, tmp_path, server)
        assert server.count == 1
    assert counts(report.tables["t"]) == (2, 1, 0, 1, 0)
    found = rows(tmp_path, 'SELECT "column", reason, detail, place FROM synth.failures')
    assert found == [("topic", "null", "`topic` is null", "x.synth:1:1")]


def test_of_equal_rows_the_first_is_kept(tmp_path: Path) -> None:
    records = [{"a": 1, "b": "x"}, {"a": None, "b": "x"}, {"a": 1, "b": "y"}] * 2
    lines(tmp_path, "topics.jsonl", [*records, {"a": None, "b": None}, {"a": None, "b": None}])
    source = read(Field("a", INT), Field("b", TEXT))
    ops = (
        dedup("a", "b"),
        where("b IS NOT NULL", Field("b", TEXT)),
        ask("Say {{ b }}", "said", "b"),
    )
    spec = of(table(source, *ops, outputs={"a": INT, "b": TEXT}))
    with serving(latency_s=(0.0, 0.02)) as server:
        report = made(spec, tmp_path, server)
        assert server.count == 3
    assert rows(tmp_path, "FROM t") == [(1, "x"), (None, "x"), (1, "y")]
    assert counts(report.tables["t"]) == (8, 3, 5, 0, 0)


# Any chain


@dataclass(frozen=True)
class Step:
    """One operation of a chain: what it does depends on the row's value and a number."""

    kind: str
    number: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            ["where", "ask", "ask", "limit", "early", "late", "any", "dedup", "similar", "unnest"]
        ),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=7,
)


def broken(prompt: str) -> bool:
    """Whether the answer to a prompt breaks its contract."""
    return zlib.crc32(prompt.encode()) % 7 == 0


def label_of(prompt: str) -> int:
    return zlib.crc32(prompt.encode() + b"label") % 3


def answer(prompt: str) -> str | Fault:
    name = prompt.split(maxsplit=1)[0]
    return "broken" if broken(prompt) else json.dumps({name: label_of(prompt)})


def chain(steps: list[Step]) -> tuple[plan.Op, ...]:
    """The operations: `v0` is the row's value, and `v1` that of the rows it becomes."""
    ops: list[plan.Op] = []
    value = "v0"
    asked: str | None = None
    for at, step in enumerate(steps):
        n, name = step.number, f"x{at}"
        field_ = Field(value, INT)
        match step.kind:
            case "where":
                ops.append(where(f"{value} % 5 <> {n % 5}", field_))
            case "ask":
                ops.append(ask(f"{name} {{{{ {value} }}}}", name, value, type_=INT))
                asked = name
            case "limit":
                ops.append(limit(n + 1))
            case "early":
                label = compute(f"{value} % 3", Field(name, INT), field_)
                ops += [label, limit(n % 3 + 1, per=name, labels=3)]
            case "late" | "any":
                if asked:
                    labels = 3 if step.kind == "late" else None
                    ops.append(limit(n % 3 + 1, per=asked, labels=labels))
            case "dedup":
                ops += [compute(f"{value} % {n + 2}", Field(name, INT), field_), dedup(name)]
            case "similar":
                angle = Field(name, INT)
                ways = f"[cos({name}), sin({name})]::FLOAT[2]"  # whole numbers have their own each
                ops += [
                    compute(f"{value} % {n + 2}", angle, field_),
                    compute(ways, Field(f"{name}v", types.Vector(2)), angle),
                    dedup(f"{name}v", similar=0.999),
                ]
            case _:
                many = f"[{value} * 3 + i FOR i IN range({value} % 4)]"
                ops += [
                    compute(many, Field(name, types.ListOf(INT)), field_),
                    unnest(name, f"v{at + 1}"),
                ]
                value = f"v{at + 1}"
    # Early labels are there from the start of their segment: an ask before them does not hide them.
    return tuple(ops)


@dataclass
class Loop:
    """The same by a loop over all rows, one after the other."""

    ops: tuple[plan.Op, ...]
    statuses: dict[str, str] = field(default_factory=dict)
    taken: Counter[Any] = field(default_factory=Counter)
    met: set[Any] = field(default_factory=set)
    rows_in: int = 0

    def __post_init__(self) -> None:
        self.ahead = ahead(self.ops)

    def full(self, at: int) -> bool:
        op = self.ops[at]
        assert isinstance(op, plan.Limit)
        if op.per is None:
            return self.taken[at] >= op.count
        if op.labels is None:
            return False
        return sum(self.taken[at, label] >= op.count for label in range(3)) >= op.labels

    def known_before_cost(self, at: int, start: int) -> bool:
        """Whether the label of a limit is there before the first ask of its segment."""
        for op in self.ops[start:at]:
            if isinstance(op, plan.Ask):
                return not any(
                    self.ops[at].per in plan.writes(later)  # type: ignore[union-attr]
                    for later in self.ops[self.ops.index(op) : at]
                )
        return True

    def walk(self, key: str, start: int, slots: dict[str, Any]) -> str:
        self.rows_in += 1
        status = self.end(key, start, slots)
        if status != "forked":
            self.statuses[key] = status
        return status

    def end(self, key: str, start: int, slots: dict[str, Any]) -> str:
        for at in range(start, len(self.ops)):
            if isinstance(self.ops[at], plan.Limit) and self.full(at):
                return "not_asked"
        first_ask = True
        for at in range(start, len(self.ops)):
            op = self.ops[at]
            match op:
                case plan.Ask():
                    if first_ask and self.label_is_full(at, start, slots):
                        return "not_asked"
                    first_ask = False
                    (name,) = op.reads
                    prompt = f"{op.what} {slots[name]}"
                    if broken(prompt) and id(op) not in self.ahead:
                        return "failed"
                    # An answer that is not waited for yet fails the row only where it is.
                    slots["failed"] = slots.get("failed") or broken(prompt)
                    slots[op.what] = label_of(prompt)
                case plan.Filter():
                    value, wanted = op.sql.split(" % 5 <> ")
                    if slots[value] % 5 == int(wanted):
                        return "dropped"
                case plan.Compute() if isinstance(op.fields[0].type, types.Int):
                    value, by = op.sql.removeprefix("SELECT ").split(" AS ")[0].split(" % ")
                    slots[op.what] = slots[value] % int(by)
                case plan.Compute() if isinstance(op.fields[0].type, types.Vector):
                    (value,) = op.reads
                    slots[op.what] = slots[value]
                case plan.Compute():
                    (value,) = op.reads
                    slots[op.what] = [slots[value] * 3 + i for i in range(slots[value] % 4)]
                case plan.Limit() | plan.Dedup() if slots.get("failed"):
                    return "failed"
                case plan.Limit():
                    label = slots[op.per] if op.per else None
                    counted = at if label is None else (at, label)
                    if self.taken[counted] >= op.count:
                        return "not_asked" if self.known_before_cost(at, start) else "dropped"
                    self.taken[counted] += 1
                case plan.Dedup():
                    (name,) = op.reads
                    if (at, slots[name]) in self.met:
                        return "dropped"
                    self.met.add((at, slots[name]))
                case plan.Unnest():
                    ((read, write),) = zip(op.reads, op.writes, strict=True)
                    return self.fork(key, at, write, slots[read], slots)
                case _:
                    raise AssertionError(op)
        return "failed" if slots.get("failed") else "kept"

    def label_is_full(self, at: int, start: int, slots: dict[str, Any]) -> bool:
        for later in range(at, len(self.ops)):
            op = self.ops[later]
            if isinstance(op, plan.Unnest):
                return False
            if (
                isinstance(op, plan.Limit)
                and op.per in slots
                and self.known_before_cost(later, start)
                and self.taken[later, slots[op.per]] >= op.count
            ):
                return True
        return False

    def fork(self, key: str, at: int, write: str, found: list[int], slots: dict[str, Any]) -> str:
        if not found:
            return "dropped"
        self.rows_in -= 1
        statuses = [
            self.walk(f"{key}/{nth}", at + 1, {**slots, write: value})
            for nth, value in enumerate(found, 1)
        ]
        if set(statuses) != {"not_asked"}:
            return "forked"
        for nth in range(1, len(found) + 1):
            self.statuses.pop(f"{key}/{nth}", None)
        self.rows_in -= len(found) - 1
        return "not_asked"


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(STEPS, st.lists(st.integers(0, 30), max_size=25), st.integers(1, 12), st.booleans())
def test_any_chain_does_what_a_loop_over_all_rows_does(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[Step],
    values: list[int],
    concurrency: int,
    slow: bool,
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    ops = chain(steps)
    lines(folder, "topics.jsonl", ({"n": str(n), "v0": v} for n, v in enumerate([1, *values])))
    source = read(Field("n", TEXT), Field("v0", INT), key="n")
    loop = Loop(ops)
    for n, value in enumerate([1, *values]):
        loop.walk(str(n), 0, {"v0": value})
    spec = of(
        table(source, *ops, outputs={"v0": INT}), backends=(backend(concurrency=concurrency),)
    )
    with serving(answering(answer), latency_s=(0.0, 0.01) if slow else 0.0) as server:
        report = made(spec, folder, server)
    expected = {key: status for key, status in loop.statuses.items() if status != "not_asked"}
    assert dict(rows(folder, STATUSES)) == expected
    became = Counter(loop.statuses.values())
    assert counts(report.tables["t"]) == (
        loop.rows_in,
        *(became[status] for status in ("kept", "dropped", "failed", "not_asked")),
    )


SIDE_BY_SIDE = """
table t = read("lists.jsonl", key = id) |> unnest(qs as q, ans as answer)
"""


def test_lists_are_taken_apart_side_by_side(tmp_path: Path) -> None:
    records = [
        {"id": 1, "qs": ["a", "b"], "ans": ["x", "y"]},
        {"id": 2, "qs": ["c"], "ans": ["z", "z"]},
        {"id": 3, "qs": None, "ans": []},
        {"id": 4, "qs": None, "ans": ["z"]},
    ]
    lines(tmp_path, "lists.jsonl", records)
    with serving() as server:
        report = made(SIDE_BY_SIDE, tmp_path, server)
    assert rows(tmp_path, "FROM t") == [(1, "a", "x"), (1, "b", "y")]
    counts = report.tables["t"].counts()
    assert (counts.rows_in, counts.kept, counts.dropped, counts.failed) == (5, 2, 1, 2)
    assert column(tmp_path, "SELECT detail FROM synth.failures ORDER BY row_key") == [
        "the lists differ in length: `qs` has 1 and `ans` has 2",
        "the lists differ in length: `qs` has 0 and `ans` has 1",
    ]
