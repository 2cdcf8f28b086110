"""The grammar by itself, and that no text at all can make the parser fail."""

import re
import time
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lark import Lark

from synthc.compiler import ast
from synthc.compiler.compile import compile_text
from synthc.compiler.diagnostics.render import render
from synthc.compiler.parse import strings
from synthc.compiler.parse.parse import parse
from synthc.compiler.span import Span

GOLDEN = Path(__file__).parents[1] / "golden"
SPECS = [path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("*/*.synth"))]
PIECES = [piece for spec in SPECS for piece in re.findall(r"\w+|\s+|[^\w\s]+", spec)]
WORDS = sorted({piece for piece in PIECES if not piece.isspace()})


def test_the_grammar_has_no_conflicts() -> None:
    grammar = resources.files("synthc.grammar").joinpath("synth.lark").read_text(encoding="utf-8")
    Lark(grammar, parser="lalr", strict=True)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A spec with a few pieces taken out, doubled, swapped or replaced."""
    pieces = re.findall(r"\w+|\s+|[^\w\s]", draw(st.sampled_from(SPECS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(pieces) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                pieces[at] = ""
            case 1:
                pieces.insert(at, draw(st.sampled_from(WORDS)))
            case 2:
                pieces[at] = draw(st.sampled_from(WORDS))
            case _:
                other = draw(st.integers(0, len(pieces) - 1))
                pieces[at], pieces[other] = pieces[other], pieces[at]
    return "".join(pieces)


def check_parse(text: str) -> None:
    spec, problems = parse(text, "t.synth")
    meaningful = re.sub(r"#[^\n]*", "", text.removeprefix("\ufeff")).strip(" \t\r\n\f")
    assert spec.declarations or problems or not meaningful
    lines = text.replace("\r\n", "\n").removeprefix("\ufeff").split("\n")
    for problem in problems:
        assert 1 <= problem.span.line <= len(lines)
        assert render(problem, {"t.synth": "\n".join(lines)})


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    check_parse(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_any_words_are_read_or_refused(text: str) -> None:
    check_parse(text)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_any_spoilt_spec_is_read_or_refused(text: str) -> None:
    check_parse(text)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_any_spoilt_spec_is_compiled_or_refused(text: str) -> None:
    result = compile_text(text, "t.synth", GOLDEN / "diagnostics")
    errors = [problem for problem in result.problems if problem.severity == "error"]
    assert (result.plan is None) == bool(errors)
    for problem in result.problems:
        assert render(problem, result.sources)


def string(literal: str) -> ast.String:
    text, offsets = strings.decode(literal)
    return ast.String(text, Span("t", 3, 5, 3, 5), literal, offsets)


def place(literal: str, offset: int) -> tuple[int, int]:
    before = literal[:offset]
    if "\n" not in before:
        return 3, 5 + offset
    return 3 + before.count("\n"), offset - before.rfind("\n")


@given(st.text(st.characters(exclude_characters='"\\\n', exclude_categories=["Cs"])))
def test_a_plain_string_is_what_stands_in_it(text: str) -> None:
    made = string(f'"{text}"')
    assert made.text == text
    for index in range(len(text)):
        span = made.at(index)
        assert (span.line, span.column) == (3, 6 + index)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escapes_come_back_and_know_their_place(text: str) -> None:
    escapes = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\", "\r": "\\r"}
    literal = '"' + "".join(escapes.get(c, c) for c in text) + '"'
    made = string(literal)
    assert made.text == text
    at = 1
    for index, character in enumerate(text):
        assert made.offsets[index] == at
        at += len(escapes.get(character, character))


@given(st.text(st.sampled_from("ab \t\nü{}\\'"), max_size=60))
def test_every_character_of_a_raw_string_maps_back(text: str) -> None:
    literal = f'"""{text}"""'
    made = string(literal)
    assert len(made.offsets) == len(made.text) + 1
    assert list(made.offsets) == sorted(made.offsets)
    for index, character in enumerate(made.text):
        offset = made.offsets[index]
        assert literal[offset] == character
        span = made.at(index)
        assert (span.line, span.column) == place(literal, offset)


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('""', ""),
        ('"a\\tb"', "a\tb"),
        ('"\\u00fc"', "ü"),
        ('""""""', ""),
        ('"""a"""', "a"),
        ('"""\n  a\n    b\n  """', "a\n  b"),
        ('"""\n  a\n\n  b\n  """', "a\n\nb"),
        ('"""a\n    b\n  c"""', "a\n  b\nc"),
        ('"""\\frac{a}{b} \\d+"""', "\\frac{a}{b} \\d+"),
        ('"""\n    a\n  b"""', "  a\nb"),
        ('"""say ""hi"" """', 'say ""hi"" '),
        ('"""\n  a\n   """', "a"),
    ],
)
def test_strings(literal: str, text: str) -> None:
    assert string(literal).text == text


@pytest.mark.parametrize("literal", ['"\\d"', '"\\u12"', '"\\ud800"', '"\\x41"', '"\\\'"'])
def test_what_is_no_escape(literal: str) -> None:
    with pytest.raises(strings.BadEscape):
        strings.decode(literal)


@pytest.mark.parametrize(
    "word", ["input", "output", "letter", "asking", "keys", "tomorrow", "systems", "tables"]
)
def test_words_that_begin_like_keywords_are_names(word: str) -> None:
    spec, problems = parse(f"task t {{ in {word}: text  out x: text = {word} }}", "t.synth")
    assert not problems
    (task,) = spec.declarations
    assert isinstance(task, ast.Task)
    assert task.inputs[0].name.text == word


@pytest.mark.parametrize("text", ["", "# only a comment", "\ufeff# a mark\r\n", "\n\n"])
def test_nothing_is_a_spec(text: str) -> None:
    spec, problems = parse(text, "t.synth")
    assert (spec.declarations, problems) == ((), [])


def test_an_open_string_with_many_quotes_is_refused_in_time() -> None:
    text = 'task t {\n  out x: text = ask """' + 'say "a" or "b"\n' * 200 + "}\n"
    started = time.process_time()
    _, problems = parse(text, "t.synth")
    assert [problem.code for problem in problems] == ["S0102"]
    assert time.process_time() - started < 5  # two ways to read each quote would take for ever
