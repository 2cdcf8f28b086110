"""What is estimated before a run is what the run takes: calls exactly where that can be known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.answers import Seen
from bench.server import serving
from synthc.runtime.errors import RunError
from synthc.runtime.planning.estimate import Estimate, Range, TableEstimate, estimate
from tests.runtime.helpers import BACKEND, SURE, WRITE, column, compiled, lines, made, topics

PRICED = """
backend b {
  url = env("SYNTH_URL")  model = "m"  attempts = 2  max_tokens = 100
  price { input_usd_per_mtok = 1.0  output_usd_per_mtok = 10.0 }
}
"""


def planned(text: str, base: Path, *, walked: int | None = 5_000, seed: int = 42) -> Estimate:
    """The estimate for a spec whose database stands (or will stand) in `base`."""
    plan = compiled(text, base, seed)
    return estimate(plan, base / "x.duckdb", base, {}, walked)


def sent(found: Estimate) -> Range:
    """The calls that would be sent, by all backends."""
    calls = found.backends.values()
    return Range(
        sum(c.sent.least for c in calls),
        sum(c.sent.most for c in calls),
        any(c.sent.guessed for c in calls),
    )


def table(found: Estimate, name: str) -> TableEstimate:
    return next(t for t in found.tables if t.table.name == name)


KNOWN = {
    "one ask": WRITE + 'table t = read("topics.jsonl", key = n) |> write',
    "a chain of asks": WRITE
    + """
task praise { in answer: text  out praise: text = ask "Praise {{ answer }}" system "Be kind." }
table t = read("topics.jsonl", key = n) |> write |> praise
""",
    "rows that are dropped before": WRITE
    + 'table t = read("topics.jsonl", key = n) |> where("n % 3 = 0") |> write',
    "a filter behind what it does not need": WRITE
    + 'table t = read("topics.jsonl", key = n) |> write |> where("n % 3 = 0")',
    "a limit": WRITE + 'table t = read("topics.jsonl", key = n) |> write |> limit(4)',
    "a limit of each label": WRITE
    + """
table t = read("topics.jsonl", key = n)
  |> select("*, if(n % 2 = 0, 'even', 'odd') AS kind") |> write |> limit(2, per = kind)
""",
    "several answers": """
task write { in topic: text  out answers: text[] = ask "About {{ topic }}" n 3 }
table t = read("topics.jsonl", key = n) |> write
""",
    "an answer for each element": """
task write { in parts: text[]  out answers: text[] = ask "About {{ x }}" each x in parts }
table t = read("topics.jsonl", key = n) |> select("n, ['a', 'b', topic] AS parts") |> write
""",
    "rows for elements": WRITE
    + """
table t = read("topics.jsonl", key = n)
  |> select("n, range(n) AS parts") |> unnest(parts as part)
  |> select("n, CAST(part AS VARCHAR) AS topic") |> write
""",
    "some rows only": """
task write { in n: int  in topic: text
  out answer: text? = ask "About {{ topic }}" where "n > 3" }
table t = read("topics.jsonl", key = n) |> write
""",
    "rounds": """
mutations wild { in current: text  deeper "Deeper: {{ current }}"  wider weight 2 "Wider: {{ current }}" }
task evolve { in topic: text
  out evolved: text = repeat 3 times current: text = topic {
    let draft: text = ask one of wild
    next sql "nullif(draft, '')"
  } }
table t = read("topics.jsonl", key = n) |> evolve
""",
    "what is drawn": """
task write { in topic: text
  let tone: "kind" | "rude" = sample
  let words: text[] = sample 1..3 of "a" | "b" | "c"
  out answer: text = ask "{{ tone }} {{ words }} {{ topic }}" }
table t = read("topics.jsonl", key = n) |> write
""",
    "rows that are shown": """
task write { in shots: {topic: text}[]  in topic: text
  out answer: text = ask "{% for s in shots %}{{ s.topic }} {% endfor %}{{ topic }}" }
table gold = read("topics.jsonl") |> where("n < 6") |> select("topic")
table t = read("topics.jsonl", key = n) |> draw(2, from = gold) as shots |> write
""",
    "SQL over rows that are known": WRITE
    + """
table known = read("topics.jsonl", key = n) |> where("n < 8")
table t = sql "SELECT n % 4 AS k, min(topic) AS topic FROM known GROUP BY ALL" key k |> write
""",
    "two tables with the same asks": WRITE
    + """
table a = read("topics.jsonl", key = n) |> write
table b = read("topics.jsonl", key = n) |> where("n < 5") |> write
""",
    "a table that reads one": WRITE
    + """
