"""A report in a real browser, without a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from tests.report import hostile
from tests.report.browser import Missing, launched


@dataclass
class Opened:
    """A page, and what must not happen on it: messages on the console, requests, dialogs."""

    page: Page
    troubles: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="module")  # no longer: while it is there, nothing else can run an event loop
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            found = launched(playwright)
        except Missing as missing:
            pytest.fail(str(missing), pytrace=False)
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens a page from its file, as a user does. Whatever it should not do is noted."""
    contexts = []

    def open_(path: Path, width: int = 1200, scheme: str = "light", **options: object) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # pyright: ignore[reportArgumentType]
            **options,  # pyright: ignore[reportArgumentType]
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        found = Opened(context.new_page())

        def refused(dialog: Dialog) -> None:
            found.troubles.append("dialog")
            dialog.dismiss()

        page, url = found.page, path.absolute().as_uri()
        page.on("console", lambda message: found.troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: found.troubles.append(f"error: {error}"))
        page.on("dialog", refused)
        page.on("popup", lambda _: found.troubles.append("popup"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.split("#")[0] == url
                else found.troubles.append(f"request: {request.url}")
            ),
        )
        page.goto(url)
        return found

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def hostile_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.database(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def hostile_report(hostile_database: Path) -> Path:
    return hostile.report(hostile_database)
