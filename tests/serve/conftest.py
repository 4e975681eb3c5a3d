"""Packages of every kind of task, and one server for all tests that do not stop it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import make_checkpoint
from tests.predictor.packages import make_package
from tests.serve.server import Server, serving
from trtbert.predictor import Predictor, load
from trtbert.tasks import Task

TASKS: dict[str, Task] = {
    "embedder": "sentence-similarity",
    "ranker": "text-ranking",
    "classifier": "text-classification",
    "tagger": "token-classification",
    "reader": "question-answering",
    "filler": "fill-mask",
}


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
def server(packages: dict[str, Path]) -> Iterator[Server]:
    with serving(*packages.values(), max_body_bytes=65536, max_texts=100, max_tokens=5000, client_timeout=1) as running:
        yield running
