"""The pictures of these pages, taken of real runs in Chromium: python -m docs.take_pictures"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.report.browser import launched

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "specs" / "examples"
SYNTHC = Path(sys.executable).with_name("synthc")
SIZE = 1150, 820


def main() -> None:
    """Run two examples, with their models, and keep two views of their reports."""
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made) / "examples"
        shutil.copytree(EXAMPLES, folder)
        browser = launched(playwright)
        page = _report(browser, folder, "topics")
        page.locator(".map circle").nth(20).hover()
        _keep(page, "#vectors", "report")
        _keep(_report(browser, folder, "quickstart"), "#rows", "report-row")
        browser.close()


def _report(browser: Browser, folder: Path, name: str) -> Page:
    """The report of an example that was run, opened."""
    subprocess.run([SYNTHC, "run", f"{name}.synth"], cwd=folder, check=True)
    subprocess.run([SYNTHC, "report", "-d", f"{name}.duckdb"], cwd=folder, check=True)
    width, height = SIZE
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto((folder / f"{name}.html").as_uri())
    return page


def _keep(page: Page, part: str, name: str) -> None:
    """A part of a page, from its beginning, as a small file."""
    page.locator(part).evaluate("part => part.scrollIntoView({behavior: 'instant'})")
    taken = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    taken.save(DOCS / "pictures" / f"{name}.webp", quality=90, method=6)


if __name__ == "__main__":
    main()
