"""A stand-in for `cuda.bindings.runtime`: the GPU's memory is host memory, its clock is moved by hand and by what copies take.

Each call is made to the real bindings as well where there is no GPU: they refuse it, but only after they took its arguments.
"""

# ruff: noqa: N802 -- the names are those of the real bindings.

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

Answer = tuple[Any, ...]
ALIGNMENT = 256


class HostCuda:
    def __init__(self, *, capability: tuple[int, int] = (8, 6), bytes_per_second: float = 100e9) -> None:
        self._real: Any = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
        self._is_mirrored = self._real.cudaGetDeviceCount()[0] != self._real.cudaError_t.cudaSuccess
        for name in ("cudaError_t", "cudaMemcpyKind", "cudaDeviceAttr", "cudaGetErrorString"):
            setattr(self, name, getattr(self._real, name))
        self.bytes_per_second = bytes_per_second
        self.milliseconds = 0.0
        """The clock."""
        self.memory: dict[int, Any] = {}
        """What is allocated, by its address."""
        self.failing: dict[str, str] = {}
        """The error that a function gives from now on."""
        self.attributes = {
            "ComputeCapabilityMajor": capability[0],
            "ComputeCapabilityMinor": capability[1],
            "MultiProcessorCount": 10,
            "ClockRate": 1_000_000,
            "L2CacheSize": 1 << 12,
        }
        self._events: dict[int, float] = {}

    def cudaGetDevice(self) -> Answer:
        return self._done("cudaGetDevice", value=0)

    def cudaDeviceGetAttribute(self, attribute: Any, device: int) -> Answer:
        value = self.attributes[attribute.name.removeprefix("cudaDevAttr")]
        return self._done("cudaDeviceGetAttribute", attribute, device, value=value)

    def cudaGetDeviceProperties(self, device: int) -> Answer:
        return self._done("cudaGetDeviceProperties", device, value=SimpleNamespace(name=b"Stand-in"))

    def cudaMemGetInfo(self) -> Answer:
        return (self.cudaError_t.cudaSuccess, 1 << 20, 1 << 21)

    def cudaMalloc(self, size: int) -> Answer:
        buffer = ctypes.create_string_buffer(size + ALIGNMENT)
        address = -(-ctypes.addressof(buffer) // ALIGNMENT) * ALIGNMENT
        self.memory[address] = (buffer, size)
        return self._done("cudaMalloc", size, value=address)

    def cudaFree(self, address: int) -> Answer:
        del self.memory[address]
        return self._done("cudaFree", address)

    def cudaMemset(self, address: int, value: int, size: int) -> Answer:
        self._check_inside(address, size)
        ctypes.memset(address, value, size)
        return self._done("cudaMemset", address, value, size)

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> Answer:
        self._check_inside(address, size)
        self._pass(size)
        return self._done("cudaMemsetAsync", address, value, size, stream)

    def cudaMemcpy(self, target: int, source: int, size: int, kind: Any) -> Answer:
        kinds = self.cudaMemcpyKind
        self._check_inside({kinds.cudaMemcpyHostToDevice: target, kinds.cudaMemcpyDeviceToHost: source}[kind], size)
        ctypes.memmove(target, source, size)
        return self._done("cudaMemcpy", target, source, size, kind)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: int) -> Answer:
        assert kind == self.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._check_inside(target, size)
        self._check_inside(source, size)
        self._pass(2 * size)
        return self._done("cudaMemcpyAsync", target, source, size, kind, stream)

    def cudaDeviceSynchronize(self) -> Answer:
        return self._done("cudaDeviceSynchronize")

    def cudaStreamCreate(self) -> Answer:
        return self._done("cudaStreamCreate", value=self._real.cudaStream_t(77))

    def cudaStreamSynchronize(self, stream: int) -> Answer:
        return self._done("cudaStreamSynchronize", stream)

    def cudaEventCreate(self) -> Answer:
        self._events[number := len(self._events) + 1] = np.nan
        return self._done("cudaEventCreate", value=self._real.cudaEvent_t(number))

    def cudaEventRecord(self, event: Any, stream: int) -> Answer:
        self._events[int(event)] = self.milliseconds
        return self._done("cudaEventRecord", event, stream)

    def cudaEventSynchronize(self, event: Any) -> Answer:
        return self._done("cudaEventSynchronize", event)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> Answer:
        return self._done("cudaEventElapsedTime", start, end, value=self._events[int(end)] - self._events[int(start)])

    def _pass(self, num_bytes: int) -> None:
        self.milliseconds += num_bytes / self.bytes_per_second * 1e3

    def _check_inside(self, address: int, size: int) -> None:
        assert any(base <= address and address + size <= base + held for base, (_, held) in self.memory.items()), "not on the GPU"

    def _done(self, function: str, *arguments: Any, value: Any = None) -> Answer:
        if self._is_mirrored:
            refused = getattr(self._real, function)(*arguments)
            assert refused[0] != self.cudaError_t.cudaSuccess and len(refused) == (1 if value is None else 2), (function, refused)
        if function in self.failing:
            return (getattr(self.cudaError_t, self.failing[function]), *(() if value is None else (None,)))
        return (self.cudaError_t.cudaSuccess, *(() if value is None else (value,)))
