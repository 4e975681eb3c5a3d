"""This machine -> the targets that it can compile for and run, and what to install for the others."""

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import get_args

from trtbert.builders import targets
from trtbert.config import Precision, Runtime, Target
from trtbert.errors import MissingRuntimeError, UnsupportedError
from trtbert.hardware import cpu_info, cpu_model, num_cores
from trtbert.runtime import plugins
from trtbert.version import __version__

_TIMEOUT = 120
_TOOLS = {
    "cmake": "builds the plugins and the C++ runner",
    "g++": "builds the plugins and the C++ runner",
    "nvcc": "builds the plugins",
    "clang": "builds the plugins for Volta",
}
MISSING, BROKEN = "missing", "broken"
KIT = "TensorRT builds on the GPU that is to run the engine: compile writes a build kit, `trtbert build` does the rest there"
Problems = dict[str, str | None]
_INT8_FLAGS = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "asimddp": "dot products", "i8mm": "I8MM"}
"""Of /proc/cpuinfo: products of 8-bit numbers, without which INT8 gains little."""


@dataclass(frozen=True)
class Library:
    """A Python package that some commands need."""

    module: str
    extra: str | None
    """Of trtbert, that installs it; None: trtbert itself needs it."""
    purpose: str


@dataclass(frozen=True)
class Found:
    """What is there of a library or tool: its version, or why it cannot be used, with what to do or to know."""

    name: str
    version: str | None
    problem: str | None = None
    advice: str | None = None
    purpose: str = ""


@dataclass(frozen=True)
class Route:
    """A target with a runtime: why engines cannot be built for it here, or run here; None: they can."""

    target: Target
    runtime: Runtime
    precisions: tuple[Precision, ...]
    build_problem: str | None
    run_problem: str | None


@dataclass(frozen=True)
class Machine:
    system: str
    cpu: str
    gpu: str | None
    """Of the first one, such as "sm86"."""
    libraries: tuple[Found, ...]
    tools: tuple[Found, ...]
    plugin_libraries: dict[str, str]
    """The path of each that there is, by target."""
    routes: tuple[Route, ...]


LIBRARIES = (
    Library("onnxruntime", None, "runs packages; as onnxruntime-gpu, on GPUs too"),
    Library("openvino", "openvino", "builds and runs packages on a CPU"),
    Library("torch", "compile", "reads and exports models"),
    Library("transformers", "compile", "reads and exports models"),
    Library("onnxscript", "compile", "rewrites graphs"),
    Library("accelerate", "compress", "trains smaller models"),
    Library("tensorrt_rtx", "tensorrt-rtx", "builds engines for sm75 and later, with no GPU"),
    Library("tensorrt", "tensorrt", "builds and runs engines on this machine's GPU"),
    Library("cuda.bindings", "tensorrt", "memory and streams of a GPU"),
    Library("uvicorn", "serve", "trtbert serve"),
    Library("ray", "ray", "trtbert embed"),
)


