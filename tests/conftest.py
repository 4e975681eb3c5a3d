"""What holds for every test."""

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Tests run side by side, a worker to a core: more threads each would wait for one another, LSTMs many times as long. Before torch is there.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With TRTBERT_TEST_ALL, as in CI, a test that skips has failed, unless it is marked gpu: no tool may be missing in silence."""
    report = yield
    if report.skipped and os.environ.get("TRTBERT_TEST_ALL") and item.get_closest_marker("gpu") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped, but TRTBERT_TEST_ALL asks for every test: {report.longrepr}"
    return report


@pytest.fixture(scope="module")
def exported_once() -> Iterator[None]:
    """Of each checkpoint that the module compiles, whatever for; not where the export is what is tested."""
    from tests.exports import exported_once

    with exported_once():
        yield


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A real Chromium; what takes it is marked with tests.browser.NEEDS_CHROMIUM."""
    from tests.browser import launched

    with launched() as made:
        yield made


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """An empty page, of which nothing may go wrong."""
    from tests.browser import opened

    with opened(browser) as made:
        yield made
