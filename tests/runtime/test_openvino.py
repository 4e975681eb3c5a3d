"""OpenVINO runs a model file, in float32 and from several threads; what it cannot run is refused by name; nothing is sent anywhere."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from trtbert.errors import InputError, MissingRuntimeError, PackageError
from trtbert.runtime import open_runtime
from trtbert.runtime.openvino import OpenVinoRuntime, import_openvino

MODEL = """
<ir_version: 9, opset_import: ["" : 17]>
sums (int32[batch, sequence] input_ids, int32[batch, sequence] attention_mask) => (float[batch, 3] scores, int32[batch, sequence] masked)
<float[3] w = {1.0, 2.0, 3.0}>
{
  an_inner_name = Cast <to = 6> (input_ids)
  masked = Mul (an_inner_name, attention_mask)
  floats = Cast <to = 1> (masked)
  axes = Constant <value_ints = [1]> ()
  sum = ReduceSum (floats, axes)
  scores = Mul (sum, w)
}
"""
"""The first Cast does nothing: compiled, the input has its name too."""

PRODUCT = """
<ir_version: 9, opset_import: ["" : 17]>
product (float[batch, 64] x) => (float[batch, 64] y)
{
  y = MatMul (x, w)
}
"""

SCRIPT = """
import json, sys
import numpy as np

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("onnx", "onnx_ir", "torch", "transformers"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
events = set()
sys.addaudithook(lambda event, arguments: events.add(event))
from pathlib import Path
from trtbert.runtime.openvino import OpenVinoRuntime

feed = np.array([[4, 5]], np.int32)
results = OpenVinoRuntime(Path(sys.argv[1])).run({"input_ids": feed, "attention_mask": feed})
names = [name for name in (*events, *sys.modules) if name.startswith(("socket.", "os.fork", "subprocess.", "openvino_telemetry"))]
print(json.dumps([results["scores"].tolist(), names]))
"""

Ints = npt.NDArray[np.int32]


def save(text: str, folder: Path, **weights: npt.NDArray[Any]) -> Path:
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    openvino = import_openvino()
    model = openvino.Core().read_model(proto.SerializeToString())
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def feeds(ids: Ints, mask: Ints | None = None) -> dict[str, Ints]:
    return {"input_ids": ids, "attention_mask": np.ones_like(ids) if mask is None else mask}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(MODEL, tmp_path)


@pytest.mark.parametrize("threads", [None, 1])
def test_a_model_runs(path: Path, threads: int | None) -> None:
    runtime = OpenVinoRuntime(path, threads=threads)
    assert [(t.name, t.dtype, t.shape) for t in runtime.inputs] == [(n, np.int32, (None, None)) for n in ("input_ids", "attention_mask")]
    assert [(t.name, t.dtype, t.shape) for t in runtime.outputs] == [("scores", np.float32, (None, 3)), ("masked", np.int32, (None, None))]
    mask = np.array([[1, 0]], np.int32)
    results = runtime.run({"attention_mask": mask, "input_ids": np.array([[4, 5]], np.int32)})
    assert {name: array.tolist() for name, array in results.items()} == {"scores": [[4, 8, 12]], "masked": [[4, 0]]}
    assert runtime.run(feeds(np.zeros((0, 2), np.int32)))["scores"].shape == (0, 3)


def test_an_engine_is_opened_by_the_name_of_its_runtime(path: Path) -> None:
    class Engine:
        engine_path, runtime, target, compute_capability = path, "openvino", "cpu", None
        versions: dict[str, str] = {}  # noqa: RUF012

    assert isinstance(open_runtime(Engine(), threads=1), OpenVinoRuntime)


def test_float32_whatever_the_cpu_has(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
    runtime = OpenVinoRuntime(save(PRODUCT, tmp_path, w=w))
    exact = x.astype(np.float64) @ w
    error = np.abs(runtime.run({"x": x})["y"] - exact).max() / np.abs(exact).max()
    assert error < 1e-6, "in BF16 it is 3e-3"


def test_results_outlive_the_next_run(path: Path) -> None:
    runtime = OpenVinoRuntime(path)
    first = runtime.run(feeds(np.full((1, 3), 2, np.int32)))
    runtime.run(feeds(np.full((1, 3), 7, np.int32)))
    del runtime
    assert first["scores"].tolist() == [[6, 12, 18]] and first["masked"].tolist() == [[2, 2, 2]]


def test_several_threads_run_one_engine(path: Path) -> None:
    runtime = OpenVinoRuntime(path)
    arrays = [np.full((1 + i % 3, 1 + i % 5), i, np.int32) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda ids: runtime.run(feeds(ids)), arrays))
    for ids, result in zip(arrays, results, strict=True):
        assert result["masked"].tolist() == ids.tolist()
        assert result["scores"].tolist() == [[k * ids[0].sum() for k in (1, 2, 3)]] * len(ids)


def test_wrong_feeds_are_named(path: Path) -> None:
    runtime, ids = OpenVinoRuntime(path), np.ones((1, 2), np.int32)
    with pytest.raises(InputError, match=r"takes \['input_ids', 'attention_mask'\], got \['ids'\]"):
        runtime.run({"ids": ids})
    with pytest.raises(InputError, match=r"input_ids must be int32, got int64"):
        runtime.run({**feeds(ids), "input_ids": ids.astype(np.int64)})
    with pytest.raises(InputError, match=r"attention_mask must have the shape \(None, None\), got \(1, 2, 1\)"):
        runtime.run(feeds(ids, ids[..., None]))


def test_a_file_that_is_no_model(path: Path) -> None:
    path.write_text("nonsense")
    with pytest.raises(PackageError, match=r"OpenVINO [0-9.]+ cannot load .*model\.xml"):
        OpenVinoRuntime(path)


@pytest.mark.parametrize(
    ("weights", "said"),
    [(None, "Empty weights data in bin file or bin file cannot be found!"), (b"\0\0\0\0", "Incorrect weights in bin file!")],
)
def test_a_model_without_its_weights(path: Path, weights: bytes | None, said: str) -> None:
    path.with_suffix(".bin").unlink()
    if weights is not None:
        path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(PackageError, match=rf"cannot load .*model\.xml: {said}$"):
        OpenVinoRuntime(path)


def test_a_missing_wheel_names_its_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingRuntimeError, match=r"pip install 'trtbert\[openvino\]'") as raised:
        OpenVinoRuntime(path)
    assert raised.value.exit_code == 5


def test_nothing_is_sent_and_no_compiler_is_needed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path / "home")}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [[[41, 82, 123]], []]
    assert not list((tmp_path / "home").iterdir()), "OpenVINO's telemetry writes to the home folder"


def test_the_telemetry_of_others_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = object()
    monkeypatch.setitem(sys.modules, "openvino_telemetry", theirs)
    import_openvino()
    assert sys.modules["openvino_telemetry"] is theirs
