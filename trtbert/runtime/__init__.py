"""An engine file -> named arrays in, named arrays out, whatever runtime executes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trtbert.errors import UnsupportedError
from trtbert.runtime.plugins import LibraryFacts

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """Name, numpy dtype and shape of an input or output; a dimension that varies is None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


class Runtime(Protocol):
    """A loaded engine; `run` may be called from several threads."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def outputs(self) -> tuple[Tensor, ...]: ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output for int32 [batch, sequence] feeds."""
        ...


class Engine(Protocol):
    """What a runtime must know of an engine before it loads it; a Package has all of it."""

    @property
    def engine_path(self) -> Path: ...

    @property
    def runtime(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def versions(self) -> Mapping[str, str]: ...

    @property
    def compute_capability(self) -> str | None: ...

    @property
    def plugins(self) -> LibraryFacts | None: ...


def open_runtime(engine: Engine, *, threads: int | None = None) -> Runtime:
    """Load an engine for inference; `threads` bounds the threads of one inference on a CPU, None leaves it to the runtime.

    Raises MissingRuntimeError when the runtime or its GPU is not there, UnsupportedError when the engine does not fit this machine.
    """
    path = engine.engine_path  # first: a build kit has none, and says so
    if engine.runtime == "onnxruntime":
        from trtbert.runtime.ort import OrtRuntime

        return OrtRuntime(path, target=engine.target, threads=threads)
    if engine.runtime == "openvino":
        from trtbert.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(path, threads=threads)
    if engine.runtime in ("tensorrt", "tensorrt-rtx"):
        from trtbert.runtime.trt import TrtRuntime

        return TrtRuntime(engine)
    raise UnsupportedError(f"Runtime {engine.runtime!r} is not supported; it is one of onnxruntime, openvino, tensorrt, tensorrt-rtx.")
