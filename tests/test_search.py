"""`trtbert compress --search`: which shape is taken, and what is said where none fits."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint.test_students import saved
from tests.compress.models import classified, tiny
from tests.models import make_checkpoint
from trtbert import search as search_module
from trtbert.cli import main
from trtbert.compress import ladder as ladder_module
from trtbert.compress.ladder import Rung, Shape, shapes
from trtbert.compression import FACTS, compress
from trtbert.config import CompressConfig, SearchConfig, TrainingConfig
from trtbert.errors import ConfigError, InputError, UnsupportedError, VerificationError
from trtbert.search import search

TRAINING = TrainingConfig(epochs=6, batch_size=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("data") / "data.csv"
    path.write_text("text,label\n" + "".join(f"{example.text},{example.label[0]}\n" for example in classified(24)), encoding="utf-8")
    return {"data": path, "eval_data": path}


@pytest.fixture(scope="module")
def finetuned(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    model = make_checkpoint(folder / "model", "bert", task="text-classification", num_hidden_layers=4, intermediate_size=40)
    step = {"method": "finetune", "training": TRAINING.model_copy(update={"epochs": 20.0})}
    return compress(model, folder / "teacher", CompressConfig(steps=[step], **data)).path


@pytest.fixture
def teacher(finetuned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a ladder of three shapes."""
    monkeypatch.setattr(ladder_module, "LADDER", (Rung(1, 0.34, 0), Rung(1 / 2, 0, 0), Rung(1 / 2, 0.34, 0)))
    return finetuned


def test_the_smallest_within_the_budget(teacher: Path, data: dict[str, Any], tmp_path: Path) -> None:
    """Any loss is allowed: the last shape is taken, after those that halving asks."""
    done = search(teacher, tmp_path / "small", data, SearchConfig(max_drop=100), TRAINING)
    assert done.facts["after"]["layers"] == 2 and done.facts["steps"][1]["method"] == "heads"
    assert [(row["layers"], row["heads"]) for row in done.facts["search"]] == [(2, 6), (2, 4)]
    assert [set(row) - {"accuracy", "lost"} for row in done.facts["search"]] == [{"layers", "heads", "neurons", "macs"}] * 2
    assert json.loads((tmp_path / "small" / FACTS).read_text(encoding="utf-8")) == done.facts
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_latency_that_none_has(teacher: Path, data: dict[str, Any], tmp_path: Path) -> None:
    """The smallest shape is within all others, so that after it no other is measured."""
    with pytest.raises(VerificationError, match=r"No model of the ladder is within 0.0001 ms:\n  \{'layers'") as raised:
        search(teacher, tmp_path / "small", data, SearchConfig(target_latency=1e-4), TRAINING)
    assert str(raised.value).count("milliseconds") <= 2
    assert not (tmp_path / "small").exists()


def test_a_loss_that_none_has(teacher: Path, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module._Tried, "_is_good", lambda self, index: False)
    with pytest.raises(VerificationError, match="loses more than max_drop 1"):
        search(teacher, tmp_path / "small", data, SearchConfig(), TRAINING)