task praise { in answer: text  out praise: text = ask "Praise {{ answer }}" }
table a = read("topics.jsonl", key = n) |> write
table b = a |> praise |> where("n < 5")
""",
    "JSON": """
task write { in topic: text  out (title: text, score: float) = ask "{{ topic }} {{ output_format }}" }
task rate { in title: text  in score: float  out rate: int = ask "{{ title }} {{ score }}" }
table t = read("topics.jsonl", key = n) |> write |> rate
""",
}


@pytest.mark.parametrize("text", KNOWN.values(), ids=KNOWN)
def test_calls_of_a_run_are_known_before_it(text: str, tmp_path: Path) -> None:
    topics(tmp_path, 20)
    before = planned(BACKEND + text, tmp_path)
    with serving() as server:
        report = made(BACKEND + text, tmp_path, server)
    assert sent(before) == Range(server.count, server.count)
    rows = {t.table.name: t.kept for t in before.tables}
    assert rows == {name: Range(p.kept, p.kept) for name, p in report.tables.items()}


@pytest.mark.parametrize("text", KNOWN.values(), ids=KNOWN)
def test_calls_are_all_answered_by_the_store_when_a_run_was_stopped(
    text: str, tmp_path: Path
) -> None:
    topics(tmp_path, 20)
    with serving() as server:
        made(BACKEND + text, tmp_path, server)
    forget(tmp_path)
    again = planned(BACKEND + text, tmp_path)
    assert sent(again) == Range(0, 0)
    assert sum(calls.stored for calls in again.backends.values()) >= server.count


def forget(base: Path) -> None:
    """Leave only the calls of a run."""
    import duckdb

    with duckdb.connect(str(base / "x.duckdb")) as connection:
        connection.execute("DELETE FROM synth.tables")


def test_equal_prompts_are_one_call_where_nothing_is_drawn(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", ({"n": n, "topic": f"topic {n % 4}"} for n in range(12)))
    text = SURE + WRITE + 'table t = read("topics.jsonl", key = n) |> write'
    assert sent(planned(text, tmp_path)) == Range(4, 4)


def test_what_an_answer_decides_is_between_two_bounds(tmp_path: Path) -> None:
    topics(tmp_path, 20)
    text = (
        BACKEND
        + WRITE
        + """
task praise { in answer: text  out praise: text = ask "Praise {{ answer }}" }
table t = read("topics.jsonl", key = n) |> write |> where("answer ~ '[0-7]$'") |> praise |> limit(5)
"""
    )
    before = planned(text, tmp_path)
    with serving() as server:
        made(text, tmp_path, server)
    bounds = sent(before)
    assert bounds.least == 5
    assert bounds.least <= server.count <= bounds.most == 40
    kept = table(before, "t").kept
    assert (kept.least, kept.most) == (0, 5)


def test_a_loop_whose_end_an_answer_decides(tmp_path: Path) -> None:
    topics(tmp_path, 10)
    text = (
        BACKEND
        + """
task refine { in topic: text
  out better: text = repeat 4 times current: text = topic until "length(current) > 10 OR round = 4" {
    next ask "Better: {{ current }}"
  } }
table t = read("topics.jsonl", key = n) |> refine
"""
    )
    assert sent(planned(text, tmp_path)) == Range(10, 40)


def test_tokens_are_near_what_the_server_counts_once_it_counted_some(tmp_path: Path) -> None:
    lines(
        tmp_path,
        "topics.jsonl",
        ({"n": n, "topic": " ".join(f"word{i}" for i in range(n % 7 + 1))} for n in range(80)),
    )
    text = (
        PRICED
        + WRITE
        + """
task praise { in answer: text  out praise: text = ask "Praise this answer, please: {{ answer }}" }
task rate { in praise: text  in answer: text
  out (score: float, why: text) = ask "{{ praise }} of {{ answer }} {{ output_format }}" }
