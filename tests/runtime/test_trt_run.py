"""A TensorRT engine is fed, run and read back; here on stand-ins, since there may be no GPU."""

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugin_libraries import make_library
from tests.runtime.fake_gpu import FakeContext, FakeCuda, FakeEngine, FakeTrt, write_plan
from tests.runtime.test_trt import Engine
from trtbert.errors import InputError, PackageError, UnsupportedError
from trtbert.runtime import trt
from trtbert.runtime.plugins import LIBRARY, sha256_of

PROFILES = [((1, 1), (1, 512)), ((2, 1), (64, 128))]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    pytest.importorskip("cuda.core.utils", reason="cuda-python is not installed")
    fake, engine = FakeCuda(), FakeEngine(PROFILES)
    modules: dict[str, Any] = {"cuda.bindings.runtime": fake, "tensorrt_rtx": FakeTrt(engine)}
    monkeypatch.setattr(trt, "import_module", lambda name: modules.get(name) or importlib.import_module(name))
    return fake


@dataclass(frozen=True)
class Library:
    sha256: str
    name: str = LIBRARY
    version: str = "1.2.3"


def open_engine(folder: Path, **fields: Any) -> trt.TrtRuntime:
    return trt.TrtRuntime(Engine(write_plan(folder), versions={"tensorrt-rtx": "1.7.1.116"}, **fields))


def feeds(rows: int, length: int) -> dict[str, Any]:
    ids = np.arange(rows * length, dtype=np.int32).reshape(rows, length)
    return {"input_ids": ids, "attention_mask": (ids % 3 > 0).astype(np.int32)}


def expected(given: dict[str, Any]) -> Any:
    return ((given["input_ids"] * given["attention_mask"]).sum(1, keepdims=True) * [1, 2, 3]).astype(np.float32)


def test_the_tensors_are_described(cuda: FakeCuda, tmp_path: Path) -> None:
    runtime = open_engine(tmp_path)
    assert [(t.name, t.dtype, t.shape) for t in runtime.inputs] == [(n, np.int32, (None, None)) for n in ("input_ids", "attention_mask")]
    assert [(t.name, t.dtype, t.shape) for t in runtime.outputs] == [("scores", np.float32, (None, 3))]


def test_numpy_in_and_out(cuda: FakeCuda, tmp_path: Path) -> None:
    runtime = open_engine(tmp_path)
    for rows, length, profile in ((1, 300, 0), (64, 128, 1), (1, 1, 0), (3, 5, 1)):
        given = feeds(rows, length)
        assert (runtime.run(given)["scores"] == expected(given)).all()
        assert runtime._context.active_optimization_profile == profile
        assert cuda.calls[-2:] == [f"down {rows * 12} on 77", "wait 77"]
    mallocs = [call for call in cuda.calls if call.startswith("malloc")]
    assert mallocs == ["malloc 1200", "malloc 1200", "malloc 12", "malloc 32768", "malloc 32768", "malloc 768"]
    assert len(cuda.memory) == 3


def test_plugins_are_loaded_before_the_engine(cuda: FakeCuda, tmp_path: Path) -> None:
    library = make_library(tmp_path)
    open_engine(tmp_path, plugins=Library(sha256_of(library)))
    assert trt.import_module("tensorrt_rtx").loaded == [str(library), "plan"]
    open_engine(tmp_path)
    assert trt.import_module("tensorrt_rtx").loaded == [str(library), "plan", "plan"], "plugins are loaded for an engine without any"


def test_an_engine_with_other_plugins_is_not_loaded(cuda: FakeCuda, tmp_path: Path) -> None:
    make_library(tmp_path)
    with pytest.raises(PackageError, match=r"is not the libtrtbert_plugins\.so 1\.2\.3 that the engine was built with"):
        open_engine(tmp_path, plugins=Library("0" * 64))
    assert trt.import_module("tensorrt_rtx").loaded == []


def test_results_live_on_after_the_next_run(cuda: FakeCuda, tmp_path: Path) -> None:
    runtime = open_engine(tmp_path)
    first = runtime.run(feeds(2, 4))["scores"]
    kept = first.copy()
    runtime.run(feeds(2, 9))
    assert (first == kept).all()


def test_a_callers_stream_is_used(cuda: FakeCuda, tmp_path: Path) -> None:
    given = feeds(2, 4)
    assert (open_engine(tmp_path).run(given, stream=5)["scores"] == expected(given)).all()
    assert cuda.calls[-1] == "wait 5"
    assert not any("77" in call for call in cuda.calls if "on" in call)


def test_outputs_of_the_caller_must_be_on_the_gpu(cuda: FakeCuda, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="array on the GPU"):
        open_engine(tmp_path).run(feeds(2, 4), outputs={"scores": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize(("rows", "length"), [(65, 4), (2, 129), (0, 4)])
def test_a_shape_that_no_profile_holds(cuda: FakeCuda, tmp_path: Path, rows: int, length: int) -> None:
    with pytest.raises(InputError, match="fit no optimisation profile"):
        open_engine(tmp_path).run(feeds(rows, length))


def test_missing_feeds(cuda: FakeCuda, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"takes \['input_ids', 'attention_mask'\], got \['input_ids'\]"):
        open_engine(tmp_path).run({"input_ids": np.zeros((1, 1), np.int32)})


def test_another_gpu_is_refused_before_the_plan_is_read(cuda: FakeCuda, tmp_path: Path) -> None:
    engine = Engine(tmp_path / "no.plan", versions={"tensorrt-rtx": "1.7.1.116"}, target="sm120")
    with pytest.raises(UnsupportedError, match="built for sm120, and this GPU is sm75"):
        trt.TrtRuntime(engine)


def test_a_plan_that_is_refused(cuda: FakeCuda, tmp_path: Path) -> None:
    (tmp_path / "other.plan").write_bytes(b"nonsense")
    with pytest.raises(PackageError, match=r"refused the engine .*other\.plan"):
        trt.TrtRuntime(Engine(tmp_path / "other.plan", versions={"tensorrt-rtx": "1.7.1"}))


def test_the_stand_ins_have_only_what_is_really_there() -> None:
    cudart: Any = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    tensorrt: Any = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    pairs = ((FakeCuda, cudart), (FakeContext, tensorrt.IExecutionContext), (FakeEngine, tensorrt.ICudaEngine), (FakeTrt, tensorrt))
    for fake, real in pairs:
        names = [name for name, _ in inspect.getmembers(fake) if not name.startswith("_")]
        assert len(names) > 3
        assert [name for name in names if not hasattr(real, name)] == []
    for kind in (FakeCuda.cudaDeviceAttr, FakeCuda.cudaMemcpyKind):
        owner = cudart.cudaDeviceAttr if kind is FakeCuda.cudaDeviceAttr else cudart.cudaMemcpyKind
        assert all(hasattr(owner, name) for name in vars(kind))
    assert hasattr(tensorrt.IExecutionContext, "active_optimization_profile")
    assert hasattr(tensorrt.ICudaEngine, "num_optimization_profiles")
    assert hasattr(tensorrt.Runtime, "deserialize_cuda_engine") and hasattr(tensorrt.Runtime, "get_plugin_registry")
    assert hasattr(tensorrt.IPluginRegistry, "load_library")
