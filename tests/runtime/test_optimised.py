"""What the optimiser spares: a plan is run as it was lowered and as it was optimised, side by side.

Both leave the same tables; how much less is sent, a server on the loopback has counted.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from bench.answers import Seen
from bench.server import Server, serving
from synthc.compiler.compile import compile_text
from synthc.compiler.plan import Plan, Table
from tests.runtime.helpers import SURE, made, prompts, rows, topics

ROWS = 12
HEAD = (
    SURE
    + """
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
task rate { in topic: text  out rating: int = ask "Rate {{ topic }} {{ output_format }}" }
task ideas { in topic: text  out ideas: text[] = ask "Ideas on {{ topic }} {{ output_format }}" }
task polish { in topic: text
  out fine: text = repeat 2 times now: text = topic {
    let advice: text = ask "Advice on {{ now }}"
    let size: int = sql "length(advice)"
    next ask "Polish {{ now }}" } }
task hinted { in topic: text
  let hint: text = ask "A hint on {{ topic }}"
  let longer: text = ask "More on {{ hint }}"
  out known: text = ask "Known of {{ topic }}" }
table t = read("topics.jsonl", key = n)
"""
)
# What stands behind the table, and the calls of it as it was lowered and as it was optimised.
SPARED = {
    "a let that nothing reads": ("|> hinted", 3 * ROWS, ROWS),
    "a let of a loop that nothing reads": ("|> polish", 4 * ROWS, 2 * ROWS),
    "a column that is not selected": ('|> write |> rate |> select("n, rating")', 2 * ROWS, ROWS),
    "a column that the SQL does not read": (
        '|> write |> rate |> sql "SELECT rating, count(*) AS size FROM this GROUP BY ALL"',
        2 * ROWS,
        ROWS,
    ),
    "a part of a struct that the SQL does not read": (
        '|> write as w |> hinted as h |> sql "SELECT n, h.known, topic FROM this ORDER BY n"',
        4 * ROWS,
        ROWS,
    ),
    "a column that the SQL leaves out": (
        '|> write |> rate |> sql "SELECT * EXCLUDE (answer, model_name) FROM this"'.replace(
            "|> rate", "|> rate as r"
        ),
        2 * ROWS,
        ROWS,
    ),
    "a filter behind an ask": ('|> write |> where("n < 3")', ROWS, 3),
    "a filter behind an ask that it reads, and another": (
        '|> write |> rate as r |> where("r.rating > 5")',
        2 * ROWS,
        ROWS + ROWS // 2,
    ),
    "a filter behind a fork": (
        '|> ideas |> unnest(ideas as idea) |> write(topic = idea) as w |> where("n < 3")',
        3 * ROWS,
        3 * 3,
    ),
    "a filter behind a loop": ('|> polish |> where("n < 3")', 4 * ROWS, 2 * 3),
}


def answer(seen: Seen) -> str:
    """What a prompt is answered: half of the topics are rated high."""
    prompt = seen.prompt
    if prompt.startswith("Rate"):
        return json.dumps({"rating": 9 if sum(prompt.encode()) % 2 else 1})
    if prompt.startswith("Ideas"):
        about = prompt.split("\n")[0]
        return json.dumps({"ideas": [f"{about} one", f"{about} two"]})
    return f"answer to {prompt}"


def both(text: str, base: Path) -> tuple[Plan, Plan]:
    """The plan of a spec as it was lowered and as it was optimised."""
    found = compile_text(text, "x.synth", base)
    assert found.plan and found.lowered, found.problems
    return found.lowered, found.plan


def stored(base: Path, name: str, table: Table) -> list[Any]:
    """A table as it stands in a database, in its order."""
    return rows(base, f'FROM "{table.name}"', name)


def count(plan: Plan, base: Path, name: str) -> tuple[Server, list[list[Any]]]:
    """A run of a plan: its server, and the tables of the spec."""
    with serving(answer) as server:
        report = made(plan, base, server, database=name)
    for table in report.tables.values():
        assert table.rows_in == table.kept + table.dropped + table.failed + table.not_asked
    return server, [stored(base, name, table) for table in plan.tables if not table.hidden]


@pytest.mark.parametrize("case", SPARED)
def test_the_same_tables_for_fewer_calls(case: str, tmp_path: Path) -> None:
    steps, before, after = SPARED[case]
    topics(tmp_path, ROWS)
    lowered, optimised = both(HEAD + f"table x = t {steps}", tmp_path)
    whole, expected = count(lowered, tmp_path, "lowered.duckdb")
    less, found = count(optimised, tmp_path, "optimised.duckdb")
    assert found == expected
    assert expected[-1]
    assert (whole.count, less.count) == (before, after)
    assert set(prompts(less)) <= set(prompts(whole))


class Steps:
    """Steps drawn by a seed, one after the other: `texts` and `numbers` are the columns so far."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.texts, self.numbers = ["topic"], ["n"]

    def next(self, name: str) -> str:
        """One more, whose columns are called so."""
        draw = self.draw
        text = draw.choice(self.texts)
        match draw.choice(["write", "rate", "polish", "hinted", "fork", "where", "where", "first"]):
            case "where":
                sizes = [*self.numbers, *(f"length({column})" for column in self.texts)]
                return f'|> where("{draw.choice(sizes)} % 3 < 2")'
            case "first":
                return draw.choice([f"|> dedup({text})", "|> limit(9)"])
            case "fork":
                self.texts.append(f"{name}_idea")
                forked = f"|> unnest({name}.ideas as {name}_idea)"
                return f"|> ideas(topic = {text}) as {name} {forked}"
            case "rate":
                self.numbers.append(f"{name}.rating")
                return f"|> rate(topic = {text}) as {name}"
            case task:
                made = {"write": "answer", "polish": "fine", "hinted": "known"}[task]
                self.texts.append(f"{name}.{made}")
                return f"|> {task}(topic = {text}) as {name}"

    def end(self) -> str:
        """What is left of the columns."""
        columns = f"n, {self.draw.choice([*self.texts, *self.numbers])} AS shown"
        over_all = f'|> sql "SELECT {columns} FROM this"'
        return self.draw.choice([f'|> select("{columns}")', over_all])


