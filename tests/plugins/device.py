"""The launchers of plugins/capi.h on the GPU: arrays are copied there, the kernel runs, and its output is copied back.

Every array lies between guards of 0xFF, which is NaN in each float type: a kernel that reads beyond an array gives NaN, and one that
writes beyond its output is found. `make test-gpu` runs the tests of the kernels with it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.kernels import FLOAT_TYPES, Array, KernelError, Kernels

ENVIRONMENT = "TRTBERT_TEST_DEVICE"
"""Set to "gpu" by `make test-gpu`."""
ALIGNMENT = 256
"""Of cudaMalloc. In the tests an array keeps its place between two multiples of it: what is unaligned on the host is so on the GPU."""
_GUARD, _GUARD_BYTE = 256, 0xFF
_NOT_SUPPORTED = 801  # cudaErrorNotSupported


def is_wanted() -> bool:
    """Whether tests run on the GPU."""
    value = os.environ.get(ENVIRONMENT, "")
    if value not in ("", "gpu"):
        raise ValueError(f"{ENVIRONMENT} is {value!r}; leave it unset, for the emulated kernels, or set it to gpu")
    return value == "gpu"


class DeviceError(Exception):
    """A call of the CUDA runtime failed; after some errors of a kernel so does every later call of the process."""


class Device:
    """The current GPU, by cuda-python's `cuda.bindings.runtime`; every call is checked."""

    def __init__(self, cudart: Any = None) -> None:
        self.cudart = cudart or import_module("cuda.bindings.runtime")
        self.index = self.call("cudaGetDevice")

    def call(self, function: str, *arguments: Any, during: str = "") -> Any:
        """The value of cudart's `function`, None for one that gives no value."""
        status, *values = getattr(self.cudart, function)(*arguments)
        if status != self.cudart.cudaError_t.cudaSuccess:
            _, text = self.cudart.cudaGetErrorString(status)
            raise DeviceError(f"{during or function}: {status.name}: {text.decode()}")
        return values[0] if values else None

    def attribute(self, name: str) -> int:
        """Of cudaDeviceAttr, without "cudaDevAttr"."""
        return int(self.call("cudaDeviceGetAttribute", getattr(self.cudart.cudaDeviceAttr, f"cudaDevAttr{name}"), self.index))

    def compute_capability(self) -> int:
        return self.attribute("ComputeCapabilityMajor") * 10 + self.attribute("ComputeCapabilityMinor")

    def upload(self, address: int, array: Array) -> None:
        self.call("cudaMemcpy", address, array.ctypes.data, array.nbytes, self.cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, address: int, array: Array) -> None:
        self.call("cudaMemcpy", array.ctypes.data, address, array.nbytes, self.cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost)


@dataclass(frozen=True)
class Block:
    """Memory of the GPU that holds one array between two guards."""

    base: int
    start: int
    """Of the array, from the base in bytes."""
    num_bytes: int
    """Of the array."""

    @property
    def address(self) -> int:
        return self.base + self.start

    @property
    def size(self) -> int:
        return self.start + self.num_bytes + _GUARD


class DeviceKernels(Kernels):
    """The four launchers of a library for this GPU, on host arrays."""

    def __init__(self, library: Path, cudart: Any = None) -> None:
        super().__init__(library)
        self.device = Device(cudart)

    def set_schedule(self, schedule: int, seed: int = 1) -> None:
        pytest.skip("a GPU orders its threads itself: schedules are for the emulation")

    def set_compute_capability(self, capability: int) -> None:
        pytest.skip("a GPU has the compute capability that it has: another one is for the emulation")

    def start(self, launcher: str, dtype: np.dtype[Any], values: Mapping[str, Any]) -> None:
        """As of Kernels; raises DeviceError where the kernel fails, AssertionError where it writes anywhere but to y."""
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        blocks: dict[str, Block] = {}
        try:
            for name, array in arrays.items():
                blocks[name] = self.place(array, array.ctypes.data % ALIGNMENT, is_filled=name != "y")
            self.launch(launcher, dtype, {**values, **{name: block.address for name, block in blocks.items()}})
            self.device.call("cudaDeviceSynchronize", during=launcher)
            for name, array in arrays.items():
                self._take(launcher, name, blocks[name], array)
        finally:
            for block in blocks.values():
                self.device.cudart.cudaFree(block.base)  # unchecked: it repeats the error of a kernel

    def place(self, array: Array, offset: int = 0, *, is_filled: bool) -> Block:
        """A copy of the array on the GPU, or the memory for one; `offset` bytes after a multiple of ALIGNMENT."""
        assert array.flags.c_contiguous
        start = _GUARD + offset
        size = start + array.nbytes + _GUARD
        base = int(self.device.call("cudaMalloc", size))
        assert base % ALIGNMENT == 0
        self.device.call("cudaMemset", base, _GUARD_BYTE, size)
        if is_filled and array.nbytes:
            self.device.upload(base + start, array)
        return Block(base, start, array.nbytes)

    def launch(self, launcher: str, dtype: np.dtype[Any], values: Mapping[str, Any]) -> None:
        """Start a kernel on arrays that are given by their addresses on the GPU."""
        try:
            super().start(launcher, dtype, values)
        except KernelError as error:
            capability, needed = self.device.compute_capability(), _needed_capability(launcher, dtype, values)
            if error.code == _NOT_SUPPORTED and capability < needed:
                pytest.skip(f"{launcher} of these types needs sm{needed}, and this GPU is sm{capability}")
            raise

    def _take(self, launcher: str, name: str, block: Block, array: Array) -> None:
        """Read y into its array, and see that nothing else is other than it was."""
        found = np.empty(block.size, np.uint8)
        self.device.download(block.base, found)
        inside = slice(block.start, block.start + block.num_bytes)
        if name == "y":
            array[...] = found[inside].copy().view(array.dtype).reshape(array.shape)
        else:
            assert found[inside].tobytes() == array.tobytes(), f"{launcher} wrote to its input {name}"
        found[inside] = _GUARD_BYTE
        written = np.flatnonzero(found != _GUARD_BYTE) - block.start
        assert not written.size, f"{launcher} wrote beyond {name}: at byte {written[0]} of {block.num_bytes}"


def _needed_capability(launcher: str, dtype: np.dtype[Any], values: Mapping[str, Any]) -> int:
    """What plugins/kernels/fused_qkv_attention.h says."""
    if launcher != "fused_qkv_attention":
        return 0
    is_bf16 = np.dtype(dtype) == FLOAT_TYPES["bf16"]
    return 75 if values.get("q_scale") else 80 if is_bf16 else 0
