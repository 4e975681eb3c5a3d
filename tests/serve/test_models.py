"""What a server loads has run once before anybody asks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.predictor.packages import make_task_package
from trtbert.errors import PackageError
from trtbert.predictor import Encoder
from trtbert.serve.models import load_models

TASKS = ("sentence-similarity", "text-classification", "token-classification", "question-answering", "text-ranking", "fill-mask")


@pytest.mark.parametrize("task", TASKS)
def test_each_model_runs_once(task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, rows = [], Encoder.rows

    def counted(encoder: Encoder, *arguments: Any, **options: Any) -> Iterator[Any]:
        ran.append(encoder)
        return rows(encoder, *arguments, **options)

    monkeypatch.setattr(Encoder, "rows", counted)
    models = load_models({"model": make_task_package(tmp_path, task)}, 1)
    assert ran == [models["model"].encoder]


def test_a_package_that_does_not_run_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*arguments: Any, **options: Any) -> Iterator[Any]:
        raise RuntimeError("out of memory on the device")

    package = make_task_package(tmp_path, "sentence-similarity")
    monkeypatch.setattr(Encoder, "rows", rows)
    with pytest.raises(PackageError, match="loads and does not run: out of memory on the device"):
        load_models({"model": package}, 1)
