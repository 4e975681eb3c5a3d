"""Tests with the marker gpu run on a GPU with `make test-gpu` alone; there they fail where anything is missing, and never skip for it."""

from pathlib import Path

import pytest

from tests.gpu.library import gpu_library
from tests.plugins import device
from trtbert.builders.targets import gpu_target
from trtbert.runtime.plugins import ENVIRONMENT

REASON = "needs a GPU, TensorRT and the plugins built for them: make test-gpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not device.is_wanted():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def target() -> str:
    """This GPU."""
    found = gpu_target()
    assert found is not None, "there is no GPU; python -m tests.gpu.preflight says what is missing"
    return found


@pytest.fixture(scope="session")
def plugin_library() -> Path:
    return gpu_library()


@pytest.fixture(autouse=True)
def _use_it(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that `make test-gpu` built is the one that trtbert finds."""
    if request.node.get_closest_marker("gpu") is not None:
        monkeypatch.setenv(ENVIRONMENT, str(request.getfixturevalue("plugin_library")))
