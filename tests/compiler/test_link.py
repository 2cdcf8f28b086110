"""What a spec uses of other files: names, places, prompts in files, parts that are replaced."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from synthc.compiler.compile import Compiled, compile_spec
from synthc.compiler.diagnostics.render import render

SEEDS = '{"question": "What is a river?"}\n'
GRADING = """
type Level = "easy" | "hard"

backend judge { model = "judge-model"  api_key = env("JUDGE_KEY", "sesame-default") }
backend strict extends judge { temperature = 0 }

mutations ways {
  in text: text
  shorter "Shorten: {{ text }}"
  plainer "In plain words: {{ text }}"
}

task reworded(ways: mutations = ways) {
  in text: text
  out other: text = ask one of $ways
}

task grade(level: Level = sample) {
  in question: text
  out verdict: text = ask "Is this {{ level }}? {{ question }}" using strict
}

task hard = grade(level = "hard")

table never = read("nowhere.jsonl") |> grade
export never to "never.parquet"
test "never" of grade { given question = "?"  reply verdict = "!"  expect verdict = "?" }
"""


def project(folder: Path, files: Mapping[str, str]) -> Compiled:
    """What becomes of `main.synth` of a folder with these files."""
    for name, text in {"seeds.jsonl": SEEDS, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return compile_spec(folder / "main.synth")


def planned(compiled: Compiled) -> str:
    """The plan as it is written to disk."""
    assert compiled.plan, said(compiled)
    return msgspec.json.encode(compiled.plan).decode()


def said(compiled: Compiled) -> str:
    return "\n".join(render(problem, compiled.sources) for problem in compiled.problems)


def places(compiled: Compiled) -> list[str]:
    """Where the problems are, and what they are."""
    return [f"{p.span} {p.message()}" for p in compiled.problems]


def test_a_project_of_two_files(tmp_path: Path) -> None:
    main = """
        use "lib/grading"
        backend small { model = "small-model" }
        table graded = read("seeds.jsonl")
          |> grading.hard as h
          |> grading.reworded(text = question) using small
    """
    compiled = project(tmp_path, {"main.synth": main, "lib/grading.synth": GRADING})
    plan = planned(compiled)
    assert compiled.problems == ()
    assert compiled.tests == ()
    assert "judge-model" in plan
    assert "small-model" in plan
    assert "Shorten: " in plan
    assert "never" not in plan
    assert "lib/grading.synth" in compiled.sources


def test_a_set_of_ones_own_for_a_task_of_a_used_file(tmp_path: Path) -> None:
    main = """
        use "grading" as g
        mutations mine extends g.ways {
          plainer "Said to a child: {{ text }}"
          longer  "Longer: {{ text }}"
        }
        task childlike = g.reworded(ways = mine)
        table done = read("seeds.jsonl") |> childlike(text = question) using g.judge
    """
    plan = planned(project(tmp_path, {"main.synth": main, "grading.synth": GRADING}))
    assert "Shorten: " in plan
    assert "Said to a child: " in plan
    assert "Longer: " in plan
    assert "In plain words: " not in plan


def test_used_files_use_others(tmp_path: Path) -> None:
    middle = """
        use "deep/grading" as own
        task both extends own.grade { out reason: text = ask "Why {{ verdict }}?" using own.judge }
        task rewrite = own.reworded(ways = own.ways)
    """
    main = """
        use "middle"
        backend small { model = "small-model" }
        table done = read("seeds.jsonl")
          |> middle.both
          |> middle.rewrite(text = reason) using small
    """
    files = {"main.synth": main, "middle.synth": middle, "deep/grading.synth": GRADING}
    plan = planned(project(tmp_path, files))
    assert "judge-model" in plan
    assert "Why " in plan


def test_a_file_never_means_what_stands_in_the_one_that_uses_it(tmp_path: Path) -> None:
    lib = """
        task answer { in question: text  out answer: text = ask "{{ question }}" using small }
        task rated { in question: text  out level: Level = ask "{{ question }}" }
        task told { in question: text  out told: text = ask "{{ question }} {{ tone }}" }
    """
    main = """
        use "lib"
        param tone: text = "calm"
        type Level = "low" | "high"
        backend small { model = "m" }
        table done = read("seeds.jsonl") |> lib.answer |> lib.rated |> lib.told
    """
    found = places(project(tmp_path, {"main.synth": main, "lib.synth": lib}))
    assert any("lib.synth:2" in p and "no backend `small`" in p for p in found)
    assert any("lib.synth:3" in p and "no type" in p for p in found)
    assert any("lib.synth:4" in p and "no `tone`" in p for p in found)


def test_a_prompt_is_replaced_without_copying_the_task(tmp_path: Path) -> None:
    main = """
        use "grading"
        task kind extends grading.grade {
          "Grades, kindly."
          out verdict: text = ask "Kindly: is this {{ level }}? {{ question }}" using grading.judge
          out praise: text = ask "Praise: {{ verdict }}" using grading.judge
        }
        table done = read("seeds.jsonl") |> kind(level = "easy")
    """
    compiled = project(tmp_path, {"main.synth": main, "grading.synth": GRADING})
    plan = planned(compiled)
    assert "Kindly: is this " in plan
    assert '"Is this ' not in plan
    assert compiled.plan
    (table,) = compiled.plan.tables
    names = [output.name for output in table.outputs]
    assert names[:3] == ["question", "verdict", "praise"]


def test_parts_of_the_base_keep_their_places(tmp_path: Path) -> None:
    lib = 'task answer {\n  in question: text\n  out answer: text = ask "{{ qestion }}"\n}\n'
    main = """use "lib"
