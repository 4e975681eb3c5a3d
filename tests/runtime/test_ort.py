"""ONNX Runtime runs a model file; what it cannot run is refused by name."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from trtbert.errors import InputError, MissingRuntimeError, PackageError
from trtbert.runtime.ort import OrtRuntime

MODEL = """
<ir_version: 9, opset_import: ["" : 17]>
sums (int32[batch, sequence] input_ids, int32[batch, sequence] attention_mask) => (float[batch, 3] scores)
<float[3] w = {1.0, 2.0, 3.0}>
{
  masked = Mul (input_ids, attention_mask)
  floats = Cast <to = 1> (masked)
  axes = Constant <value_ints = [1]> ()
  sum = ReduceSum (floats, axes)
  scores = Mul (sum, w)
}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("threads", [None, 1])
def test_a_model_runs(path: Path, threads: int | None) -> None:
    runtime = OrtRuntime(path, threads=threads)
    assert [(t.name, t.dtype, t.shape) for t in runtime.inputs] == [(n, np.int32, (None, None)) for n in ("input_ids", "attention_mask")]
    assert [(t.name, t.dtype, t.shape) for t in runtime.outputs] == [("scores", np.float32, (None, 3))]
    feeds = {"input_ids": np.array([[4, 5]], np.int32), "attention_mask": np.array([[1, 0]], np.int32)}
    assert runtime.run(feeds)["scores"].tolist() == [[4, 8, 12]]


def test_wrong_feeds_are_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"takes \['input_ids', 'attention_mask'\], got \['ids'\]"):
        OrtRuntime(path).run({"ids": np.zeros((1, 1), np.int32)})


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(PackageError, match=r"cannot load .*model\.onnx"):
        OrtRuntime(tmp_path / "model.onnx")


def test_weights_outside_the_folder_are_not_read(path: Path) -> None:
    model = onnx.load(path)
    weight = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    (path.parent / "w.bin").write_bytes(weight.raw_data)
    onnx.external_data_helper.set_external_data(weight, location="../w.bin", length=12)
    weight.ClearField("raw_data")
    model.graph.initializer[0].CopyFrom(weight)
    (path.parent / "inner").mkdir()
    (path.parent / "inner" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(PackageError, match="External data path"):
        OrtRuntime(path.parent / "inner" / "model.onnx")


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_cuda_names_its_wheel(path: Path) -> None:
    with pytest.raises(MissingRuntimeError, match="pip install onnxruntime-gpu") as raised:
        OrtRuntime(path, target="cuda")
    assert raised.value.exit_code == 5


def test_cuda_of_wheels_is_loaded_first(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a word on stdout, where answers are printed."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13"))
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(MissingRuntimeError, match="CUDA and cuDNN"):
        OrtRuntime(path, target="cuda")
    captured = capsys.readouterr()
    assert "libcublasLt" in captured.err and not captured.out
