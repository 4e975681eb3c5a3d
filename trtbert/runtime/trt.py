"""Run a TensorRT or TensorRT-RTX engine on the GPU; it is checked against this machine before it is deserialised."""

import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from trtbert.errors import InputError, MissingRuntimeError, PackageError, UnsupportedError
from trtbert.runtime import Array, Engine, Tensor
from trtbert.runtime.plugins import checked_library, load_library

if TYPE_CHECKING:
    import tensorrt

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_DLPACK_CPU = 1
"""The device type of host memory, which takes no stream."""
Shapes = Mapping[str, tuple[int, ...]]
Ranges = Mapping[str, tuple[Sequence[int], Sequence[int]]]
"""Smallest and largest shape of each input in one optimisation profile."""


class TrtRuntime:
    """One engine with one execution context on the current CUDA device."""

    def __init__(self, engine: Engine) -> None:
        """Raises MissingRuntimeError without TensorRT, cuda-python, a GPU or the plugins, UnsupportedError for an engine of others."""
        trt = import_runtime(engine.runtime)
        check_version(engine.runtime, engine.versions.get(engine.runtime), trt.__version__)
        plugins = None if engine.plugins is None else checked_library(engine.plugins, engine.target, engine.engine_path.parent)
        self._device = _Device()
        check_compute_capability(engine.compute_capability or engine.target, self._device.compute_capability())
        self._engine = _deserialize(trt, engine.engine_path, plugins)
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.inputs = tuple(self._tensor(trt, name) for name in names if is_input[name])
        self.outputs = tuple(self._tensor(trt, name) for name in names if not is_input[name])
        self._ranges = [self._profile_ranges(i) for i in range(self._engine.num_optimization_profiles)]
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Any], *, outputs: Mapping[str, Any] | None = None, stream: int | None = None) -> dict[str, Any]:
        """Run the engine; a feed is an array on the host or the GPU, by numpy, `__cuda_array_interface__` or DLPack.

        `outputs` are C-contiguous float32 arrays on the GPU to write to; without them the results come back as numpy arrays.
        `stream` is the handle of a caller's CUDA stream. With both `outputs` and `stream` nothing waits for the GPU: the results
        are there when the stream is done, the feeds must live until then, and the next call must use the same stream.
        Raises InputError when the feeds are not the engine's inputs or fit no optimisation profile.
        """
        if feeds.keys() != {tensor.name for tensor in self.inputs}:
            raise InputError(f"The engine takes {[tensor.name for tensor in self.inputs]}, got {sorted(feeds)}.")
        with self._lock:
            self._device.use()
            handle = self._device.stream if stream is None else stream
            views = {tensor.name: _view(tensor, feeds[tensor.name], handle) for tensor in self.inputs}
            self._set_inputs(views, handle)
            shapes = {tensor.name: tuple(self._context.get_tensor_shape(tensor.name)) for tensor in self.outputs}
            results = self._set_outputs(shapes, outputs, handle)
            if not self._context.execute_async_v3(handle):
                raise RuntimeError("TensorRT could not enqueue the inference; its message is in the log")
            for name in shapes if outputs is None else ():
                self._device.download(name, results[name], handle)
            if outputs is None or stream is None:
                self._device.wait(handle)
            return results

    def _set_inputs(self, views: Mapping[str, Any], stream: int) -> None:
        shapes = {name: tuple(view.shape) for name, view in views.items()}
        profile = choose_profile(self._ranges, shapes)
        if profile != self._context.active_optimization_profile:
            self._context.set_optimization_profile_async(profile, stream)
        for name, view in views.items():
            self._context.set_input_shape(name, shapes[name])
            pointer = view.ptr if view.is_device_accessible else self._device.upload(name, view.ptr, _num_bytes(view), stream)
            self._context.set_tensor_address(name, pointer)

    def _set_outputs(self, shapes: Shapes, outputs: Mapping[str, Any] | None, stream: int) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for tensor in self.outputs:
            if outputs is None:
                results[tensor.name] = np.empty(shapes[tensor.name], tensor.dtype)
                pointer = self._device.buffer(tensor.name, results[tensor.name].nbytes)
            else:
                results[tensor.name] = outputs[tensor.name]
                pointer = _view(tensor, outputs[tensor.name], stream, expected=shapes[tensor.name]).ptr
            self._context.set_tensor_address(tensor.name, pointer)
        return results

    def _tensor(self, trt: ModuleType, name: str) -> Tensor:
        shape = tuple(None if size < 0 else size for size in self._engine.get_tensor_shape(name))
        return Tensor(name, np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))), shape)

    def _profile_ranges(self, profile: int) -> Ranges:
        shapes = {tensor.name: self._engine.get_tensor_profile_shape(tensor.name, profile) for tensor in self.inputs}
        return {name: (tuple(smallest), tuple(largest)) for name, (smallest, _, largest) in shapes.items()}


