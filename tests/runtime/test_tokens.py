"""Vectors of tokens, words and spans: by the real model, and by plain loops."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from synthc.compiler import plan
from synthc.runtime.embedding.passages import Passage, Span, passage
from synthc.runtime.embedding.tokens import (
    TokenEmbedder,
    means,
    open_token_embedder,
    span_ranges,
    tokens_of,
    unit,
    word_ranges,
)
from synthc.runtime.errors import RowFailed, RunError
from synthc.runtime.models import fetch
from synthc.runtime.planning.estimate import estimate
from synthc.runtime.run import Options, Report, run
from synthc.runtime.simulate import Simulated
from tests.runtime.helpers import column, compiled, lines, made, rows
from tests.runtime.tiny_text import MINILM

EMBEDDER = f"""
embedder tokens {{ model = "{MINILM}"  dimensions = 384  pooling = "none" }}
"""
LEAST_COSINE = 0.99999

TEXTS = [
    "Ada Lovelace wrote to Charles Babbage in London.",
    "",
    "a",
    "Größe, naïveté, 東京, 🙂 unbelievably",
    "[CLS] is a word of the user's here, \t and so\nare others",
    "The committee met on Tuesday and decided nothing of importance. " * 4,
]


@pytest.fixture(scope="session")
def embedder() -> TokenEmbedder:
    return open_token_embedder(MINILM, base=Path(), dimensions=384)


@pytest.fixture(scope="session")
def original() -> dict[str, tuple[np.ndarray, list[tuple[int, int]], list[int]]]:
    """By text what transformers makes of it alone: the vectors of its tokens, without special ones, in
    (tokens, dimensions), where they stand in the text, and to which word each belongs."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = fetch(MINILM, base=Path())
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    found = {}
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = inputs.pop("offset_mapping")[0].tolist()
        with torch.inference_mode():
            hidden = model.eval()(**inputs).last_hidden_state[0].numpy()
        kept = [at for at, word in enumerate(inputs.word_ids(0)) if word is not None]
        places = [(offsets[at][0], offsets[at][1]) for at in kept]
        found[text] = hidden[kept], places, [inputs.word_ids(0)[at] for at in kept]
    return found


def parts_of(embedder: TokenEmbedder, *passages: Passage) -> list[list[dict[str, Any]]]:
    parts = []
    for found in embedder.embed(passages):
        assert isinstance(found, list)
        parts.append(found)
    return parts


def assert_same(parts: Sequence[dict[str, Any]], expected: np.ndarray) -> None:
    """The vectors of parts are those expected, (parts, dimensions)."""
    assert len(parts) == len(expected)
    for part, vector in zip(parts, expected, strict=True):
        norms = np.linalg.norm(part["embedding"]) * np.linalg.norm(vector)
        assert part["embedding"] @ vector / norms >= LEAST_COSINE
        assert part["embedding"].dtype == np.float32
        assert np.allclose(part["embedding"], vector, atol=1e-3)


# The real model


def test_tokens_are_the_originals_in_a_batch_and_alone(
    embedder: TokenEmbedder, original: dict[str, Any]
):
    passages = [Passage(text, "tokens") for text in TEXTS]
    batch = parts_of(embedder, *passages)
    alone = [parts_of(embedder, passage)[0] for passage in passages]
    for found in (batch, alone):
        for text, parts in zip(TEXTS, found, strict=True):
            vectors, places, _ = original[text]
            assert_same(parts, vectors)
            assert [(part["start"], part["end"]) for part in parts] == places
            assert [part["text"] for part in parts] == [text[start:end] for start, end in places]
    assert batch[1] == []
    assert [part["text"] for part in batch[0]][:4] == ["Ada", "Love", "lace", "wrote"]


@pytest.mark.parametrize("parts", ["words", "first tokens"])
def test_words_are_the_means_of_their_tokens_or_the_first_of_them(
    embedder: TokenEmbedder, original: dict[str, Any], parts: plan.Parts
):
    for text, found in zip(
        TEXTS, parts_of(embedder, *(Passage(text, parts) for text in TEXTS)), strict=True
    ):
        vectors, places, words = original[text]
        expected = []
        for word in dict.fromkeys(words):
            own = [at for at, other in enumerate(words) if other == word]
            start, end = places[own[0]][0], places[own[-1]][1]
            vector = vectors[own].mean(0) if parts == "words" else vectors[own[0]]
            expected.append((text[start:end], start, end, vector))
        assert [(p["text"], p["start"], p["end"]) for p in found] == [e[:3] for e in expected]
        assert_same(found, np.array([e[3] for e in expected]).reshape(-1, 384))
    (last,) = parts_of(embedder, Passage(TEXTS[-1], parts))
    assert [part["text"] for part in last][:3] == ["The", "committee", "met"]


