"""Answers, good and bad, as columns; and any text at all, which must only ever be data."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthc.compiler import types
from synthc.compiler.plan import Contract
from synthc.compiler.types import Field, Type
from synthc.runtime.engine import contracts
from synthc.runtime.engine.contracts import Reading


def json_of(**fields: Type) -> Contract:
    return Contract(kind="json", fields=tuple(Field(name, t) for name, t in fields.items()))


def reading(contract: Contract, answer: str) -> Reading:
    return contracts.read(contract, answer)


TEXT, INT, FLOAT, BOOL, JSON = types.Text(), types.Int(), types.Float(), types.Bool(), types.Json()
LEVEL = types.Choice(("low", "High"))
STARS = types.Choice((4, 4.5, 5))
PAIR = json_of(question=TEXT, score=INT)

GOOD: dict[str, tuple[Contract, str, tuple[Any, ...]]] = {
    "alone": (PAIR, '{"question": "q", "score": 3}', ("q", 3)),
    "spaces around": (PAIR, '\n\n {"question": "q", "score": 3}\n ', ("q", 3)),
    "in a fence": (PAIR, '```json\n{"question": "q", "score": 3}\n```', ("q", 3)),
    "in a fence of no language": (PAIR, '```\n{"question": "q", "score": 3}\n```\nSo.', ("q", 3)),
    "in an open fence": (PAIR, '```json\n{"question": "q", "score": 3}', ("q", 3)),
    "in the second fence": (
        PAIR,
        '```py\nprint({})\n```\nand\n```json\n{"question": "q", "score": 3}\n```',
        ("q", 3),
    ),
    "in prose": (PAIR, 'Sure! {"question": "q", "score": 3} Is that well?', ("q", 3)),
    "behind other braces": (PAIR, 'In {this} form: {"question": "q", "score": 3}', ("q", 3)),
    "behind a sketch": (PAIR, '{"question": …}. So: {"question": "q", "score": 3}', ("q", 3)),
    "in a list": (PAIR, '[{"question": "q", "score": 3}]', ("q", 3)),
    "a trailing comma": (PAIR, '{"question": "q", "score": 3,}', ("q", 3)),
    "Python's quotes": (PAIR, "{'question': 'q', 'score': 3}", ("q", 3)),
    "Python's quotes in a fence": (PAIR, "```\n{'question': 'q', 'score': 3}\n```\n{}", ("q", 3)),
    "Python's words": (
        json_of(a=BOOL, b=types.Maybe(TEXT)),
        "{'a': True, 'b': None}",
        (True, None),
    ),
    "no closing brace": (PAIR, '{"score": 3, "question": "q"', ("q", 3)),
    "quotes inside": (PAIR, '{"question": "so "what"?", "score": 3}', ('so "what"?', 3)),
    "apostrophes": (PAIR, "{'question': 'it's', 'score': 3}", ("it's", 3)),
    "names without quotes": (PAIR, '{question: "q", score: +3}', ("q", 3)),
    "comments": (PAIR, '{"question": "q", // the question\n /* so */ "score": 3 # it\n}', ("q", 3)),
    "line breaks inside": (PAIR, '{"question": "a\nb\\nc", "score": 3}', ("a\nb\nc", 3)),
    "LaTeX": (PAIR, r'{"question": "\alpha \\beta", "score": 3}', (r"\alpha \beta", 3)),
    "no commas": (PAIR, '{"question": "q"\n"score": 3}', ("q", 3)),
    "curly quotes": (PAIR, "{“question”: “q”, “score”: 3}", ("q", 3)),
    "keys in another case": (PAIR, '{"Question": "q", " SCORE ": 3}', ("q", 3)),
    "more keys than wanted": (PAIR, '{"question": "q", "score": 3, "why": []}', ("q", 3)),
    "a number as text": (PAIR, '{"question": "q", "score": " 3 "}', ("q", 3)),
    "a whole float": (PAIR, '{"question": "q", "score": 3.0}', ("q", 3)),
    "text that is a number": (PAIR, '{"question": 2.5, "score": 3}', ("2.5", 3)),
    "a faulty object with an object inside": (
        json_of(a=types.Maybe(TEXT), b=JSON),
        "{'a': 'outer', 'b': {\"a\": \"inner\"}}",
        ("outer", {"a": "inner"}),
    ),
    "a choice": (json_of(a=LEVEL), '{"a": " LOW"}', ("low",)),
    "a choice of numbers": (json_of(a=STARS), '{"a": "4.5"}', (4.5,)),
    "a choice of whole numbers": (json_of(a=STARS), '{"a": 5.0}', (5,)),
    "a float": (json_of(a=FLOAT), '{"a": 3}', (3.0,)),
    "a truth as text": (json_of(a=BOOL), '{"a": "True"}', (True,)),
    "any JSON": (json_of(a=JSON), '{"a": [1, {"b": null}]}', ([1, {"b": None}],)),
    "a list": (json_of(a=types.ListOf(TEXT)), '["x", "y"]', (["x", "y"],)),
    "a list behind a number in brackets": (
        json_of(a=types.ListOf(TEXT)),
        'The tasks [3]:\n["x", "y"]',
        (["x", "y"],),
    ),
    "a list in Python": (json_of(a=types.ListOf(TEXT)), "['x', \"it's\",]", (["x", "it's"],)),
    "a list in an object": (json_of(a=types.ListOf(TEXT)), '{"a": ["x"]}', (["x"],)),
    "an empty list": (json_of(a=types.ListOf(TEXT)), "[]", ([],)),
    "a list of nulls": (json_of(a=types.ListOf(types.Maybe(INT))), "[1, null]", ([1, None],)),
    "records": (
        json_of(a=types.ListOf(types.Record((Field("x", INT), Field("y", types.Maybe(TEXT)))))),
        '[{"x": 1}, {"y": "b", "x": "2"}]',
        ([{"x": 1, "y": None}, {"x": 2, "y": "b"}],),
    ),
    "half a character": (PAIR, '{"question": "a\\ud83d!", "score": 1}', ("a\ufffd!", 1)),
    "both halves": (PAIR, '{"question": "\\ud83d\\ude00", "score": 1}', ("😀", 1)),
    "no numbers of JSON": (json_of(a=JSON), '{"a": [NaN, -Infinity]}', ([None, None],)),
    "the smallest whole number": (
        json_of(a=INT),
        '{"a": -9223372036854775807}',
        (-(2**63) + 1,),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_answers_become_columns(name: str) -> None:
    contract, answer, values = GOOD[name]
    assert reading(contract, answer) == Reading(values)
    assert [type(v) for v in reading(contract, answer).values] == [type(v) for v in values]


BROKEN: dict[str, tuple[Contract, str, str]] = {
    "nothing": (PAIR, " \n", "the answer is empty"),
    "prose": (PAIR, "I cannot do that.", "there is no JSON object in it"),
    "an array": (PAIR, "[1, 2]", "there is no JSON object in it"),
    "a number": (json_of(a=types.ListOf(INT)), "3", "there is no JSON array in it"),
    "a missing key": (PAIR, '{"question": "q"}', "`score` is missing"),
    "an empty object": (PAIR, "{}", "`question` is missing"),
    "a null": (PAIR, '{"question": "q", "score": null}', "`score` is null"),
    "an empty text": (PAIR, '{"question": "  ", "score": 1}', "`question` is empty"),
    "a wrong type": (PAIR, '{"question": ["q"], "score": 1}', "`question` must be text"),
    "a fraction": (PAIR, '{"question": "q", "score": 3.5}', "`score` must be a whole number"),
    "a truth for a number": (PAIR, '{"question": "q", "score": true}', "`score` must be a whole"),
    "a number too large": (
        PAIR,
        '{"question": "q", "score": 9223372036854775808}',
        "a whole number",
    ),
    "a number beyond floats": (json_of(a=FLOAT), '{"a": 1e999}', "`a` must be a number"),
    "a word for a number": (json_of(a=FLOAT), '{"a": "many"}', "`a` must be a number"),
    "no choice": (json_of(a=LEVEL), '{"a": "middle"}', '`a` must be one of "low" | "High"'),
    "no choice of numbers": (json_of(a=STARS), '{"a": 3}', "`a` must be one of 4 | 4.5 | 5"),
    "not a list": (json_of(a=types.ListOf(INT), b=INT), '{"a": 1, "b": 1}', "`a` must be a list"),
    "a wrong element": (json_of(a=types.ListOf(INT)), '[1, "x"]', "the array[1] must be a whole"),
    "a wrong part": (
        json_of(a=types.Record((Field("x", INT),))),
        '{"a": {"x": "?"}}',
        "`a`.x must be a whole number",
    ),
    "cut off in a text": (PAIR, '{"score": 3, "question": "half an ans', "no JSON object"),
    "cut off in a number": (PAIR, '{"question": "q", "score": 3', "no JSON object"),
    "cut off behind a comma": (json_of(a=types.ListOf(TEXT)), '["x", "y",', "no JSON array"),
    "code": (PAIR, '{"question": __import__("os").getcwd(), "score": 1}', "no JSON object"),
    "nested too deeply": (json_of(a=JSON), '{"a":' + "[" * 200 + "]" * 200 + "}", "too deeply"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers_say_what_is_wrong(name: str) -> None:
    contract, answer, problem = BROKEN[name]
    found = reading(contract, answer)
    assert found.broken
    assert problem in "; ".join(found.problems)
    assert problem in contracts.correction(found)


def test_what_may_be_null_costs_a_null_and_no_second_asking() -> None:
    contract = json_of(a=types.Maybe(INT), b=TEXT)
    assert reading(contract, '{"b": "x"}') == Reading((None, "x"), ("`a` is missing",))
    assert reading(contract, '{"a": null, "b": "x"}') == Reading((None, "x"))
    found = reading(contract, '{"a": "?", "b": "x"}')
    assert found == Reading((None, "x"), ("`a` must be a whole number",))
    assert reading(contract, '{"a": 1}').broken


def test_text_is_the_answer_as_it_is() -> None:
    contract = Contract(kind="text", fields=(Field("a", TEXT),))
    assert reading(contract, ' {"a": 1} ') == Reading((' {"a": 1} ',))
    assert reading(contract, " \n").broken
    maybe = Contract(kind="text", fields=(Field("a", types.Maybe(TEXT)),))
    assert reading(maybe, "") == Reading((None,), ("the answer is empty",))


def test_the_words_for_a_prompt_name_every_key() -> None:
    contract = json_of(a=types.ListOf(types.Maybe(INT)), b=LEVEL)
    said = contracts.output_format(contract)
    assert '- "a": list of (whole number, or null)' in said
    assert '- "b": one of "low", "High"' in said
    schema = contracts.schema(contract)
    assert schema is not None
    assert schema["required"] == ["a", "b"]


CONTRACTS = [
    PAIR,
    json_of(a=types.ListOf(TEXT)),
    json_of(a=JSON, b=types.Maybe(LEVEL)),
    json_of(a=types.ListOf(types.Record((Field("x", STARS), Field("y", BOOL))))),
    Contract(kind="text", fields=(Field("a", TEXT),)),
]
HOSTILE = [
    "[" * 100_000,
    "{" * 100_000,
    '{"a":' * 50_000,
    '{"a":[' * 30_000 + "]}" * 30_000,
    "[]" * 100_000,
    "{}" * 100_000,
    '{"question": "' + '"' * 100_000,
    '{"question": "' + "\\" * 100_001,
    "{'question': 'it's' " * 20_000,
    "```json\n" * 100_000,
    "```json\n{" * 60_000,
    "`" * 300_000,
    "``` " * 100_000,
    "{" + "/*" * 100_000,
    "[" + "," * 200_000,
    "[" + "1e" * 100_000,
    "9" * 300_000,
    '{"score": ' + "9" * 300_000 + "}",
    '{"score": "' + "9" * 300_000 + '"}',
    '{"score": -' + "0" * 300_000 + "}",
    "\x00" * 100_000 + "{",
    "﻿" + '{"question": "q", "score": 1}',
    "\ud800{'a': '\udfff'}",
    "x" * 5_000_000,
    "{" + "x" * 5_000_000,
    '["' + "é😀\u2028" * 500_000 + '"]',
    "{ [ " * 12_000,
    "{'a':1},{" * 5_000,
    "{a " * 90 + "}" * 90,
]


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: f"{answer[:9]!r} {len(answer)}")
def test_hostile_answers_cost_little(answer: str) -> None:
    for contract in CONTRACTS:
        started = time.perf_counter()
        found = reading(contract, answer)
        # A bound on work, far above what any takes (0.2 s on one core), far below what is quadratic.
        assert time.perf_counter() - started < 2.0
        check(contract, found)


def check(contract: Contract, found: Reading) -> None:
    """A reading holds only what its types allow, and can be stored."""
    assert len(found.values) == len(contract.fields)
    assert found.problems or not found.broken
    json.dumps(found.values, allow_nan=False, ensure_ascii=False).encode()
    for value, field in zip(found.values, contract.fields, strict=True):
        assert value is None or fits(value, types.required(field.type)), (value, field)
        if value is None and not types.nullable(field.type):
            assert found.broken


def fits(value: Any, type_: Type) -> bool:
    match type_:
        case types.Text():
            return isinstance(value, str)
        case types.Int():
            return isinstance(value, int) and abs(value) < 2**63
        case types.Float():
            return isinstance(value, float) and math.isfinite(value)
        case types.Bool():
            return isinstance(value, bool)
        case types.Choice(values):
            return value in values
        case types.ListOf(inner):
            return all(fits(item, inner) for item in value)
        case types.Record(fields):
            return list(value) == [f.name for f in fields]
        case _:
            return True


TOKENS = st.sampled_from(
    [
        *('{"question":', "'score':", '"a":', "[", "]", "{", "}", ",", ":", "```", "json\n", "\n"),
        *('"', "'", "\\", "\\ud83d", "\\u0000", "null", "None", "True", "1", "-", "e9", "NaN"),
        *("/*", "//", "#", "__import__('os').system('false')", "low", "4.5", "é", "“", "\ud800"),
        *("\U0010ffff", "\x00", " "),
    ]
)
ANSWERS = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=())),
    st.lists(TOKENS, max_size=200).map("".join),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("a"), inner),
    ).map(lambda value: f"So:\n```json\n{json.dumps(value)}\n```"),
)


@settings(max_examples=300, deadline=None)
@given(ANSWERS, st.sampled_from(CONTRACTS))
def test_no_text_raises_or_yields_another_type(answer: str, contract: Contract) -> None:
    check(contract, reading(contract, answer))


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.integers(-(2**63) + 1, 2**63 - 1), st.booleans())
def test_what_a_careful_model_answers_comes_out_as_it_was(
    question: str, score: int, fenced: bool
) -> None:
    answer = json.dumps({"question": question, "score": score}, ensure_ascii=fenced)
    answer = f"Sure:\n```json\n{answer}\n```\nDone." if fenced else answer
    assert reading(PAIR, answer) == Reading((question, score))
