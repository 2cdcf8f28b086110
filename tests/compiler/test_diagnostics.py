"""Every message, as a newcomer reads it: each spec of golden/diagnostics beside what is said of it."""

import functools
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from lark import Lark

from synthc.compiler.compile import Compiled, compile_spec, compile_text
from synthc.compiler.diagnostics.catalogue import catalogue
from synthc.compiler.diagnostics.render import as_json, explain, render, summary

FOLDER = Path(__file__).parents[1] / "golden" / "diagnostics"
SPECS = sorted(FOLDER.glob("*.synth"), key=lambda path: path.name)


@functools.cache
def compiled(path: Path) -> Compiled:
    """A spec with the parameters that its own first lines give: `# -p rows=3`."""
    given = dict(re.findall(r"(?m)^# -p (\w+)=(.*)$", path.read_text(encoding="utf-8")))
    return compile_spec(path, given)


def said(path: Path) -> str:
    result = compiled(path)
    return "".join(render(problem, result.sources) + "\n\n" for problem in result.problems)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_messages(path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(path.with_suffix(".txt"), said(path))


@functools.cache
def signs_of_the_parser() -> tuple[str, ...]:
    """What the grammar calls signs, strings and numbers; its words are called as they are written."""
    grammar = resources.files("synthc.grammar").joinpath("synth.lark").read_text(encoding="utf-8")
    terminals = Lark(grammar, parser="lalr").terminals
    shown = {"NAME"}  # `env("NAME")`
    return tuple(t.name for t in terminals if not t.pattern.value.isalpha() and t.name not in shown)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_messages_speak_the_language_of_the_spec(path: Path) -> None:
    spec = path.read_text(encoding="utf-8")
    text = "\n".join(line for line in said(path).split("\n") if not re.match(r" *\d* \|", line))
    words = {word for word in re.findall(r"\$?\w+", text) if word not in spec}
    assert words.isdisjoint(signs_of_the_parser())
    assert not words & {
        "None",
        "NoneType",
        "Jinja",
        "Traceback",
        "tuple",
        "dict",
        "lark",
        "msgspec",
    }
    assert not re.search(r"·|<class|<member| object at |__ANON|Token\(|\$END", text)
    assert str(FOLDER) not in text


def test_the_grammar_has_signs_to_look_for() -> None:
    assert {"LSQB", "LPAR", "COMMA", "STRING", "DOLLAR_NAME"} <= set(signs_of_the_parser())


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_places_lie_in_the_spec(path: Path) -> None:
    result = compiled(path)
    for problem in result.problems:
        span = problem.span
        lines = result.sources[span.file].split("\n")
        assert 1 <= span.line <= span.end_line <= len(lines)
        assert 1 <= span.column <= len(lines[span.line - 1]) + 1
        assert (span.line, span.column) < (span.end_line, span.end_column)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_nothing_is_said_twice(path: Path) -> None:
    problems = compiled(path).problems
    assert len({(p.span, p.message()) for p in problems}) == len(problems)


def test_there_are_enough_specs_and_every_code_occurs() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.txt"))
    assert len(SPECS) >= 60
    assert {code for code in catalogue() if f"[{code}]" not in text} == set()


def test_golden_messages_have_their_spec() -> None:
    assert {p.stem for p in FOLDER.glob("*.txt")} == {p.stem for p in SPECS}


def test_ten_mistakes_give_ten_messages() -> None:
    problems = compiled(FOLDER / "ten_mistakes.synth").problems
    assert len(problems) == 10
    assert len({problem.span for problem in problems}) == 10


def test_every_code_has_its_page() -> None:
    for code, problem in catalogue().items():
        page = explain(code) or ""
        assert page.startswith(f"{code} ({problem.severity})")
        for heading in ("What:", "Why:", "Example:", "Fix:"):
            assert heading in page, code
    assert explain("S9999") is None


def test_problems_for_programs() -> None:
    result = compiled(FOLDER / "ten_mistakes.synth")
    problems = result.problems
    first = as_json(problems[0], result.sources)
    assert first["file"] == "ten_mistakes.synth"
    assert first["range"] == {"start": {"line": 2, "column": 19}, "end": {"line": 2, "column": 24}}
    assert summary(problems) == "10 errors"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_what_was_meant_mends_the_mistake(path: Path) -> None:
    """An editor that puts `edit` in the place of the range has one mistake less."""
    result = compiled(path)
    for problem in result.problems:
        edit = as_json(problem, result.sources)["edit"]
        if edit is None or problem.span.file != path.name:
            continue
        lines = result.sources[path.name].split("\n")
        span = problem.span
        line = lines[span.line - 1]
        lines[span.line - 1] = line[: span.column - 1] + edit + line[span.end_column - 1 :]
        mended = compile_text("\n".join(lines), path.name, path.parent)
        left = [(p.code, p.message()) for p in mended.problems if p.span.line == span.line]
        assert (problem.code, problem.message()) not in left, edit