backend small { model = "m" }
task more extends lib.answer { out more: text = ask "More: {{ answr }}" }
table done = read("seeds.jsonl") |> more
"""
    found = places(project(tmp_path, {"main.synth": main, "lib.synth": lib}))
    assert [place.split(" ")[0] for place in found] == ["main.synth:3:63", "lib.synth:3:30"]


def test_the_standard_library(tmp_path: Path) -> None:
    main = """
        use "std/evol"
        backend small { model = "m" }
        table done = read("seeds.jsonl") |> evol.instruct(instruction = question)
    """
    compiled = project(tmp_path, {"main.synth": main})
    assert compiled.problems == ()
    assert "std/evol.synth" in compiled.sources


def test_a_folder_std_of_ones_own(tmp_path: Path) -> None:
    main = """
        use "./std/evol"
        backend small { model = "m" }
        table done = read("seeds.jsonl") |> evol.mine
    """
    lib = """
        use "other"
        task mine extends other.answer { }
    """
    other = 'task answer { in question: text  out answer: text = ask "{{ qestion }}" }'
    files = {"main.synth": main, "std/evol.synth": lib, "std/other.synth": other}
    assert places(project(tmp_path, files))[0].startswith("./std/other.synth:1:61 ")


def test_a_mistake_in_the_third_line_of_a_template_file(tmp_path: Path) -> None:
    lib = """
        task answer {
          in  question: text
          out answer: text = ask file("prompts/answer.jinja") system file("prompts/system.jinja")
        }
    """
    main = """
        use "lib/answers"
        backend small { model = "m" }
        table done = read("seeds.jsonl") |> answers.answer
    """
    files = {
        "main.synth": main,
        "lib/answers.synth": lib,
        "lib/prompts/system.jinja": "Be brief.\n",
        "lib/prompts/answer.jinja": "\ufeffHello,\r\n\r\nanswer: {{ qestion }}\r\n",
    }
    compiled = project(tmp_path, files)
    assert said(compiled).startswith(
        """error[S0402]: the template has no `qestion` to print
 --> lib/prompts/answer.jinja:3:12
  |
