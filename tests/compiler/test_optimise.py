"""Each pass: where it fires, where it must not, and that twice is once."""

from pathlib import Path

import msgspec
import pytest

from synthc.compiler.check.check import check
from synthc.compiler.lower.lower import lower
from synthc.compiler.optimise import PASSES, optimise
from synthc.compiler.optimise.move_filters import move_filters
from synthc.compiler.optimise.prune import prune
from synthc.compiler.parse.parse import parse
from synthc.compiler.plan import Ask, Op, Plan, Repeat

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
    "before a fork that it needs nothing of": (
        '|> answer |> select("[answer] AS ts, size") |> unnest(ts as t) |> where("size > 3")',
        "require filter ask compute unnest",
    ),
    "with the ask that it reads": (
        '|> answer |> feel |> where("length(feeling) > 3")',
        "require ask filter ask sample",
    ),
    "with the loop and the check that it reads": (
        '|> answer |> polish |> where("length(fine) > 3")',
        "require repeat filter ask",
    ),
    "each with its own ask": (
        '|> answer |> feel |> where("length(feeling) > 3") |> where("length(answer) > 3")',
        "require ask filter ask sample filter",
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
    "a fork that makes what it needs": (
        '|> answer |> select("[topic] AS ts, size") |> unnest(ts as t) |> where("t = \'x\'")',
        "require ask compute unnest filter",
    ),
    "a fork between it and the SQL that it reads": (
        '|> answer |> select("[topic] AS ts, topic") |> unnest(ts as t) |> shout |> where("loud = \'X\'")',
        "require ask compute unnest compute filter",
    ),
    "a fork before the check of what it reads": (
        '|> answer(topic = "x") |> select("[topic] AS ts") |> unnest(ts as topic)'
        " |> greet |> where(\"topic = 'X'\")",
        "constant ask compute unnest require render filter",
    ),
    "its ask behind a filter that may spare it": (
        '|> answer |> where("length(answer) > 3") |> feel |> where("length(feeling) > 3")',
        "require ask filter ask sample filter",
    ),
    "its ask behind an ask that it needs": (
        '|> answer |> judge |> where("score > 3")',
        "require ask ask filter",
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


def looped(round_: str) -> Plan:
    """A loop that asks, and in whose rounds something else is done as well."""
    body = f"out a: text = repeat 2 times now: text = topic {{ {round_} }}"
    return task(body, '|> select("a, model_name")')


PRUNED_LOOPS = {
    "a let that nothing reads": (
        'let b: text = ask "B {{ now }}"  next ask "A {{ now }}"',
        "ask",
    ),
    "what only that let reads": (
        'let b: int = sql "length(now)"  let c: text = ask "C {{ b }}"  next ask "A {{ now }}"',
        "ask",
    ),
    "a draw": ('let b: text = sample "x" | "y"  next ask "A {{ now }}"', "ask"),
}
KEPT_LOOPS = {
    "a let that the next round reads": (
        'let b: text = ask "B {{ now }}"  next ask "A {{ b }}"',
        "ask ask",
    ),
    "a let that a condition reads": (
        'let b: text = ask "B {{ now }}"  next ask "A {{ now }}" where "b <> \'\'"',
        "ask compute ask",
    ),
    "the only ask, whose model is a column": (
        'let b: text = ask "B {{ now }}"  next sql "upper(now)"',
        "ask compute",
    ),
}


def in_loop(plan: Plan) -> str:
    (loop,) = (op for op in plan.tables[-1].ops if isinstance(op, Repeat))
    return " ".join(type(op).__name__.lower() for op in loop.ops)


@pytest.mark.parametrize("case", PRUNED_LOOPS)
def test_what_no_round_needs_goes(case: str) -> None:
    round_, expected = PRUNED_LOOPS[case]
    before = looped(round_)
    once = prune(before)
    assert in_loop(once) == expected
    assert len(in_loop(before)) > len(expected)
    assert prune(once) is once


@pytest.mark.parametrize("case", KEPT_LOOPS)
def test_what_a_round_needs_stays(case: str) -> None:
    round_, expected = KEPT_LOOPS[case]
    before = looped(round_)
    assert in_loop(before) == expected
    assert prune(before) is before


def test_what_until_reads_stays() -> None:
    body = """out a: text = repeat 2 times now: text = topic until "b <> ''" {
      let b: text = ask "B {{ now }}"  next ask "A {{ now }}" }"""
    assert in_loop(prune(task(body))) == "ask ask"


def over_all(sql: str, steps: str = "|> answer |> judge as j") -> str:
    """The operations of the rows that SQL over all of them reads."""
    text = f'{HEAD}table o = sql "SELECT 1 AS size"\ntable t = read("topics.jsonl") {steps}'
    before = lowered(f'{text} |> sql "{sql}"')
    once = prune(before)
    assert prune(once) is once
    hidden = next(table for table in once.tables if table.hidden)
    assert [o.name for o in hidden.outputs] == [o.name for o in before.tables[-2].outputs]
    return shape(msgspec.structs.replace(once, tables=(hidden,)))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT topic, count(*) AS n FROM this GROUP BY ALL",
        "SELECT count(*) AS n FROM this",
        "SELECT * EXCLUDE (answer, model_name, j) FROM this",
        "SELECT b FROM this AS t(a, b)",
        "SELECT topic FROM this WHERE size > 3 ORDER BY id",
        "SELECT topic FROM this SEMI JOIN o USING (size)",
        "WITH w AS (FROM this) SELECT topic FROM w AS x WHERE size > (SELECT max(id) FROM w)",
        "SELECT COLUMNS('t.*') FROM this",
    ],
)
def test_what_the_sql_behind_does_not_read_goes(sql: str) -> None:
    assert over_all(sql) in ("require constant", "constant")


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("FROM this", "ask require ask"),
        ("SELECT answer FROM this", "ask"),
        ("SELECT ANSWER AS a FROM this", "ask"),
        ("SELECT topic FROM this WHERE answer > ''", "ask"),
        ("SELECT topic FROM this ORDER BY answer LIMIT 1", "ask"),
        ("SELECT topic FROM this WHERE answer IS NOT NULL AND false", "ask"),
        ("SELECT topic FROM o JOIN this ON answer = 'x'", "ask"),
        ("SELECT model_name FROM this", "ask"),
        ("SELECT hash(t) AS h FROM this AS t", "ask ask"),
        ("SELECT count(*) AS n FROM (SELECT DISTINCT * FROM this)", "ask ask"),
        ("SELECT COLUMNS('an.*') FROM this", "ask"),
        ("SELECT size, (SELECT max(answer) FROM this WHERE this.size = o.size) AS a FROM o", "ask"),
        ("SELECT j.score AS score FROM this", "ask ask"),
        ("SELECT topic FROM this GROUP BY ALL HAVING max(j.score) > 3", "ask ask"),
        ("SELECT topic FROM this QUALIFY row_number() OVER (ORDER BY answer) = 1", "ask"),
        ("SELECT size FROM o UNION ALL SELECT length(answer) FROM this", "ask"),
    ],
)
def test_what_the_sql_behind_reads_stays(sql: str, kept: str) -> None:
    asks = [op for op in over_all(sql).split() if op == "ask"]
    assert " ".join(asks) == " ".join(op for op in kept.split() if op == "ask")


def test_a_part_of_a_struct_that_the_sql_does_not_read_goes() -> None:
    both = 'task both { in topic: text  out x: text = ask "X"  out y: text = ask "Y" }\n'
    before = lowered(
        f'{HEAD}{both}table t = read("topics.jsonl") |> both as b |> sql "SELECT b.x AS x FROM this"'
    )
    hidden = prune(before).tables[0]
    assert [op.what for op in hidden.ops if isinstance(op, Ask)] == ["b.x"]
    (b,) = (output for output in hidden.outputs if output.name == "b")
    assert b.value == {"x": "b.x", "y": "null", "model_name": "null"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.synth")), ids=lambda path: path.stem)
def test_twice_is_once(path: Path) -> None:
    before = lowered(path.read_text(encoding="utf-8"))
    for improve in (*PASSES, optimise):
        once = improve(before)
        assert improve(once) is once