table t = read("topics.jsonl", key = n) |> write |> praise |> rate
"""
    )
    with serving() as server:
        made(text, tmp_path, server, limit=8)
        before = planned(text, tmp_path)
        report = made(text, tmp_path, server)
    calls, took = before.backends["b"], report.backends["b"]
    assert calls.sent == Range(took.sent, took.sent) == Range(72 * 3, 72 * 3)
    assert calls.stored == took.from_store == 24
    assert calls.input_tokens == pytest.approx(took.input_tokens, rel=0.1)
    assert calls.output_tokens == pytest.approx(took.output_tokens, rel=0.1)
    assert "as the server counted in" in calls.counting
    plan = compiled(text, tmp_path)
    cost = report.cost(plan)
    assert before.cost is not None
    assert before.cost.highest is not None
    assert cost is not None
    assert before.cost.likely == pytest.approx(cost, rel=0.1)
    assert before.cost.highest > cost


def test_before_anything_was_asked_the_cost_is_the_highest(tmp_path: Path) -> None:
    topics(tmp_path, 10)
    text = PRICED + WRITE + 'table t = read("topics.jsonl", key = n) |> write'
    before = planned(text, tmp_path)
    calls = before.backends["b"]
    assert calls.counting == "estimated at 4 characters a token"
    assert calls.answers == "`max_tokens` is 100"
    assert calls.output_tokens == calls.output_limit == 1_000
    assert calls.input_tokens == round(sum(len(f"About topic {n}") for n in range(10)) / 4)
    assert before.cost is not None
    assert (
        before.cost.highest
        == before.cost.likely
        == pytest.approx((calls.input_tokens * 1.0 + 1_000 * 10.0) / 1e6)
    )


def test_without_max_tokens_no_cost_is_the_highest(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    text = PRICED.replace("max_tokens = 100", "") + WRITE
    before = planned(text + 'table t = read("topics.jsonl", key = n) |> write', tmp_path)
    assert before.cost is not None
    assert before.cost.highest is None


def test_a_large_table_is_estimated_from_a_part(tmp_path: Path) -> None:
    topics(tmp_path, 1_000)
    text = (
        BACKEND + WRITE + 'table t = read("topics.jsonl", key = n) |> where("n % 2 = 0") |> write'
    )
    before = planned(text, tmp_path, walked=90)
    found = table(before, "t")
    assert found.rows_in == Range(1_000, 1_000)
    assert 60 <= found.walked <= 120
    assert before.backends["b"].sent.guessed
    assert before.backends["b"].sent.most == pytest.approx(500, rel=0.25)
    assert sent(planned(text, tmp_path, walked=None)) == Range(500, 500)


def test_rows_of_sql_over_what_is_not_there_are_a_guess(tmp_path: Path) -> None:
    topics(tmp_path, 10)
    text = (
        BACKEND
        + WRITE
        + """
table a = read("topics.jsonl", key = n) |> write
table b = sql "SELECT n, answer AS topic FROM a WHERE answer ~ '[0-7]$'" key n |> write
"""
    )
    before = planned(text, tmp_path)
    assert table(before, "b").rows_in == Range(0, 10, guessed=True)
    with serving() as server:
        made(text, tmp_path, server)
    assert all(t.state == "done" for t in planned(text, tmp_path).tables)
    # With another prompt of `b` the rows of `a` are known, and so are those of `b`.
    again = planned(text.replace("|> write\n", "|> write\n", 1), tmp_path)
    assert sent(again) == Range(0, 0)


def test_nothing_is_sent_and_nothing_changes(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    text = BACKEND + WRITE + 'table t = read("topics.jsonl", key = n) |> write'
    with serving() as server:
        made(text, tmp_path, server, limit=2)
        asked = server.count
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        planned(text, tmp_path)
        assert server.count == asked
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    planned(BACKEND + WRITE + 'table t = read("topics.jsonl", key = n) |> write', tmp_path)
    assert not (tmp_path / "x.duckdb").exists()


def test_a_simulated_database_is_refused(tmp_path: Path) -> None:
    from synthc.runtime.run import Options, Report, run
    from synthc.runtime.simulate import Simulated

    topics(tmp_path, 5)
    text = BACKEND + WRITE + 'table t = read("topics.jsonl", key = n) |> write'
    plan = compiled(text, tmp_path)
    options = Options(tmp_path / "x.duckdb", tmp_path, {}, stand_in=Simulated(42))
    run(plan, options, Report(), lambda _note: None)
    with pytest.raises(RunError, match="holds simulated answers"):
        planned(text, tmp_path)


# What is there, and what became stale


STALE = (
    BACKEND
    + """
