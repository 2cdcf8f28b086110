"""The environment that `env("NAME")` of a spec reads: the process's own, and a `.env` file."""

from __future__ import annotations

import os
from pathlib import Path

from synthc.runtime.errors import RunError


def environment(folder: Path) -> dict[str, str]:
    """The environment, with a `.env` file in the spec's folder where a variable is not set.

    Raises RunError where that file cannot be read.
    """
    file = folder / ".env"
    if not file.is_file():
        return dict(os.environ)
    from dotenv import dotenv_values

    try:
        found = dotenv_values(file, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RunError(f"{file} is not text in UTF-8") from None
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from None
    return {name: text for name, text in found.items() if text is not None} | dict(os.environ)
