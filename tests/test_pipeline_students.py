"""INT8 packages of students: every LSTM in INT8, verified, within a budget, repeated from a cache, and refused where no runtime has it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch

import trtbert
from tests.checkpoint.test_students import LONGEST, answers, padded, saved
from tests.tiny_tokenizers import SENTENCES
from trtbert.builders import targets
from trtbert.checkpoint.read import Checkpoint
from trtbert.cli import main
from trtbert.config import CompileConfig, Runtime, Target, config_from_mapping
from trtbert.errors import UnsupportedError, VerificationError
from trtbert.package import Package, Quantization
from trtbert.pipeline import verify_package
from trtbert.tasks import TASKS, Task

pytestmark = pytest.mark.usefixtures("exported_once")

Array = npt.NDArray[Any]
Output = pytest.CaptureFixture[str]
PARTS = ["layer 0 LSTM", "layer 1 LSTM", "word embedding"]
KINDS = [
    ("bilstm", "text-classification"),
    pytest.param("bilstm", "sentence-similarity", marks=pytest.mark.slow),
    pytest.param("attentive-bilstm", "text-classification", marks=pytest.mark.slow),
    pytest.param("cnn-bilstm", "token-classification", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, known = random.Random(0), " ".join(SENTENCES).split()
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(" ".join(rng.choices(known, k=1 + index % 20)) for index in range(80)))
    return path


class Student:
    """One that is saved, and how it is compiled."""

    def __init__(self, folder: Path, kind: str, task: Task, texts: Path) -> None:
        self.checkpoint: Checkpoint
        self.checkpoint, self.model = saved(folder, kind, task)
        self.folder, self.task, self.texts = folder, task, texts

    def compile(self, output: Path, **options: Any) -> Package:
        chosen = {"precision": "int8", "calibration_data": self.texts} | options
        given = {name: value for name, value in chosen.items() if value is not None}
        return trtbert.compile(self.model, output, config_from_mapping(given))


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Callable[[str, Task], Student]:
    made: dict[tuple[str, Task], Student] = {}

    def get(kind: str, task: Task) -> Student:
        if (kind, task) not in made:
            made[kind, task] = Student(tmp_path_factory.mktemp("student"), kind, task, texts)
            made[kind, task].compile(made[kind, task].folder / "package")
        return made[kind, task]

    return get


@pytest.fixture(scope="module")
def student(students: Callable[[str, Task], Student]) -> Student:
    """Its INT8 package is in the folder `package` beside it."""
    return students("bilstm", "text-classification")


def facts(package: Package) -> Quantization:
    assert package.manifest.quantization is not None
    return package.manifest.quantization


@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_every_lstm_is_int8_and_the_answers_are_near(kind: str, task: Task, students: Callable[[str, Task], Student]) -> None:
    student = students(kind, task)
    predictor = trtbert.load(student.folder / "package")
    package = trtbert.package.open_package(student.folder / "package")
    found, manifest = facts(package), package.manifest
    assert [part.part for part in found.parts if part.is_int8] == PARTS == [part.part for part in found.parts]
    assert (found.method, found.preset, found.num_texts) == ("dynamic", None, 0) and 0 < found.error < 0.01 and found.num_held_back > 0
    assert (manifest.runtime, manifest.precision, manifest.raced) == ("onnxruntime", "int8", {})
    assert [stage.stage for stage in manifest.verification.stages] == ["export", "rewrite", "calibrate", "build"]
    ops = [node.op_type for node in ir.load(package.engine_path).graph]
    assert ops.count("DynamicQuantizeLSTM") == 2 and "LSTM" not in ops and "DequantizeLinear" not in ops
    for padding in ("right", "left", "holes"):
        ids, mask = padded(padding, longest=LONGEST)
        actual = predictor.runtime.run({"input_ids": ids.numpy().astype(np.int32), "attention_mask": mask.numpy().astype(np.int32)})
        with torch.no_grad():
            expected = answers(student.checkpoint.model(ids, mask)[0], mask, task).numpy()
        output = actual[TASKS[task].outputs[0]]
        is_kept = mask.numpy() != 0 if output.ndim == 3 else np.ones(len(ids), bool)
        difference = np.square(output - expected)[is_kept].sum() / np.square(expected)[is_kept].sum()
        assert 0 < difference < 1e-4, "measured at most 8e-6"
    assert len(predictor.predict(["The museum opens at nine.", "Who?"])) == 2
    (figures,) = verify_package(package.path).stages
    assert figures.is_passed and figures.max_error == pytest.approx(manifest.verification.stages[-1].max_error, rel=0.01)


def test_inspect_names_the_parts(student: Student, capsys: Output) -> None:
    assert main(["inspect", str(student.folder / "package")]) == 0
    text = capsys.readouterr().out
    assert "int8   3 of 3 parts: layer 0 LSTM, layer 1 LSTM, word embedding; inputs are quantised as they come" in text
    assert f"texts ({student.texts}): error " in text
    assert "note   an LSTM quantises its inputs as they come: the texts only measure what INT8 costs" in text


def test_without_the_word_embedding(student: Student, tmp_path: Path) -> None:
    found = facts(student.compile(tmp_path / "package", quantize_embeddings=False))
    assert [part.part for part in found.parts] == PARTS[:2]


def test_a_calibration_is_repeated_from_its_cache(student: Student, tmp_path: Path) -> None:
    cache = student.folder / "package" / "calibration.cache"
    again = student.compile(tmp_path / "package", calibration_data=None, calibration_cache=cache)
    first = trtbert.package.open_package(student.folder / "package")
    assert facts(again) == facts(first) and again.manifest.notes == first.manifest.notes
    assert again.engine_path.read_bytes() == first.engine_path.read_bytes()


def test_a_budget_puts_lstms_back_into_float(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    """The score here says that INT8 in the first LSTM breaks the model: that tiny students differ by so little is nothing to rely on."""

    def score(_: object, model: ir.Model) -> float:
        return 100.0 if "stack.int8" not in model.graph.initializers else 0.0

    monkeypatch.setattr("trtbert.accuracy.Judge.score", score)
    package = student.compile(tmp_path / "package", max_drop=0.5)
    found = facts(package)
    assert [part.part for part in found.parts if part.is_int8] == PARTS[1:]
    assert found.budget is not None and found.budget.metric == "fidelity" and all(part.cost is not None for part in found.parts)
    ops = [node.op_type for node in ir.load(package.engine_path).graph]
    assert (ops.count("LSTM"), ops.count("DynamicQuantizeLSTM")) == (1, 1)
    assert main(["inspect", str(package.path)]) == 0
    assert "int8   2 of 3 parts: layer 1 LSTM, word embedding;" in (text := capsys.readouterr().out)
    assert "note   stays in float to keep the accuracy: layer 0 LSTM" in text


def test_a_budget_that_does_not_hold_names_what_helps_an_lstm(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no thresholds that another method could choose, and no FP16 on the CPU."""
    scores = iter([0.0] * 9)
    monkeypatch.setattr("trtbert.accuracy.Judge.score", lambda _self, _model: next(scores))
    with pytest.raises(VerificationError, match=r"Allow more with --max-drop, or use --precision fp32\.$"):
        student.compile(tmp_path / "package", max_drop=0.5)


@pytest.mark.parametrize(
    ("target", "runtime", "message"),
    [
        ("sm75", "tensorrt-rtx", "TensorRT has no INT8 LSTM; use --precision fp16"),
        ("cpu", "openvino", "OpenVINO has no INT8 LSTM; use --runtime onnxruntime"),
    ],
)
def test_other_runtimes_refuse_before_the_calibration(
    target: Target, runtime: Runtime, message: str, student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "check_available", lambda target, runtime: None)
    stages: list[str] = []
    config = CompileConfig(target=target, runtime=runtime, precision="int8", calibration_data=student.texts)
    with pytest.raises(UnsupportedError, match=message):
        trtbert.compile(student.model, tmp_path / "package", config, on_stage=stages.append)
    assert stages == ["export", "rewrite"] and list(tmp_path.iterdir()) == []