def test_spans_are_the_means_of_the_tokens_they_touch(
    embedder: TokenEmbedder, original: dict[str, Any]
):
    text = TEXTS[0]
    spans = (
        *(Span(0, 12, "person"), Span(22, 37, "person"), Span(41, 47, "place")),
        *(Span(0, len(text), "all"), Span(5, 6, "a letter of a token"), Span(4, 12, "inside")),
    )
    vectors, places, _ = original[text]
    (parts,) = parts_of(embedder, Passage(text, "spans", spans))
    expected = [
        vectors[[at for at, (start, end) in enumerate(places) if start < s.end and end > s.start]]
        for s in spans
    ]
    assert_same(parts, np.array([own.mean(0) for own in expected]))
    assert [(p["text"], p["start"], p["end"], p["label"]) for p in parts] == [
        (text[s.start : s.end], s.start, s.end, s.label) for s in spans
    ]
    assert parts_of(embedder, Passage(text, "spans"))[0] == []


def test_with_normalize_each_part_has_unit_length(original: dict[str, Any]):
    text = TEXTS[0]
    embedder = open_token_embedder(MINILM, base=Path(), dimensions=384, normalize=True)
    tokens, words = parts_of(embedder, Passage(text, "tokens"), Passage(text, "words"))
    for parts in (tokens, words):
        assert np.allclose([np.linalg.norm(p["embedding"]) for p in parts], 1, atol=1e-5)
    # The mean of what the model gives, and not that of unit vectors.
    vectors = original[text][0][1:3].mean(0)
    assert words[1]["text"] == "Lovelace"
    assert_same(words[1:2], vectors[None] / np.linalg.norm(vectors))


def test_of_a_text_that_is_cut_the_rest_has_no_vectors():
    embedder = open_token_embedder(MINILM, base=Path(), dimensions=384, max_tokens=6)
    text = "one two three four five six"  # and two special tokens
    tokens, inside, across = parts_of(
        embedder,
        Passage(text, "tokens"),
        Passage(text, "spans", (Span(4, 13, "read"),)),
        Passage(text, "spans", (Span(14, 27, "half of it"),)),
    )
    assert embedder.truncated == 1
    assert [part["text"] for part in tokens] == ["one", "two", "three", "four"]
    assert inside[0]["text"] == "two three"
    assert across[0]["text"] == "four five six"
    assert (across[0]["embedding"] == tokens[3]["embedding"]).all()
    (behind,) = embedder.embed([Passage(text, "spans", (Span(0, 3, "a"), Span(19, 23, "b")))])
    assert isinstance(behind, RowFailed)
    assert behind.detail == (
        "span 2 (`b`, from 19 to 23) lies behind the 6 tokens that the model reads of a text"
    )


def test_a_span_of_nothing_but_space_fails(embedder: TokenEmbedder):
    space = Passage("a  b", "spans", (Span(1, 2, "gap"),))
    failed, found = embedder.embed([space, Passage("a  b", "words")])
    assert isinstance(failed, RowFailed)
    assert failed.detail == "span 1 (`gap`, from 1 to 2) has no token"
    assert isinstance(found, list) and len(found) == 2


def test_equal_passages_are_one(embedder: TokenEmbedder):
    same = Passage(TEXTS[0], "tokens")
    one, _, other = parts_of(embedder, same, Passage("b", "tokens"), same)
    assert one is other
    assert embedder.embed([]) == []


def test_wrong_dimensions_name_the_true_ones():
    with pytest.raises(RunError, match="has 384 dimensions, not 768"):
        open_token_embedder(MINILM, base=Path(), dimensions=768)


# What is a span


@pytest.mark.parametrize(
    ("spans", "why"),
    [
        ("no list", "the spans are no list"),
        ({"start": 0}, "the spans are no list"),
        (
            [{"start": 0, "end": 1, "label": "a"}, {"start": 1, "end": 2}],
            "span 2 must have a whole number `start`, another `end`, and a text `label`",
        ),
        ([None], "span 1 must have a whole number `start`, another `end`, and a text `label`"),
        (
            [{"start": False, "end": 1, "label": "a"}],
            "span 1 must have a whole number `start`, another `end`, and a text `label`",
        ),
        (
            [{"start": -1, "end": 2, "label": "a"}],
            "span 1 (`a`, from -1 to 2) does not lie within the text, which has 4 characters",
        ),
        (
            [{"start": 1, "end": 5, "label": "a"}],
            "span 1 (`a`, from 1 to 5) does not lie within the text, which has 4 characters",
        ),
        ([{"start": 2, "end": 2, "label": "a"}], "span 1 (`a`, from 2 to 2) has no character"),
    ],
)
def test_what_is_no_span_of_the_text_is_named(spans: Any, why: str):
    with pytest.raises(RowFailed) as caught:
        passage("text", "spans", spans)
    assert (caught.value.reason, caught.value.detail) == ("spans", why)