@pytest.mark.parametrize("max_drop", [9.9, 10.0])
def test_what_a_model_loses(max_drop: float, teacher: Path, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of accuracy from before to after, at most `max_drop`."""
    facts = {"before": {"accuracy": 90.0, "parameters": 9, "macs": 9, "layers": 4}, "after": {"accuracy": 80.0, "parameters": 1, "macs": 1}}

    def compressed(source: Path, output: Path, config: CompressConfig, **options: Any) -> Any:
        return replace(compress(source, output, CompressConfig(steps=[{"method": "depth", "num_layers": 1}])), facts=facts)

    monkeypatch.setattr(search_module, "compress", compressed)
    if max_drop < 10:
        with pytest.raises(VerificationError, match=r"'accuracy': 80.0, 'lost': 10.0"):
            search(teacher, tmp_path / "small", data, SearchConfig(max_drop=max_drop), TRAINING)
    else:
        done = search(teacher, tmp_path / "small", data, SearchConfig(max_drop=max_drop), TRAINING)
        assert [row["lost"] for row in done.facts["search"]] == [10.0, 10.0]


def test_a_latency_with_a_teacher(teacher: Path, data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is trained for a latency there is nothing to learn from the teacher, or to score; the FFN is narrower than usual."""
    monkeypatch.setattr(ladder_module, "LADDER", (Rung(1, 0, 0.5), Rung(1 / 2, 0, 0)))
    model = shutil.copytree(teacher, tmp_path / "other")
    scored = list[Path | None]()
    true = search_module.compress

    def watched(source: Path, output: Path, config: CompressConfig, **options: Any) -> Any:
        scored.append(config.eval_data)
        return true(source, output, config, **options)

    monkeypatch.setattr(search_module, "compress", watched)
    options = SearchConfig(max_drop=100, target_latency=1000)
    done = search(model, tmp_path / "small", data | {"teacher": teacher}, options, TRAINING.model_copy(update={"epochs": 1.0}))
    assert scored == [None, None, data["eval_data"]] and done.facts["data"]["teacher"] == str(teacher)
    rows = [(row["layers"], row["heads"], row["neurons"], "milliseconds" in row) for row in done.facts["search"]]
    assert rows == [(2, 6, 80, True), (4, 12, 80, True), (2, 6, 80, False)]


SIZES: dict[str, dict[str, Any]] = {
    "6 layers of 12 heads": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
    "12 layers of 12 heads": {"num_hidden_layers": 12, "hidden_size": 24, "num_attention_heads": 12, "intermediate_size": 96},
    "4 layers of 4 heads": {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 128},
    "odd": {"num_hidden_layers": 5, "hidden_size": 45, "num_attention_heads": 5, "intermediate_size": 77},
}


class Simulated(search_module._Tried):
    """A search that looks its measurements up, one for each shape."""

    def __init__(self, shapes: list[Shape], *, milliseconds: list[float], lost: list[float], config: SearchConfig) -> None:
        super().__init__(Path(), shapes, Path(), {}, config, TRAINING, lambda _stage: None, lambda _what, _done, _total: None)
        self.milliseconds, self.lost = milliseconds, lost
        self.num_measured = self.num_trained = 0

    def _is_fast(self, index: int) -> bool:
        self.num_measured += 1
        return self.milliseconds[index] <= self.config.target_latency  # type: ignore[operator]

    def _is_good(self, index: int) -> bool:
        self.num_trained += 1
        return self.lost[index] <= self.config.max_drop


@pytest.mark.parametrize("name", SIZES)
def test_it_finds_what_trying_all_finds(name: str, tmp_path: Path) -> None:
    """Losses rise as MACs fall, and what a layer, a head and a neuron take is drawn: more MACs may take less time."""
    ladder, draw, num_found, num_crossed = shapes(tiny(tmp_path, **SIZES[name]), 32), random.Random(0), 0, 0
    num_measured = list[int]()
    for _ in range(500):
        lost = sorted(draw.uniform(0, 10) for _ in ladder)
        layer, head, neuron = (draw.choice([0, draw.random()]) / of for of in (ladder[0].layers, ladder[0].heads, ladder[0].neurons))
        milliseconds = [layer * shape.layers + head * shape.heads + neuron * shape.neurons for shape in ladder]
        num_crossed += milliseconds != sorted(milliseconds, reverse=True)
        config = SearchConfig(max_drop=draw.uniform(0, 10), target_latency=draw.choice([None, draw.uniform(0.01, 2)]))
        fast = [index for index in range(len(ladder)) if config.target_latency is None or milliseconds[index] <= config.target_latency]
        good = [index for index in fast if lost[index] <= config.max_drop]
        tried = Simulated(ladder, milliseconds=milliseconds, lost=lost, config=config)
        if good:
            num_found += 1
            assert tried.smallest() == good[-1] and ladder[good[-1]].macs == min(ladder[index].macs for index in good)
        else:
            with pytest.raises(VerificationError, match="loses more than max_drop" if fast else "No model of the ladder is within"):
                tried.smallest()
        assert tried.num_trained <= len(fast).bit_length() <= 4
        num_measured.append(tried.num_measured)
    assert 100 < num_found < 450 and num_crossed > 50
    assert max(num_measured) < len(ladder)


@pytest.mark.parametrize(("latency", "least", "expected"), [(0.4, 0.345, 0.357), (0.6, 0.51, 0.533)])
def test_shapes_are_in_the_order_of_their_cost(latency: float, least: float, expected: float, tmp_path: Path) -> None:
    """Of shapes as fast as their MACs are few, and as good as they are many, the one between both bounds is found."""
    ladder = shapes(tiny(tmp_path, **SIZES["6 layers of 12 heads"]), 32)
    shares = [shape.share for shape in ladder]
    config = SearchConfig(target_latency=latency, max_drop=1 - least)
    found = Simulated(ladder, milliseconds=shares, lost=[1 - share for share in shares], config=config).smallest()
    assert shares[found] == pytest.approx(expected, abs=1e-3)


def test_a_loss_that_does_not_rise_with_the_cost(tmp_path: Path) -> None:
    """What is found is within the budget, and was tried; that a smaller one is, too, is missed."""
    ladder = shapes(tiny(tmp_path, **SIZES["odd"]), 32)
    lost = [0.0, 0.0, 0.0, 5.0, 5.0, 0.0]
    assert Simulated(ladder, milliseconds=[], lost=lost, config=SearchConfig()).smallest() == 2


def test_a_student(tmp_path: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved(tmp_path, "bilstm", "text-classification")[1]
    flags = ["--search", "--data", str(data["data"]), "--eval-data", str(data["data"])]
    assert main(["compress", str(folder), "-o", str(tmp_path / "small"), *flags]) == 3
    assert f"--search makes transformers smaller, and {folder} is a recurrent student" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_a_model_that_cannot_be_smaller(tmp_path: Path, data: dict[str, Any]) -> None:
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 16, "intermediate_size": 1}
    model = make_checkpoint(tmp_path / "model", "bert", task="text-classification", **sizes)
    with pytest.raises(UnsupportedError, match="one layer with one head and one neuron: there is nothing smaller"):
        search(model, tmp_path / "small", data, SearchConfig(), TRAINING)


def test_no_data(tmp_path: Path, data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="give --data and --eval-data"):
        search(tmp_path, tmp_path / "small", {"data": data["data"]}, SearchConfig(), TRAINING)
    assert main(["compress", str(tmp_path), "-o", str(tmp_path / "small"), "--search", "--max-drop", "1"]) == 2
    assert "give --data and --eval-data" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        search(tmp_path / "nowhere", tmp_path / "x", {"data": "a.csv", "eval_data": "b.csv"}, SearchConfig(), TrainingConfig())
