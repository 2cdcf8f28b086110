"""docs/export.md: its commands and snippets, run one after the other as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import datasets
import pytest
from datasets import config

from tests.cli.conftest import Synthc, call, folder
from tests.docs.blocks import blocks

__all__ = ("call", "folder")
PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def steps() -> list[tuple[str, str]]:
    """The commands and the Python of the page, in its order."""
    text = PAGE.read_text(encoding="utf-8")
    found: list[tuple[str, str]] = []
    for kind, body in re.findall(r"^```(sh|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        found += [(kind, line) for line in body.splitlines()] if kind == "sh" else [(kind, body)]
    return found


def test_the_page_is_true(folder: Path, call: Synthc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", folder / "cache")
    (folder / "tutor.synth").write_text(blocks(PAGE)[0].text, encoding="utf-8")
    for kind, text in steps():
        if kind == "python":
            names: dict[str, object] = {}
            exec(text, names)
            loaded = [value for value in names.values() if isinstance(value, datasets.Dataset)]
            assert loaded
            assert all(len(value) for value in loaded)
            continue
        _, *arguments = shlex.split(text, comments=True)
        if arguments[0] == "run":
            arguments.append("--simulate")
        done = call(*arguments)
        if "--push" in arguments:
            assert "holds made-up answers" in done.err
        else:
            assert done.status == 0, (text, done.err)
    written = {path.name for path in folder.iterdir()}
    assert written >= {"good.csv", "lessons.parquet", "sft.jsonl", "lessons-set", "lessons-sft"}