3 | answer: {{ qestion }}
  |            ^^^^^^^ not among: question"""
    )
    assert len(compiled.problems) == 1


def test_a_template_file_is_the_prompt_without_its_last_line_end(tmp_path: Path) -> None:
    main = """
        backend small { model = "m" }
        task answer { in question: text  out answer: text = ask file("ask.jinja") }
        table done = read("seeds.jsonl") |> answer
    """
    files = {"main.synth": main, "ask.jinja": "Answer:\n{{ question }}\n"}
    plan = planned(project(tmp_path, files))
    assert "Answer:\\n" in plan
    same = main.replace('file("ask.jinja")', '"Answer:\\n{{ question }}"')
    other = planned(project(tmp_path, {"main.synth": same}))
    assert without_places(plan) == without_places(other)


def without_places(plan: str) -> str:
    return re.sub(r'\["[\w./]+",\d+,\d+,\d+,\d+\]', "[]", plan)


def test_lines_lie_beside_the_file_that_draws_them(tmp_path: Path) -> None:
    lib = 'task about { out topic: text = sample lines("topics.txt") }'
    main = 'use "lib/draws"\ntable done = rows(3) |> draws.about\n'
    files = {"main.synth": main, "lib/draws.synth": lib, "lib/topics.txt": "rivers\n\nbread\n"}
    compiled = project(tmp_path, files)
    assert compiled.problems == ()
    (tmp_path / "lib/topics.txt").write_text("\n \n")
    assert places(compile_spec(tmp_path / "main.synth")) == [
        "lib/draws.synth:1:45 `lib/topics.txt` cannot be read: it is empty"
    ]


def test_nothing_secret_comes_of_a_used_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sesame-of-the-environment")
    main = 'use "grading"\ntable done = read("seeds.jsonl") |> grading.grade\n'
    compiled = project(tmp_path, {"main.synth": main, "grading.synth": GRADING})
    assert "sesame-of-the-environment" not in planned(compiled) + said(compiled)


def test_a_file_that_uses_the_spec_itself(tmp_path: Path) -> None:
    main = 'use "lib/other"\ntable done = read("seeds.jsonl")\n'
    files = {"main.synth": main, "lib/other.synth": 'use "../main" as m\n'}
    assert places(project(tmp_path, files)) == [
        "lib/other.synth:1:5 these files need each other: "
        "`main.synth` → `lib/other.synth` → `main.synth`"
    ]


def test_a_broken_file_is_no_reason_for_other_errors(tmp_path: Path) -> None:
    main = """use "gone"
use "torn"
task more extends gone.answer { in question: text  out more: text = ask "{{ question }}" }
table done = read("seeds.jsonl") |> gone.answer |> torn.answer |> more using gone.small
"""
    torn = 'task answer { in question: text  out answer = ask "{{ question }}" }'
    assert places(project(tmp_path, {"main.synth": main, "torn.synth": torn})) == [
        "main.synth:1:5 there is no file `gone.synth`",
        "torn.synth:1:45 expected `:`, found `=`",
    ]


def test_problems_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    task = 'task t { in question: text  out %s: text = ask "{{ missing }}" }'
    main = f"""use "b"
use "a"
backend small {{ model = "m" }}
{task % "x"}
table done = read("seeds.jsonl") |> b.t |> a.t |> t
"""
    files = {"main.synth": main, "a.synth": "\n\n\n" + task % "y", "b.synth": task % "z"}
    compiled = project(tmp_path, files)
    assert [p.span.file for p in compiled.problems] == ["main.synth", "a.synth", "b.synth"]


def test_one_file_under_two_names(tmp_path: Path) -> None:
    main = """
        use "grading"
        use "grading" as again
        table done = read("seeds.jsonl") |> grading.grade |> again.grade as second
    """
    compiled = project(tmp_path, {"main.synth": main, "grading.synth": GRADING})
    assert compiled.problems == ()
    assert list(compiled.sources) == ["grading.synth", "main.synth"]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ("{id: text}", None),
        ("{id: text, share: float, tags: text[]}", None),
        ("{share: int}", "must be `int`, and this is `float`"),
        ("{id: bool}", "must be `bool`, and this is `int`"),
        ("{tags: text}", "must be `text`, and this is `text[]`"),
        ("{mixed: int}", "cannot be read"),
        ("{nme: text}", "has no column `nme`"),
    ],
)
def test_declared_types_of_a_file(tmp_path: Path, types: str, expected: str | None) -> None:
    rows = (
        '{"id": 7, "share": 0.5, "tags": ["a"], "mixed": 1}\n'
        '{"id": 8, "share": 1, "tags": [], "mixed": "x"}\n'
    )
    main = f'table done = read("rows.jsonl", types = {types})\n'
    compiled = project(tmp_path, {"main.synth": main, "rows.jsonl": rows})
    if expected is None:
        assert compiled.problems == ()
    else:
        assert expected in said(compiled)


def test_a_number_of_a_csv_file_read_as_text(tmp_path: Path) -> None:
    main = 'table done = read("rows.csv", types = {id: text})\n'
    compiled = project(tmp_path, {"main.synth": main, "rows.csv": "id,n\n007,1\n008,2\n"})
    assert compiled.plan, said(compiled)
    (table,) = compiled.plan.tables
    assert [type(output.type).__name__ for output in table.outputs] == ["Text", "Int"]