@pytest.mark.parametrize("seed", range(3))
def test_the_same_tables_whatever_the_steps(seed: int, tmp_path: Path) -> None:
    topics(tmp_path, ROWS)
    tables: list[str] = []
    for number in range(12):
        steps = Steps(100 * seed + number)
        drawn = [steps.next(f"s{at}") for at in range(6)]
        tables.append(f"table x{number} = t {' '.join(drawn)} {steps.end()}")
    lowered, optimised = both(HEAD + "\n".join(tables), tmp_path)
    whole, expected = count(lowered, tmp_path, "lowered.duckdb")
    less, found = count(optimised, tmp_path, "optimised.duckdb")
    assert found == expected
    assert sum(map(bool, expected)) > 6
    assert less.count < whole.count


def test_equal_calls_that_draw_nothing_are_one_by_themselves(tmp_path: Path) -> None:
    """No pass has to see to it: they have one identity, whatever asks them."""
    topics(tmp_path, ROWS)
    twice = 'task again { in topic: text  out said: text = ask "About {{ topic }}" }\n'
    lowered, _ = both(HEAD + twice + "table x = t |> write as a |> again as b", tmp_path)
    server, (_, found) = count(lowered, tmp_path, "x.duckdb")
    assert server.count == ROWS
    assert all(a["answer"] == b["said"] for *_, a, b in found)


def test_what_is_not_asked_stops_no_row(tmp_path: Path) -> None:
    topics(tmp_path, ROWS)
    steps = '|> write |> rate |> sql "SELECT n, answer FROM this"'
    lowered, optimised = both(HEAD + f"table x = t {steps}", tmp_path)
    with serving(lambda seen: "no number" if "Rate" in seen.prompt else "fine") as server:
        made(lowered, tmp_path, server, database="lowered.duckdb")
        made(optimised, tmp_path, server, database="optimised.duckdb")
    assert rows(tmp_path, "FROM x", "lowered.duckdb") == []
    assert len(rows(tmp_path, "FROM x", "optimised.duckdb")) == ROWS
