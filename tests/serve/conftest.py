"""Packages of every kind of task, and one server for all tests that do not stop it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.predictor.packages import TASK_NAMES, make_task_package
from tests.serve.server import Server, serving
from trtbert.predictor import Predictor, load


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    return {name: make_task_package(folder, task, name) for name, task in TASK_NAMES.items() if name != "features"}


@pytest.fixture(scope="session")
def predictors(packages: dict[str, Path]) -> dict[str, Predictor]:
    return {name: load(path, threads=1) for name, path in packages.items()}


@pytest.fixture(scope="session")
def server(packages: dict[str, Path]) -> Iterator[Server]:
    with serving(*packages.values(), max_body_bytes=65536, max_texts=100, max_tokens=5000, client_timeout=1) as running:
        yield running
