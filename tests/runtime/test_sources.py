"""Where rows come from: their keys, their order, and files that are not what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.errors import RunError
from tests.runtime.helpers import column, compiled, lines, made, rows, topics
from tests.runtime.plans import INT, SPAN, draw, of, sample, table
from tests.runtime.plans import rows as numbered

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


@pytest.mark.parametrize(
    "far", ["DATE '290000-01-01'", "'-infinity'::TIMESTAMP", "[DATE '0044-03-15 (BC)']"]
)
def test_dates_that_rows_cannot_hold(tmp_path: Path, far: str) -> None:
    with pytest.raises(RunError, match="before the year 1 or after 9999") as stopped:
        made(f'table t = sql "SELECT {far} AS d"', tmp_path, "")
    assert stopped.value.span
    spec = f"""
        table s = sql "SELECT range AS n FROM range(3)" key n
        table t = s |> select("n, CASE WHEN n = 1 THEN {far} END AS d")
    """
    report = made(spec, tmp_path, "")
    assert (report.tables["t"].kept, report.tables["t"].failed) == (2, 1)
    assert "before the year 1" in column(tmp_path, "SELECT detail FROM synth.failures")[0]


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


# Files


def pictures(base: Path, *names: str) -> None:
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(name.encode())


def files(path: str) -> plan.Plan:
    source = plan.Files(SPAN, path, (Field("path", types.Text()), Field("image", types.Image())))
    columns: dict[str, types.Type] = {"path": types.Text(), "image": types.Image()}
    return of(table(source, outputs=columns))


def test_a_row_for_each_file(tmp_path: Path) -> None:
    names = ["a.jpg", "b'c.jpg", "é.jpg"]
    pictures(tmp_path, *reversed(names), "other.png")
    (tmp_path / "folder.jpg").mkdir()
    made(files("*.jpg"), tmp_path, "")
    assert rows(tmp_path, "FROM t") == [(name, name) for name in names]
    assert column(tmp_path, KEYS) == names


def test_files_in_folders_are_named_from_that_of_the_spec(tmp_path: Path) -> None:
    pictures(tmp_path, "x/b.jpg", "x/y/a.jpg", "outside.jpg")
    made(files("x/**/*.jpg"), tmp_path, "")
    assert column(tmp_path, KEYS) == ["x/b.jpg", "x/y/a.jpg"]
    (tmp_path / "z").mkdir()
    made(files("../outside.jpg"), tmp_path / "z", "")
    assert column(tmp_path / "z", KEYS) == ["../outside.jpg"]
    made(files(str(tmp_path / "*.jpg")), tmp_path / "z", "")
    assert column(tmp_path / "z", KEYS) == [str(tmp_path / "outside.jpg")]


def test_changed_files_make_the_table_again(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "b.jpg")
    spec = files("*.jpg")
    made(spec, tmp_path, "")
    assert made(spec, tmp_path, "").skipped == ["t"]
    (tmp_path / "a.jpg").write_bytes(b"new")
    assert made(spec, tmp_path, "").skipped == []
    (tmp_path / "a.jpg").rename(tmp_path / "c.jpg")
    assert made(spec, tmp_path, "").skipped == []
    assert made(spec, tmp_path, "", limit=1).tables["t"].kept == 1
    assert column(tmp_path, KEYS) == ["b.jpg"]


def test_no_file_at_all_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(RunError, match=r"there is no file `\*.jpg`"):
        made(files("*.jpg"), tmp_path, "")


# Names


@pytest.mark.parametrize(
    "name", ["ordinal", "row_key", "place", "nth", "digest", "position", "status", "row"]
)
def test_a_column_can_have_a_name_that_we_use_too(tmp_path: Path, name: str) -> None:
    lines(tmp_path, "t.jsonl", ({name: f"v{n}"} for n in range(3)))
    spec = f"""table t = read("t.jsonl")
    table u = t |> where("true")
    table k = read("t.jsonl", key = {name})
    table w = sql "SELECT {name} FROM t" key {name}"""
    made(spec, tmp_path, "")
    for table_ in "tukw":
        assert column(tmp_path, f"FROM {table_}") == ["v0", "v1", "v2"]


# Hidden tables


def test_a_hidden_table_stands_beside_ours(tmp_path: Path) -> None:
    hidden = table(
        numbered(6),
        sample(plan.Uniform(1.0, 9.0), Field("n", INT)),
        outputs={"n": INT},
        name="t·1",
        hidden=True,
    )
    query = plan.Query(
        SPAN,
        'SELECT sum(n) AS n FROM synth."t·1"',
        ("t·1",),
        (Field("n", INT),),
        None,
        ordered=False,
    )
    drawn = Field("n", INT)
    few = types.ListOf(types.Record((drawn,)))
    spec = of(
        hidden,
        table(plan.From(SPAN, "t·1"), outputs={"n": INT}, name="same"),
        table(query, outputs={"n": INT}, name="sum"),
        table(numbered(1), draw("t·1", 6, drawn), outputs={"examples": few}, name="drawn"),
    )
    report = made(spec, tmp_path, "")
    found = column(tmp_path, 'FROM synth."t·1"')
    assert column(tmp_path, "FROM same") == found
    assert column(tmp_path, "FROM sum") == [sum(found)]
    assert sorted(row["n"] for row in column(tmp_path, "FROM drawn")[0]) == sorted(found)
    assert report.tables["t·1"].kept == 6
    shown = "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
    assert column(tmp_path, shown) == ["drawn", "same", "sum"]
    assert made(spec, tmp_path, "").skipped == ["t·1", "same", "sum", "drawn"]


def test_a_hidden_table_takes_no_name_of_ours(tmp_path: Path) -> None:
    hidden = table(numbered(1), outputs={}, name="calls", hidden=True)
    with pytest.raises(RunError, match=r"no table can be called `synth.calls`"):
        made(of(hidden), tmp_path, "")
