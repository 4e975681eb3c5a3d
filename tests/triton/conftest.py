"""Packages of every task in one model repository."""

from pathlib import Path

import pytest

from tests.predictor.packages import TASK_NAMES, make_task_package
from trtbert.cli import main
from trtbert.config import Profile, Range
from trtbert.predictor import Predictor, load

PROFILES = (
    Profile(batch_size=Range(min=2, opt=4, max=4), seq_len=Range(min=16, opt=32, max=64)),
    Profile(batch_size=Range(min=1, opt=8, max=16), seq_len=Range(min=1, opt=8, max=15)),
)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    return {name: make_task_package(folder, task, name) for name, task in TASK_NAMES.items()}


@pytest.fixture(scope="session")
def predictors(packages: dict[str, Path]) -> dict[str, Predictor]:
    return {name: load(path, threads=1) for name, path in packages.items()}


@pytest.fixture(scope="session")
def repository(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "repository"
    assert main(["triton", *map(str, packages.values()), "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bare")
