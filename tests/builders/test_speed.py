"""Engines are timed in processes of their own, in turns; which of them wins follows from the times; a process that fails is named."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import psutil
import pytest

from tests.builders.fused import NUM_POSITIONS, NUM_WORDS, Encoder, feeds, fused_encoder
from trtbert.builders import openvino, speed
from trtbert.builders.lowering import ORT, lower
from trtbert.errors import UnsupportedError

INPUTS = tuple(feeds(1, 1))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)


@pytest.fixture
def _leaves_no_process() -> Iterator[None]:
    """What earlier tests of this process keep, such as a resource tracker, does not count."""
    before = set(psutil.Process().children())
    yield
    assert not set(psutil.Process().children()) - before


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("engines")
    model = fused_encoder(Encoder())
    ir.save(lower(model, ORT, openvino.STANDARD)[0], folder / "model.onnx")
    return {"onnxruntime": folder / "model.onnx", "openvino": openvino.build(model, folder / "model.xml").path}


@pytest.mark.usefixtures("_leaves_no_process")
def test_every_engine_is_timed_at_every_shape(engines: dict[str, Path]) -> None:
    found = speed.fastest(engines, INPUTS, NUM_WORDS, NUM_POSITIONS)
    assert found.name in engines
    assert {name: list(times) for name, times in found.milliseconds.items()} == {name: ["1x64", "8x64"] for name in engines}
    assert all(0 < milliseconds < 1e4 for times in found.milliseconds.values() for milliseconds in times.values())


def test_a_long_model_is_timed_at_128_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, onnxruntime=[1.0, 8.0])
    assert list(speed.fastest({"onnxruntime": Path("x")}, INPUTS, NUM_WORDS, 512).milliseconds["onnxruntime"]) == ["1x128", "8x128"]


@pytest.mark.parametrize(
    ("times", "winner"),
    [
        ([1.0, 8.0], "onnxruntime"),
        ([0.98, 7.9], "onnxruntime"),  # less than 3 %
        ([0.9, 7.5], "openvino"),
        ([0.5, 9.6], "openvino"),  # mean of 0.5 and 1.2
        ([1.4, 5.2], "onnxruntime"),  # mean of 1.4 and 0.65
    ],
)
def test_the_first_engine_gives_way_only_to_a_real_gain(monkeypatch: pytest.MonkeyPatch, times: list[float], winner: str) -> None:
    answer(monkeypatch, onnxruntime=[1.0, 8.0], openvino=times)
    found = speed.fastest({"onnxruntime": Path("x"), "openvino": Path("y")}, INPUTS, NUM_WORDS, 512)
    assert found.name == winner
    assert found.milliseconds == {
        "onnxruntime": {"1x128": 1.0, "8x128": 8.0},
        "openvino": dict(zip(("1x128", "8x128"), times, strict=True)),
    }


@pytest.mark.usefixtures("_leaves_no_process")
def test_an_engine_that_does_not_load_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)openvino engine cannot be timed: PackageError: OpenVINO 20\S* cannot load") as caught:
        speed.fastest({"openvino": tmp_path / "model.xml"}, INPUTS, NUM_WORDS, 512)
    assert str(caught.value).endswith("Choose a runtime yourself: --runtime onnxruntime or --runtime openvino")


def answer(monkeypatch: pytest.MonkeyPatch, **times: list[float]) -> None:
    """Let the processes answer these milliseconds for batches of 1 and of 8."""

    class Worker:
        def __init__(self, name: str) -> None:
            self.name = name

        def call(self, function: Callable[..., Any], *arguments: Any) -> float | None:
            assert function in (speed._load, speed._turn)
            own = times[re.sub("^The | engine$", "", self.name)]
            return own[len(arguments[0]["input_ids"]) > 1] if function is speed._turn else None

    @contextmanager
    def worker(name: str, advice: str) -> Iterator[Worker]:
        yield Worker(name)

    monkeypatch.setattr(speed, "worker", worker)
