"""Run an OpenVINO IR, model.xml with its weights in model.bin beside it, on the CPU."""

import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from trtbert.errors import InputError, MissingRuntimeError, PackageError
from trtbert.runtime import Array, Tensor
from trtbert.runtime.trt import check_layout

_TELEMETRY = "openvino_telemetry"


class OpenVinoRuntime:
    """One compiled model with one inference request; the feeds and results are numpy arrays."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Raises MissingRuntimeError where OpenVINO is not installed, PackageError when the file is no model that loads."""
        openvino = import_openvino()
        core = openvino.Core()
        try:
            model = core.read_model(path)
            compiled = core.compile_model(model, "CPU", _config(threads))
        except Exception as error:  # Its C++ exceptions become whatever Python exception is nearest.
            raise PackageError(f"OpenVINO {version_of(openvino)} cannot load {path}: {reason(error)}") from error
        # The model's names, not those of what was compiled: where a Cast there does nothing, an input has the name of its result too.
        self.inputs = tuple(_tensor(port) for port in model.inputs)
        self.outputs = tuple(_tensor(port) for port in model.outputs)
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name; raises InputError when the feeds are not the model's inputs."""
        if feeds.keys() != {tensor.name for tensor in self.inputs}:
            raise InputError(f"The model takes {[tensor.name for tensor in self.inputs]}, got {sorted(feeds)}.")
        for tensor in self.inputs:  # OpenVINO itself takes another rank, and answers nonsense.
            check_layout(tensor, feeds[tensor.name].dtype, feeds[tensor.name].shape, None)
        # One request is enough: the hint LATENCY gives one stream, in which requests would wait for each other all the same.
        with self._lock:
            results = self._request.infer([feeds[tensor.name] for tensor in self.inputs]).to_tuple()  # copies
        return {tensor.name: result for tensor, result in zip(self.outputs, results, strict=True)}


def import_openvino() -> ModuleType:
    """The package `openvino`, without its telemetry; raises MissingRuntimeError where it is not installed.

    Left alone, its import sends an event to Google Analytics, from a forked process, and writes to ~/intel.
    """
    telemetry = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # its import fails now, and OpenVINO takes the stub that it has for that
    try:
        return import_module("openvino")
    except ImportError as error:
        raise MissingRuntimeError(f"OpenVINO cannot be imported ({error}); install it: pip install 'trtbert[openvino]'") from error
    finally:
        sys.modules.pop(_TELEMETRY, None)
        if telemetry is not None:
            sys.modules[_TELEMETRY] = telemetry


def version_of(openvino: ModuleType) -> str:
    """Such as 2026.4.1, without the number of its build."""
    return str(openvino.__version__).partition("-")[0]


def reason(error: Exception) -> str:
    """The last line of what OpenVINO says: those before name the places in its source."""
    return str(error).strip().rpartition("\n")[2].removeprefix("-- ")


def _config(threads: int | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        # By default it computes in BF16 where the CPU has it: the answers would not be those that were verified.
        "INFERENCE_PRECISION_HINT": "f32",
        # Pinned, the threads of every process begin at core 0: two processes of one thread share it while other cores are idle.
        "ENABLE_CPU_PINNING": False,
        # It keeps what it prepares for each shape of the inputs, 2.7 MB of MiniLM, and by default for so many that memory grows for hours.
        "CPU_RUNTIME_CACHE_CAPACITY": 500,
    }
    return config if threads is None else config | {"INFERENCE_NUM_THREADS": threads}


def _tensor(port: Any) -> Tensor:
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return Tensor(port.any_name, np.dtype(port.element_type.to_dtype()), shape)
