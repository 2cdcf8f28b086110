"""`synthc sql`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb
import pytest

from tests.cli.conftest import Synthc

VALUES = """
CREATE TABLE "values" AS SELECT
    'é漢 👩‍🔬' AS text, '' AS empty, 'a,"b"' || chr(10) || 'c' AS lines, 42 AS whole,
    170141183460469231731687303715884105727::HUGEINT AS huge, 0.1::FLOAT AS single,
    0.1::DOUBLE AS double, 1234567.25::DOUBLE AS big, 'nan'::DOUBLE AS nothing,
    '-inf'::DOUBLE AS low, 1.50::DECIMAL(9, 2) AS money, true AS yes, NULL AS missing,
    'a\\x00\\xFF'::BLOB AS bytes, TIMESTAMP '2024-01-02 03:04:05' AS at,
    TIMESTAMPTZ '2024-01-02 03:04:05+00' AS zoned, 'infinity'::TIMESTAMP AS never,
    DATE '290000-01-01' AS far, TIME '10:00' AS clock, INTERVAL 3 MONTH AS span,
    uuid '00000000-0000-0000-0000-000000000001' AS id, '10101'::BIT AS bits,
    {'a': 1, 'b': ['x', NULL], 'c': 'y'::BLOB} AS parts, MAP {'k': 1} AS map,
    '{"a": 1}'::JSON AS json, list_transform(range(384), lambda x: x / 7)::FLOAT[384] AS vector,
    'b'::ENUM('a', 'b') AS choice, '1'::UNION(n INTEGER, s VARCHAR) AS either,
    TIMESTAMP_NS '2024-01-02 03:04:05.123456789' AS exact,
    {'far': [DATE '290000-01-01'], 'bits': MAP {1: '101'::BIT}, 'x': [1.5]::FLOAT[1]} AS inner
