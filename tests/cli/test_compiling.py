"""`synthc compile`, `check` and `explain`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from synthc.compiler.plan import decode
from tests.cli.conftest import Synthc

WRONG = 'table a = read("nope.jsonl")\ntable b = sql "SELECT * FROM missing"\n'
UNUSED = (
    'table a = sql "SELECT 1 AS x"\nbackend spare { model = "m"  url = "http://127.0.0.1:1/v1" }\n'
)


def test_compile_writes_the_plan_beside_the_spec(spec: Path, call: Synthc) -> None:
    done = call("compile", spec.name)
    assert (done.status, done.out) == (0, "")
    assert done.err == "titles.synth: 2 tables, plan in titles.plan.json\n"
    assert decode(spec.with_name("titles.plan.json").read_bytes()).spec == "titles.synth"


def test_compile_counts_one_table_as_one(folder: Path, call: Synthc) -> None:
    (folder / "a.synth").write_text('table a = rows(3) |> select("1 AS x")\n', encoding="utf-8")
    assert "a.synth: 1 table, plan in" in call("compile").err


def test_compile_takes_parameters_a_seed_and_another_name(spec: Path, call: Synthc) -> None:
    done = call(
        "compile", "-p", "count=2", "-p", "flavour=a=b ü", "--seed", "7", "-o", "x/y z.json"
    )
    assert done.status == 2
    assert "there is no folder x to write the plan to" in done.err
    (spec.parent / "x").mkdir()
    done = call("compile", "-p", "count=2", "-p", "flavour=a=b", "--seed", "7", "-o", "x/y z.json")
    assert done.status == 0, done.err
    plan = decode((spec.parent / "x" / "y z.json").read_bytes())
    assert plan.seed == 7
    assert '"a=b"' in (spec.parent / "x" / "y z.json").read_text(encoding="utf-8")


def test_errors_of_a_spec_end_with_1_and_write_nothing(folder: Path, call: Synthc) -> None:
    (folder / "a.synth").write_text(WRONG, encoding="utf-8")
    for command in ("compile", "check", "run"):
        done = call(command)
        assert (done.status, done.out) == (1, "")
        assert "a.synth:1:" in done.err
        assert "a.synth:2:" in done.err
        assert done.err.endswith("2 errors\n")
    assert [path.name for path in folder.iterdir()] == ["a.synth"]


@pytest.mark.parametrize("command", ["compile", "check", "run"])
def test_errors_as_json_are_one_document(folder: Path, call: Synthc, command: str) -> None:
    (folder / "a.synth").write_text(WRONG, encoding="utf-8")
    done = call(command, "--json")
    assert done.status == 1
    assert done.err == ""
    document = json.loads(done.out)
    assert document["ok"] is False
    assert [problem["range"]["start"]["line"] for problem in document["problems"]] == [1, 2]


def test_check_and_compile_say_ok_as_json(spec: Path, call: Synthc) -> None:
    assert json.loads(call("check", "--json").out) == {"ok": True, "problems": []}
    compiled = call("compile", "--json")
    assert json.loads(compiled.out) == {"ok": True, "problems": [], "plan": "titles.plan.json"}
    assert compiled.err == ""


def test_check_says_that_all_is_well_and_writes_nothing(spec: Path, call: Synthc) -> None:
    done = call("check")
    assert (done.status, done.out, done.err) == (0, "", "titles.synth: no problems\n")
    assert not spec.with_name("titles.plan.json").exists()


def test_warnings_are_shown_and_stop_nothing(folder: Path, call: Synthc) -> None:
    (folder / "a.synth").write_text(UNUSED, encoding="utf-8")
    done = call("check")
    assert done.status == 0
    assert done.err.startswith("warning[")
    assert done.err.endswith("1 warning\n")


def test_without_a_name_the_one_spec_of_the_folder_is_meant(folder: Path, call: Synthc) -> None:
    done = call("check")
    assert done.status == 2
    assert "there is no .synth file in this folder" in done.err
    assert "synthc init" in done.err
    (folder / "a folder.synth").mkdir()
    for name in ("a.synth", "b ü.synth"):
        (folder / name).write_text('table a = rows(3) |> select("1 AS x")\n', encoding="utf-8")
    done = call("check")
    assert done.status == 2
    assert "there are several .synth files in this folder: a.synth, b ü.synth" in done.err
    assert call("check", "b ü.synth").err == "b ü.synth: no problems\n"


def test_files_that_are_no_specs(folder: Path, call: Synthc) -> None:
    (folder / "latin.synth").write_bytes(
        '# é\ntable a = rows(3) |> select("1 AS x")'.encode("latin-1")
    )
    with socket.socket(socket.AF_UNIX) as unreadable:
        unreadable.bind("unreadable.synth")
        for name, told in (
            ("nope.synth", "there is no file nope.synth"),
            (".", ". is a folder, not a .synth file"),
            ("latin.synth", "latin.synth is not text in UTF-8"),
            ("latin.synth/x", "latin.synth/x cannot be read: Not a directory"),
            ("unreadable.synth", "unreadable.synth cannot be read: No such device"),
            ("a" * 300, ": File name too long"),
        ):
            for command in ("check", "compile", "run"):
                done = call(command, name)
                assert done.status == 2, done.err
                assert done.out == ""
                assert done.err.startswith("error: ")
                assert told in done.err


def test_a_name_that_is_nearly_right(spec: Path, call: Synthc) -> None:
    for name in ("titles", "title.synth", "Titles.synth"):
        done = call("check", name)
        assert done.status == 2
        assert done.err.endswith("did you mean titles.synth?\n")


def test_a_plan_is_not_compiled(spec: Path, call: Synthc) -> None:
    call("compile")
    done = call("compile", "titles.plan.json")
    assert done.status == 2
    assert "titles.plan.json is a plan or data, not a .synth file" in done.err


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "\ufeff"])
def test_a_spec_without_tables_is_no_traceback(folder: Path, call: Synthc, text: str) -> None:
    (folder / "a.synth").write_text(text, encoding="utf-8")
    for command in ("check", "compile", "run"):
        done = call(command)
        assert done.status in (0, 1)
        assert "fault of synthc's" not in done.err


def test_a_spec_of_noise_is_no_traceback(folder: Path, call: Synthc) -> None:
    for text in ("\x00\x01", "\x1b]0;title\x07", "{" * 200, "table " * 200, '"' * 7, "é" * 99):
        (folder / "a.synth").write_text(text, encoding="utf-8")
        done = call("check")
        assert done.status == 1, done.err
        assert "\x1b" not in done.err
        assert "\x00" not in done.err


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["-p", "count"], 2, "`-p count` is not of the form `-p name=value`"),
        (["-p", "=3"], 2, "`-p =3` is not of the form"),
        (["-p", ""], 2, "is not of the form"),
        (["-p", "count=1", "-p", "count=2"], 2, "`-p count=` is given twice"),
        (["-p", "coutn=1"], 2, "it has: count, flavour"),
        (["-p", "coutn=1"], 2, "did you mean `-p count=…`?"),
        (["-p", "count=many"], 1, "many"),
        (["-p", "count="], 1, "count"),
        (["-p", "count=1.5"], 1, "1.5"),
    ],
)
def test_parameters_that_are_wrong(
    spec: Path, call: Synthc, arguments: list[str], status: int, told: str
) -> None:
    for command in ("check", "compile", "run"):
        done = call(command, *arguments)
        assert done.status == status, done.err
        assert told in done.err


def test_a_spec_without_parameters_says_so(folder: Path, call: Synthc) -> None:
    (folder / "a.synth").write_text('table a = rows(3) |> select("1 AS x")\n', encoding="utf-8")
    assert "a.synth has no parameter `x` (it has none)" in call("check", "-p", "x=1").err


def test_errors_of_the_spec_come_before_a_parameter_that_it_may_have(
    folder: Path, call: Synthc
) -> None:
    (folder / "a.synth").write_text(
        'param x: int = = 3\ntable a = rows(3) |> select("1 AS x")\n', encoding="utf-8"
    )
    done = call("check", "-p", "x=1")
    assert done.status == 1
    assert "a.synth:1:" in done.err


@pytest.mark.parametrize("target", ["titles.synth", "topics.jsonl", "plan"])
def test_a_plan_is_not_written_over_something_else(spec: Path, call: Synthc, target: str) -> None:
    before = {path.name: path.read_bytes() for path in spec.parent.iterdir()}
    done = call("compile", "-o", target)
    assert done.status == 2
    assert "a plan's name ends in .json" in done.err
    assert {path.name: path.read_bytes() for path in spec.parent.iterdir()} == before


def test_a_plan_that_cannot_be_written(spec: Path, call: Synthc) -> None:
    (spec.parent / "titles.plan.json").mkdir()
    done = call("compile")
    assert done.status == 2
    assert "titles.plan.json cannot be written: Is a directory" in done.err


def test_explain_shows_the_page_of_a_code(call: Synthc) -> None:
    done = call("explain", "s0101")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("S0101 (error)\n")
    document = json.loads(call("explain", "S0101", "--json").out)
    assert document["code"] == "S0101"
    assert document["page"] in done.out


def test_explain_of_an_unknown_code_lists_them(call: Synthc) -> None:
    done = call("explain", "S010")
    assert (done.status, done.out) == (2, "")
    assert "there is no code S010\n" in done.err
    assert "S0101, S0102" in done.err
    assert call("explain", "").status == 2


def test_explain_has_all_codes_as_one_page(call: Synthc) -> None:
    page = call("explain", "--markdown").out
    assert "\n## S0101\n" in page and "\n- **Fix**: " in page
    assert call("explain", "S0101", "--markdown").status == 2


def test_annotations_for_github(folder: Path, call: Synthc) -> None:
    (folder / "x.synth").write_text('table t = read("50%,a.csv")\ntable u = tt\n', encoding="utf-8")
    done = call("check", "x.synth", "--github")
    assert done.status == 1
    first, second = done.out.splitlines()
    assert first.startswith(
        "::error file=x.synth,line=1,endLine=1,col=16,endColumn=27,title=S0601::"
    )
    assert "`50%25,a.csv`" in first
    assert second.startswith(
        "::error file=x.synth,line=2,endLine=2,col=11,endColumn=13,title=S0201::"
    )
    assert second.endswith("%0Adid you mean `t`?")
