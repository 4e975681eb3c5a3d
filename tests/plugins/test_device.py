"""The kernels on a GPU, as far as it goes without one: a stand-in for the CUDA runtime on host memory, and the emulated library."""

import ctypes
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.gpu.host_cuda import HostCuda
from tests.plugins.device import DeviceError, DeviceKernels
from tests.plugins.kernels import FLOAT_TYPES, Array, KernelError, Kernels

HEADS = {"num_heads": 2, "head_size": 16, "scale": 0.25}
INT8 = {"q_scale": 0.05, "k_scale": 0.05, "v_scale": 0.05, "probability_scale": 1 / 127, "y_scale": 0.02}


@pytest.fixture
def cuda() -> HostCuda:
    return HostCuda()


@pytest.fixture
def on_device(emulated_kernels: Path, cuda: HostCuda) -> DeviceKernels:
    return DeviceKernels(emulated_kernels, cuda)


def random(dtype: Any, *shape: int, offset: int = 0) -> Array:
    """An array that starts `offset` elements after a multiple of 256 bytes."""
    dtype = np.dtype(dtype)
    memory = np.empty(int(np.prod(shape)) * dtype.itemsize + 512, np.uint8)
    start = -memory.ctypes.data % 256 + offset * dtype.itemsize
    array = memory[start : start + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)
    array[...] = (np.random.default_rng(0).standard_normal(shape) * (40 if dtype == np.int8 else 1)).astype(dtype)
    return array


def gelu(kernels: Kernels, dtype: Any, offset: int) -> Array:
    return kernels.bias_gelu(random(dtype, 3, 33, offset=offset), random(dtype, 33), y_scale=0.02)


def skip_layer_norm(kernels: Kernels, dtype: Any, offset: int) -> Array:
    x, skip = random(np.int8, 3, 33, offset=offset), random(np.int8, 3, 33, offset=2 * offset)
    vectors = [random(dtype, 33) for _ in range(3)]
    return kernels.skip_layer_norm(x, skip, *vectors, epsilon=1e-5, x_scale=0.01, skip_scale=0.02)


def embed_layer_norm(kernels: Kernels, dtype: Any, offset: int) -> Array:
    ids = np.arange(6, dtype=np.int32).reshape(2, 3)
    tables = [random(dtype, rows, 33, offset=offset) for rows in (6, 3)]
    vectors = [random(dtype, 33) for _ in range(2)]
    return kernels.embed_layer_norm(ids, ids[:1], *tables, *vectors, ids % 2, random(dtype, 2, 33), epsilon=1e-5)


def attention(kernels: Kernels, dtype: Any, offset: int) -> Array:
    mask = np.array([[1] * 20, [1] * 7 + [0] * 13], np.int32)
    return kernels.qkv_attention(random(dtype, 2, 20, 96), mask, random(dtype, 1, 2, 20, 20, offset=offset), **HEADS)


def packed_attention(kernels: Kernels, dtype: Any, offset: int) -> Array:
    return kernels.packed_qkv_attention(random(dtype, 27, 96), np.array([0, 20, 20, 27], np.int32), **HEADS, **INT8)


def nothing(kernels: Kernels, dtype: Any, offset: int) -> Array:
    return kernels.bias_gelu(random(dtype, 0, 33), random(dtype, 33))


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("call", [gelu, skip_layer_norm, embed_layer_norm, attention, packed_attention, nothing])
def test_there_and_back(
    call: Callable[..., Array], dtype: str, offset: int, on_device: DeviceKernels, cuda: HostCuda, emulated_kernels: Path
) -> None:
    expected, found = (call(kernels, FLOAT_TYPES[dtype], offset) for kernels in (Kernels(emulated_kernels), on_device))
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()
    assert not cuda.memory, "memory of the GPU is not freed"


def test_what_a_launcher_refuses(on_device: DeviceKernels, cuda: HostCuda) -> None:
    with pytest.raises(KernelError, match="cudaError_t 1") as raised:
        on_device.qkv_attention(random(np.float16, 1, 4, 96, offset=1), np.ones((1, 4), np.int32), **HEADS)
    assert raised.value.code == 1 and not cuda.memory


class Library:
    """A library whose GELU does something else."""

    def __init__(self, act: Callable[[Any], Any], code: int = 0) -> None:
        self.act, self.code = act, code

    def trtbert_fused_bias_gelu(self, dtype: Any, params: Any, stream: None) -> int:
        self.act(params._obj)
        return self.code

    trtbert_fused_qkv_attention = trtbert_fused_bias_gelu


