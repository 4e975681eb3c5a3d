"""What holds for every test."""

import os
from collections.abc import Generator

import pytest

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
