"""Asks of every form: several at once, only where something holds, conversations that are continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.answers import Seen
from bench.faults import FAULTS, Fault
from bench.server import serving
from synthc.compiler import plan, types
from synthc.compiler.types import Field, Type
from synthc.runtime.backends.protocol import Message
from synthc.runtime.engine.identity import Identity
from synthc.runtime.engine.scope import Place
from synthc.runtime.errors import RunError
from tests.runtime.helpers import answering, column, lines, made, prompts, rows, topics
from tests.runtime.plans import (
    BOOL,
    INT,
    TEXT,
    TEXTS,
    ask,
    backend,
    compute,
    constant,
    limit,
    maybe,
    of,
    read,
    repeat,
    require,
    table,
)

NOWHERE = "http://127.0.0.1:9"
SEVERAL = ask("About {{ topic }}", "answers", "topic", count=4)
EACH = ask("About {{ x }}", "answers", "topics", each=plan.Each("x", "topics"))


def spec(*ops: plan.Op, **outputs: Type) -> plan.Plan:
    return of(table(read(), *ops, outputs=outputs))


def lists(tmp_path: Path, *values: Any) -> plan.Read:
    """A source with one column, `topics`."""
    lines(tmp_path, "topics.jsonl", ({"topics": value} for value in values))
    return read(Field("topics", TEXTS))


# Where


def test_where_asks_only_some_rows(tmp_path: Path) -> None:
    topics(tmp_path, 6)
    holds = compute(
        "CASE n % 3 WHEN 0 THEN true WHEN 1 THEN false END",
        Field("p", maybe(BOOL)),
        Field("n", INT),
    )
    asked = ask("About {{ topic }}", "answer", "topic", type_=maybe(TEXT), where="p")
    both = {"answer": maybe(TEXT), "answer.model": maybe(TEXT)}
    with serving(answering(lambda prompt: prompt)) as server:
        made(spec(holds, asked, **both), tmp_path, server)
        assert server.count == 2
    nothing = (None, None)
    expected = [("About topic 0", "m"), nothing, nothing, ("About topic 3", "m"), nothing, nothing]
    assert rows(tmp_path, "FROM t") == expected
    assert rows(tmp_path, "FROM synth.failures") == []


def test_where_nothing_is_asked_no_list_is_needed(tmp_path: Path) -> None:
    source = lists(tmp_path, None)
    op = msgspec.structs.replace(EACH, where="no")
    made(
        of(table(source, constant(False, "no"), op, outputs={"answers": TEXTS})), tmp_path, NOWHERE
    )
    assert column(tmp_path, "FROM t") == [None]


@pytest.mark.parametrize("filter_", ['default("none")', 'd("none")', 'default("none", true)'])
def test_a_null_has_the_default_that_a_template_gives(tmp_path: Path, filter_: str) -> None:
    topics(tmp_path, 2)
    hint = compute("if(n = 0, '', NULL)", Field("hint", maybe(TEXT)), Field("n", INT))
    asked = ask(f"[{{{{ hint | {filter_} }}}}]", "answer", "hint")
    with serving(answering(lambda prompt: prompt)) as server:
        made(spec(hint, asked, answer=TEXT), tmp_path, server)
    empty = "[none]" if "true" in filter_ else "[]"
    assert column(tmp_path, "FROM t") == [empty, "[none]"]


# Several at once


def test_several_answers_are_asked_for_at_once(tmp_path: Path) -> None:
    topics(tmp_path, 3)
    several = spec(limit(1), SEVERAL, **{"answers": TEXTS, "answers.model": TEXT})
    with serving(lambda seen: f"answer {seen.occurrence}", latency_s=0.05) as server:
        made(several, tmp_path, server)
        assert server.count == server.peak == 4
        made(several, tmp_path, server, limit=3)
        assert server.count == 4
    ((answers, model),) = rows(tmp_path, "FROM t")
    assert sorted(answers) == [f"answer {n}" for n in range(4)]
    assert model == "m"
    assert column(tmp_path, 'SELECT "index" FROM synth.calls ORDER BY ALL') == [0, 1, 2, 3]


def test_where_nothing_is_sampled_several_answers_are_one_call(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    sure = backend(sampling=plan.Sampling(temperature=0))
    with serving(answering(lambda prompt: prompt)) as server:
        made(
            msgspec.structs.replace(spec(SEVERAL, answers=TEXTS), backends=(sure,)),
            tmp_path,
            server,
        )
        assert server.count == 2
    assert column(tmp_path, "FROM t") == [[f"About topic {n}"] * 4 for n in range(2)]


def test_each_element_is_asked_about(tmp_path: Path) -> None:
    source = lists(tmp_path, ["a", "b", "c"], [], ["d"])
    with serving(answering(str.upper), latency_s=(0.0, 0.03)) as server:
        made(of(table(source, EACH, outputs={"answers": TEXTS})), tmp_path, server)
        assert server.count == 4
    assert column(tmp_path, "FROM t") == [["ABOUT A", "ABOUT B", "ABOUT C"], [], ["ABOUT D"]]


def test_each_of_a_null_fails_the_row(tmp_path: Path) -> None:
    source = lists(tmp_path, None, ["a"])
    with serving() as server:
        report = made(of(table(source, EACH, outputs={"answers": TEXTS})), tmp_path, server)
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)
    assert rows(tmp_path, 'SELECT "column", reason, detail FROM synth.failures') == [
        ("answers", "null", "`topics` is null")
    ]


def test_each_of_json_that_is_no_list_fails_the_row(tmp_path: Path) -> None:
    lines(tmp_path, "topics.jsonl", [{"topics": ["a"]}, {"topics": {"a": 1}}, {"topics": 3}])
    source = read(Field("topics", types.Json()))
    with serving() as server:
        report = made(of(table(source, EACH, outputs={"answers": TEXTS})), tmp_path, server)
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 2)


@pytest.mark.parametrize("nullable", [True, False])
def test_an_element_whose_answer_breaks(tmp_path: Path, nullable: bool) -> None:
    source = lists(tmp_path, ["1", "x", "3"], ["4"], ["no", "2"])

    def answer(prompt: str) -> str | Fault:
        value = prompt.removeprefix("About ")
        return FAULTS["422"] if value == "no" else json.dumps({"answers": value})

    type_ = maybe(INT) if nullable else INT
    op = ask("About {{ x }}", "answers", "topics", type_=type_, each=plan.Each("x", "topics"))
    ints = types.ListOf(type_)
    with serving(answering(answer)) as server:
        made(of(table(source, op, outputs={"answers": ints})), tmp_path, server)
        assert server.count == 6
    failures = rows(tmp_path, 'SELECT "column", reason, stops_row FROM synth.failures ORDER BY 2')
    assert failures == [
        ("answers", "contract", not nullable),
        ("answers", "http_422", not nullable),
    ]
    kept = [[1, None, 3], [4], [None, 2]] if nullable else [[4]]
    assert column(tmp_path, "FROM t") == kept


def test_each_or_a_number_and_not_both(tmp_path: Path) -> None:
    source = lists(tmp_path, ["a"])
    op = msgspec.structs.replace(EACH, count=2)
    with pytest.raises(RunError, match="either `each` or a number"):
        made(of(table(source, op, outputs={"answers": TEXTS})), tmp_path, NOWHERE)


def test_a_server_that_refuses_ends_several_asks_at_once(tmp_path: Path) -> None:
    topics(tmp_path, 5)
    other = ask("Other {{ topic }}", "other", "topic")
    with serving(lambda _: FAULTS["401"]) as server, pytest.raises(RunError, match="key"):
        made(spec(SEVERAL, other, answers=TEXTS, other=TEXT), tmp_path, server)


# Conversations

CHAT = types.Chat()
CONTINUE = ask(plan.Conversation("chat"), "answer", "chat")


def user(content: Any, role: Any = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_conversation_is_sent_as_it_is(tmp_path: Path) -> None:
    chat = [user("You are a cat", "system"), user("Hi"), user("Meow", "assistant"), user("Why?")]
    lines(tmp_path, "topics.jsonl", [{"chat": chat}])
    op = msgspec.structs.replace(
        CONTINUE, system="Be {{ output }}", reads={"chat": "chat", "output": "o"}
    )
    ops = (constant("kind", "o"), op)
    with serving() as server:
        made(of(table(read(Field("chat", CHAT)), *ops, outputs={"answer": TEXT})), tmp_path, server)
        (seen,) = server.requests
    assert seen.body["messages"] == [user("Be kind", "system"), *chat]


BROKEN = {
    "no role": [user("x", None)],
    "the role 'bot'": [user("x"), user("x", "bot")],
    "message 2 of `chat` has no text": [user("x"), user(None)],
    "no messages": [],
    "message 1 of `chat` is no object": [None],
    "only the user's can be answered": [user("x"), user("y", "assistant")],
}


@pytest.mark.parametrize("said", BROKEN)
@pytest.mark.parametrize("type_", [CHAT, types.Json()])
def test_a_conversation_that_cannot_be_continued_fails_its_row(
    tmp_path: Path, said: str, type_: Type
) -> None:
    lines(tmp_path, "topics.jsonl", [{"chat": BROKEN[said]}, {"chat": [user("fine")]}])
    source = read(Field("chat", type_))
    with serving() as server:
        report = made(of(table(source, CONTINUE, outputs={"answer": TEXT})), tmp_path, server)
        assert server.count == 1
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)
    ((reason, detail),) = rows(tmp_path, "SELECT reason, detail FROM synth.failures")
    assert reason == "chat"
    assert said in detail


@pytest.mark.parametrize("value", [3, "text", {"role": "user"}, None])
def test_json_that_is_no_conversation_fails_its_row(tmp_path: Path, value: Any) -> None:
    lines(tmp_path, "topics.jsonl", [{"chat": value}, {"chat": [user("fine")]}])
    source = read(Field("chat", types.Json()))
    with serving() as server:
        report = made(of(table(source, CONTINUE, outputs={"answer": TEXT})), tmp_path, server)
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)


def test_what_is_promised_to_be_a_conversation_is_one(tmp_path: Path) -> None:
    answered = [user("x"), user("y", "assistant")]
    bad = [BROKEN[said] for said in BROKEN if "only" not in said]
    lines(tmp_path, "topics.jsonl", ({"chat": chat} for chat in [answered, *bad, None]))
    source = read(Field("chat", CHAT))
    promised = require(Field("chat", CHAT))
    report = made(of(table(source, promised, outputs={"chat": CHAT})), tmp_path, "")
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 6)
    reasons = "SELECT reason, count(*) FROM synth.failures GROUP BY 1 ORDER BY 1"
    assert rows(tmp_path, reasons) == [("chat", 5), ("null", 1)]
    report = made(
        of(table(source, require(Field("chat", maybe(CHAT))), outputs={"chat": CHAT})), tmp_path, ""
    )
    assert report.tables["t"].kept == 2


def test_a_dialogue_is_a_loop_over_a_conversation(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    begin = compute(
        "[{'role': 'user', 'content': topic}]", Field("begun", CHAT), Field("topic", TEXT)
    )
    inner = (
        ask(plan.Conversation("chat"), "said", "chat"),
        compute(
            "list_concat(chat, [{'role': 'assistant', 'content': said},"
            " {'role': 'user', 'content': 'go on'}])",
            Field("longer", CHAT),
            Field("chat", CHAT),
            Field("said", TEXT),
        ),
    )
    loop = repeat(3, "chat", "begun", "longer", *inner, write=Field("dialogue", CHAT))
    with serving(lambda seen: f"turn {len(seen.body['messages'])}") as server:
        made(spec(begin, loop, dialogue=CHAT), tmp_path, server)
        assert server.count == 6
    said = "SELECT [m.content FOR m IN dialogue] FROM t LIMIT 1"
    assert column(tmp_path, said) == [
        ["topic 0", "turn 1", "go on", "turn 3", "go on", "turn 5", "go on"]
    ]


# Identity


def test_a_call_outside_of_loops_has_the_identity_it_always_had() -> None:
    """What was paid for in an older database is found again."""
    asked = (Message("user", "x"),)
    sampling, sure = backend(), backend(sampling=plan.Sampling(temperature=0))
    key = Place("t", "k")
    identity = Identity(sampling, "m", 42)
    assert identity.digest(asked, None, key, 0).hex() == OLD
    places = [key, Place("t", "k", (1,)), Place("t", "k", (1, 1)), Place("t", "k", (), 0)]
    assert len({identity.digest(asked, None, place, 0) for place in places}) == 4
    assert len({Identity(sure, "m", 42).digest(asked, None, place, 0) for place in places}) == 1


OLD = "6c797971a5c47954070aa7881b2cfc92"


def test_prompts_see_their_values(tmp_path: Path) -> None:
    topics(tmp_path, 1)
    with serving() as server:
        made(spec(ask("{{ topic }}!", "answer", "topic"), answer=TEXT), tmp_path, server)
        assert prompts(server) == ["topic 0!"]


def test_answers_that_come_late_are_not_waited_for_twice(tmp_path: Path) -> None:
    topics(tmp_path, 4)

    def answer(seen: Seen) -> str:
        return seen.prompt

    after = ask("{{ answers }}", "last", "answers")
    with serving(answer, latency_s=(0.0, 0.02)) as server:
        made(spec(SEVERAL, after, answers=TEXTS, last=TEXT), tmp_path, server)
        assert server.count == 4 * 5
