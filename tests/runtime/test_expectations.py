"""What a spec expects of its tables: checked when they are made, before anything is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthc.compiler import plan
from synthc.compiler.span import Span
from synthc.compiler.types import Field
from synthc.runtime.errors import RunError
from synthc.runtime.store.expectations import SHOWN_CHARACTERS, Violated
from tests.runtime.helpers import made, rows
from tests.runtime.plans import INT, SPAN, TEXT, constant, of, sample, table
from tests.runtime.plans import rows as numbered

PLACE = Span("x.synth", 7, 1, 7, 9)
EXPORT = (plan.Export(SPAN, "t", "t.jsonl"),)
KEPT = "SELECT name, holds, violations FROM synth.expectations WHERE run_id = {} ORDER BY 1"


def expecting(*expects: tuple[str, str]) -> plan.Plan:
    """Ten rows with the numbers 1 and 2, and what is expected of them."""
    ops = (sample(plan.Uniform(1.0, 2.0), Field("n", INT)), constant("x" * 500, "text"))
    return of(
        table(numbered(10), *ops, outputs={"n": INT, "text": TEXT}),
        exports=EXPORT,
        expects=tuple(plan.Expect(PLACE, name, sql, ("t",)) for name, sql in expects),
    )


def test_what_holds_lets_the_exports_be_written(tmp_path: Path) -> None:
    made(expecting(("few", "SELECT n FROM t WHERE n > 2")), tmp_path, "")
    assert (tmp_path / "t.jsonl").exists()
    assert rows(tmp_path, KEPT.format(1)) == [("few", True, 0)]


def test_what_does_not_hold_is_said_and_nothing_is_exported(tmp_path: Path) -> None:
    spec = expecting(
        ("full", "SELECT count(*) AS n, 'a\n;' AS why FROM t HAVING count(*) < 100 -- always"),
        ("none", "FROM t WHERE n > 9"),
        ("ones", "SELECT n, text FROM t"),
    )
    with pytest.raises(Violated) as caught:
        made(spec, tmp_path, "")
    error = caught.value
    assert error.exit_code == 1
    assert error.span == PLACE
    assert error.message == "`full` does not hold: 1 row violates it; nor does `ones`"
    assert error.hint == r'nothing was exported; it is {"n": 10, "why": "a\n;"}'
    assert not (tmp_path / "t.jsonl").exists()
    expected = [("full", False, 1), ("none", True, 0), ("ones", False, 10)]
    assert rows(tmp_path, KEPT.format(1)) == expected
    with pytest.raises(Violated):  # the tables are there, and it is looked at again
        made(spec, tmp_path, "")
    assert rows(tmp_path, KEPT.format(2)) == expected
    assert rows(tmp_path, "SELECT status FROM synth.runs") == [("stopped",)] * 2


def test_of_many_violations_the_first_few_are_shown_in_short(tmp_path: Path) -> None:
    with pytest.raises(Violated, match="10 rows violate it") as caught:
        made(expecting(("short", "FROM t")), tmp_path, "")
    hint = caught.value.hint or ""
    assert hint.count(" …") == 3
    assert len(hint) < 4 * SHOWN_CHARACTERS


def test_a_few_rows_are_not_looked_at(tmp_path: Path) -> None:
    made(expecting(("none", "FROM t")), tmp_path, "", limit=3)
    assert rows(tmp_path, "FROM synth.expectations") == []


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM synth.calls", "no single query"),
        ("SELECT 1; DROP TABLE t", "no single query"),
        ("SELECT missing FROM t", "cannot be checked"),
        ("SELECT CAST('x' AS INT) FROM t", "cannot be checked"),
        ("FROM read_text('/etc/passwd')", "cannot be checked"),
    ],
)
def test_a_query_that_cannot_be_run_ends_the_run_in_words(
    tmp_path: Path, sql: str, said: str
) -> None:
    with pytest.raises(RunError, match=said) as caught:
        made(expecting(("odd", sql)), tmp_path, "")
    assert caught.value.span == PLACE
    assert not (tmp_path / "t.jsonl").exists()