"""


@pytest.fixture
def database(folder: Path) -> Path:
    path = folder / "x.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(VALUES)
        connection.execute(
            "CREATE TABLE many AS SELECT range AS n, 'row ' || range AS t FROM range(250)"
        )
        wide = ", ".join(f"'value {number}' AS column_{number}" for number in range(40))
        connection.execute(f"CREATE TABLE wide AS SELECT {wide}")
        connection.execute(
            "CREATE TABLE long AS SELECT repeat('word ', 500) AS a, repeat('x', 500) AS b"
        )
    return path


def test_every_kind_of_value_as_json(database: Path, call: Synthc) -> None:
    done = call("sql", 'FROM "values"', "--json")
    assert (done.status, done.err) == (0, "")

    def no_constant(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    (row,) = json.loads(done.out, parse_constant=no_constant)
    vector = row.pop("vector")
    assert len(vector) == 384
    assert vector[7] == 1.0
    assert row.pop("single") == pytest.approx(0.1)
    assert row == {
        "text": "é漢 👩‍🔬",
        "empty": "",
        "lines": 'a,"b"\nc',
        "whole": 42,
        "huge": 170141183460469231731687303715884105727,
        "double": 0.1,
        "big": 1234567.25,
        "nothing": None,
        "low": None,
        "money": 1.5,
        "yes": True,
        "missing": None,
        "bytes": "6100ff",
        "at": "2024-01-02 03:04:05",
        "zoned": "2024-01-02 03:04:05+00",
        "never": "infinity",
        "far": "290000-01-01",
        "clock": "10:00:00",
        "span": "3 months",
        "id": "00000000-0000-0000-0000-000000000001",
        "bits": "10101",
        "parts": {"a": 1, "b": ["x", None], "c": "79"},
        "map": [["k", 1]],
        "json": '{"a": 1}',
        "choice": "b",
        "either": "1",
        "exact": "2024-01-02 03:04:05.123456789",
        "inner": {"far": ["290000-01-01"], "bits": [[1, "101"]], "x": [1.5]},
    }


def test_every_kind_of_value_as_csv(database: Path, call: Synthc) -> None:
    done = call("sql", 'FROM "values"', "--csv")
    assert (done.status, done.err) == (0, "")
    names, values = csv.reader(io.StringIO(done.out))
    row = dict(zip(names, values, strict=True))
    assert json.loads(row["vector"])[7] == 1.0
    wanted = {
        "text": "é漢 👩‍🔬",
        "lines": 'a,"b"\nc',
        "huge": "170141183460469231731687303715884105727",
        "nothing": "nan",
        "money": "1.50",
        "yes": "true",
        "missing": "",
        "bytes": "6100ff",
        "at": "2024-01-02 03:04:05",
        "parts": '{"a": 1, "b": ["x", null], "c": "79"}',
        "json": '{"a": 1}',
    }
    assert {name: row[name] for name in wanted} == wanted


def test_vectors_deep_in_a_value_are_shown_by_their_beginning(database: Path, call: Synthc) -> None:
    done = call(
        "sql", """SELECT [{'t': 'a"b', 'v': vector, 'x': [1.5, NULL]}] AS parts FROM "values" """
    )
    assert (
        '[{"t": "a\\"b", "v": [0.000, 0.143, 0.286, … 384 in all], "x": [1.5, null]}]' in done.out
    )
    done = call("sql", """SELECT [{'v': vector}] AS parts FROM "values" """, "--json")
    assert len(json.loads(done.out)[0]["parts"][0]["v"]) == 384


def test_every_kind_of_value_in_a_table(database: Path, call: Synthc) -> None:
    done = call("sql", 'SELECT vector, nothing, missing, yes, single, big, bytes FROM "values"')
    assert (done.status, done.err) == (0, "1 row\n")
    for text in ("[0.000, 0.143, 0.286, … 384 in all]", " nan ", " null ", " true ", " 0.1 "):
        assert text in done.out
    assert "1234567.25" in done.out
    assert "6100ff" in done.out


def test_columns_of_one_name_are_all_there(database: Path, call: Synthc) -> None:
    query = "SELECT 1 AS a, 2 AS a, 3 AS b"
    assert json.loads(call("sql", query, "--json").out) == [{"a": 1, "a_1": 2, "b": 3}]
    assert call("sql", query, "--csv").out == "a,a,b\n1,2,3\n"
    assert call("sql", query).out.split("\n")[-2].split() == ["1", "2", "3"]


def test_no_rows(database: Path, call: Synthc) -> None:
    assert json.loads(call("sql", "FROM many LIMIT 0", "--json").out) == []
    assert call("sql", "FROM many LIMIT 0", "--csv").out == "n,t\n"
    done = call("sql", "FROM many LIMIT 0")
    assert done.out.split() == ["n", "t", "─────"]
    assert done.err == "0 rows\n"


def test_many_rows_are_cut_and_counted(database: Path, call: Synthc) -> None:
    done = call("sql", "FROM many")
    assert "row 99\n" in done.out
    assert "row 100\n" not in done.out
    assert done.err == "250 rows; the first 100 shown\n"
    assert len(json.loads(call("sql", "FROM many", "--json").out)) == 250
    assert len(call("sql", "FROM many", "--csv").out.splitlines()) == 251


def test_long_texts_are_cut(database: Path, call: Synthc) -> None:
    done = call("sql", "FROM long")
    assert done.err == "1 row; --json shows everything\n"
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) < 12
    assert all(line == line.rstrip() for line in lines)
    assert len(json.loads(call("sql", "FROM long", "--json").out)[0]["b"]) == 500


def test_more_columns_than_fit_are_named(database: Path, call: Synthc) -> None:
    done = call("sql", "FROM wide")
    assert "column_0 " in done.out
    assert "column_39" not in done.out
    assert max(map(len, done.out.splitlines())) <= 120
    assert "; no room for " in done.err
    assert "column_39; --json shows everything" in done.err


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("FROM nope", "Table with name nope does not exist"),
        ("SELECT nope FROM many", "nope"),
        ("SELECT error('\x1b[31mx')", r"\x1b[31mx"),
        ("SELECT 1; SELEC", "syntax error"),
        ("CREATE TABLE t (a INTEGER)", "this SQL writes to the database"),
        ("DELETE FROM many", "this SQL writes to the database"),
        ("DROP TABLE many", "this SQL writes to the database"),
        ("SELECT 'x'::INTEGER", "Could not convert"),
        ("SELECT $1", "parameter"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_sql_that_is_wrong(
    database: Path, call: Synthc, query: str, told: str, form: list[str]
) -> None:
    before = database.read_bytes()
    done = call("sql", query, *form)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert told in done.err
    assert "\x1b" not in done.err
    assert database.read_bytes() == before


@pytest.mark.parametrize("query", ["", " ", ";", "/* nothing */"])
def test_sql_without_rows_says_so(database: Path, call: Synthc, query: str) -> None:
    done = call("sql", query)
    assert (done.status, done.out) == (0, "")
    assert done.err == "this SQL has no rows to show\n"


@pytest.mark.parametrize(
    "query", ["SHOW TABLES", "DESCRIBE many", "EXPLAIN FROM many", "SUMMARIZE many"]
)
def test_sql_that_asks_about_tables(database: Path, call: Synthc, query: str) -> None:
    for form in ([], ["--json"], ["--csv"]):
        done = call("sql", query, *form)
        assert done.status == 0, done.err
        assert done.out


def test_which_database_is_meant(folder: Path, call: Synthc) -> None:
    done = call("sql", "SELECT 1")
    assert done.status == 2
    assert "there is no .duckdb database in this folder" in done.err
    assert "`synthc run` makes one" in done.err
    for name in ("a.duckdb", "b ü.duckdb"):
        duckdb.connect(str(folder / name)).close()
    done = call("sql", "SELECT 1")
    assert "there are several .duckdb databases in this folder: a.duckdb, b ü.duckdb" in done.err
    assert call("sql", "SELECT 1", "-d", "b ü.duckdb").status == 0
    (folder / "topics.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    for name, told in (
        ("nope.duckdb", "there is no database nope.duckdb"),
        (".", ". is a folder, not a database"),
        ("topics.jsonl", "topics.jsonl is no DuckDB database"),
    ):
        for command in (["sql", "SELECT 1"], ["export", "a", "x.csv"]):
            done = call(*command, "-d", name)
            assert (done.status, done.out) == (2, "")
            assert told in done.err
    assert not (folder / "nope.duckdb").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_that_a_terminal_cannot_show(database: Path, synthc: Synthc, encoding: str) -> None:
    query = "SELECT 'a漢' AS x"
    table = synthc("sql", query, PYTHONIOENCODING=encoding)
    assert (table.status, table.err) == (0, "1 row\n")
    as_json = synthc("sql", query, "--json", PYTHONIOENCODING=encoding)
    assert json.loads(as_json.out) == [{"x": "a漢"}]
    assert synthc("sql", query, "--csv", PYTHONIOENCODING=encoding).out == "x\na漢\n"
