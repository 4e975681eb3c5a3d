"""Stand-ins for the CUDA runtime and TensorRT, on host memory: the bookkeeping of a runtime can be run where there is no GPU.

They compute nothing of a model: the engine gives scores[b] = (sum of input_ids * attention_mask) * (1, 2, 3).
"""

# ruff: noqa: N802 -- the names are those of the real bindings.

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


class FakeCuda:
    """The functions of cuda.bindings.runtime; device memory is host memory, and work is done when it is enqueued."""

    cudaError_t = SimpleNamespace(cudaSuccess=SimpleNamespace(name="cudaSuccess"))
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=7, cudaDevAttrComputeCapabilityMinor=5)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down")

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.calls: list[str] = []

    def _done(self, call: str, *values: Any) -> tuple[Any, ...]:
        self.calls.append(call)
        return (self.cudaError_t.cudaSuccess, *values)

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self._done("count", 1)

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return self._done("device", 0)

    def cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        return self._done(f"set {index}")

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        return self._done("stream", 77)

    def cudaDeviceGetAttribute(self, attribute: int, index: int) -> tuple[Any, ...]:
        return self._done("attribute", attribute)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = buffer
        return self._done(f"malloc {size}", ctypes.addressof(buffer))

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        assert address == 0 or self.memory.pop(address)
        return self._done("free")

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> tuple[Any, ...]:
        inner = target if kind == "up" else source
        assert size <= ctypes.sizeof(self.memory[inner])
        ctypes.memmove(target, source, size)
        return self._done(f"{kind} {size} on {stream}")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        return self._done(f"wait {stream}")

    def cudaGetErrorString(self, status: Any) -> tuple[Any, ...]:
        return self._done("error", b"text")


class FakeContext:
    """The methods of an IExecutionContext."""

    def __init__(self, profiles: list[tuple[tuple[int, int], ...]]) -> None:
        self.profiles, self.active_optimization_profile = profiles, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.active_optimization_profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shapes["input_ids"][0], 3)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        ids, mask = (self._array(name, np.int32, self.shapes[name]) for name in ("input_ids", "attention_mask"))
        self._array("scores", np.float32, (ids.shape[0], 3))[:] = (ids * mask).sum(1, keepdims=True) * [1, 2, 3]
        return True

    def _array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        size = int(np.prod(shape)) * 4
        return np.frombuffer((ctypes.c_char * size).from_address(self.addresses[name]), dtype).reshape(shape)


class FakeEngine:
    """The methods of an ICudaEngine with two inputs, one output and any profiles ((min rows, min length), (max rows, max length))."""

    num_io_tensors = 3

    def __init__(self, profiles: list[tuple[tuple[int, int], ...]]) -> None:
        self.profiles, self.num_optimization_profiles = profiles, len(profiles)
        self.context = FakeContext(profiles)

    def get_tensor_name(self, index: int) -> str:
        return ("input_ids", "attention_mask", "scores")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "output" if name == "scores" else "input"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3) if name == "scores" else (-1, -1)

    def get_tensor_dtype(self, name: str) -> str:
        return "float32" if name == "scores" else "int32"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, int]]:
        smallest, largest = self.profiles[profile]
        return [smallest, smallest, largest]

    def create_execution_context(self) -> FakeContext:
        return self.context


class FakeTrt:
    """The module tensorrt or tensorrt_rtx."""

    __version__ = "1.7.1.116"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    class Logger:
        WARNING = 2

        def __init__(self, severity: int) -> None:
            self.severity = severity

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.loaded: list[str] = []
        """The plugin libraries, and "plan" for a plan that was deserialised."""

    def Runtime(self, logger: Logger) -> Any:
        registry = SimpleNamespace(load_library=lambda path: self.loaded.append(path) or object())
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize, get_plugin_registry=lambda: registry)

    def _deserialize(self, plan: bytes) -> FakeEngine | None:
        self.loaded.append("plan")
        return self.engine if plan == b"plan" else None

    def nptype(self, dtype: str) -> Any:
        return np.dtype(dtype)


def write_plan(folder: Path) -> Path:
    (folder / "model.plan").write_bytes(b"plan")
    return folder / "model.plan"
