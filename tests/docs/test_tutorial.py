"""docs/tutorial.md: its spec grows as the page says, and its commands print what stands below them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from synthc.compiler.compile import compile_text
from synthc.compiler.diagnostics.render import render
from tests.cli.conftest import Synthc, call, folder
from tests.docs.blocks import files

__all__ = ("call", "folder")
PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(
    r"^(<!-- mistake -->\n)?```(synth|sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


def test_the_page_is_true(folder: Path, call: Synthc) -> None:
    for name, content in files(PAGE).items():
        (folder / name).write_text(content, encoding="utf-8")
    spec = folder / "first.synth"
    printed, counted = "", 0
    for mistake, kind, body in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "synth":
            before = spec.read_text(encoding="utf-8") + "\n" if spec.exists() else ""
            spec.write_text(before + body, encoding="utf-8")
        elif mistake:
            assert body == _mistaken(spec)
        elif kind == "text":
            assert body.splitlines() == [line.rstrip() for line in printed.splitlines()]
            counted += 1
        else:
            for line in body.splitlines():
                said = line.replace("-d first.duckdb", "-d first.simulated.duckdb")
                _, command, *arguments = shlex.split(said)
                simulated = ["--simulate"] * (command in ("run", "preview"))
                done = call(command, *arguments, *simulated)
                assert done.status == 0, (line, done.err)
                printed = done.out
    assert counted > 5
    assert call("fmt", "--check").status == 0


def _mistaken(spec: Path) -> str:
    """What is said of the spec with the mistake that the page makes."""
    wrong = spec.read_text(encoding="utf-8").replace("{{ topic }}", "{{ topc }}")
    compiled = compile_text(wrong, spec.name, spec.parent)
    return "\n\n".join(render(problem, compiled.sources) for problem in compiled.problems) + "\n"
