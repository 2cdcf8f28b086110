"""What `synthc plan` says of the optimiser: a line for each thing that a pass did, in the spec's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import TOPICS, Synthc

HEAD = """\
backend b { model = "m" }
task write { in topic: text  out answer: text = ask "About {{ topic }}" }
task rate { in topic: text  out rating: int = ask "Rate {{ topic }} {{ output_format }}" }
task refine { in topic: text
  out better: text = repeat 2 times now: text = topic {
    let hint: text = ask "A hint on {{ now }}"
    next ask "Mend {{ now }}" } }
task ideas { in topic: text  out ideas: text[] = ask "Ideas on {{ topic }} {{ output_format }}" }
"""
READ = 'table t = read("topics.jsonl")\n'
SAID = {
    "a let of a loop": (
        "|> refine",
        ["`refine.hint` is never asked: nothing needs it  (prune)"],
    ),
    "a loop": (
        '|> refine |> select("topic")',
        ["`refine.better` is never done: nothing needs it  (prune)"],
    ),
    "columns that SQL does not read": (
        '|> write |> rate as r |> sql "SELECT r.rating AS rating FROM this"',
        ["t.3: `write.answer` is never asked: nothing needs it  (prune)"],
    ),
    "a filter": (
        "|> write |> where(\"topic <> ''\")",
        ["the `where` of line 10 moved before `write.answer`  (move_filters)"],
    ),
    "a filter and its ask": (
        '|> write |> rate as r |> where("r.rating > 3")',
        [
            "`r.rating` moved before `write.answer`  (move_filters)",
            "the `where` of line 10 moved before `write.answer`  (move_filters)",
        ],
    ),
    "a filter behind a fork": (
        "|> ideas |> unnest(ideas as idea) |> where(\"topic <> ''\")",
        ["the `where` of line 10 moved before `ideas.ideas`  (move_filters)"],
    ),
    "nothing": ("|> write", []),
}


@pytest.mark.parametrize("case", SAID)
def test_what_was_done_is_said(case: str, folder: Path, call: Synthc) -> None:
    steps, expected = SAID[case]
    (folder / "topics.jsonl").write_text(TOPICS, encoding="utf-8")
    path = folder / "x.synth"
    path.write_text(f"{HEAD}{READ}{steps}\n", encoding="utf-8")
    page = call("plan", path).out
    after = page.partition("\noptimised\n")[2].partition("\n\n")[0]
    said = [line.strip() for line in after.splitlines()]
    assert said == expected
    document = json.loads(call("plan", path, "--json").out)
    told = [f"{change['words']}  ({change['done_by']})" for change in document["optimised"]]
    assert told == [line.removeprefix("t.3: ") for line in expected]
