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
    "a truth in words": (json_of(a=BOOL), '{"a": "yes"}', (True,)),
    "a number with a sign": (json_of(a=FLOAT), '{"a": "+.5"}', (0.5,)),
    "a whole choice as text": (json_of(a=STARS), '{"a": "4"}', (4,)),
    "a whole choice with a point": (json_of(a=STARS), '{"a": "4.0"}', (4,)),
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
    "a part that may be null": (
        json_of(a=types.Record((Field("x", types.Maybe(INT)),)), b=INT),
        '{"a": {"x": null}, "b": 1}',
        ({"x": None}, 1),
    ),
    "messages": (
        json_of(a=types.Chat()),
        'Sure:\n[{"role": "User", "content": "Hi"}, {"role": "assistant", "content": "Yes?", "x": 1}]',
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}],),
    ),
    "messages among others": (
        json_of(a=types.Chat(), b=INT),
        '{"a": [{"role": "system", "content": "Be brief."}], "b": 1}',
        ([{"role": "system", "content": "Be brief."}], 1),
    ),
    "a fenced list in Python": (
        json_of(a=types.ListOf(TEXT)),
        "Here you are:\n```python\n['x', 'it\\'s', \"y\",]\n```\nEnjoy!",
        (["x", "it's", "y"],),
    ),
    "an assigned list in Python": (
        json_of(a=types.ListOf(types.Maybe(BOOL))),
        "```python\ntasks = [\n    True,  # sure\n    None,\n]\n```",
        ([True, None],),
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
    "no message": (json_of(a=types.Chat()), "[]", "the array must be a list of messages"),
    "a message by nobody": (
        json_of(a=types.Chat()),
        '[{"content": "x"}]',
        '[0] must have a "role"',
    ),
    "an empty message": (
        json_of(a=types.Chat()),
        '[{"role": "user", "content": " "}]',
        '[0] must have a "content"',
    ),
    "a picture": (json_of(a=types.Image(), b=INT), '{"a": "x.png", "b": 1}', "cannot be answered"),
    "not a number of JSON": (json_of(a=JSON), '{"a": NaN}', "`a` is null"),
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
    scores = json_of(a=types.ListOf(types.Maybe(FLOAT)))
    assert reading(scores, '[1.5, "?"]') == Reading(
        ([1.5, None],), ("the array[1] must be a number",)
    )
    record = json_of(a=types.Record((Field("x", types.Maybe(INT)), Field("y", INT))))
    assert reading(record, '{"a": {"x": "?", "y": 1}}') == Reading(
        ({"x": None, "y": 1},), ("`a`.x must be a whole number",)
    )


def test_an_answer_without_json_makes_every_column_null_and_is_asked_again() -> None:
    contract = json_of(a=types.Maybe(TEXT), b=types.Maybe(INT))
    found = reading(contract, "I cannot do that.")
    assert found == Reading((None, None), ("there is no JSON object in it",), broken=True)


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


# What stands behind marks, and what a pattern matches


def marked(kind: str, *marks: str, **fields: Type) -> Contract:
    made = tuple(Field(name, type_) for name, type_ in fields.items())
    return Contract(kind=kind, fields=made, marks=marks)


def lines_of(pattern: str, per: str | None = None, **fields: Type) -> Contract:
    made = tuple(Field(name, type_) for name, type_ in fields.items())
    return Contract(kind="lines", fields=made, pattern=pattern, per=per)


def regex_of(pattern: str, **fields: Type) -> Contract:
    made = tuple(Field(name, type_) for name, type_ in fields.items())
    return Contract(kind="regex", fields=made, pattern=pattern)


PROMPT = marked("after", "Prompt:", a=TEXT)
REWRITTEN = marked("after", "#Rewritten Prompt#:", a=TEXT)
RESPONSE = marked("after", "### Response", a=TEXT)
AFTER: dict[str, tuple[Contract, str, str]] = {
    "as asked": (PROMPT, "Prompt: Name three rivers.", "Name three rivers."),
    "on its own line": (PROMPT, "Prompt:\n\nName three rivers.\n", "Name three rivers."),
    "no mark": (PROMPT, "\nName three rivers.\n", "Name three rivers."),
    "after thoughts": (PROMPT, "I add a constraint.\n\nPrompt: Name rivers.", "Name rivers."),
    "in a sentence": (PROMPT, "Sure, here is the new prompt: Name rivers.", "Name rivers."),
    "the last of two": (PROMPT, "Prompt: Name.\nToo short.\nPrompt: Name rivers.", "Name rivers."),
    "a line, not a word before": (
        PROMPT,
        "The prompt: is short.\nPrompt: Name rivers.",
        "Name rivers.",
    ),
    "a line, not a word behind": (
        PROMPT,
        "Prompt: Explain what the words of a system prompt: and a user's are.",
        "Explain what the words of a system prompt: and a user's are.",
    ),
    "part of a word": (PROMPT, "Subprompt: Name rivers.", "Subprompt: Name rivers."),
    "bold": (PROMPT, "**Prompt:** Name rivers.", "Name rivers."),
    "bold without its colon": (PROMPT, "**Prompt**: Name rivers.", "Name rivers."),
    "bold, and bold behind it": (PROMPT, "**Prompt:** **Name** rivers.", "**Name** rivers."),
    "bold behind it": (PROMPT, "Prompt: **Name** rivers.", "**Name** rivers."),
    "bold in a sentence": (PROMPT, "So, the **Prompt:** Name rivers.", "Name rivers."),
    "a heading": (PROMPT, "## Prompt\nName rivers.", "Name rivers."),
    "a bold heading": (PROMPT, "### **Prompt:**\nName rivers.", "Name rivers."),
    "a space before the colon": (PROMPT, "PROMPT : Name rivers.", "Name rivers."),
    "a quote": (PROMPT, "> Prompt: Name rivers.", "Name rivers."),
    "a numbered line": (PROMPT, "1. Prompt: Name rivers.", "Name rivers."),
    "Windows": (PROMPT, "So.\r\nPrompt:\r\nName\r\nrivers.\r\n", "Name\r\nrivers."),
    "in quotes": (PROMPT, 'Prompt: "Name rivers."', "Name rivers."),
    "in curly quotes": (PROMPT, "Prompt: “Name rivers.”", "Name rivers."),
    "two quotes": (PROMPT, 'Prompt: "a" or "b"', '"a" or "b"'),
    "in a fence": (PROMPT, "Prompt:\n```text\nName rivers.\n```", "Name rivers."),
    "a fence among others": (
        PROMPT,
        "Prompt:\n```\na\n```\nand\n```\nb\n```",
        "```\na\n```\nand\n```\nb\n```",
    ),
    "a fence, and a word": (PROMPT, "Prompt:\n```\na\n```\nRun it.", "```\na\n```\nRun it."),
    "another's mark": (
        PROMPT,
        "#Given Prompt#:\nName rivers.\n#Rewritten Prompt#:\nName three rivers.",
        "Name three rivers.",
    ),
    "a mark of more words": (REWRITTEN, "#Rewritten  prompt#:\nName rivers.", "Name rivers."),
    "that mark in bold": (REWRITTEN, "**Rewritten Prompt:** Name rivers.", "Name rivers."),
    "that mark plain": (REWRITTEN, "Here is it.\nRewritten prompt: Name rivers.", "Name rivers."),
    "a mark without colon": (RESPONSE, "### Response\nThe Rhine.", "The Rhine."),
    "that mark with one": (RESPONSE, "**Response:** The Rhine.", "The Rhine."),
    "a word that is no mark": (RESPONSE, "The response is: no.", "The response is: no."),
    "a mark that is a sign": (marked("after", "=>", a=TEXT), "1 + 1 => 2", "2"),
}


@pytest.mark.parametrize("name", AFTER)
def test_what_follows_a_mark(name: str) -> None:
    contract, answer, rest = AFTER[name]
    assert reading(contract, answer) == Reading((rest,))


ANSWER = marked("tag", "answer", a=TEXT)
NUMBER = marked("tag", "answer", a=types.Maybe(FLOAT))
TAGGED: dict[str, tuple[Contract, str, Any]] = {
    "as asked": (ANSWER, "<answer>42</answer>", "42"),
    "in prose": (ANSWER, "It is <ANSWER>\n 42\n</Answer>. Sure.", "42"),
    "with an attribute": (ANSWER, '<answer lang="en">42</answer >', "42"),
    "unclosed": (ANSWER, "So: <answer>42 and more", "42 and more"),
    "half closed": (ANSWER, "<answer>42</answer", "42"),
    "the last of two": (ANSWER, "<answer>41</answer> No: <answer>42</answer>", "42"),
    "spoken of": (ANSWER, "I use the <answer> tags. <answer>42</answer>", "42"),
    "closed without a beginning": (ANSWER, "42</answer> <answer>43</answer>", "43"),
    "an empty one after it": (ANSWER, "<answer>42</answer><answer></answer>", "42"),
    "an empty one before what is cut off": (ANSWER, "<answer></answer> <answer>42", "42"),
    "another tag": (ANSWER, "<answers>41</answers><answer>42</answer>", "42"),
    "a number": (NUMBER, "<answer> **4.5** </answer>", 4.5),
}


@pytest.mark.parametrize("name", TAGGED)
def test_what_stands_in_a_tag(name: str) -> None:
    contract, answer, inside = TAGGED[name]
    assert reading(contract, answer) == Reading((inside,))


SIDES = marked("sections", "## Positive", "## Negative", positive=TEXT, negative=types.Maybe(TEXT))
DOCUMENTS = marked("sections", "## Positive document", "## Positive", document=TEXT, word=TEXT)
VERDICT = marked(
    "sections", "Score:", "Verdict:", "Sure:", score=FLOAT, verdict=LEVEL, sure=types.Maybe(BOOL)
)
SECTIONS: dict[str, tuple[Contract, str, tuple[Any, ...]]] = {
    "as asked": (SIDES, "## Positive\nA cat.\n\n## Negative\nA car.\n", ("A cat.", "A car.")),
    "reversed": (SIDES, "## Negative\nA car.\n## Positive\nA cat.", ("A cat.", "A car.")),
    "several lines": (
        SIDES,
        "## Positive\nA\n\ncat.\n## Negative\nA car.",
        ("A\n\ncat.", "A car."),
    ),
    "without spaces": (SIDES, "##Positive\nA cat.\n##Negative\nA car.", ("A cat.", "A car.")),
    "other levels": (SIDES, "# Positive\nA cat.\n### negative:\nA car.", ("A cat.", "A car.")),
    "bold": (SIDES, "**Positive**\nA cat.\n\n**Negative:** A car.", ("A cat.", "A car.")),
    "bold headings": (
        SIDES,
        "## **Positive**\nA cat.\n## **Negative**\nA car.",
        ("A cat.", "A car."),
    ),
    "with colons": (SIDES, "Positive: A cat.\nNegative: A car.", ("A cat.", "A car.")),
    "bullets": (SIDES, "- **Positive:** A cat.\n- **Negative:** A car.", ("A cat.", "A car.")),
    "numbered": (SIDES, "1. Positive: A cat.\n2. Negative: A car.", ("A cat.", "A car.")),
    "in one line": (SIDES, "## Positive A cat.\n## Negative A car.", ("A cat.", "A car.")),
    "after a word": (
        SIDES,
        "Sure!\n\n## Positive\nA cat.\n## Negative\nA car.",
        ("A cat.", "A car."),
    ),
    "with rules": (
        SIDES,
        "## Positive\nA cat.\n\n---\n\n## Negative\nA car.\n***",
        ("A cat.", "A car."),
    ),
    "in a fence": (
        SIDES,
        "```markdown\n## Positive\nA cat.\n## Negative\nA car.\n```",
        ("A cat.", "A car."),
    ),
    "in a fence in prose": (
        SIDES,
        "Here:\n```\n## Positive\nA cat.\n## Negative\nA car.\n```",
        ("A cat.", "A car."),
    ),
    "code under a heading": (
        SIDES,
        "## Positive\n```\nx\n```\n## Negative\ny",
        ("```\nx\n```", "y"),
    ),
    "the form repeated": (
        SIDES,
        "## Positive\n## Negative\n\nSo:\n## Positive\nA cat.\n## Negative\nA car.",
        ("A cat.", "A car."),
    ),
    "a line that looks like one": (
        SIDES,
        "## Positive\nA test.\nNegative: no virus.\n## Negative\nA car.",
        ("A test.\nNegative: no virus.", "A car."),
    ),
    "a heading in a heading": (
        DOCUMENTS,
        "**Positive:** cat\n**Positive document:** A cat sat.",
        ("A cat sat.", "cat"),
    ),
    "scalars": (VERDICT, "Score: 7.5\nVerdict: **high**.\nSure: Yes", (7.5, "High", True)),
    "scalars in bold": (
        VERDICT,
        "**Score:** 7\n**Verdict:** low\n**Sure:** no",
        (7.0, "low", False),
    ),
    "Windows": (SIDES, "## Positive\r\nA cat.\r\n## Negative\r\nA car.\r\n", ("A cat.", "A car.")),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_what_stands_under_headings(name: str) -> None:
    contract, answer, values = SECTIONS[name]
    assert reading(contract, answer) == Reading(values)


MAYBE_FLOATS = types.ListOf(types.Maybe(FLOAT))
SCORED = r"(?i)\[(?P<index>\d+)\]\s*score:\s*(?P<value>\d+(?:\.\d+)?)"
SCORES = lines_of(SCORED, "instructions", scores=MAYBE_FLOATS)
ORDERED = lines_of(r"(?i)score:\s*(\d+(?:\.\d+)?)", "instructions", scores=MAYBE_FLOATS)
BOTH = lines_of(
    r"(?m)^(?P<index>\d+)\. (?P<score>\S+)(?: because (?P<why>.+))?$",
    "answers",
    score=types.ListOf(types.Maybe(INT)),
    why=types.ListOf(types.Maybe(TEXT)),
)
LINES: dict[str, tuple[Contract, str, tuple[Any, ...]]] = {
    "as asked": (SCORES, "[1] Score: 2\n[2] Score: 3\n[3] Score: 1", ([2.0, 3.0, 1.0],)),
    "out of order": (SCORES, "[3] score: 1\n[1] Score: 2\n[2] Score: 3", ([2.0, 3.0, 1.0],)),
    "decimals": (SCORES, "[1] Score: 2.5\n[2] Score: 3.25\n[3] Score: 1", ([2.5, 3.25, 1.0],)),
    "in prose": (
        SCORES,
        "Sure! I rate them so: [1] Score: 2, [2] Score: 3 and [3] Score: 1. Any questions?",
        ([2.0, 3.0, 1.0],),
    ),
    "in a table": (
        SCORES,
        "| task | score |\n| --- | --- |\n| a | [1] Score: 2 |\n| b | [2] Score: 3 |\n| c | [3] Score: 1 |",
        ([2.0, 3.0, 1.0],),
    ),
    "the first of two": (
        SCORES,
        "[1] Score: 2\n[2] Score: 3\n[3] Score: 1\n\nNext:\n[1] Score: 9\n[2] Score: 9",
        ([2.0, 3.0, 1.0],),
    ),
    "more than there are": (
        SCORES,
        "[0] Score: 9\n[1] Score: 2\n[2] Score: 3\n[3] Score: 1\n[4] Score: 9\n[99999999999] Score: 9",
        ([2.0, 3.0, 1.0],),
    ),
    "in their order": (ORDERED, "Score: 2\nScore: 3.5\nScore: 1\nScore: 9", ([2.0, 3.5, 1.0],)),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_belong_to_the_elements_they_name(name: str) -> None:
    contract, answer, values = LINES[name]
    assert contracts.read(contract, answer, 3) == Reading(values)


def test_elements_that_are_not_named_are_null() -> None:
    found = contracts.read(SCORES, "[3] Score: 1.5", 3)
    assert found == Reading(
        ([None, None, 1.5],), ("there is nothing for 1, 2 of the 3 `instructions`",)
    )
    found = contracts.read(SCORES, "I cannot rate these.", 4)
    assert found.values == ([None] * 4,)
    assert not found.broken
    assert found.problems[0].startswith("nothing in it has the form that was asked for")
    assert contracts.read(SCORES, " ", 1) == Reading(([None],), ("the answer is empty",))
    found = contracts.read(SCORES, "[2] Score: 1", 30)
    assert "for 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, … of the 30" in found.problems[0]


def test_elements_that_may_not_be_null_are_asked_for_again() -> None:
    strict = lines_of(SCORED, "instructions", scores=types.ListOf(FLOAT))
    found = contracts.read(strict, "[1] Score: 2", 2)
    assert found.broken
    assert found.problems == ("there is nothing for 2 of the 2 `instructions`",)
    lenient = lines_of(SCORED, "instructions", scores=types.Maybe(types.ListOf(FLOAT)))
    found = contracts.read(lenient, "[1] Score: 2", 2)
    assert found.values == (None,)
    assert found.problems
    assert not found.broken


def test_nothing_is_asked_of_an_empty_list() -> None:
    assert contracts.read(SCORES, "anything", 0) == Reading(([],))
    assert contracts.read(BOTH, "", 0) == Reading(([], []))


def test_several_groups_are_lists_side_by_side() -> None:
    found = contracts.read(BOTH, "2. 4 because of its style\n1. 3\n3. many because so", 3)
    assert found.values == ([3, 4, None], [None, "of its style", "so"])
    assert found.problems == (
        "`score` of 3 must be a whole number",
        "`why` of 1 is missing",
    )
    # A line that can be read counts more than one before it that cannot.
    found = contracts.read(BOTH, "1. ? because x\n1. 5 because y", 1)
    assert found == Reading(([5], ["y"]))


def test_all_matches_are_a_list() -> None:
    bullets = lines_of(r"(?m)^[ \t]*[-*][ \t]*(.*)$", tasks=types.ListOf(TEXT))
    assert reading(bullets, "Tasks:\n- one\n* two \n-  \n  - three") == Reading(
        (["one", "two ", "three"],)
    )
    assert reading(bullets, "None come to mind.").broken
    maybe = lines_of(r"- (.*)", tasks=types.Maybe(types.ListOf(TEXT)))
    found = reading(maybe, "None come to mind.")
    assert found.values == (None,)
    assert found.problems
    assert not found.broken
    numbers = lines_of(r"\d+\.? (\S+)", n=types.ListOf(INT))
    assert reading(numbers, "1. 3\n2. x").broken
    numbers = lines_of(r"\d+\.? (\S+)", n=types.ListOf(types.Maybe(INT)))
    assert reading(numbers, "1. 3\n2. x") == Reading(
        ([3, None],), ("`n`[1] must be a whole number",)
    )


RATED = r"(?is)score:\s*(?P<score>\S+).*?label:\s*(?P<label>\w+)"
REGEX: dict[str, tuple[Contract, str, tuple[Any, ...]]] = {
    "named groups": (
        regex_of(RATED, score=FLOAT, label=LEVEL),
        "Score: 3.5,\nlabel: HIGH",
        (3.5, "High"),
    ),
    "in another order": (regex_of(RATED, label=TEXT, score=INT), "Score: 3\nLabel: x", ("x", 3)),
    "the only group": (regex_of(r"(\d+) ?/ ?10", score=INT), "I say 7/10, not 8/10.", (7,)),
    "the only group, named otherwise": (regex_of(r"(?P<n>\d+)", score=INT), "7", (7,)),
    "no group": (regex_of(r"\d+", score=INT), "It is 7.", (7,)),
    "a truth": (regex_of(r"(?i)\b(yes|no)\b", a=BOOL), "No, it is not: yes?", (False,)),
    "a choice of numbers": (regex_of(r"Stars: (\S+)", a=STARS), "Stars: 5.0.", (5,)),
    "a choice in bold": (regex_of(r"Is: (\S+)", a=LEVEL), "Is: **low**", ("low",)),
    "text as it is": (regex_of(r"(?s)```\n(.*?)```", a=TEXT), "```\n  x\n```", ("  x\n",)),
    "all planes": (regex_of(r"<(.)>", a=TEXT), "é\U0001f600\ud83d <\U0010ffff>", ("\U0010ffff",)),
    "half a character": (regex_of(r"<(.)>", a=TEXT), "é <\udfff>", ("\ufffd",)),
    "letters of all scripts": (regex_of(r"\p{Greek}(\pL+)", a=TEXT), "abc αβγ", ("βγ",)),
}


@pytest.mark.parametrize("name", REGEX)
def test_what_a_pattern_matches(name: str) -> None:
    contract, answer, values = REGEX[name]
    assert reading(contract, answer) == Reading(values)


UNREAD: dict[str, tuple[Contract, str, str]] = {
    "no answer after a mark": (PROMPT, " ", "the answer is empty"),
    "nothing after a mark": (PROMPT, "I thought.\nPrompt:  \n", "there is nothing after `Prompt:`"),
    "an empty fence": (PROMPT, "Prompt:\n```\n\n```", "there is nothing after `Prompt:`"),
    "no tag": (ANSWER, "42", "there is no <answer>…</answer> in it"),
    "only the end of a tag": (ANSWER, "42</answer>", "there is no <answer>…</answer> in it"),
    "an empty tag": (ANSWER, "<answer> </answer>", "nothing between <answer> and </answer>"),
    "an open tag at the end": (ANSWER, "So: <answer>", "nothing between <answer> and </answer>"),
    "no answer in a tag": (ANSWER, "", "the answer is empty"),
    "no section": (SIDES, "A cat.", "the section `## Positive` is missing"),
    "an empty section": (SIDES, "## Positive\n## Negative\nA car.", "`## Positive` is empty"),
    "an empty answer": (SIDES, "\n", "the answer is empty"),
    "not a number": (VERDICT, "Score: good\nVerdict: low", "the section `Score:` must be a number"),
    "no choice": (VERDICT, "Score: 1\nVerdict: middle", '`Verdict:` must be one of "low" | "High"'),
    "no match": (regex_of(r"(\d+)/10", a=INT), "Good.", r"regular expression: (\d+)/10)"),
    "no match of nothing": (regex_of(r"(\d+)/10", a=INT), "", "the answer is empty"),
    "an empty group": (regex_of(r"a(.*)", a=TEXT), "a ", "`a` is empty"),
    "a group that is not there": (regex_of(r"(?P<a>x)|y", a=TEXT), "y", "`a` is missing"),
    "a group of another type": (regex_of(r"a: (\S+)", a=INT), "a: 1.5", "`a` must be a whole"),
    "a number too long": (regex_of(r"(\d+)", a=INT), "9" * 10_000, "`a` must be a whole number"),
    "no line": (lines_of("- (.*)", a=types.ListOf(TEXT)), "x", "regular expression: - (.*)"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_missing_is_said(name: str) -> None:
    contract, answer, problem = UNREAD[name]
    found = reading(contract, answer)
    assert found.broken
    assert problem in contracts.correction(found)
    assert None in found.values


def test_what_may_be_null_is_null_without_its_mark() -> None:
    maybe = types.Maybe(TEXT)
    for contract in (marked("tag", "answer", a=maybe), regex_of(r"a=(\d+)", a=types.Maybe(INT))):
        found = reading(contract, "no")
        assert found.values == (None,)
        assert found.problems
        assert not found.broken
    assert reading(marked("after", "Prompt:", a=maybe), "Prompt:") == Reading(
        (None,), ("there is nothing after `Prompt:`",)
    )
    assert reading(SIDES, "## Positive\nA cat.") == Reading(
        ("A cat.", None), ("the section `## Negative` is missing",)
    )


def test_the_words_for_marks_name_them() -> None:
    assert "Prompt:" in contracts.output_format(PROMPT)
    assert contracts.output_format(ANSWER) == "Put the answer between <answer> and </answer>."
    assert "(number)" in contracts.output_format(NUMBER)
    said = contracts.output_format(SIDES)
    assert said.endswith(":\n- ## Positive\n- ## Negative")
    for contract in (SCORES, regex_of("(.)", a=TEXT)):
        assert contracts.output_format(contract) == ""
    for contract in (PROMPT, ANSWER, SIDES, SCORES, regex_of("(.)", a=TEXT)):
        assert contracts.schema(contract) is None


def test_a_chat_is_asked_for_by_schema() -> None:
    schema = contracts.schema(json_of(a=types.Chat()))
    assert schema is not None
    assert schema["items"]["properties"]["role"] == {"enum": ["system", "user", "assistant"]}
    assert '"role"' in contracts.output_format(json_of(a=types.Chat()))


CONTRACTS = [
    PAIR,
    json_of(a=types.ListOf(TEXT)),
    json_of(a=JSON, b=types.Maybe(LEVEL)),
    json_of(a=types.ListOf(types.Record((Field("x", STARS), Field("y", BOOL))))),
    Contract(kind="text", fields=(Field("a", TEXT),)),
]
MARKED = [
    PROMPT,
    REWRITTEN,
    RESPONSE,
    marked("after", "=>", a=types.Maybe(TEXT)),
    ANSWER,
    NUMBER,
    SIDES,
    DOCUMENTS,
    VERDICT,
    SCORES,
    ORDERED,
    BOTH,
    lines_of(SCORED, "instructions", scores=types.ListOf(INT)),
    lines_of(r"(?m)^\s*[-*]?\s*(.*)$", a=types.ListOf(TEXT)),
    regex_of(r"((a+)+)+$", a=TEXT),
    regex_of(r"(x+x+)+y", a=TEXT),
    regex_of(RATED, score=FLOAT, label=LEVEL),
]
PLANES = "".join(chr(plane * 0x10000 + place) for plane in range(17) for place in (0, 0x41, 0xFFFF))
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
    "a" * 60_000,
    "a" * 60_000 + "!",
    "x" * 25_000 + "z",
    "Prompt:" * 25_000,
    "Prompt:\n" * 25_000,
    "#Rewritten " * 25_000 + "Prompt#:",
    "# * " * 60_000 + "Prompt:",
    "Prompt:" + '"' * 90_000,
    "Prompt:\n" + "```\n" * 25_000 + "```",
    "Prompt:\n```\n" + " " * 1_000_000,
    "=>" * 90_000,
    "<answer>" * 25_000,
    "<answer" * 25_000,
    "<answer " * 25_000,
    "</answer>" * 25_000,
    "<answer></answer>" * 15_000,
    "<answer>x</answer>" * 15_000,
    "## Positive\n" * 25_000,
    "## Positive x\n**Negative** y\n" * 10_000,
    "**Positive" * 25_000,
    "Positive document: x\n" * 15_000,
    "## Positive\n" + "---\n" * 60_000,
    "## Positive\n" + "-" * 1_000_000,
    "Score: 1\nVerdict: 2\n" * 15_000,
    "[1] score: 1\n" * 15_000,
    "[1] score: x\n" * 15_000,
    "[" * 90_000 + "1] score: " + "9" * 90_000,
    "".join(f"[{i}] score: {i}\n" for i in range(15_000)),
    "[" + "9" * 90_000 + "] score: 1",
    "score: " * 25_000,
    "- \n" * 60_000,
    " " * 1_000_000,
    "\n" * 1_000_000,
    "\r" * 1_000_000,
    PLANES * 3_000,
    "## Positive\n" + PLANES + "\n<answer>" + PLANES + "\nPrompt: \ud83d" + PLANES,
]


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: f"{answer[:9]!r} {len(answer)}")
def test_hostile_answers_cost_little(answer: str) -> None:
    for contract in [*CONTRACTS, *MARKED]:
        started = time.process_time()
        found = contracts.read(contract, answer, 100)
        # A bound on work, far above what any takes (1 s on one core), far below what is quadratic.
        assert time.process_time() - started < 5.0
        check(contract, found, 100)


def test_a_pattern_that_looks_through_all_the_rest_for_each_match_is_given_up_on() -> None:
    contract = lines_of("a[^z]*z|(a)", a=types.ListOf(TEXT))
    started = time.process_time()
    found = reading(contract, "a" * 1_000_000)  # 10 minutes, if all of them were looked for
    assert time.process_time() - started < 20.0
    assert set(found.values[0]) == {"a"}


GROWING = [
    (PROMPT, "so\nPrompt: # x\n"),
    (PROMPT, "# * Prompt"),
    (ANSWER, "<answer>x</answer> <answer"),
    (SIDES, "## Positive x\n**Negative:** y\n---\n"),
    (SIDES, "Positive\n"),
    (SCORES, "[7] score: x [8] score: 1\n"),
    (BOTH, "1. 4 because of its style\n"),
    (regex_of(r"((a+)+)+$", a=TEXT), "aaaaaa!"),
    (regex_of(r"(x+x+)+y", a=TEXT), "xxxxxxxx"),
]


@pytest.mark.parametrize(("contract", "part"), GROWING, ids=lambda case: repr(case)[:24])
def test_the_work_grows_no_faster_than_the_answer(contract: Contract, part: str) -> None:
    short, long = (part * (size // len(part)) for size in (25_000, 200_000))
    # Eight times the answer: eight times the work, where what is quadratic would do 64 times of it.
    assert work(contract, long) < 24 * max(work(contract, short), 0.01)


def work(contract: Contract, answer: str) -> float:
    """The least processor time of three readings, in seconds."""
    times: list[float] = []
    for _ in range(3):
        started = time.process_time()
        contracts.read(contract, answer, 10)
        times.append(time.process_time() - started)
    return min(times)


def check(contract: Contract, found: Reading, count: int) -> None:
    """A reading holds only what its types allow, and can be stored."""
    assert len(found.values) == len(contract.fields)
    assert found.problems or not found.broken
    json.dumps(found.values, allow_nan=False, ensure_ascii=False).encode()
    for value, field in zip(found.values, contract.fields, strict=True):
        assert value is None or fits(value, types.required(field.type)), (value, field)
        if value is None and not types.nullable(field.type):
            assert found.broken
        if value is not None and contract.per:
            assert len(value) == count


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
            return all(
                types.nullable(inner) if item is None else fits(item, types.required(inner))
                for item in value
            )
        case types.Record(fields):
            return list(value) == [f.name for f in fields]
        case _:
            return True


TOKENS = st.sampled_from(
    [
        *('{"question":', "'score':", '"a":', "[", "]", "{", "}", ",", ":", "```", "json\n", "\n"),
        *('"', "'", "\\", "\\ud83d", "\\u0000", "null", "None", "True", "1", "-", "e9", "NaN"),
        *("Prompt:", "**", "## ", "Positive", "Negative", "Score: ", "<answer>", "</answer>", "<"),
        *("[1]", "[2] ", "[3] score: ", "2.5", "9" * 400, "- ", "1. ", " because ", "a", "x", "y"),
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


@settings(max_examples=500, deadline=None)
@given(ANSWERS, st.sampled_from([*CONTRACTS, *MARKED]), st.integers(0, 4))
def test_no_text_raises_or_yields_another_type(answer: str, contract: Contract, count: int) -> None:
    check(contract, contracts.read(contract, answer, count), count)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.integers(-(2**63) + 1, 2**63 - 1), st.booleans())
def test_what_a_careful_model_answers_comes_out_as_it_was(
    question: str, score: int, fenced: bool
) -> None:
    answer = json.dumps({"question": question, "score": score}, ensure_ascii=fenced)
    answer = f"Sure:\n```json\n{answer}\n```\nDone." if fenced else answer
    assert reading(PAIR, answer) == Reading((question, score))
