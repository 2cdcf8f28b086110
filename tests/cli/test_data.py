"""Datasets of the Hub: fetched once, and then read as files are, where nothing is asked of a network."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.cli.conftest import Done, Synthc
from tests.cli.hub import TOKEN, Hub, hub

NAME = "hf:datasets/org/name"
SPEC = f'table t = read("{NAME}", split = "train", key = id) |> where("id > 0")\n'


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_HOME", str(folder / "home"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("SYNTHC_CACHE", str(folder / "cache"))
        yield found


def put(server: Hub, rows: int) -> None:
    """A dataset on the hub, as one finds them there."""
    path = Path("put.parquet")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT range AS id, 'é ' || range AS text, [0.5]::FLOAT[] AS v FROM range({rows}))"
            f" TO '{path}'"
        )
    server.repositories["org/name"] = {
        "README.md": b"---\nconfigs:\n- config_name: en\n  data_files: data/*.parquet\n---\n",
        f"data/train-{rows}.parquet": path.read_bytes(),
    }
    path.unlink()


def fetched(synthc: Synthc, *more: str) -> Done:
    return synthc("data", "fetch", NAME, "--split", "train", *more)


def test_a_dataset_is_fetched_and_read(server: Hub, folder: Path, synthc: Synthc) -> None:
    put(server, 3)
    (folder / "x.synth").write_text(SPEC, encoding="utf-8")
    before = synthc("check")
    assert before.status == 1
    assert "error[S0606]: the dataset `hf:datasets/org/name#train` is not on this" in before.err
    command = "synthc data fetch hf:datasets/org/name --split train\n"
    assert f"  = help: fetch it: {command}" in before.err
    assert server.asked == []  # compiling asks nobody
    done = fetched(synthc)
    assert (done.status, done.out) == (0, ""), done.err
    assert done.err.endswith("fetched 3 rows of hf:datasets/org/name#train\n")
    asked = len(server.asked)
    assert synthc("run").status == 0
    found = json.loads(synthc("sql", "FROM t", "--json").out)
    assert found == [{"id": n, "text": f"é {n}", "v": [0.5]} for n in (1, 2)]
    assert len(server.asked) == asked
    assert "reads hf:datasets/org/name#train" in synthc("plan", "-d", "new.duckdb").out


def test_a_dataset_that_changed_makes_tables_stale(
    server: Hub, folder: Path, synthc: Synthc
) -> None:
    put(server, 3)
    (folder / "x.synth").write_text(SPEC, encoding="utf-8")
    assert fetched(synthc).status == 0
    assert synthc("run").status == 0
    put(server, 5)
    assert "nothing to make" in synthc("plan").out  # what is here is what is read
    # The library keeps what it made of a commit, and this hub has but one.
    assert fetched(synthc, "--json").status == 0
    (folder / "home").rename(folder / "old")
    document = json.loads(fetched(synthc, "--json").out)
    assert (document["rows"], document["split"]) == (5, "train")
    assert "stale: hf:datasets/org/name#train changed" in synthc("plan").out
    assert synthc("run").status == 0
    assert json.loads(synthc("sql", "SELECT count(*) AS n FROM t", "--json").out) == [{"n": 4}]


def test_a_plan_says_what_it_needs_on_another_machine(
    server: Hub, folder: Path, synthc: Synthc
) -> None:
    put(server, 3)
    (folder / "x.synth").write_text(SPEC, encoding="utf-8")
    assert fetched(synthc).status == 0
    assert synthc("compile").status == 0
    assert str(folder) not in (folder / "x.plan.json").read_text(encoding="utf-8")
    done = synthc("run", "x.plan.json", SYNTHC_CACHE=str(folder / "elsewhere"))
    assert done.status == 1
    assert "the dataset hf:datasets/org/name#train is not on this machine yet" in done.err
    assert "  = help: fetch it: synthc data fetch hf:datasets/org/name --split train" in done.err
    assert "--> x.synth:1:" in done.err


def test_what_cannot_be_fetched_is_told(server: Hub, folder: Path, synthc: Synthc) -> None:
    put(server, 3)
    cases = [
        ((NAME, "--split", "tran"), 'Unknown split "tran". Should be one of'),
        ((NAME, "--split", "train", "--config", "de"), "BuilderConfig 'de' not found"),
        (("hf:datasets/org/nothing", "--split", "train"), "Repository Not Found"),
        (("org/name", "--split", "train"), "did you mean `hf:datasets/org/name`?"),
        (("hf:org/name", "--split", "train"), "did you mean `hf:datasets/org/name`?"),
        ((NAME,), "Missing option '--split'"),
    ]
    for arguments, told in cases:
        done = synthc("data", "fetch", *arguments)
        assert done.status in (1, 2)
        assert told in done.err, done.err
        assert TOKEN not in done.err
        assert "Traceback" not in done.err
    (folder / "org" / "name").mkdir(parents=True)  # the library would read what lies there
    assert "a folder `org/name` is in the way" in fetched(synthc).err
    assert not list(folder.glob("cache/datasets/*.parquet"))


def test_without_the_library_it_is_said(
    folder: Path, call: Synthc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    done = call("data", "fetch", NAME, "--split", "train")
    assert done.status == 1
    assert "  = help: pip install 'synthc[hub]'\n" in done.err
