"""`synthc tasks`: what there is, what a page says, and that what it shows compiles."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from synthc.compiler.compile import compile_text
from synthc.compiler.diagnostics.render import render
from synthc.compiler.gallery import REFERENCES, Page, namespaces, standard
from tests.cli.conftest import Synthc, without_codes

BACKEND = 'backend small { model = "m" }\n'
OWN = '''\
# Answers, and how good they are.
#
# This is the second paragraph.
param scale: int

backend small { model = "m" }
mutations ways { in text: text  short "Shorten {{ text }}"  long weight 2 "Lengthen {{ text }}" }

task grade(
  level: "low" | "high" = sample "low" weight 3 | "high",
  careful: bool,
  ways: mutations,
  by: backend = small,
) {
  """
  Grades an answer,
  strictly.

  Paper: One: A Title, arXiv:2401.00001; see arXiv:2401.00002 too.
  """
  tags "a", "b"
  in  text: text
  in  messages: chat
  out (score: int, `the advice`: text? when careful) = ask "{{ level }} {{ text }} {{ output_format }}"
    using $by
  out reply: text = ask messages
  out other: text = ask one of $ways as after("A\\"B:")
}
'''


@functools.cache
def everything() -> tuple[Page, ...]:
    return tuple(page for name in namespaces() for page in _pages(name))


def _pages(namespace: str) -> tuple[Page, ...]:
    shelf = standard(namespace).shelf
    assert shelf
    return shelf.pages


@pytest.fixture
def own(folder: Path) -> Path:
    path = folder / "own.synth"
    path.write_text(OWN, encoding="utf-8")
    return path


def test_the_list_has_a_line_for_each_task_under_its_file(call: Synthc) -> None:
    done = call("tasks")
    assert done.status == 0
    lines = done.out.split("\n")
    for page in everything():
        assert sum(page.name in line.split() and page.summary in line for line in lines) == 1
        assert lines.index(page.use or "") < next(
            i for i, x in enumerate(lines) if page.name in x.split()
        )
    assert "synthc tasks chat.reply" in done.err


def test_every_task_of_the_reference_is_there() -> None:
    assert {page.name: page.reference for page in everything() if page.reference} == REFERENCES


def test_every_task_is_described_tagged_and_has_an_example() -> None:
    for page in everything():
        assert page.summary, page.name
        assert page.summary.endswith("."), page.name
        assert page.tags, page.name
        assert page.example.test, page.name
        assert page.example.test.replies, page.name
        assert page.example.test.columns, page.name
        assert page.asks, page.name
        assert page.outputs[-1].name == "model_name", page.name


@pytest.mark.parametrize("page", everything(), ids=lambda page: page.name)
def test_the_snippet_compiles_with_a_backend(page: Page, folder: Path) -> None:
    compiled = compile_text(BACKEND + page.example.snippet, "a.synth", folder)
    assert [render(problem, compiled.sources) for problem in compiled.problems] == []


def test_tags_must_all_hold(call: Synthc) -> None:
    names = [page.name for page in everything() if {"deita", "evol"} <= set(page.tags)]
    done = call("tasks", "--tag", "deita", "--tag", "evol", "--json")
    assert [page["name"] for page in json.loads(done.out)] == names
    assert "score.complexity" not in names
    none = call("tasks", "--tag", "chat-generation", "--tag", "evol")
    assert (none.status, none.out) == (0, "")
    assert "no task has all of these tags" in none.err
    unknown = call("tasks", "--tag", "deta")
    assert unknown.status == 2
    assert "did you mean `deita`?" in unknown.err


def test_json_says_everything(call: Synthc) -> None:
    done = call("tasks", "--json")
    pages = {page["name"]: page for page in json.loads(done.out)}
    assert len(pages) == len(everything())
    page = pages["evol.instruct"]
    assert page["reference"] == "EvolInstruct"
    assert page["use"] == 'use "std/evol"'
    assert page["tags"] == ["evol", "instruction"]
    assert page["papers"][0]["arxiv"] == "2304.12244"
    assert page["papers"][0]["title"].startswith("WizardLM: ")
    assert page["inputs"] == [{"name": "instruction", "type": "text"}]
    assert {
        "name": "num_evolutions",
        "type": "int",
        "default": "1",
        "required": False,
        "constant": True,
    } in page["parameters"]
    assert {
        "name": "evolved_instructions",
        "type": "text[]",
        "when": "store_evolutions",
    } in page["outputs"]
    assert {"name": "model_name", "type": "text", "when": None} in page["outputs"]
    assert page["asks"][0]["set"] == "evol.wizard"
    assert {prompt["name"] for prompt in page["asks"][0]["prompts"]} >= {"breadth", "deepening"}
    assert page["example"]["snippet"].startswith('use "std/evol"\n')
    assert page["example"]["test"]["given"]["instruction"]
    retrieval = pages["embedding.text_retrieval"]["parameters"]
    assert {p["name"]: p["default"] for p in retrieval}["difficulty"] == "sample"
    (required,) = pages["embedding.tasks"]["parameters"]
    assert required["required"]
    assert required["default"] is None


def test_a_page(call: Synthc) -> None:
    done = call("tasks", "evol.quality")
    assert done.status == 0
    for part in (
        "evol.quality\n  Makes the response to an instruction better, round by round.\n",
        "arXiv:2312.15685",
        "Tags: evol, response, deita\n",
        '\nUse\n  use "std/evol"\n\n  table results = sql ',
        "    |> evol.quality\n",
        "\nTakes\n  instruction  text\n  response     text\n",
        "  mutations         mutations = evol.quality_mutations\n",
        "  evolved_responses  text[], when store_evolutions\n",
        "\nExample: ",
    ):
        assert part in done.out, part
    assert "creativity" not in done.out
    assert "synthc tasks evol.quality --prompts" in done.err
    prompts = call("tasks", "evol.quality", "--prompts").out
    assert "  creativity\n  | Below are an instruction and a response" in prompts
    assert "{{ current }}" in prompts


def test_a_namespace_is_the_list_of_its_tasks(call: Synthc) -> None:
    done = call("tasks", "evol")
    assert 'use "std/evol"' in done.out
    assert "embedding" not in done.out
    assert call("tasks", "chat").out.startswith('use "std/chat"\n')


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("instruct", "`evol.instruct`?"),
        ("complexity", "`evol.complexity` or `score.complexity`?"),
        ("evol.instrct", "`evol.instruct`?"),
        ("evil.quality", "`evol.quality`?"),
        ("EvolQuality", "`evol.quality`?"),
        ("evl", "`evol`?"),
        ("zzzzz", "`synthc tasks` lists all of them"),
    ],
)
def test_an_unknown_name_says_which_was_meant(call: Synthc, name: str, meant: str) -> None:
    done = call("tasks", name)
    assert (done.status, done.out) == (2, "")
    assert f"there is no task `{name}`" in done.err
    assert meant in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--prompts"],
        ["evol", "--prompts"],
        ["--json", "--markdown"],
        ["-p", "a=1"],
        ["nope.synth"],
        ["-s", "nope.synth"],
    ],
)
def test_wrong_usage(call: Synthc, arguments: list[str]) -> None:
    done = call("tasks", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")


# A spec of one's own


def test_the_tasks_of_a_spec(call: Synthc, own: Path) -> None:
    done = call("tasks", own, "-p", "scale=5")
    assert done.status == 0
    assert done.out == (
        "own.synth\nAnswers, and how good they are.\n  grade  Grades an answer, strictly.\n"
    )
    (page,) = json.loads(call("tasks", "grade", "-s", own, "-p", "scale=5", "--json").out)
    assert (page["use"], page["namespace"], page["reference"]) == (None, None, None)
    assert page["papers"] == [
        {"title": "One: A Title", "arxiv": "2401.00001"},
        {"title": None, "arxiv": "2401.00002"},
    ]
    defaults = {p["name"]: p["default"] for p in page["parameters"]}
    assert defaults == {
        "level": 'sample "low" weight 3 | "high"',
        "careful": None,
        "ways": None,
        "by": "small",
    }
    assert [output["when"] for output in page["outputs"]] == [None, "careful", None, None, None]
    assert [ask["chat"] for ask in page["asks"]] == [None, "messages", None]
    assert page["asks"][2]["contract"] == 'after("A\\"B:")'
    assert page["example"]["test"] is None
    shown = call("tasks", "grade", "--spec", own, "-p", "scale=5", "--prompts").out
    assert "The conversation in `messages`." in shown


def test_the_snippet_of_ones_own_task_goes_into_its_file(call: Synthc, own: Path) -> None:
    done = call("tasks", "grade", "-s", own, "-p", "scale=5", "--json")
    snippet = json.loads(done.out)[0]["example"]["snippet"]
    assert "grade(careful = true, ways = ways)" in snippet
    compiled = compile_text(f"{OWN}\n{snippet}\n", "own.synth", own.parent, {"scale": "5"})
    assert [render(p, compiled.sources) for p in compiled.problems if p.severity == "error"] == []


def test_values_of_every_kind_stand_in_a_snippet(call: Synthc, folder: Path) -> None:
    spec = """
    task odd(note: text = "a\\"b\\\\c\\nd", size: float = 3, on: bool = true, none: text? = null) {
      in `the text`: text
      in lists: (text[])[]
      in record: {a: int, `b c`: bool}
      in made: vector[3]
      in json: json
      out said: text = sql "\\"the text\\" || $note || $none || $size || $on"
      out more: text = sql "lists::VARCHAR || record::VARCHAR || made::VARCHAR || json::VARCHAR"
    }
    """
    (folder / "odd.synth").write_text(spec, encoding="utf-8")
    done = call("tasks", "odd", "-s", "odd.synth", "--json")
    (page,) = json.loads(done.out)
    assert [p["default"] for p in page["parameters"]] == ['"a\\"b\\\\c\\nd"', "3", "true", "null"]
    snippet = page["example"]["snippet"]
    compiled = compile_text(f"{spec}\n{snippet}", "odd.synth", folder)
    assert [render(p, compiled.sources) for p in compiled.problems] == []


def test_pictures_come_from_files(call: Synthc, folder: Path) -> None:
    spec = 'task seen { in it: image  in why: text  out path: text = sql "it || why" }'
    (folder / "a.synth").write_text(spec, encoding="utf-8")
    (folder / "a.jpg").write_bytes(b"")
    (page,) = json.loads(call("tasks", "seen", "-s", "a.synth", "--json").out)
    compiled = compile_text(f"{spec}\n{page['example']['snippet']}", "a.synth", folder)
    assert [render(p, compiled.sources) for p in compiled.problems] == []


def test_a_task_by_another_name(call: Synthc, folder: Path) -> None:
    spec = BACKEND + 'use "std/evol"\ntask twice = evol.instruct(num_evolutions = 2)\n'
    (folder / "a.synth").write_text(spec, encoding="utf-8")
    (page,) = json.loads(call("tasks", "a.synth", "--json").out)
    assert page["name"] == "twice"
    assert "num_evolutions" not in [parameter["name"] for parameter in page["parameters"]]
    assert page["asks"][0]["set"] == "evol.wizard"
    assert page["asks"][0]["prompts"]


def test_a_spec_with_errors_says_them(call: Synthc, folder: Path) -> None:
    (folder / "a.synth").write_text("task t { out a: txt = 1 }\n", encoding="utf-8")
    done = call("tasks", "a.synth")
    assert (done.status, done.out) == (1, "")
    assert "error[S" in done.err
    assert "--> a.synth:1:17" in done.err
    as_json = call("tasks", "a.synth", "--json")
    assert as_json.status == 1
    assert json.loads(as_json.out)["ok"] is False


def test_a_spec_without_tasks(call: Synthc, folder: Path) -> None:
    spec = 'table t = rows(3) |> select("1 AS one")'
    (folder / "a.synth").write_text(spec, encoding="utf-8")
    done = call("tasks", "a.synth")
    assert (done.status, done.out) == (0, "")
    assert done.err.endswith("a.synth declares no task\n")
    assert json.loads(call("tasks", "a.synth", "--json").out) == []
    unknown = call("tasks", "x", "-s", "a.synth")
    assert unknown.status == 2
    assert "it has none" in unknown.err


# On a terminal


@pytest.mark.parametrize("columns", [40, 140])
def test_nothing_but_code_is_wider_than_the_terminal(
    terminal: Callable[..., str], columns: int
) -> None:
    for arguments in ([], ["embedding.bitext_retrieval", "--prompts"]):
        printed = without_codes(terminal(columns, "tasks", *arguments)).replace("\r", "")
        assert "Traceback" not in printed
        code = ("|>", "table results", "synthc tasks")
        wide = [line for line in printed.split("\n") if len(line) > columns]
        assert [line for line in wide if not any(part in line for part in code)] == []


def test_colours_on_a_terminal_only(terminal: Callable[..., str], call: Synthc) -> None:
    assert "\x1b[" in terminal(80, "tasks")
    assert "\x1b[" not in terminal(80, "tasks", env={"NO_COLOR": "1"})
    assert "\x1b[" not in call("tasks").out


def test_a_spec_cannot_steer_the_terminal(call: Synthc, folder: Path) -> None:
    spec = '# \x1b[2JHead\ntask t { "\x1b[2J\x9bbad" in a: text out b: text = a }\n'
    (folder / "a.synth").write_text(spec, encoding="utf-8")
    for arguments in (["a.synth"], ["t", "-s", "a.synth"], ["a.synth", "--json"]):
        done = call("tasks", *arguments)
        assert done.status == 0
        assert not set(done.out) & set("\x1b\x9b")