class _Device:
    """The current CUDA device: a stream of our own, and one buffer for each tensor that grows as needed."""

    def __init__(self) -> None:
        self._cuda = _import_cuda("cuda.bindings.runtime")
        status, count = self._cuda.cudaGetDeviceCount()
        if status != self._cuda.cudaError_t.cudaSuccess or not count:
            raise MissingRuntimeError(
                f"This engine needs an NVIDIA GPU and its driver, and none is usable here ({status.name}). "
                "Run it on a machine with one, or compile a package with --target cpu."
            )
        self._index = self._check(self._cuda.cudaGetDevice())
        self.stream = int(self._check(self._cuda.cudaStreamCreate()))
        self._buffers: dict[str, tuple[int, int]] = {}

    def use(self) -> None:
        self._check(self._cuda.cudaSetDevice(self._index))

    def compute_capability(self) -> str:
        attribute = self._cuda.cudaDeviceAttr
        major = self._check(self._cuda.cudaDeviceGetAttribute(attribute.cudaDevAttrComputeCapabilityMajor, self._index))
        minor = self._check(self._cuda.cudaDeviceGetAttribute(attribute.cudaDevAttrComputeCapabilityMinor, self._index))
        return f"{major}.{minor}"

    def buffer(self, name: str, num_bytes: int) -> int:
        """The address of at least `num_bytes` on the device, kept for the next call."""
        address, size = self._buffers.get(name, (0, 0))
        if size < max(num_bytes, 1):
            self._check(self._cuda.cudaFree(address))  # It waits for the device, so nothing still reads it.
            self._buffers.pop(name, None)
            address = int(self._check(self._cuda.cudaMalloc(max(num_bytes, 1))))
            self._buffers[name] = (address, num_bytes)
        return address

    def upload(self, name: str, source: int, num_bytes: int, stream: int) -> int:
        address = self.buffer(name, num_bytes)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._check(self._cuda.cudaMemcpyAsync(address, source, num_bytes, kind, stream))
        return address

    def download(self, name: str, result: Array, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._check(self._cuda.cudaMemcpyAsync(result.ctypes.data, self._buffers[name][0], result.nbytes, kind, stream))

    def wait(self, stream: int) -> None:
        self._check(self._cuda.cudaStreamSynchronize(stream))

    def _check(self, answer: tuple[Any, ...]) -> Any:
        status, *values = answer
        if status != self._cuda.cudaError_t.cudaSuccess:
            _, text = self._cuda.cudaGetErrorString(status)
            raise RuntimeError(f"CUDA: {status.name}: {text.decode()}")
        return values[0] if values else None


def import_runtime(runtime: str) -> ModuleType:
    """The module of "tensorrt" or "tensorrt-rtx"; MissingRuntimeError names the extra that installs it."""
    try:
        module = import_module(MODULES[runtime])
    except ImportError as error:
        raise MissingRuntimeError(f"This engine needs {runtime}, which is not installed: pip install 'trtbert[{runtime}]'") from error
    if not hasattr(module, "__version__"):  # Type stubs alone make an empty module of that name.
        raise MissingRuntimeError(f"This engine needs {runtime}, of which only type stubs are installed: pip install 'trtbert[{runtime}]'")
    return module


def _import_cuda(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingRuntimeError("Running an engine needs cuda-python, which is not installed: pip install cuda-python") from error


def check_version(runtime: str, built_with: str | None, installed: str) -> None:
    """Raises UnsupportedError unless the first three numbers of both versions are the same: a plan fits no other TensorRT."""
    if built_with is None or built_with.split(".")[:3] != installed.split(".")[:3]:
        raise UnsupportedError(
            f"The engine was built with {runtime} {built_with}, and {installed} is installed; an engine runs only with the version that "
            f"built it. Install {runtime} {built_with}, or compile the package again here."
        )


def check_compute_capability(built_for: str, found: str) -> None:
    """Raises UnsupportedError unless the engine was built for this GPU; both are written as 7.5, 75 or sm75."""
    wanted, present = (f"sm{capability.removeprefix('sm').replace('.', '')}" for capability in (built_for, found))
    if wanted != present:
        raise UnsupportedError(f"The engine was built for {wanted}, and this GPU is {present}. Compile again with --target {present}.")


def check_layout(
    tensor: Tensor, dtype: Any, shape: tuple[int, ...], strides: Sequence[int] | None, expected: tuple[int, ...] | None = None
) -> None:
    """Raises InputError unless an array has the tensor's dtype, its rank (or the `expected` shape) and C order; strides in items."""
    if np.dtype(dtype) != tensor.dtype:
        raise InputError(f"{tensor.name} must be {tensor.dtype}, got {np.dtype(dtype)}.")
    if len(shape) != len(tensor.shape) or (expected is not None and shape != expected):
        raise InputError(f"{tensor.name} must have the shape {expected or tensor.shape}, got {shape}.")
    contiguous = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    if (
        strides is not None
        and 0 not in shape
        and any(size > 1 and step != expected_step for size, step, expected_step in zip(shape, strides, contiguous, strict=True))
    ):
        raise InputError(f"{tensor.name} must lie in C order; copy it first (numpy.ascontiguousarray, torch's .contiguous()).")


def choose_profile(profiles: Sequence[Ranges], shapes: Shapes) -> int:
    """The first profile whose ranges hold every shape; InputError lists the ranges when none does."""
    for index, ranges in enumerate(profiles):
        if all(_is_within(shapes[name], *bounds) for name, bounds in ranges.items()):
            return index
    allowed = "; ".join(f"{smallest} to {largest}" for ranges in profiles for smallest, largest in list(ranges.values())[:1])
    raise InputError(f"Inputs of shape {next(iter(shapes.values()))} fit no optimisation profile of the engine; it takes {allowed}.")


def _is_within(shape: Sequence[int], smallest: Sequence[int], largest: Sequence[int]) -> bool:
    return len(shape) == len(smallest) and all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True))


