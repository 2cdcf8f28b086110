"""The pictures that prompts print: which files may be read, and what of them is sent.

A value of the type `image` is bytes, a data URL, or a path. Of paths only those are read that a `files(…)`
of the plan lists: whatever a model or a file says, no other is opened, let alone sent to a server.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from synthc.compiler import plan, types
from synthc.runtime.backends.protocol import CallFailed, Content, Image, Verdict
from synthc.runtime.engine.prompts import Picture
from synthc.runtime.errors import RowFailed
from synthc.runtime.listed import Listed, listed, not_listed
from synthc.runtime.pictures import media_type, of_data_url

LIMIT_MB = 20
"""Larger files are not sent: vendors take no larger ones, and many only smaller."""

_SENT = "JPEG, PNG, GIF and WebP are sent"
_OTHERS = {b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF"}


class Images:
    """The pictures of a run: `files` are those that may be read."""

    def __init__(self, files: Listed) -> None:
        self._files = files
        self._looked_at: dict[str, Image] = {}

    async def content(self, parts: Iterable[str | Picture]) -> Content:
        """What a message says of which these are the parts: only text where they show no picture.

        Text between two pictures that is only white space is left out: servers refuse it. Raises
        RowFailed where a picture cannot be sent.
        """
        parts = list(parts)
        if not any(isinstance(part, Picture) for part in parts):
            return "".join(map(str, parts))
        said: list[str | Image] = []
        for part in parts:
            if isinstance(part, Picture):
                said.append(await self._image(part))
            elif part.strip():
                said.append(part)
        return tuple(said)

    async def _image(self, picture: Picture) -> Image:
        name, value = picture.name, picture.value
        if isinstance(value, bytes):
            return _of_bytes(name, value)
        if not isinstance(value, str):  # a plan can be edited by hand
            raise _failed(f"what `{name}` holds", "is no picture")
        path = self._files.path(value)
        if path is None:
            if value.startswith("data:"):
                return _of_bytes(name, _decoded(name, value))
            raise _failed(*not_listed(value))
        found = self._looked_at.get(value)
        if found is None:
            found = await asyncio.to_thread(_of_file, value, path)
            self._looked_at[value] = found
        return found


def images_of(plan_: plan.Plan, base: Path) -> Images:
    """The pictures of a plan whose paths start from the folder `base`.

    Raises RunError where a source lists no file.
    """
    shown = any(ask.images for table in plan_.tables for ask in plan.asks(table.ops))
    return Images(listed(plan_, base, types.Image()) if shown else Listed(frozenset(), base))


def as_kept(content: Content) -> Any:
    """What a message says, without the bytes of its pictures: for `synth.calls`."""
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {
            "type": "image",
            "media_type": part.media_type,
            "sha256": part.digest,
            "bytes": part.size,
            **({"path": part.path} if part.path else {}),
        }
        for part in content
    ]


def _of_bytes(name: str, data: bytes) -> Image:
    return _made(f"the picture in `{name}`", data, len(data), None, lambda: data)


def _of_file(name: str, path: Path) -> Image:
    try:
        data, size = _read(path)
    except OSError as error:
        raise _failed(f"`{name}`", f"cannot be read: {_why(error)}") from None
    digest = hashlib.sha256(data).digest()
    again = functools.partial(_again, name, path, digest)
    return _made(f"`{name}`", data, size, name, again)


def _made(what: str, data: bytes, size: int, path: str | None, load: Callable[[], bytes]) -> Image:
    wrong = "is not an image that a model can be sent"
    if not data:
        raise _failed(what, f"{wrong}: it is empty")
    if size > LIMIT_MB * 10**6:
        raise _failed(what, f"{wrong}: it has {size / 1e6:.1f} MB, and {LIMIT_MB} MB is the most")
    kind = media_type(data)
    if kind is None:
        other = next((name for sign, name in _OTHERS.items() if data.startswith(sign)), None)
        found = f"it is {other}" if other else "it does not begin like one"
        raise _failed(what, f"{wrong}: {found}; {_SENT}")
    return Image(kind, hashlib.sha256(data).hexdigest(), size, path, load)


def _decoded(name: str, url: str) -> bytes:
    try:
        return of_data_url(url)
    except ValueError:
        raise _failed(f"the picture in `{name}`", "is no data URL in base64") from None


def _read(path: Path) -> tuple[bytes, int]:
    """The bytes of a file, and how many there are: of one that is too large only its beginning."""
    with path.open("rb") as opened:
        data = opened.read(LIMIT_MB * 10**6 + 1)
        rest = opened.seek(0, 2) if len(data) > LIMIT_MB * 10**6 else len(data)
    return data, rest


def _again(name: str, path: Path, digest: bytes) -> bytes:
    try:
        data, _ = _read(path)
    except OSError as error:
        raise CallFailed(Verdict.ROW, "image", f"`{name}` cannot be read: {_why(error)}") from None
    if hashlib.sha256(data).digest() != digest:
        told = f"`{name}` was changed while the run went on: run it again"
        raise CallFailed(Verdict.ROW, "image", told)
    return data


def _why(error: OSError) -> str:
    return (error.strerror or "it fails").lower()


def _failed(what: str, why: str) -> RowFailed:
    return RowFailed("image", f"{what} {why}")
