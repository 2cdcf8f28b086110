"""`synthc test` and `synthc run --simulate`: no model is asked, and it is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SYNTHC = Path(sys.executable).with_name("synthc")

SPEC = """
backend b { model = "m"  url = "http://127.0.0.1:9/v1" }
task answer { in question: text  out answer: text = ask "{{ question }}" using b }
test "good" of answer { given question = "?"  reply answer = "!"  expect answer = "!" }
"""
FAILING = 'test "bad" of answer { given question = "?"  reply answer = "!"  expect answer = "?" }\n'


def synthc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SYNTHC), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_spec_whose_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "a.synth").write_text(SPEC, encoding="utf-8")
    ran = synthc(tmp_path, "test")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr.endswith("1 passed, 0 failed\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.synth"]  # nothing is left behind


def test_specs_of_which_one_fails(tmp_path: Path) -> None:
    (tmp_path / "a.synth").write_text(SPEC, encoding="utf-8")
    (tmp_path / "b.synth").write_text(SPEC + FAILING, encoding="utf-8")
    ran = synthc(tmp_path, "test", "a.synth", "b.synth")
    assert ran.returncode == 1
    assert 'failed: bad  (b.synth:5:1)\n  `answer` is "!", expected "?"\n' in ran.stderr
    assert ran.stderr.endswith("2 passed, 1 failed\n")
    document = json.loads(synthc(tmp_path, "test", "b.synth", "--json").stdout)
    assert document["ok"] is False
    assert [len(test["faults"]) for test in document["tests"]] == [0, 1]


def test_a_spec_without_tests(tmp_path: Path) -> None:
    (tmp_path / "a.synth").write_text(SPEC.rsplit("test ", 1)[0], encoding="utf-8")
    ran = synthc(tmp_path, "test")
    assert ran.returncode == 0
    assert ran.stderr.endswith("0 passed, 0 failed\n")


def test_a_simulated_run_has_a_database_of_its_own(tmp_path: Path) -> None:
    spec = SPEC + 'table t = sql "SELECT \'?\' AS question" |> answer\nexport t to "t.csv"\n'
    (tmp_path / "a.synth").write_text(spec, encoding="utf-8")
    ran = synthc(tmp_path, "run", "--simulate")
    assert ran.returncode == 0, ran.stderr
    assert "simulated: no model was asked" in ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.simulated.duckdb",
        "a.synth",
        "t.simulated.csv",
    ]
    mixed = synthc(tmp_path, "run", "-d", "a.simulated.duckdb")
    assert mixed.returncode == 1
    assert "holds simulated answers" in mixed.stderr
