"""What the compiler keeps in the user's cache, since it takes longer to make than a spec to compile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import platformdirs


def kept(name: str) -> Path | None:
    """Where something is kept, None where nothing can be: whoever asks makes it where it is not there."""
    folder = Path(
        os.environ.get("SYNTHC_CACHE") or platformdirs.user_cache_dir("synthc"), "compiler"
    )
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / name if os.access(folder, os.W_OK) else None
