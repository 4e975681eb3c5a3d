"""What a TensorRT engine is checked for before it is loaded, on a machine with no GPU."""

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from trtbert.errors import InputError, MissingRuntimeError, UnsupportedError
from trtbert.runtime import Tensor, open_runtime, trt

IDS = Tensor("input_ids", np.dtype(np.int32), (None, None))


@dataclass
class Engine:
    engine_path: Path
    runtime: str = "tensorrt-rtx"
    target: str = "sm75"
    compute_capability: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    plugins: Any = None


def test_a_runtime_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(trt.MODULES, "tensorrt", "no_such_tensorrt")
    with pytest.raises(MissingRuntimeError, match=r"pip install 'trtbert\[tensorrt\]'") as raised:
        open_runtime(Engine(tmp_path, runtime="tensorrt"))
    assert raised.value.exit_code == 5


def test_type_stubs_alone_are_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "import_module", lambda name: ModuleType(name))
    with pytest.raises(MissingRuntimeError, match="only type stubs"):
        trt.import_runtime("tensorrt")


def test_an_unknown_runtime(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="'abacus'"):
        open_runtime(Engine(tmp_path, runtime="abacus"))


def test_an_engine_of_another_version_is_not_loaded(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    with pytest.raises(UnsupportedError, match=r"built with tensorrt-rtx 1\.0\.0") as raised:
        open_runtime(Engine(tmp_path / "no.plan", versions={"tensorrt-rtx": "1.0.0"}))
    assert raised.value.exit_code == 3


def test_no_gpu_is_said_before_the_engine_is_read(tmp_path: Path) -> None:
    module: Any = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    cudart: Any = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    if cudart.cudaGetDeviceCount()[0] == cudart.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a GPU")
    with pytest.raises(MissingRuntimeError, match="needs an NVIDIA GPU") as raised:
        open_runtime(Engine(tmp_path / "no.plan", versions={"tensorrt-rtx": module.__version__}))
    assert raised.value.exit_code == 5


def test_the_build_number_may_differ() -> None:
    trt.check_version("tensorrt", "10.13.0.35", "10.13.0.40")
    with pytest.raises(UnsupportedError, match=r"10\.14\.1 is installed"):
        trt.check_version("tensorrt", "10.13.0", "10.14.1")
    with pytest.raises(UnsupportedError, match="built with tensorrt None"):
        trt.check_version("tensorrt", None, "10.14.1")


@pytest.mark.parametrize("built_for", ["7.5", "75", "sm75"])
def test_compute_capabilities_have_three_spellings(built_for: str) -> None:
    trt.check_compute_capability(built_for, "7.5")
    with pytest.raises(UnsupportedError, match=r"built for sm75, and this GPU is sm120.*--target sm120"):
        trt.check_compute_capability(built_for, "12.0")


def profile(*bounds: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    smallest, largest = zip(*bounds, strict=True)
    return dict.fromkeys(("input_ids", "attention_mask"), (smallest, largest))


def test_the_first_profile_that_holds_the_shape_is_chosen() -> None:
    profiles = [profile((1, 1), (1, 512)), profile((2, 64), (1, 128))]
    for shape, index in {(1, 512): 0, (1, 1): 0, (2, 1): 1, (64, 128): 1}.items():
        assert trt.choose_profile(profiles, dict.fromkeys(profiles[0], shape)) == index


@pytest.mark.parametrize("shape", [(2, 129), (65, 1), (1, 513), (0, 5), (5,)])
def test_a_shape_outside_all_profiles(shape: tuple[int, ...]) -> None:
    profiles = [profile((1, 1), (1, 512)), profile((2, 64), (1, 128))]
    with pytest.raises(InputError, match=r"\(1, 1\) to \(1, 512\); \(2, 1\) to \(64, 128\)"):
        trt.choose_profile(profiles, dict.fromkeys(profiles[0], shape))


def test_arrays_must_fit_the_tensor() -> None:
    trt.check_layout(IDS, np.int32, (2, 3), (3, 1))
    trt.check_layout(IDS, np.int32, (1, 3), (99, 1))
    trt.check_layout(IDS, np.int32, (2, 3), None)
    with pytest.raises(InputError, match="must be int32, got int64"):
        trt.check_layout(IDS, np.int64, (2, 3), (3, 1))
    with pytest.raises(InputError, match="C order"):
        trt.check_layout(IDS, np.int32, (2, 3), (1, 2))
    with pytest.raises(InputError, match="must have the shape"):
        trt.check_layout(IDS, np.int32, (2, 3, 4), None)
    with pytest.raises(InputError, match=r"must have the shape \(2, 4\)"):
        trt.check_layout(IDS, np.int32, (2, 3), None, expected=(2, 4))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_an_array_on_the_host_is_seen_there(kind: str) -> None:
    pytest.importorskip("cuda.core.utils", reason="cuda-python is not installed")
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    ids = array if kind == "numpy" else torch.from_numpy(array)
    view = trt._view(IDS, ids, stream=7)
    assert (view.ptr, tuple(view.shape), view.is_device_accessible) == (array.ctypes.data, (2, 3), False)
    with pytest.raises(InputError, match="array on the GPU"):
        trt._view(IDS, ids, stream=7, expected=(2, 3))
