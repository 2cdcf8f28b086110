"""De-duplication by similarity: blocks and parts of matrices keep what a plain loop over all rows keeps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.answers import Seen
from bench.server import serving
from synthc.compiler import plan
from synthc.runtime.engine import similar
from synthc.runtime.engine.similar import Distinct
from tests.runtime.helpers import BACKEND, WRITE, column, compiled, lines, made, rows


def bytes_of(vector: list[float] | None) -> bytes:
    return b"" if vector is None else np.array(vector, np.float32).tobytes()


def kept(vectors: list[bytes], threshold: float, sizes: list[int]) -> list[bool]:
    """What is kept of vectors that come in blocks of those sizes, again and again."""
    distinct = Distinct(threshold)
    found: list[bool] = []
    number = 0
    while len(found) < len(vectors):
        size = sizes[number % len(sizes)]
        found += distinct.add(vectors[len(found) : len(found) + size])
        number += 1
    return found


def by_loop(vectors: list[list[float] | None], threshold: float) -> list[bool]:
    """The same, by what it means."""
    firsts: list[list[float]] = []
    found = []
    for vector in vectors:
        if vector is None or not any(vector):
            found.append(True)
            continue
        like = (
            math.fsum(a * b for a, b in zip(vector, first, strict=True))
            / math.hypot(*vector)
            / math.hypot(*first)
            for first in firsts
        )
        found.append(all(cosine < threshold - 1e-6 for cosine in like))
        if found[-1]:
            firsts.append(vector)
    return found


@settings(deadline=None, max_examples=300)
@given(
    st.integers(1, 4).flatmap(
        lambda size: st.lists(
            st.none() | st.lists(st.integers(-3, 3).map(float), min_size=size, max_size=size),
            max_size=30,
        )
    ),
    st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_what_is_kept_is_what_a_loop_keeps(
    vectors: list[list[float] | None], threshold: float, sizes: list[int], part: int
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar, "_PART", part)
        found = kept([bytes_of(vector) for vector in vectors], threshold, sizes)
    assert found == by_loop(vectors, threshold)


def test_many_long_vectors_in_blocks_of_any_size():
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((900, 384)).astype(np.float32)
    for number in range(1, 900, 2):  # copies of one before, at about every similarity
        other = rng.integers(0, number)
        vectors[number] = vectors[other] + rng.uniform(0, 0.7) * vectors[number]
    blocks = [vector.tobytes() for vector in vectors]
    found = [kept(blocks, 0.95, sizes) for sizes in ([1], [7, 300], [900])]
    assert found[0] == found[1] == found[2]
    assert 450 < sum(found[0]) < 900
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    firsts = unit[found[0]]
    assert np.tril(firsts @ firsts.T, -1).max() < 0.95
    dropped = unit[~np.array(found[0])]
    assert (dropped @ firsts.T).max(axis=1).min() >= 0.95 - 1e-5


def test_pairs_at_the_threshold_are_decided_alike_whatever_is_beside_them():
    rng = np.random.default_rng(6)
    first = rng.standard_normal(384)
    first /= np.linalg.norm(first)
    pairs = []
    for step in range(-20, 21):  # around 0.9 in steps that float32 products cannot tell apart
        cosine = 0.9 + step * 1e-8
        other = rng.standard_normal(384)
        other -= other @ first * first
        other /= np.linalg.norm(other)
        pairs.append(cosine * first + math.sqrt(1 - cosine**2) * other)
    for pair in pairs:
        pair_alone = kept([v.astype(np.float32).tobytes() for v in (first, pair)], 0.9, [2])
        filler = [v.astype(np.float32).tobytes() for v in rng.standard_normal((100, 384))]
        among = kept(
            [first.astype(np.float32).tobytes(), *filler, pair.astype(np.float32).tobytes()],
            0.9,
            [64],
        )
        assert among[-1] == pair_alone[-1]


@pytest.mark.parametrize("none", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], None])
def test_what_has_no_direction_is_similar_to_nothing(none: list[float] | None):
    vectors = [bytes_of(vector) for vector in (none, [1.0, 1.0], none, [2.0, 2.0], none)]
    assert kept(vectors, 0.01, [2]) == [True, True, True, False, True]
    assert kept(vectors[:1], 0.01, [1]) == [True]


# Whole runs

SPEC = f"""{BACKEND}{WRITE}
param near: float = 0.95
table t = read("points.jsonl", key = n)
  |> select("n, topic, [x, y]::FLOAT[2] AS v")
  |> write
  |> dedup(v, similar = $near)
"""
POINTS = [(1, 0), (0, 1), (2, 0.1), (1, 1), (3, 3.1), (-1, 0), (0, 0), (0, 0), (5, 0.2)]
KEPT = [0, 1, 3, 5, 6, 7]


def points(base: Path) -> None:
    found = enumerate(POINTS)
    lines(
        base,
        "points.jsonl",
        ({"n": n, "topic": f"topic {n}", "x": float(x), "y": float(y)} for n, (x, y) in found),
    )


def test_rows_are_kept_in_their_order_whoever_is_answered_first(tmp_path: Path):
    points(tmp_path)
    with serving(latency_s=(0.0, 0.03)) as server:
        few = made(SPEC, tmp_path, server, limit=4)
        assert (few.tables["t"].kept, few.tables["t"].dropped) == (3, 1)
        whole = made(SPEC, tmp_path, server)
        assert (whole.tables["t"].rows_in, whole.tables["t"].dropped) == (9, 3)
        assert server.count == len(POINTS)
    assert column(tmp_path, "SELECT n FROM t") == KEPT
    assert rows(
        tmp_path, "SELECT row_key, status FROM synth.rows WHERE status <> 'kept' ORDER BY ALL"
    ) == [("2", "dropped"), ("4", "dropped"), ("8", "dropped")]


def test_a_row_that_fails_before_is_no_first(tmp_path: Path):
    points(tmp_path)

    def answer(seen: Seen) -> str:
        return "no" if seen.prompt.endswith("topic 0") else "fine"

    spec = SPEC.replace("|> dedup", """|> where("answer = 'fine'")\n  |> dedup""")
    with serving(answer=answer) as server:
        made(spec, tmp_path, server)
    assert column(tmp_path, "SELECT n FROM t") == [1, 2, *KEPT[2:]]


def test_the_threshold_stands_in_the_plan(tmp_path: Path):
    points(tmp_path)
    (table,) = compiled(SPEC, tmp_path).tables
    (op,) = [op for op in table.ops if isinstance(op, plan.Dedup)]
    assert (op.similar, list(op.reads)) == (0.95, ["v"])
