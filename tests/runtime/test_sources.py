"""Where rows come from: their keys, their order, and files that are not what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from synthc.runtime.errors import RunError
from tests.runtime.helpers import column, compiled, lines, made, rows, topics

KEYS = "SELECT row_key FROM synth.rows WHERE table_name = 't' ORDER BY ordinal"


def test_equal_rows_are_told_apart_by_their_number(tmp_path: Path) -> None:
    lines(tmp_path, "t.jsonl", [{"a": 1}, {"a": 2}, {"a": 1}, {"a": 1}])
    made('table t = read("t.jsonl")', tmp_path, "")
    first, other, second, third = column(tmp_path, KEYS)
    assert (second, third) == (f"{first}#2", f"{first}#3")
    assert other != first


def test_a_declared_column_names_the_rows(tmp_path: Path) -> None:
    lines(tmp_path, "t.jsonl", [{"id": "b", "x": 1}, {"id": "a", "x": 2}])
    made('table t = read("t.jsonl", key = id)', tmp_path, "")
    assert column(tmp_path, KEYS) == ["b", "a"]  # in the order of the file


@pytest.mark.parametrize(
    ("ids", "said"),
    [([1, 2, 1], "the key 1 stands twice"), ([1, None], "a row without a key")],
)
def test_a_key_must_name_each_row(tmp_path: Path, ids: list[int | None], said: str) -> None:
    lines(tmp_path, "t.jsonl", ({"id": id_, "x": n} for n, id_ in enumerate(ids)))
    with pytest.raises(RunError, match=said) as caught:
        made('table t = read("t.jsonl", key = id)', tmp_path, "")
    assert caught.value.span is not None
    assert (caught.value.span.line, caught.value.span.column) == (1, 11)


def test_a_query_without_an_order_is_stored_in_the_order_of_its_keys(tmp_path: Path) -> None:
    lines(tmp_path, "s.jsonl", ({"a": n % 1000, "f": n / 7} for n in range(50_000)))
    spec = """table s = read("s.jsonl")
    table t = sql "SELECT a, sum(f) AS total, count(*) AS n FROM s GROUP BY a"
    table k = sql "SELECT a, avg(f) AS mean FROM s GROUP BY a" key a
    table o = sql "SELECT a, n FROM t ORDER BY a DESC" """
    for database in ("one.duckdb", "two.duckdb"):
        made(spec, tmp_path, "", database=database)
    queries = ("SELECT a, n FROM t", KEYS, "SELECT a FROM k", "SELECT a FROM o")
    for query in queries:
        assert rows(tmp_path, query, "one.duckdb") == rows(tmp_path, query, "two.duckdb")
    assert column(tmp_path, KEYS, "one.duckdb") == sorted(column(tmp_path, KEYS, "one.duckdb"))
    assert column(tmp_path, "SELECT a FROM k", "one.duckdb") == list(range(1000))
    assert column(tmp_path, "SELECT a FROM o", "one.duckdb") == list(range(999, -1, -1))


def test_floats_are_no_part_of_a_querys_keys(tmp_path: Path) -> None:
    spec = "table t = sql \"SELECT a, f FROM (VALUES ('x', {}), ('x', {}), ('y', 0.5)) v(a, f)\""
    found = []
    for n, numbers in enumerate([(1.5, 2.5), (2.5, 1.5000001)]):
        made(spec.format(*numbers), tmp_path, "", database=f"{n}.duckdb")
        found.append(rows(tmp_path, "SELECT a, round(f, 3) FROM t", f"{n}.duckdb"))
        keys = column(tmp_path, KEYS, f"{n}.duckdb")
        found.append(keys)
        assert sum(key.endswith("#2") for key in keys) == 1
    assert [[(a, float(f)) for a, f in found[0]], found[1]] == [
        [(a, float(f)) for a, f in found[2]],
        found[3],
    ]


def test_a_few_rows_of_a_query_are_its_first(tmp_path: Path) -> None:
    spec = 'table t = sql "SELECT (7 * range) % 100 AS a FROM range(100)" key a'
    made(spec, tmp_path, "", limit=4)
    assert column(tmp_path, "SELECT a FROM t") == [0, 1, 2, 3]


def test_columns_of_every_type_make_keys(tmp_path: Path) -> None:
    duckdb.connect().sql(
        "SELECT 1::TINYINT AS a, 2::HUGEINT AS b, 1.25::DECIMAL(9, 2) AS c, 'nan'::DOUBLE AS d,"
        " 'x'::BLOB AS e, DATE '2024-01-02' AS f, TIMESTAMP '2024-01-02 03:04:05' AS g,"
        " INTERVAL 3 DAY AS h, uuid() AS i, MAP {'k': 1} AS j, [1, NULL] AS k, {'x': 1} AS l,"
        " [0.5, 1.5]::FLOAT[2] AS m, NULL AS n, '{\"a\": 1}'::JSON AS o, 'b'::ENUM ('a', 'b') AS p,"
        " TIME '01:02:03' AS q, '-inf'::FLOAT AS r, TIMESTAMPTZ '2024-01-02 03:04:05+00' AS s"
    ).write_parquet(str(tmp_path / "t.parquet"))
    made('table t = read("t.parquet")', tmp_path, "")
    assert len(column(tmp_path, KEYS)[0]) == 32
    source = (
        duckdb.connect()
        .sql(f"SELECT row::VARCHAR FROM '{tmp_path / 't.parquet'}' AS row")
        .fetchall()
    )
    assert rows(tmp_path, "SELECT t::VARCHAR FROM t") == source


def test_files_of_a_pattern_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        lines(tmp_path, f"{name}.part.jsonl", [{"name": name, "n": n} for n in range(3)])
    made('table t = read("*.part.jsonl")', tmp_path, "")
    assert column(tmp_path, "SELECT name || n FROM t") == [
        f"{a}{n}" for a in "abc" for n in range(3)
    ]


# What a file became since the spec was compiled


def gone(path: Path) -> None:
    path.unlink()


def without_topic(path: Path) -> None:
    path.write_text('{"subject": "x"}\n')


def of_another_type(path: Path) -> None:
    path.write_text('{"n": "seven", "topic": "x"}\n')


def malformed(path: Path) -> None:
    good = '{"n": 1, "topic": "x"}\n'
    path.write_text(good * 6 + '{"n": 2, "topic": \n' + good)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gone, "there is no file `topics.jsonl`"),
        (of_another_type, "`topics.jsonl` cannot be read: "),
        (malformed, "line 7 of topics.jsonl is no JSON"),
    ],
)
def test_a_file_that_is_not_what_it_was(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    path = topics(tmp_path, 5)
    plan = compiled('# one\n  table t = read("topics.jsonl")', tmp_path)
    change(path)
    with pytest.raises(RunError) as caught:
        made(plan, tmp_path, "")
    assert said in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert caught.value.span is not None
    assert (caught.value.span.line, caught.value.span.column) == (2, 13)
    assert caught.value.hint


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet"])
def test_a_column_that_is_gone(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"t.{form}"
    write(path, [{"n": 1, "topic": "x"}])
    plan = compiled(f'table t = read("t.{form}")', tmp_path)
    write(path, [{"n": 1, "subject": "x"}])
    with pytest.raises(RunError) as caught:
        made(plan, tmp_path, "")
    assert "topic" in caught.value.message
    assert caught.value.span is not None


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet"])
def test_a_file_that_changed_is_read_again(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"t.{form}"
    write(path, [{"n": 1, "topic": "x"}])
    plan = compiled(f'table t = read("t.{form}")', tmp_path)
    made(plan, tmp_path, "")
    write(path, [{"n": 2, "topic": "y"}, {"n": 3, "topic": "z"}])
    assert not made(plan, tmp_path, "").skipped
    assert rows(tmp_path, "FROM t") == [(2, "y"), (3, "z")]
    assert made(plan, tmp_path, "").skipped == ["t"]


def write(path: Path, records: list[dict[str, object]]) -> None:
    if path.suffix == ".parquet":
        selects = " UNION ALL ".join(
            "SELECT " + ", ".join(f"{value!r} AS {name}" for name, value in record.items())
            for record in records
        )
        duckdb.connect().sql(selects).write_parquet(str(path))
    elif path.suffix == ".csv":
        head = ",".join(records[0])
        body = (",".join(map(str, record.values())) for record in records)
        path.write_text("\n".join([head, *body]) + "\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(records))
    else:
        lines(path.parent, path.name, records)
