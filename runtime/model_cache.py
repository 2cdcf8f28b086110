"""The folder where models and graphs are kept: what is in it is whole, or it is not there.

Whatever is made for it is made in a temporary sibling first and renamed when it is complete: a
killed process, or two at once, never leave a half model that a later run would take for a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from synthc.compiler.plan import cache_folder

__all__ = ["Progress", "being_built", "cache_folder", "digest", "read_json", "write_json"]

Progress = Callable[[int, int | None, str], None]
"""Called with the bytes done, the bytes in all (None: not known) and what is being done.

It may be called from another thread than the one that waits for the model.
"""

REMEMBERED_FROM_BYTES = 1 << 20  # smaller files are hashed faster than a note of them is found
ABANDONED_AFTER_S = 24 * 3600  # a temporary folder this old belongs to a process that was killed


@contextlib.contextmanager
def being_built(target: Path) -> Iterator[Path]:
    """An empty folder to build in, which becomes `target` when the block ends without an error.

    What was at `target` is replaced. Where another process finished first, either one may stay:
    both were built from the same source.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        yield building
        _swap(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _swap(building: Path, target: Path) -> None:
    """Rename `building` to `target`; a folder in the way is renamed first, then removed."""
    old = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        with contextlib.suppress(FileNotFoundError):
            target.replace(old / "old")
        # Not empty: another process put its own there in between, which is as good.
        with contextlib.suppress(OSError):
            building.replace(target)
        if not target.exists():
            raise OSError(f"{building} could not be renamed to {target}")
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what killed processes left behind."""
    for left in parent.glob(".building-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file: a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".building-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    Path(temporary).replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file, or no object in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def digest(path: Path, *, cache: Path | None = None) -> str:
    """The sha256, in hex, of a file, or of a folder's sorted relative names and contents.

    Names that begin with a dot are no part of a model (`.git`, `.cache`) and left out. A large
    file is read once: its digest is remembered in the cache until its size or its times change.

    Raises OSError where the path cannot be read.
    """
    cache = cache or cache_folder()
    if not path.is_dir():
        return _file_digest(path, cache)
    whole = hashlib.sha256()
    for name in sorted(_names(path)):
        whole.update(f"{name}\0{_file_digest(path / name, cache)}\n".encode())
    return whole.hexdigest()


def _names(folder: Path) -> Iterator[str]:
    """The files of a folder, relative to it, parts separated by `/` on every platform."""
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix()


def _file_digest(path: Path, cache: Path) -> str:
    status = path.stat()
    if status.st_size < REMEMBERED_FROM_BYTES:
        return _hash(path)
    where = str(path.absolute())
    state = {
        "path": where,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }
    note = cache / "digests" / f"{hashlib.sha256(where.encode()).hexdigest()[:32]}.json"
    known = read_json(note)
    sha256 = known.pop("sha256", None)
    if sha256 is not None and known == state:
        return sha256
    sha256 = _hash(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
        write_json(note, {**state, "sha256": sha256})
    return sha256


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
