"""What the documents show is true: specs compile, commands and codes exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from synthc.cli.main import COMMANDS
from synthc.compiler.compile import compile_text
from synthc.compiler.diagnostics.catalogue import catalogue
from synthc.compiler.diagnostics.render import render

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
PAGES = tuple(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))
EXAMPLES = sorted((ROOT / "specs" / "examples").rglob("*.synth"))


def blocks(document: str, tag: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{tag}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_compile_without_a_word(path: Path) -> None:
    compiled = compile_text(path.read_text(encoding="utf-8"), path.name, path.parent)
    assert [render(problem, compiled.sources) for problem in compiled.problems] == []
    assert compiled.plan is not None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_specs_in_documents_compile_without_a_word(document: str) -> None:
    for text in blocks(document, "synth"):
        compiled = compile_text(text, document, ROOT)
        assert [render(problem, compiled.sources) for problem in compiled.problems] == []


def test_the_readme_has_a_spec() -> None:
    assert blocks("README.md", "synth")


def test_the_mistake_in_the_readme_is_told_as_shown() -> None:
    (spec,) = blocks("README.md", "synth")
    wrong = spec.replace("about {{ topic }}", "about {{ topc }}").replace("g.score", "g.scor")
    compiled = compile_text(wrong, "pairs.synth", ROOT)
    told = "\n\n".join(render(problem, compiled.sources) for problem in compiled.problems)
    assert told in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_two_sh_blocks_are_one_pasteable_line_each() -> None:
    first, second, *_ = blocks("README.md", "sh")
    for block in (first, second):
        assert len(block.strip().splitlines()) == 1
    assert "synthc run specs/examples/quickstart.synth" in first
    assert second.strip().endswith("python -m pytest")


def test_ci_runs_the_readmes_test_command() -> None:
    _, second, *_ = blocks("README.md", "sh")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    install, test = second.strip().split(" && ")
    assert test in script
    line = next(line for line in script.splitlines() if test in line)
    assert set(shlex.split(install)) <= set(shlex.split(line)) | {"pip"}


@pytest.mark.parametrize("document", [*DOCUMENTS, *PAGES])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(document: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, *PAGES])
def test_commands_and_codes_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for name in re.findall(r"`?synthc ([a-z]+)", text):
        if name in (
            "cannot",
            "compiles",
            "does",
            "that",
            "which",
            "writes",
            "runs",
        ):  # prose about the program
            continue
        assert name in COMMANDS, name
    for code in re.findall(r"\bS\d{4}\b", text):
        assert code in catalogue()
    for path in re.findall(r"`((?:compiler|runtime|cli|grammar|specs|tests|bench)/[\w/.]+)`", text):
        if "your" not in path:
            assert (ROOT / path).exists(), path
