"""The plan of each spec of golden/plans, byte for byte, and what a plan must never depend on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synthc.compiler.compile import compile_spec
from synthc.compiler.diagnostics.render import render
from synthc.compiler.plan import decode, encode

FOLDER = Path(__file__).parents[1] / "golden" / "plans"
SPECS = sorted(FOLDER.glob("*.synth"), key=lambda path: path.name)


def plan_bytes(path: Path) -> bytes:
    result = compile_spec(path)
    assert result.plan, "\n".join(render(problem, result.sources) for problem in result.problems)
    return encode(result.plan)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_plan(path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(path.with_suffix(".json"), plan_bytes(path).decode())


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_plan_survives_being_written_down(path: Path) -> None:
    written = plan_bytes(path)
    assert encode(decode(written)) == written
    assert decode(written) == compile_spec(path).plan


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_same_bytes_in_another_folder(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "another folder"
    shutil.copytree(FOLDER, folder)
    written = plan_bytes(folder / path.name)
    assert written == plan_bytes(path)
    assert str(tmp_path).encode() not in written
    assert str(FOLDER).encode() not in written


def test_same_bytes_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "4242")
    code = (
        "import sys, pathlib; from synthc.compiler.compile import compile_spec;"
        "from synthc.compiler.plan import encode;"
        "sys.stdout.buffer.write(b''.join(encode(compile_spec(pathlib.Path(p)).plan) for p in sys.argv[1:]))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, *map(str, SPECS)],
        check=True,
        capture_output=True,
        env=os.environ,
    )
    assert made.stdout == b"".join(map(plan_bytes, SPECS))


def test_nothing_secret_in_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDER / "settings.synth"
    before = plan_bytes(path)
    for name in ("SYNTH_TEST_URL", "SYNTH_TEST_KEY", "SYNTH_TEST_MODEL"):
        monkeypatch.setenv(name, "the-secret")
    assert plan_bytes(path) == before
    assert b"the-secret" not in before
