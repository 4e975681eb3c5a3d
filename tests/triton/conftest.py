"""Packages of every task in one model repository."""

from pathlib import Path

import pytest

from tests.models import make_checkpoint
from tests.predictor.packages import make_package
from trtbert.cli import main
from trtbert.config import Profile, Range
from trtbert.predictor import Predictor, load
from trtbert.tasks import Task

TASKS: dict[str, Task] = {
    "embedder": "sentence-similarity",
    "ranker": "text-ranking",
    "classifier": "text-classification",
    "tagger": "token-classification",
    "reader": "question-answering",
    "filler": "fill-mask",
    "features": "feature-extraction",
}
PROFILES = (
    Profile(batch_size=Range(min=2, opt=4, max=4), seq_len=Range(min=16, opt=32, max=64)),
    Profile(batch_size=Range(min=1, opt=8, max=16), seq_len=Range(min=1, opt=8, max=15)),
)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    made = {}
    for name, task in TASKS.items():
        options = {"num_labels": 1} if task == "text-ranking" else {}
        checkpoint = make_checkpoint(tmp_path_factory.mktemp("checkpoint") / name, "bert", task=task, **options)
        made[name] = make_package(folder / name, checkpoint, task)
    return made


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