def test_spans_are_taken_with_more_than_they_need():
    found = passage("text", "spans", [{"start": 0, "end": 4, "label": "a", "sure": 0.5}])
    assert found == Passage("text", "spans", (Span(0, 4, "a"),))


# Arrays


@st.composite
def tokenised(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with gaps between some of them: their words (tokens,) and offsets (tokens, 2)."""
    words, offsets, word, at = [], [], 0, 0
    for gap, length, begins in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=12)
    ):
        at += gap
        word += begins
        words.append(word)
        offsets.append((at, at + length))
        at += length
    return np.array(words, np.intp), np.array(offsets, np.intp).reshape(-1, 2)


@settings(deadline=None)
@given(tokenised(), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=6))
def test_ranges_and_means_are_those_of_plain_loops(
    tokens: tuple[np.ndarray, np.ndarray], spans: list[tuple[int, int]]
):
    words, offsets = tokens
    vectors = np.random.default_rng(1).standard_normal((len(words), 3)).astype(np.float32)
    of_words = [[at for at in range(len(words)) if words[at] == w] for w in dict.fromkeys(words)]
    ranges = word_ranges(words)
    assert [list(range(*pair)) for pair in ranges.tolist()] == of_words
    wanted = np.array([(start, start + length) for start, length in spans], np.intp).reshape(-1, 2)
    touched = [
        # A token of no character stands between two, and is part of a span around it.
        [at for at, (first, behind) in enumerate(offsets) if first < end and behind > start]
        for start, end in wanted
    ]
    found = span_ranges(offsets, wanted)
    assert [list(range(*pair)) for pair in found.tolist()] == touched
    some = np.concatenate([ranges, found[found[:, 0] < found[:, 1]]])
    expected = [vectors[own].mean(0) for own in (*of_words, *filter(None, touched))]
    assert np.allclose(means(vectors, some), np.array(expected).reshape(-1, 3), atol=1e-5)


def test_a_zero_vector_stays_zero():
    assert unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]


def test_tokens_of_bytes_stand_where_their_characters_do():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["the the wood"], trainer)
    text = "the 🙂 wood"
    tokens = tokens_of(tokenizer.encode(text), 0, cut=False)
    assert {text[start:end] for start, end in tokens.offsets} <= {"the", "🙂", "wood", " ", ""}
    (smile, wood) = span_ranges(tokens.offsets, np.array([(4, 5), (6, 10)]))
    assert {text[s:e] for s, e in tokens.offsets[slice(*smile)]} == {"🙂"}
    assert {text[s:e] for s, e in tokens.offsets[slice(*wood)]} == {"wood"}
    empty = tokens_of(tokenizer.encode(""), 7, cut=False)
    assert (empty.ids, empty.offsets.shape, len(empty.words)) == ([7], (0, 2), 0)


# Whole runs

SPEC = f"""{EMBEDDER}
table docs = read("docs.jsonl", key = n, types = {{entities: {{TYPE}}}})
  |> embed(text, spans = entities) using tokens as found

table entities = docs
  |> unnest(found as entity)
  |> select("n, entity.label AS label, entity.text AS name, entity.embedding AS embedding")

table words = read("docs.jsonl", key = n)
  |> embed(text, words = "mean") using tokens as t
  |> unnest(t as token)

table near = sql \"\"\"
  SELECT a.name, b.name AS other, array_cosine_similarity(a.embedding, b.embedding) AS likeness
  FROM entities AS a JOIN entities AS b ON a.n <> b.n
  ORDER BY a.name, other
\"\"\"
"""


def docs(base: Path) -> None:
    found = [
        ("Rome lies on the Tiber.", [("Rome", "city"), ("Tiber", "river")]),
        ("Vienna lies on the Danube.", [("Vienna", "city"), ("Danube", "river")]),
    ]
    records = [
        {
            "n": n,
            "text": text,
            "entities": [
                {"start": text.index(name), "end": text.index(name) + len(name), "label": label}
                for name, label in names
            ],
        }
        for n, (text, names) in enumerate(found)
    ]
    outside = [{"start": 0, "end": 99, "label": "x"}]
    more = [
        {"n": 2, "text": "No entity.", "entities": []},
        {"n": 3, "text": "Short.", "entities": outside},
        {"n": 4, "text": "None.", "entities": None},
        {"n": 5, "text": None, "entities": []},
        {"n": 6, "text": "", "entities": []},
    ]
    lines(base, "docs.jsonl", (*records, *more))


@pytest.mark.parametrize("type_", ["{start: int, end: int, label: text}[]", "json"])
def test_spans_come_to_a_table_of_their_own(tmp_path: Path, type_: str):
    docs(tmp_path)
    report = made(SPEC.replace("{TYPE}", type_), tmp_path, "")
    counts = report.tables["docs"]
    assert (counts.rows_in, counts.kept, counts.failed) == (7, 4, 3)
    assert rows(
        tmp_path,
        "SELECT row_key, reason, detail FROM synth.failures WHERE table_name = 'docs' ORDER BY ALL",
    ) == [
        (
            "3",
            "spans",
            "span 1 (`x`, from 0 to 99) does not lie within the text, which has 6 characters",
        ),
        ("4", "null", "`entities` is null"),
        ("5", "null", "`text` is null"),
    ]
    assert rows(tmp_path, "SELECT label, name FROM entities") == [
        *[("city", "Rome"), ("river", "Tiber"), ("city", "Vienna"), ("river", "Danube")]
    ]
    vectors = dict(rows(tmp_path, "SELECT name, embedding FROM entities"))
    likeness = {(one, other): s for one, other, s in rows(tmp_path, "FROM near")}
    assert len(likeness) == 8
    for (one, other), found in likeness.items():
        a, b = np.array(vectors[one]), np.array(vectors[other])
        assert found == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)
    named = "SELECT token.text FROM words WHERE n = 0"
    assert column(tmp_path, named) == ["Rome", "lies", "on", "the", "Tiber", "."]
    (kind,) = column(
        tmp_path,
        "SELECT data_type FROM duckdb_columns() WHERE table_name = 'docs' AND column_name = 'found'",
    )
    assert kind.endswith("embedding FLOAT[384])[]")
    again = made(SPEC.replace("{TYPE}", type_), tmp_path, "")
    assert set(again.skipped) == set(report.tables)


def test_notes_say_how_many_texts_were_cut(tmp_path: Path):
    lines(tmp_path, "docs.jsonl", [{"text": "one two three four five"}, {"text": "one"}])
    spec = f"""
    embedder tokens {{
      model = "{MINILM}"  dimensions = 384  pooling = "none"  max_tokens = 5
    }}
    table t = read("docs.jsonl") |> embed(text) as found
    """
    report = made(spec, tmp_path, "")
    assert any(note == "tokens: 1 text cut at 5 tokens" for note in report.notes)
    assert column(tmp_path, "SELECT len(found) FROM t") == [3, 1]


def test_a_run_without_a_model_has_the_same_columns(tmp_path: Path):
    docs(tmp_path)
    spec = compiled(SPEC.replace("{TYPE}", "json"), tmp_path)
    report = Report()
    options = Options(tmp_path / "x.duckdb", tmp_path, {}, stand_in=Simulated(42))
    run(spec, options, report, lambda _note: None)
    assert report.tables["docs"].kept == 4
    assert column(tmp_path, "SELECT name FROM entities") == ["Rome", "Tiber", "Vienna", "Danube"]
    found = column(tmp_path, "SELECT token.text FROM words WHERE n = 1")
    assert found == ["Vienna", "lies", "on", "the", "Danube", "."]
    norms = column(tmp_path, "SELECT array_inner_product(embedding, embedding) FROM entities")
    assert np.allclose(norms, 1, atol=1e-5)


def test_what_a_run_would_do_is_known_but_for_how_many_parts_there_are(tmp_path: Path):
    docs(tmp_path)
    spec = compiled(SPEC.replace("{TYPE}", "json"), tmp_path)
    found = {t.table.name: t for t in estimate(spec, tmp_path / "x.duckdb", tmp_path, {}).tables}
    assert (found["docs"].kept.least, found["docs"].kept.most) == (4, 4)  # as in the run
    embedding = next(s for s in found["docs"].steps if isinstance(s.op, plan.Embed))
    assert embedding.calls is not None and embedding.calls.sent.most == 4
    entities = found["entities"].kept
    assert (entities.guessed, entities.most) == (True, 4)  # as many as there are spans


def test_a_plan_whose_embedder_pools_is_refused(tmp_path: Path):
    docs(tmp_path)
    spec = compiled(SPEC.replace("{TYPE}", "json"), tmp_path)
    text = plan.encode(spec).decode().replace('"pooling": "none"', '"pooling": "mean"')
    assert json.loads(text)["embedders"][0]["pooling"] == "mean"
    with pytest.raises(RunError, match="the plan is broken"):
        made(plan.decode(text.encode()), tmp_path, "")
