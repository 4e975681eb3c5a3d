"""What a server loads has run once before anybody asks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trtbert.errors import PackageError
from trtbert.predictor import Encoder
from trtbert.serve.models import load_models


def test_each_model_runs_once(packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ran, rows = [], Encoder.rows

    def counted(encoder: Encoder, *arguments: Any, **options: Any) -> Iterator[Any]:
        ran.append(encoder)
        return rows(encoder, *arguments, **options)

    monkeypatch.setattr(Encoder, "rows", counted)
    models = load_models(packages, 1)
    assert list(models) == list(packages) and ran == [model.encoder for model in models.values()]


def test_a_package_that_does_not_run_is_not_served(packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*arguments: Any, **options: Any) -> Iterator[Any]:
        raise RuntimeError("out of memory on the device")

    monkeypatch.setattr(Encoder, "rows", rows)
    with pytest.raises(PackageError, match="loads and does not run: out of memory on the device"):
        load_models({"model": packages["embedder"]}, 1)
