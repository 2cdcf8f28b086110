"""Tables as files: what comes out is what went in, and a file is whole or not there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import duckdb
import pytest

from bench.server import serving
from synthc.runtime.errors import RunError
from synthc.runtime.exports import files
from tests.runtime.helpers import BACKEND, WRITE, column, made, topics

MADE = """
CREATE TABLE t AS SELECT 1 AS n, 'é "x", \n😀' AS "te xt", NULL::VARCHAR AS nothing,
    [0.5, -1.25]::FLOAT[2] AS vector, {'a': 1, 'b': [NULL, 'y']} AS part, TRUE AS yes,
    DATE '2024-01-02' AS day, '{"k": [1, null]}'::JSON AS json, 9007199254740993 AS big
UNION ALL SELECT 2, '', 'x', NULL, NULL, NULL, NULL, NULL, NULL
ORDER BY n
"""


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    found = duckdb.connect()
    found.execute(MADE)
    return found


def test_parquet_keeps_every_type(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    assert files.export(connection, "t", path) == 2
    back = connection.execute(f"SELECT row::VARCHAR FROM read_parquet('{path}') AS row").fetchall()
    assert back == connection.execute("SELECT t::VARCHAR FROM t").fetchall()


def test_json_lines_keep_values(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    assert files.export(connection, "t", path) == 2
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first == {
        "n": 1,
        "te xt": 'é "x", \n😀',
        "nothing": None,
        "vector": [0.5, -1.25],
        "part": {"a": 1, "b": [None, "y"]},
        "yes": True,
        "day": "2024-01-02",
        "json": {"k": [1, None]},
        "big": 9007199254740993,
    }
    assert second["te xt"] == ""
    assert second["vector"] is None


def test_csv_is_one_that_others_read(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert files.export(connection, "t", path) == 2
    with path.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["te xt"] == 'é "x", \n😀'
    assert json.loads(first["vector"]) == [0.5, -1.25]
    assert json.loads(first["part"]) == {"a": 1, "b": [None, "y"]}
    assert second["vector"] == ""


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".csv"])
def test_an_empty_table_has_its_columns(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, ending: str
) -> None:
    connection.execute("CREATE TABLE empty AS SELECT 1 AS a LIMIT 0")
    assert files.export(connection, "empty", tmp_path / f"e{ending}") == 0
    assert (tmp_path / f"e{ending}").exists()


class Broken(Exception):
    pass


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".csv"])
def test_a_file_is_whole_or_as_it_was(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"t{ending}"
    path.write_text("what was there")
    # DuckDB reads on while the file is written: the error comes when some of it is there.
    connection.execute(
        "CREATE VIEW failing AS SELECT CASE WHEN range = 49999 THEN error('no') ELSE 'x' END AS a"
        " FROM range(50000)"
    )
    with pytest.raises(Exception, match="no"):
        files.export(connection, "failing", path)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_ending_is_refused(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"`t\.xls` names no known format"):
        files.export(connection, "t", tmp_path / "t.xls")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    topics(tmp_path, 2)
    (tmp_path / "file").write_text("")
    for place in ("file/t.csv", "/proc/t.jsonl", "file.csv"):
        (tmp_path / "file.csv").mkdir(exist_ok=True)
        spec = f'{BACKEND} {WRITE} table t = read("topics.jsonl") |> write\nexport t to "{place}"'
        with serving() as server, pytest.raises(RunError) as caught:
            made(spec, tmp_path, server)
        assert "cannot be written" in caught.value.message
        assert caught.value.span is not None
        assert column(tmp_path, "SELECT n FROM t") == [0, 1]  # the tables stay
