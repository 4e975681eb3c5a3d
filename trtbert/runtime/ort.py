"""Run an ONNX model with ONNX Runtime, on the CPU or with its CUDA provider."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from trtbert.errors import InputError, MissingRuntimeError, PackageError
from trtbert.runtime import Array, Tensor

VERSION: str = onnxruntime.__version__
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int32)": "int32", "tensor(int64)": "int64"}


class OrtRuntime:
    """One session over one model file; the feeds and results are numpy arrays."""

    def __init__(self, path: Path, *, target: str = "cpu", threads: int | None = None) -> None:
        """`target` is "cpu" or "cuda".

        Raises MissingRuntimeError when the CUDA provider is not there, PackageError when the file is no model that loads.
        """
        self._session = _session(path, _providers(target), threads)
        self.inputs = tuple(_tensor(node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in self._session.get_outputs())
        self._names = [output.name for output in self.outputs]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name; raises InputError when the feeds are not the model's inputs."""
        if feeds.keys() != {tensor.name for tensor in self.inputs}:
            raise InputError(f"The model takes {[tensor.name for tensor in self.inputs]}, got {sorted(feeds)}.")
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))


def _session(path: Path, providers: list[str], threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common base.
        raise PackageError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}") from error
    if session.get_providers()[0] != providers[0]:
        raise MissingRuntimeError(
            f"ONNX Runtime fell back to {session.get_providers()[0]}: its {providers[0]} needs an NVIDIA GPU, its driver, "
            "CUDA and cuDNN on this machine."
        )
    return session


def _providers(target: str) -> list[str]:
    if target == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise MissingRuntimeError(
            "This package is for target cuda, and the installed ONNX Runtime has no CUDA provider: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    with contextlib.redirect_stdout(sys.stderr):  # It prints what it does not find, which may be where the system looks.
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels: no loader looks there.
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _tensor(node: onnxruntime.NodeArg) -> Tensor:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Tensor(node.name, np.dtype(_DTYPES[node.type]), shape)