def with_library(on_device: DeviceKernels, act: Callable[[Any], Any], code: int = 0) -> DeviceKernels:
    on_device._library = Library(act, code)  # type: ignore[assignment]
    return on_device


def run(kernels: Kernels) -> Array:
    return kernels.bias_gelu(random(np.float32, 2, 3, offset=1), random(np.float32, 3))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda p: ctypes.memset(p.y + 24, 1, 1), "wrote beyond y: at byte 24 of 24"),
        (lambda p: ctypes.memset(p.y - 4, 1, 1), "wrote beyond y: at byte -4 of 24"),
        (lambda p: ctypes.memset(p.x + 5, 1, 1), "wrote to its input x"),
        (lambda p: ctypes.memset(p.bias + 12, 1, 1), "wrote beyond bias: at byte 12 of 12"),
    ],
)
def test_a_kernel_that_writes_elsewhere(act: Any, message: str, on_device: DeviceKernels, cuda: HostCuda) -> None:
    with pytest.raises(AssertionError, match=message):
        run(with_library(on_device, act))
    assert not cuda.memory


def test_what_is_not_written_or_lies_beyond_is_nan(on_device: DeviceKernels) -> None:
    def read_beyond(params: Any) -> None:
        ctypes.memmove(params.y, params.x + 24, 4)

    assert np.isnan(run(with_library(on_device, read_beyond))).all()


def test_addresses_keep_their_place(on_device: DeviceKernels) -> None:
    places = []
    run(with_library(on_device, lambda p: places.append((p.x % 256, p.bias % 256))))
    assert places == [(4, 0)]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("cudaDeviceSynchronize", "cudaErrorIllegalAddress", "fused_bias_gelu: cudaErrorIllegalAddress: an illegal memory access"),
        ("cudaMalloc", "cudaErrorMemoryAllocation", "cudaMalloc: cudaErrorMemoryAllocation: out of memory"),
        ("cudaMemset", "cudaErrorInvalidValue", "cudaMemset: cudaErrorInvalidValue"),
        ("cudaMemcpy", "cudaErrorLaunchFailure", "cudaMemcpy: cudaErrorLaunchFailure"),
    ],
)
def test_errors_of_the_gpu(function: str, error: str, message: str, on_device: DeviceKernels, cuda: HostCuda) -> None:
    cuda.failing[function] = error
    with pytest.raises(DeviceError, match=message):
        run(on_device)


@pytest.mark.parametrize(("capability", "scales", "needed"), [((7, 0), INT8, 75), ((7, 5), {}, 80)])
def test_what_an_old_gpu_cannot_do_is_skipped(capability: tuple[int, int], scales: Any, needed: int, emulated_kernels: Path) -> None:
    on_device = with_library(DeviceKernels(emulated_kernels, HostCuda(capability=capability)), lambda p: None, code=801)
    qkv = random(FLOAT_TYPES["bf16"], 1, 4, 96)
    with pytest.raises(pytest.skip.Exception, match=f"needs sm{needed}, and this GPU is sm7"):
        on_device.qkv_attention(qkv, np.ones((1, 4), np.int32), **HEADS, **scales)


def test_what_a_newer_gpu_does_not_do_is_an_error(on_device: DeviceKernels) -> None:
    with pytest.raises(KernelError):
        with_library(on_device, lambda p: None, code=801).qkv_attention(random(np.float16, 1, 4, 96), np.ones((1, 4), np.int32), **HEADS)


def test_what_is_for_the_emulation_is_skipped(on_device: DeviceKernels) -> None:
    with pytest.raises(pytest.skip.Exception, match="schedules are for the emulation"):
        on_device.set_schedule(3)
    with pytest.raises(pytest.skip.Exception, match="another one is for the emulation"):
        on_device.set_compute_capability(70)


def test_the_stand_in_takes_what_cuda_python_takes(cuda: HostCuda) -> None:
    real: Any = pytest.importorskip("cuda.bindings.runtime")
    functions = [name for name in vars(HostCuda) if name.startswith("cuda")]
    assert len(functions) > 15
    for name in functions:
        assert len(inspect.signature(getattr(cuda, name)).parameters) == len(inspect.signature(getattr(real, name)).parameters), name
    assert SimpleNamespace(**cuda.attributes) and all(hasattr(real.cudaDeviceAttr, f"cudaDevAttr{name}") for name in cuda.attributes)
