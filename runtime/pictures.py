"""The bytes of a picture: of which kind they are, and how they stand in text."""

from __future__ import annotations

from base64 import b64decode, b64encode

_SIGNS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


def media_type(data: bytes) -> str | None:
    """What the first bytes say that it is; None of what is no picture that models are sent."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for sign, kind in _SIGNS.items() if data.startswith(sign)), None)


def data_url(data: bytes) -> str:
    """The bytes as the text that stands for them in a table."""
    kind = media_type(data) or "application/octet-stream"
    return f"data:{kind};base64,{b64encode(data).decode()}"


def of_data_url(url: str) -> bytes:
    """The bytes that a data URL holds. Raises ValueError where it holds none in base64."""
    head, _, body = url.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise ValueError("it is no data URL in base64")
    return b64decode(body, validate=True)
