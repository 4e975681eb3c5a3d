"""`trtbert compress --search`: which rung is taken, and what is said where none fits."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.compress.models import classified
from tests.models import make_checkpoint
from trtbert import search as search_module
from trtbert.cli import main
from trtbert.compression import FACTS, compress
from trtbert.config import CompressConfig, SearchConfig, TrainingConfig
from trtbert.errors import ConfigError, InputError, VerificationError
from trtbert.search import LADDER, Rung, search

TRAINING = TrainingConfig(epochs=6, batch_size=8, learning_rate=3e-3)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"{example.text},{example.label[0]}\n" for example in classified(24)), encoding="utf-8")
    return {"data": path, "eval_data": path}


@pytest.fixture
def teacher(tmp_path: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(search_module, "LADDER", (Rung(1, 0.34, 0), Rung(1 / 2, 0, 0), Rung(1 / 2, 0.34, 0)))
    model = make_checkpoint(tmp_path / "model", "bert", task="text-classification", num_hidden_layers=4)
    step = {"method": "finetune", "training": TRAINING.model_copy(update={"epochs": 20.0})}
    return compress(model, tmp_path / "teacher", CompressConfig(steps=[step], **data)).path


def test_the_smallest_within_the_budget(teacher: Path, data: dict[str, Any], tmp_path: Path) -> None:
    """Any loss is allowed: the last rung is taken, after the rungs that halving asks."""
    done = search(teacher, tmp_path / "small", data, SearchConfig(max_drop=100), TRAINING)
    assert done.facts["after"]["layers"] == 2 and done.facts["steps"][1]["method"] == "heads"
    assert [row["layers"] for row in done.facts["search"]] == [0.5, 0.5]
    assert json.loads((tmp_path / "small" / FACTS).read_text(encoding="utf-8")) == done.facts
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_latency_that_all_have(teacher: Path, data: dict[str, Any], tmp_path: Path) -> None:
    done = search(teacher, tmp_path / "small", data, SearchConfig(max_drop=100, target_latency=1000), TRAINING)
    assert "milliseconds" in done.facts["search"][0] and done.facts["after"]["layers"] == 2


def test_a_latency_that_none_has(teacher: Path, data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"No model of the ladder is within 0.0001 ms:\n  \{'layers'"):
        search(teacher, tmp_path / "small", data, SearchConfig(target_latency=1e-4), TRAINING)
    assert not (tmp_path / "small").exists()


def test_a_loss_that_none_has(teacher: Path, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module._Tried, "_is_good", lambda self, index: False)
    with pytest.raises(VerificationError, match="loses more than max_drop 1"):
        search(teacher, tmp_path / "small", data, SearchConfig(), TRAINING)


def test_the_rungs_get_smaller() -> None:
    assert all(a.layers >= b.layers for a, b in pairwise(LADDER)) and len(set(LADDER)) == len(LADDER)


def test_no_data(tmp_path: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="give --data and --eval-data"):
        search(tmp_path, tmp_path / "small", {"data": data["data"]}, SearchConfig(), TRAINING)
    assert main(["compress", str(tmp_path), "-o", str(tmp_path / "small"), "--search", "--max-drop", "1"]) == 2
    assert "give --data and --eval-data" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        search(tmp_path / "nowhere", tmp_path / "x", {"data": "a.csv", "eval_data": "b.csv"}, SearchConfig(), TrainingConfig())
