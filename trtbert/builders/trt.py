"""Turn a lowered ONNX file into a TensorRT or TensorRT-RTX engine, in a process of its own.

The builder can abort or poison its process, so the parent half (`build`) starts `python -m trtbert.builders.trt` with a JSON
request on its standard input, keeps all it says in a log, and turns every way it can end into an engine or one clear error.
"""

import ctypes
import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trtbert
from trtbert.builders.failure import build_error
from trtbert.builders.targets import MODULES, check_available, check_combination, resolve_profiles
from trtbert.config import Precision, Profile, Runtime, Target
from trtbert.errors import UnsupportedError
from trtbert.runtime.plugins import load_library

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class BuiltTrt:
    """The engine file, the versions it is tied to, and the whole log of its build."""

    path: Path
    versions: dict[str, str]
    log: Path


def build(
    onnx: Path,
    output: Path,
    *,
    runtime: Runtime,
    target: Target,
    precision: Precision,
    profiles: tuple[Profile, ...],
    max_length: int,
    plugins: Path | None = None,
) -> BuiltTrt:
    """Build the strongly typed graph in `onnx`, whose inputs are all [batch, sequence], into the engine `output`.

    `plugins` is the library that computes its plugin nodes.

    Raises UnsupportedError for a combination or graph that TensorRT refuses or dies of, MissingRuntimeError where the wheel or
    the GPU is missing, InputError where the disk is full. The log stays, also after a failure; nothing else does.
    """
    check_combination(target, runtime, precision)
    check_available(target, runtime)
    _check_volta(target)
    handle, log_name = tempfile.mkstemp(prefix=f"trtbert-build-{target}-", suffix=".log")
    log = Path(log_name)
    with os.fdopen(handle, "wb") as log_file, tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as folder:
        plan, result = Path(folder, "model.plan"), Path(folder, "result.json")
        request = {
            "onnx": str(onnx.absolute()),
            "plan": str(plan.absolute()),
            "result": str(result.absolute()),
            "runtime": runtime,
            "capability": int(target.removeprefix("sm")),
            "plugins": None if plugins is None else str(plugins.absolute()),
            "profiles": [_shapes(profile) for profile in resolve_profiles(profiles, max_length)],
        }
        child = subprocess.run(
            _COMMAND, check=False, input=json.dumps(request).encode(), stdout=log_file, stderr=subprocess.STDOUT, env=_environment(runtime)
        )
        if child.returncode != 0 or not result.exists():
            raise build_error(child.returncode, log, runtime=runtime, target=target)
        versions = json.loads(result.read_text())
        plan.replace(output)
    return BuiltTrt(path=output, versions=versions, log=log)


def _build_in_this_process(request: dict[str, Any]) -> None:
    """The child half: load the plugins, parse, build, write the plan and then the result."""
    from polygraphy.backend.trt import Profile as Shapes
    from polygraphy.backend.trt import engine_bytes_from_network, network_from_onnx_path

    trt = importlib.import_module(MODULES[request["runtime"]])
    if request["plugins"] is not None:
        load_library(trt.get_plugin_registry(), Path(request["plugins"]))
    is_typed_by_flag = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")  # from 11.0 on every network is
    builder, network, parser = network_from_onnx_path(request["onnx"], strongly_typed=is_typed_by_flag)
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    profiles = []
    for minimum, optimum, maximum in request["profiles"]:
        shapes = Shapes()
        for name in names:
            shapes.add(name, min=minimum, opt=optimum, max=maximum)
        profiles.append(shapes)
    plan = engine_bytes_from_network((builder, network, parser), config=_config(request, profiles))
    Path(request["plan"]).write_bytes(memoryview(plan))
    versions = {request["runtime"]: trt.__version__, "polygraphy": importlib.metadata.version("polygraphy")}
    Path(request["result"]).write_text(json.dumps(versions))


def _config(request: dict[str, Any], profiles: list[Any]) -> Any:
    """Polygraphy's recipe of a builder configuration; RTX is told which GPU to build for, TensorRT builds for the one it runs on."""
    if request["runtime"] == "tensorrt":
        from polygraphy.backend.trt import CreateConfig

        return CreateConfig(profiles=profiles)
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    return CreateConfigRTX(profiles=profiles, compute_capabilities=[divmod(request["capability"], 10)])


def _shapes(profile: Profile) -> list[tuple[int, int]]:
    """The smallest, usual and largest [batch, sequence]."""
    batch, length = profile.batch_size, profile.seq_len
    assert length is not None
    return [(batch.min, length.min), (batch.opt, length.opt), (batch.max, length.max)]


def _environment(runtime: Runtime) -> dict[str, str]:
    root = str(Path(trtbert.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "POLYGRAPHY_USE_TENSORRT_RTX": str(int(runtime == "tensorrt-rtx"))}


def _check_volta(target: Target) -> None:
    if target != "sm70":
        return
    version = importlib.metadata.version("tensorrt")
    if tuple(map(int, version.split(".")[:2])) >= (10, 5):
        raise UnsupportedError(
            f"TensorRT {version} does not support Volta (sm70); install TensorRT 10.4, or 10.0 to 10.3 for --lowering native: "
            "pip install 'tensorrt<10.5'"
        )


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that a killed compilation leaves no builder running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_COMMAND = (sys.executable, "-P", "-m", "trtbert.builders.trt")  # a file in the working directory is no module

if __name__ == "__main__":
    _die_with_parent()
    _build_in_this_process(json.load(sys.stdin))
