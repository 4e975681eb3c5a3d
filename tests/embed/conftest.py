"""A package of each task, made when a test asks for it, and Ray on the loopback interface alone."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.predictor.packages import make_task_package
from trtbert.tasks import Task

# Ray reads them when it is imported. A cluster of several nodes listens on 127.0.0.1 as well; busy cores slow nothing until it is given up.
os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
}

Packages = Callable[[Task], Path]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    made: dict[Task, Path] = {}

    def make(task: Task) -> Path:
        if task not in made:
            made[task] = make_task_package(tmp_path_factory.mktemp(task), task)
        return made[task]

    return make


@pytest.fixture(scope="session", autouse=True)
def _no_ray_is_left() -> Iterator[None]:
    yield
    left = [process for process in psutil.Process().children(recursive=True) if "ray" in process.name()]
    assert psutil.wait_procs(left, timeout=20)[1] == []