def examine() -> Machine:
    """Look at everything; each library is imported in a process of its own, for one that is installed may still not load."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        libraries = tuple(pool.map(_library, LIBRARIES))
        tools = tuple(pool.map(_tool, _TOOLS))
    gpu = targets.gpu_target()
    problems = {found.name: found.problem for found in libraries}
    return Machine(
        system=f"trtbert {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        cpu=_cpu(),
        gpu=gpu,
        libraries=libraries,
        tools=tools,
        plugin_libraries=dict(_plugin_libraries()),
        routes=tuple(
            Route(
                target,
                runtime,
                precisions,
                build_problem=_build_problem(target, runtime, gpu, problems),
                run_problem=_run_problem(target, runtime, gpu, problems),
            )
            for target in get_args(Target)
            for runtime in get_args(Runtime)
            if (precisions := tuple(_precisions(target, runtime)))
        ),
    )


def describe(machine: Machine) -> Iterator[str]:
    """For people, at most 80 columns wide but for paths and reasons."""
    yield machine.system
    yield f"cpu    {machine.cpu}"
    yield f"gpu    {machine.gpu or 'none that the NVIDIA driver knows'}"
    yield ""
    yield "libraries"
    for found in (*machine.libraries, *machine.tools):
        yield f"  {found.name:<14} {found.version or found.problem:<14} {found.advice or found.purpose}"
    shown = ", ".join(f"{target}: {path}" for target, path in machine.plugin_libraries.items())
    yield f"  {'plugins':<14} {shown or 'not built':<14} {'' if shown else 'see plugins/README.md'}"
    yield ""
    yield f"{'target':<8}{'runtime':<14}{'precision':<22}{'builds here':<13}runs here"
    for route in machine.routes:
        build = {None: "yes", KIT: "a build kit"}.get(route.build_problem, "no")
        run = "yes" if route.run_problem is None else "no"
        yield f"{route.target:<8}{route.runtime:<14}{' '.join(route.precisions):<22}{build:<13}{run}"
    yield ""
    reasons = {problem: None for route in machine.routes for problem in (route.build_problem, route.run_problem) if problem}
    yield from (f"- {reason}" for reason in reasons)


def _library(library: Library) -> Found:
    done = _run([sys.executable, "-c", f"import {library.module} as m; print(getattr(m, '__version__', 'installed'))"])
    if done is None:  # A busy machine or a slow disk is no fault of the library.
        return _slow(library)
    if done.returncode == 0:
        return Found(library.module, _last_line(done.stdout, "installed").partition("-")[0], purpose=library.purpose)
    last = _last_line(done.stderr, f"its import ended with status {done.returncode}")
    if re.match(rf"ModuleNotFoundError: No module named '{library.module.partition('.')[0]}['.]", last):
        return _missing(library)
    return Found(library.module, None, BROKEN, last, library.purpose)


def _slow(library: Library) -> Found:
    """Whether it is installed, which can be told without an import."""
    if importlib.util.find_spec(library.module.partition(".")[0]) is None:
        return _missing(library)
    return Found(library.module, "installed", advice=f"its import took longer than {_TIMEOUT} s", purpose=library.purpose)


def _missing(library: Library) -> Found:
    return Found(library.module, None, MISSING, f"pip install '{_distribution(library.extra)}'", library.purpose)


def _tool(name: str) -> Found:
    if shutil.which(name) is None:
        return Found(name, None, MISSING, purpose=_TOOLS[name])
    done = _run([name, "--version"])
    if done is None:
        return Found(name, "installed", advice=f"{name} --version took longer than {_TIMEOUT} s", purpose=_TOOLS[name])
    if done.returncode != 0:
        last = _last_line(f"{done.stdout}\n{done.stderr}", f"{name} --version ended with status {done.returncode}")
        return Found(name, None, BROKEN, last, _TOOLS[name])
    version = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return Found(name, version[0] if version else "installed", purpose=_TOOLS[name])


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """None: it took too long. What cannot be started ends as what fails does."""
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        return subprocess.CompletedProcess(command, 126, stdout="", stderr=str(error))


def _last_line(text: str, otherwise: str) -> str:
    return (text.strip().splitlines() or [otherwise])[-1]


def _cpu() -> str:
    words = set(cpu_info().split())
    int8 = [text for flag, text in _INT8_FLAGS.items() if flag in words]
    fast = f"INT8 by {', '.join(int8)}" if int8 else "no 8-bit products: INT8 gains little"
    return f"{cpu_model()}, {num_cores()} cores, {fast}"


def _plugin_libraries() -> Iterator[tuple[str, str]]:
    for target in ("sm70", "sm75"):  # One library is for Volta, another for everything later.
        try:
            found = plugins.find_library(target)
        except MissingRuntimeError as error:
            yield target, str(error)
            continue
        if found is not None:
            yield "Volta" if target == "sm70" else "sm75 and later", str(found)


def _precisions(target: Target, runtime: Runtime) -> Iterator[Precision]:
    for precision in get_args(Precision):
        try:
            targets.check_combination(target, runtime, precision)
        except UnsupportedError:
            continue
        yield precision


def _build_problem(target: Target, runtime: Runtime, gpu: str | None, problems: Problems) -> str | None:
    compiling = [library.module for library in LIBRARIES if library.extra == "compile"]
    if missing := [module for module in compiling if problems[module] == MISSING]:
        return f"compiling needs {', '.join(missing)}: pip install 'trtbert[compile]'"
    if broken := [module for module in compiling if problems[module] == BROKEN]:
        return _does_not_load(broken[0])
    if runtime != "tensorrt":
        return _library_problem(runtime, problems)
    if gpu == target and (problem := _library_problem(runtime, problems)):
        return problem
    return None if gpu == target else KIT


def _run_problem(target: Target, runtime: Runtime, gpu: str | None, problems: Problems) -> str | None:
    if target not in ("cpu", "cuda") and gpu != target:
        return f"an engine runs on the GPU that it was built for, and this machine has {gpu or 'none'}"
    if target == "cuda" and gpu is None:
        return "cuda runs on an NVIDIA GPU, and this machine has none"
    if problem := _library_problem(runtime, problems):
        return problem
    if target == "cuda" and not _has_cuda_provider():
        return "cuda runs on onnxruntime-gpu: pip install onnxruntime-gpu, in the place of onnxruntime"
    return None


def _library_problem(runtime: Runtime, problems: Problems) -> str | None:
    module = targets.MODULES[runtime]
    if problems[module] == BROKEN:
        return _does_not_load(module)
    extra = next(library.extra for library in LIBRARIES if library.module == module)
    return None if problems[module] is None else f"{module} is missing: pip install '{_distribution(extra)}'"


def _does_not_load(module: str) -> str:
    return f"{module} is installed and does not load: python -c 'import {module}' says why"


def _distribution(extra: str | None) -> str:
    return f"trtbert[{extra}]" if extra else "trtbert"


def _has_cuda_provider() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