def _view(tensor: Tensor, array: Any, stream: int, expected: tuple[int, ...] | None = None) -> Any:
    """Address, shape and place of an array, by DLPack or an array interface, ordered after the work that made it."""
    utils = _import_cuda("cuda.core.utils")
    is_on_host = hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] == _DLPACK_CPU
    view = utils.StridedMemoryView.from_any_interface(array, stream_ptr=-1 if is_on_host else stream)
    check_layout(tensor, view.dtype, tuple(view.shape), view.strides, expected)
    if expected is not None and not view.is_device_accessible:
        raise InputError(f"{tensor.name} to write to must be an array on the GPU; leave `outputs` out for results on the host.")
    return view


def _num_bytes(view: Any) -> int:
    return int(np.prod(view.shape)) * int(np.dtype(view.dtype).itemsize)


def _deserialize(trt: ModuleType, path: Path, plugins: Path | None) -> "tensorrt.ICudaEngine":
    """The engine; its plugins are in the registry of its own TensorRT runtime, so that engines of two libraries can be loaded at once."""
    runtime: tensorrt.Runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    if plugins is not None:
        load_library(runtime.get_plugin_registry(), plugins)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise PackageError(f"TensorRT {trt.__version__} refused the engine {path}; its message is in the log. Compile the package again.")
    return engine
