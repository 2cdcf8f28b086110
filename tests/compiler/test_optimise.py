"""Each pass: where it fires, where it must not, and that twice is once."""

from pathlib import Path

import pytest

from synthc.compiler.check.check import check
from synthc.compiler.lower.lower import lower
from synthc.compiler.optimise import PASSES, optimise
from synthc.compiler.optimise.move_filters import move_filters
from synthc.compiler.optimise.prune import prune
from synthc.compiler.parse.parse import parse
from synthc.compiler.plan import Op, Plan

FOLDER = Path(__file__).parents[1] / "golden" / "plans"
HEAD = """
backend small { model = "m" }
embedder minilm { model = "m" dimensions = 3 }
task answer { in topic: text  out answer: text = ask "{{ topic }}" }
task judge { in answer: text  out score: int = ask "{{ answer }} {{ output_format }}" }
task shout { in topic: text  out loud: text = sql "upper(topic)" }
task greet { in topic: text  out greeting: text = "Hello {{ topic }}" }
task feel { in topic: text  out feeling: text = ask "{{ topic }}"  out mood: "sad" | "glad" = sample }
task polish { in topic: text
  out fine: text = repeat 2 times now: text = topic { next ask "{{ now }}" } }
"""


def lowered(text: str) -> Plan:
    spec, unreadable = parse(text, "t.synth")
    checked, problems = check(spec, {}, FOLDER)
    assert not unreadable
    assert checked, problems
    return lower(checked, "t.synth", 42)


def steps(text: str) -> Plan:
    return lowered(HEAD + 'table t = read("topics.jsonl")\n' + text)


def shape(plan: Plan) -> str:
    """The operations of the last table, in a few letters."""

    def letter(op: Op) -> str:
        return type(op).__name__.lower()

    return " ".join(letter(op) for op in plan.tables[-1].ops)


MOVES = {
    "before an ask": ('|> answer |> where("size > 3")', "require filter ask"),
    "before two asks": ('|> answer |> judge |> where("size > 3")', "require filter ask ask"),
    "between asks, behind the one it reads": (
        '|> answer |> judge |> where("length(answer) > 3")',
        "require ask filter ask",
    ),
    "before an embedding": (
        '|> embed(topic) using minilm |> where("size > 3")',
        "require filter embed",
    ),
    "with the SQL that it reads": (
        "|> answer |> shout |> where(\"loud = 'X'\")",
        "require compute filter ask",
    ),
    "with the template that it reads": (
        "|> answer |> greet |> where(\"greeting = 'X'\")",
        "require render filter ask",
    ),
    "two of them, in their order": (
        '|> answer |> where("size > 3") |> where("size < 9")',
        "require filter filter ask",
    ),
    "before a select, where its column passes through": (
        '|> answer |> select("answer, size AS big") |> where("big > 3")',
        "require filter ask",
    ),
    "before a loop": ('|> polish |> where("size > 3")', "require filter repeat"),
    "behind a fork": (
        '|> select("[topic] AS ts, size") |> unnest(ts as topic) |> answer |> where("size > 3")',
        "compute unnest require filter ask",
    ),
    "with the draw that it reads": (
        "|> feel |> where(\"mood = 'sad'\")",
        "require sample filter ask",
    ),
    "a label, not its limit": ("|> feel |> limit(2, per = mood)", "require sample ask limit"),
    "behind an earlier limit": (
        '|> limit(9) |> answer |> where("size > 3")',
        "limit require filter ask",
    ),
}
STAYS = {
    "needs the answer": ('|> answer |> where("length(answer) > 3")', "require ask filter"),
    "needs the model's name": ("|> answer |> where(\"model_name = 'm'\")", "require ask filter"),
    "a limit in between": (
        '|> answer |> limit(5) |> where("size > 3")',
        "require ask limit filter",
    ),
    "a limit right before": ('|> limit(5) |> where("size > 3")', "limit filter"),
    "needs the vector": (
        '|> embed(topic) using minilm |> where("embedding[1] > 0")',
        "require embed filter",
    ),
    "needs SQL over the answer": (
        '|> answer |> select("*, length(answer) AS n") |> where("n > 3")',
        "require ask compute filter",
    ),
    "a fork in between": (
        '|> answer |> select("[topic] AS ts, size") |> unnest(ts as t) |> where("size > 3")',
        "require ask compute unnest filter",
    ),
    "the first of equals in between": (
        '|> answer |> dedup(topic) |> where("size > 3")',
        "require ask dedup filter",
    ),
    "a label that is answered": ("|> answer |> limit(2, per = answer)", "require ask limit"),
    "no model before it": ('|> shout |> where("size > 3")', "require compute filter"),
    "first already": ('|> where("size > 3") |> answer', "filter require ask"),
    "nothing to move": ("|> answer |> judge", "require ask ask"),
    "a struct's part that is an answer": (
        '|> answer as a |> where("length(a.answer) > 3")',
        "require ask filter",
    ),
}


