"""Virtual environments for those that synthc is compared with: what they need is in `peers/NAME.txt`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import platformdirs

from bench.processes import Failed

PEERS = Path(__file__).with_name("peers")


def python_of(name: str, *, on_top: bool = False) -> Path:
    """The Python of an environment, which is made where it is not there: that takes minutes.

    It lies where this platform keeps caches, and is made anew when its list of packages changes. `on_top` of
    this one it has its packages too, and nothing is installed into this. Raises Failed where the packages
    cannot be installed, with pip's words.
    """
    wanted = PEERS / f"{name}.txt"
    base = sysconfig.get_path("purelib") if on_top else ""
    made_of = wanted.read_bytes() + sys.version.encode() + base.encode()
    digest = hashlib.sha256(made_of).hexdigest()[:8]
    folder = Path(platformdirs.user_cache_dir("synthc-bench")) / f"{name}-{digest}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if python.exists():
        return python
    print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    if on_top:
        asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        line = f"import site; site.addsitedir({base!r})\n"
        (Path(own) / "on_top.pth").write_text(line, encoding="utf-8")
    pip = [python, "-m", "pip", "install", "--quiet", "--requirement", wanted]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        shutil.rmtree(folder)
        raise Failed(f"{name} cannot be installed here:\n{installed.stderr[-2000:]}")
    return python


def versions(name: str) -> dict[str, str]:
    """The packages that `peers/NAME.txt` names, with the versions that are installed."""
    listed = subprocess.run(
        [python_of(name), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split("==", 1) for line in listed.stdout.splitlines() if "==" in line)
    lines = (PEERS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    asked = [line.split("==")[0].split("[")[0] for line in lines if line and line[0] != "#"]
    return {package: found[package] for package in asked if package in found}