task write { in topic: text  out answer: text = ask "About {{ topic }}" system "Be brief." }
table a = read("topics.jsonl", key = n) |> where("n < 4") |> write
table b = a |> select("n, answer AS topic") |> write as w |> limit(3)
"""
)

Edit = Callable[[str], str]


def replaced(old: str, new: str) -> Edit:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return edit


CHANGES: dict[str, tuple[Edit, dict[str, tuple[str, ...]]]] = {
    "nothing": (lambda text: text, {}),
    "a comment": (lambda text: "# hello\n\n" + text, {}),
    "the prompt": (
        replaced("About", "On"),
        {
            "a": ("the prompt of `write.answer` changed",),
            "b": ("the prompt of `w.answer` changed", "it reads `a`, which is stale"),
        },
    ),
    "the system prompt": (
        replaced("Be brief.", "Be long."),
        {
            "a": ("the system prompt of `write.answer` changed",),
            "b": ("the system prompt of `w.answer` changed", "it reads `a`, which is stale"),
        },
    ),
    "a filter": (
        replaced("n < 4", "n < 3"),
        {
            "a": ("the SQL of the `where` of line 5 changed",),
            "b": ("it reads `a`, which is stale",),
        },
    ),
    "a limit": (
        replaced("limit(3)", "limit(2)"),
        {"b": ("the count of the `limit` of line 6 is 2, and was 3",)},
    ),
    "a step less": (
        replaced(' |> where("n < 4")', ""),
        {"a": ("the `where` of line 5 is gone",), "b": ("it reads `a`, which is stale",)},
    ),
    "a step more": (
        replaced("|> limit(3)", "|> limit(3) |> dedup(topic)"),
        {"b": ("the `dedup` of line 6 is new",)},
    ),
    "a column less": (
        replaced("n, answer AS topic", "answer AS topic"),
        {"b": ("its columns changed",)},
    ),
    "a setting of the backend": (
        replaced('model = "m"', 'model = "m"  temperature = 0.5'),
        {
            "a": ("`temperature` of `b` is 0.5, and was unset",),
            "b": ("`temperature` of `b` is 0.5, and was unset", "it reads `a`, which is stale"),
        },
    ),
    "the model": (
        replaced('model = "m"', 'model = "other"'),
        {
            "a": ("`model` of `b` changed",),
            "b": ("`model` of `b` changed", "it reads `a`, which is stale"),
        },
    ),
}


@pytest.mark.parametrize(("edit", "expected"), CHANGES.values(), ids=CHANGES)
def test_it_says_through_which_change_a_table_is_stale(
    edit: Edit, expected: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    topics(tmp_path, 6)
    with serving() as server:
        made(STALE, tmp_path, server)
    found = planned(edit(STALE), tmp_path)
    assert {t.table.name: t.why for t in found.tables if t.state == "stale"} == expected


def test_a_file_that_changed_makes_stale_what_reads_it(tmp_path: Path) -> None:
    topics(tmp_path, 6)
    with serving() as server:
        made(STALE, tmp_path, server)
    topics(tmp_path, 7)
    found = planned(STALE, tmp_path)
    assert table(found, "a").why == ("topics.jsonl changed",)
    assert table(found, "b").why == ("it reads `a`, which is stale",)
    # The rows that are still there were answered.
    assert sent(found) == Range(0, 0)


def test_another_seed_makes_all_stale(tmp_path: Path) -> None:
    topics(tmp_path, 6)
    with serving() as server:
        made(STALE, tmp_path, server)
    found = planned(STALE, tmp_path, seed=7)
    assert table(found, "a").why == ("the seed is 7, and was 42",)
    assert sent(found).most == 7


def test_a_table_is_partial_after_a_run_with_a_limit(tmp_path: Path) -> None:
    topics(tmp_path, 6)
    with serving() as server:
        made(STALE, tmp_path, server, limit=2)
    found = planned(STALE, tmp_path)
    assert [t.state for t in found.tables] == ["partial", "partial"]
    assert sent(found) == Range(3, 3)


# What can be missing


def test_a_model_that_no_variable_names_is_an_error(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    text = WRITE + 'backend b { model = env("NOT_SET") }\ntable t = read("topics.jsonl") |> write'
    with pytest.raises(RunError, match="NOT_SET, which is not set"):
        planned(text, tmp_path)


def test_a_tokenizer_that_is_at_hand_counts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer: Any = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    topics(tmp_path, 10)
    text = PRICED.replace('"m"', '"model"') + WRITE
    before = planned(text + 'table t = read("topics.jsonl", key = n) |> write', tmp_path)
    calls = before.backends["b"]
    assert calls.counting == "counted with the tokenizer of model"
    assert calls.input_tokens == 30


def test_answers_that_were_broken_are_read_again(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    text = (
        BACKEND
        + """
task rate { in topic: text  out score: int = ask "Rate {{ topic }}" }
table t = read("topics.jsonl", key = n) |> rate
"""
    )

    def answer(seen: Seen) -> str:
        return '{"score": 7}' if len(seen.body["messages"]) > 1 else "none"

    with serving(answer) as server:
        made(text, tmp_path, server)
    assert server.count == 6
    forget(tmp_path)
    again = planned(text, tmp_path)
    assert sent(again) == Range(0, 0)
    assert again.backends["b"].stored == 6
    assert column(tmp_path, "SELECT count(*) FROM t") == [3]
