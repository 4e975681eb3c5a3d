"""A real Chromium, driven by playwright; tests that need it skip where it is not installed (tests/scripts/install-browser)."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: tests/scripts/install-browser")


@contextmanager
def launched() -> Iterator[Browser]:
    """One at a time in a thread, as playwright asks."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # Root, as in containers, has no sandbox.
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, *, width: int = 1000, is_dark: bool = False) -> Iterator[Page]:
    """An empty page; at the end, nothing may have been written to the console as an error, and no script may have failed."""
    problems: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark" if is_dark else "light")
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert not problems, problems
