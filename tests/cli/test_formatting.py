"""`synthc fmt`."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from synthc.compiler.format import format as formatting
from tests.cli.conftest import Done, Synthc

MESSY = "table a=rows(3)|>limit( 2 ) # two\n"
TIDY = "table a = rows(3)\n  |> limit(2)                             # two\n"
BROKEN = "table a = rows(3\n"


def write(folder: Path, **texts: str) -> list[Path]:
    """Files of these names and texts."""
    paths = [folder / f"{name}.synth" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return paths


def test_the_spec_of_the_folder_is_formatted_once(folder: Path, call: Synthc) -> None:
    (path,) = write(folder, a=MESSY)
    assert call("fmt") == Done(0, "", "a.synth: formatted\n")
    assert path.read_text(encoding="utf-8") == TIDY
    written = path.stat().st_mtime_ns
    assert call("fmt") == Done(0, "", "a.synth: nothing to change\n")
    assert path.stat().st_mtime_ns == written


def test_check_changes_nothing_and_lists_what_would_change(folder: Path, call: Synthc) -> None:
    paths = write(folder, a=MESSY, b=TIDY, c=MESSY)
    done = call("fmt", "--check", *paths[:2], "c.synth")
    assert done == Done(1, "", f"{paths[0]}: would be formatted\nc.synth: would be formatted\n")
    assert [path.read_text(encoding="utf-8") for path in paths] == [MESSY, TIDY, MESSY]
    assert call("fmt", "--check", "b.synth") == Done(0, "", "b.synth: nothing to change\n")


def test_a_folder_means_all_its_specs(folder: Path, call: Synthc) -> None:
    paths = write(
        folder, **{"sub/a": MESSY, "sub/deep/b": MESSY, "sub/.hidden/c": MESSY, "d": MESSY}
    )
    (folder / "sub" / "other.txt").write_text(MESSY, encoding="utf-8")
    done = call("fmt", "sub")
    assert done == Done(0, "", "sub/a.synth: formatted\nsub/deep/b.synth: formatted\n")
    assert [path.read_text(encoding="utf-8") for path in paths] == [TIDY, TIDY, MESSY, MESSY]
    assert (folder / "sub" / "other.txt").read_text(encoding="utf-8") == MESSY
    assert call("fmt", "sub", "sub/a.synth") == Done(0, "", "2 files: nothing to change\n")


def test_what_cannot_be_read_is_left_alone_and_said_as_check_says_it(
    folder: Path, call: Synthc
) -> None:
    broken, tidy = write(folder, broken=BROKEN, tidy=MESSY)
    done = call("fmt", "broken.synth")
    assert (done.status, done.out) == (1, "")
    assert done.err == call("check", "broken.synth").err
    assert broken.read_text(encoding="utf-8") == BROKEN
    assert call("fmt", "broken.synth", "tidy.synth").status == 1
    assert tidy.read_text(encoding="utf-8") == TIDY


def test_a_spec_may_come_from_stdin(
    folder: Path, call: Synthc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(text: str, *options: str) -> Done:
        stream = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="ascii")
        monkeypatch.setattr(sys, "stdin", stream)
        return call("fmt", "-", *options)

    assert piped(MESSY + "# ü\r\n") == Done(0, TIDY + "# ü\n", "")
    assert piped(TIDY) == Done(0, TIDY, "")
    assert piped(MESSY, "--check") == Done(1, "", "<stdin>: would be formatted\n")
    assert piped(TIDY, "--check") == Done(0, "", "<stdin>: nothing to change\n")
    assert json.loads(piped(MESSY, "--json").out)["files"][0]["text"] == TIDY
    broken = piped(BROKEN)
    assert (broken.status, broken.out) == (1, "")
    assert "--> <stdin>:1:15" in broken.err


def test_stdin_stands_alone(folder: Path, call: Synthc) -> None:
    write(folder, a=MESSY)
    done = call("fmt", "-", "a.synth")
    assert done.status == 2
    assert "`-` stands for the only spec" in done.err


def test_json_is_one_document(folder: Path, call: Synthc) -> None:
    paths = write(folder, a=MESSY, b=TIDY, c=BROKEN)
    done = call("fmt", "--json", "--check", "a.synth", "b.synth")
    assert (done.status, done.err) == (1, "")
    files = [{"file": "a.synth", "changed": True}, {"file": "b.synth", "changed": False}]
    assert json.loads(done.out) == {"ok": False, "files": files, "problems": []}
    done = call("fmt", "--json", "a.synth", "b.synth")
    assert (done.status, json.loads(done.out)["ok"]) == (0, True)
    assert paths[0].read_text(encoding="utf-8") == TIDY
    done = call("fmt", "--json", "c.synth")
    assert (done.status, done.err) == (1, "")
    (problem,) = json.loads(done.out)["problems"]
    assert (problem["file"], problem["range"]["start"]["line"]) == ("c.synth", 1)


def test_the_file_keeps_its_permissions_and_links_stay_links(folder: Path, call: Synthc) -> None:
    (path,) = write(folder, a="\ufeff" + MESSY.replace("\n", "\r\n"))
    path.chmod(0o640)
    link = folder / "link.synth"
    link.symlink_to(path)
    assert call("fmt", "link.synth").err == "link.synth: formatted\n"
    assert path.read_bytes() == TIDY.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert sorted(file.name for file in folder.iterdir()) == ["a.synth", "link.synth"]


def test_a_file_that_cannot_be_written_stays_as_it_was(
    folder: Path, call: Synthc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (path,) = write(folder, a=MESSY)
    monkeypatch.setattr("shutil.copymode", full)
    done = call("fmt")
    assert done.status == 2
    assert "a.synth cannot be written: No space left on device" in done.err
    assert [file.read_text(encoding="utf-8") for file in folder.iterdir()] == [MESSY]
    assert path.exists()


def test_lines_end_where_they_end_for_the_compiler(folder: Path, call: Synthc) -> None:
    (path,) = write(folder, a="# a\rtable a = rows(3)\r\r\r# b")
    assert call("fmt").status == 0
    assert path.read_bytes() == b"# a\ntable a = rows(3)\n\n# b\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is no .synth file in this folder"),
        (("nope.synth",), "there is no file nope.synth"),
        (("empty",), "there is no .synth file in empty"),
        (("latin.txt",), "latin.txt is not text in UTF-8"),
    ],
)
def test_wrong_usage(folder: Path, call: Synthc, arguments: tuple[str, ...], message: str) -> None:
    (folder / "empty").mkdir()
    (folder / "latin.txt").write_bytes(b"# \xe4\n")
    done = call("fmt", *arguments)
    assert (done.status, done.out) == (2, "")
    assert message in done.err


def test_a_near_name_is_suggested(folder: Path, call: Synthc) -> None:
    write(folder, titles=MESSY)
    assert "did you mean title" in call("fmt", "title.synth").err


def test_a_layout_that_says_something_else_is_never_written(
    folder: Path, call: Synthc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> tuple[()]:
        return ()

    monkeypatch.setattr(formatting, "layout", wrong)
    (path,) = write(folder, a=MESSY)
    done = call("fmt")
    assert done.status == 70
    assert "this is a fault of synthc's; please report it" in done.err
    assert "a.synth: the layout would have another tree" in done.err
    assert path.read_text(encoding="utf-8") == MESSY