@pytest.mark.parametrize("case", MOVES)
def test_a_filter_moves(case: str) -> None:
    text, expected = MOVES[case]
    before = steps(text)
    after = move_filters(before)
    assert shape(after) == expected
    assert sorted(map(repr, after.tables[0].ops)) == sorted(map(repr, before.tables[0].ops))
    assert after.tables[0].outputs == before.tables[0].outputs
    assert move_filters(after) is after


@pytest.mark.parametrize("case", STAYS)
def test_a_filter_stays(case: str) -> None:
    text, expected = STAYS[case]
    before = steps(text)
    assert shape(before) == expected
    assert move_filters(before) is before


def task(body: str, rest: str = "") -> Plan:
    return steps(f"|> made {rest}\ntask made {{ in topic: text\n{body} }}")


PRUNES = {
    "a let that nothing reads": (
        'let a: text = ask "{{ topic }}"\nout b: text = ask "B"',
        "",
        "require ask",
    ),
    "a chain of lets": (
        'let a: text = ask "{{ topic }}"\nlet b: text = ask "{{ a }}"\nout c: text = ask "C"',
        "",
        "require ask",
    ),
    "an out that is not selected": (
        'out a: text = ask "A"\nout b: text = "x"',
        '|> select("b")',
        "require render",
    ),
    "SQL that nothing reads": (
        'let a: int = sql "length(topic)"\nout b: text = "x"',
        "",
        "require render",
    ),
}
KEEPS = {
    "a let that a prompt reads": (
        'let a: text = ask "A"\nout b: text = ask "{{ a }}"',
        "",
        "require ask ask",
    ),
    "a let that SQL reads": (
        'let a: text = ask "A"\nout b: int = sql "length(a)"',
        "",
        "require ask compute",
    ),
    "a let that is copied": ('let a: text = ask "A"\nout b: text = a', "", "require ask"),
    "an ask with one column of two selected": (
        'out (a: text, b: text) = ask "A {{ output_format }}"',
        '|> select("b")',
        "require ask",
    ),
    "an answer whose model is selected": (
        'out a: text = ask "A"',
        '|> select("model_name")',
        "require ask",
    ),
    "what only a filter reads": (
        'let a: text = "x"\nout b: text = ask "A"',
        '|> where("b = \'x\'") |> select("topic")',
        "require ask filter",
    ),
    "filters, limits and checks": (
        'out b: text = "x"',
        '|> where("size > 3") |> limit(3)',
        "require render filter limit",
    ),
}


@pytest.mark.parametrize("case", PRUNES)
def test_what_nobody_needs_goes(case: str) -> None:
    body, rest, expected = PRUNES[case]
    once = prune(task(body, rest))
    assert shape(once) == expected
    assert prune(once) is once


@pytest.mark.parametrize("case", KEEPS)
def test_what_somebody_needs_stays(case: str) -> None:
    body, rest, expected = KEEPS[case]
    once = prune(task(body, rest))
    assert shape(once) == expected
    assert prune(once) is once


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.synth")), ids=lambda path: path.stem)
def test_twice_is_once(path: Path) -> None:
    before = lowered(path.read_text(encoding="utf-8"))
    for improve in (*PASSES, optimise):
        once = improve(before)
        assert improve(once) is once
