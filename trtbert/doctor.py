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
from pathlib import Path
from typing import get_args

from trtbert.builders import targets
from trtbert.config import Precision, Runtime, Target
from trtbert.errors import MissingRuntimeError, UnsupportedError
from trtbert.hardware import cpu_info, cpu_model, num_cores
from trtbert.runtime import plugins
from trtbert.version import __version__

_TIMEOUT = 120
_PYTHON = (sys.executable, "-P", "-c")  # -P: no file of the working directory is run.
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
class Tool:
    """A program that builds what is written in C++ and CUDA."""

    name: str
    commands: tuple[str, ...]
    """The first that there is counts."""
    advice: str
    """How to install it."""
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
    gpu_problem: str | None
    """Why the driver could not be asked for it."""
    libraries: tuple[Found, ...]
    tools: tuple[Found, ...]
    plugin_libraries: dict[str, str]
    """The path of each that there is, by target."""
    plugin_problems: tuple[str, ...]
    routes: tuple[Route, ...]


LIBRARIES = (
    Library("onnxruntime", None, "runs packages; as onnxruntime-gpu, on GPUs too"),
    Library("openvino", "openvino", "builds and runs packages on a CPU"),
    Library("torch", "compile", "reads and exports models"),
    Library("transformers", "compile", "reads and exports models"),
    Library("safetensors", "compile", "reads weights"),
    Library("onnx", "compile", "checks graphs"),
    Library("onnx_ir", "compile", "holds graphs"),
    Library("onnxscript", "compile", "rewrites graphs"),
    Library("accelerate", "compress", "trains smaller models"),
    Library("tensorrt_rtx", "tensorrt-rtx", "builds engines for sm75 and later, with no GPU"),
    Library("tensorrt", "tensorrt", "builds and runs engines on this machine's GPU"),
    Library("cuda.bindings", "tensorrt", "memory and streams of a GPU"),
    Library("uvicorn", "serve", "trtbert serve"),
    Library("ray", "ray", "trtbert embed"),
)
TOOLS = (
    Tool("cmake", ("cmake",), "apt-get install cmake make", "builds the plugins and the C++ runner"),
    Tool("g++", ("g++",), "apt-get install g++", "builds the plugins and the C++ runner"),
    Tool("nvcc", ("nvcc",), "CUDA 13 of developer.nvidia.com/cuda-downloads", "builds the plugins"),
    Tool(
        "clang",
        ("clang++-22", "clang++-21", "clang++-20", "clang++-19"),
        "apt-get install clang-19, or later",
        "builds the plugins for Volta",
    ),
)
"""The versions of clang are those that plugins/scripts/install-sm70-toolchain takes."""


def examine() -> Machine:
    """Look at everything; each library is imported in a process of its own, for one that is installed may still not load."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        asked = pool.submit(_gpu)
        libraries = tuple(pool.map(_library, LIBRARIES))
        tools = tuple(pool.map(_tool, TOOLS))
    gpu, gpu_problem = asked.result()
    plugin_libraries, plugin_problems = _plugin_libraries()
    problems = {found.name: found.problem for found in libraries}
    return Machine(
        system=f"trtbert {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        cpu=_cpu(),
        gpu=gpu,
        gpu_problem=gpu_problem,
        libraries=libraries,
        tools=tools,
        plugin_libraries=plugin_libraries,
        plugin_problems=plugin_problems,
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
    yield f"gpu    {machine.gpu or machine.gpu_problem or 'none that the NVIDIA driver knows'}"
    yield ""
    yield "libraries"
    for found in (*machine.libraries, *machine.tools):
        yield f"  {found.name:<14} {found.version or found.problem:<14} {found.advice or found.purpose}"
    shown = ", ".join(f"{target}: {path}" for target, path in machine.plugin_libraries.items())
    problem = BROKEN if machine.plugin_problems else "not built"
    yield f"  {'plugins':<14} {shown or problem:<14} {'' if shown else 'see plugins/README.md in a checkout of trtbert'}"
    yield ""
    yield f"{'target':<8}{'runtime':<14}{'precision':<22}{'builds here':<13}runs here"
    for route in machine.routes:
        build = {None: "yes", KIT: "a build kit"}.get(route.build_problem, "no")
        run = "yes" if route.run_problem is None else "no"
        yield f"{route.target:<8}{route.runtime:<14}{' '.join(route.precisions):<22}{build:<13}{run}"
    yield ""
    yield from (f"- {problem}" for problem in machine.plugin_problems)
    reasons = {problem: None for route in machine.routes for problem in (route.build_problem, route.run_problem) if problem}
    yield from (f"- {reason}" for reason in reasons)


def _gpu() -> tuple[str | None, str | None]:
    """The target that the first GPU is, or why the driver gave no answer: a broken one may end or hang the process that asks it."""
    done = _run([*_PYTHON, "from trtbert.builders.targets import gpu_target; print(gpu_target())"])
    if done is None:
        return None, f"not known: the NVIDIA driver gave no answer in {_TIMEOUT} s"
    if done.returncode != 0:
        return None, f"not known: {_last_line(done.stderr, f'the NVIDIA driver, asked for it, ended with status {done.returncode}')}"
    found = _last_line(done.stdout, "None")
    return None if found == "None" else found, None


def _library(library: Library) -> Found:
    done = _run([*_PYTHON, f"import {library.module} as m; print(getattr(m, '__version__', 'installed'))"])
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


def _tool(tool: Tool) -> Found:
    command = next(filter(shutil.which, tool.commands), None)
    if command is None:
        return Found(tool.name, None, MISSING, tool.advice, tool.purpose)
    done = _run([command, "--version"])
    if done is None:
        return Found(tool.name, "installed", advice=f"{command} --version took longer than {_TIMEOUT} s", purpose=tool.purpose)
    if done.returncode != 0:
        last = _last_line(f"{done.stdout}\n{done.stderr}", f"{command} --version ended with status {done.returncode}")
        return Found(tool.name, None, BROKEN, last, tool.purpose)
    version = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return Found(tool.name, version[0] if version else "installed", purpose=tool.purpose)


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
    if not words:
        fast = "8-bit products not known: /proc/cpuinfo cannot be read"
    return f"{cpu_model()}, {num_cores()} cores, {fast}"


def _plugin_libraries() -> tuple[dict[str, str], tuple[str, ...]]:
    """The path of each by target, and what is wrong with others."""
    found: dict[str, str] = {}
    problems: dict[str, None] = {}
    for target, shown in (("sm70", "Volta"), ("sm75", "sm75 and later")):  # One library is for Volta, another for everything later.
        try:
            path = plugins.find_library(target)
        except MissingRuntimeError as error:
            problems[str(error)] = None
            continue
        if path is not None and (problem := _plugin_problem(path)):
            problems[problem] = None
        elif path is not None:
            found[shown] = str(path)
    return found, tuple(problems)


def _plugin_problem(path: Path) -> str | None:
    """Why it cannot be loaded; which is tried in a process of its own, for loading runs what the file holds."""
    load = "import pathlib, sys; from trtbert.runtime.plugins import version_of; version_of(pathlib.Path(sys.argv[1]))"
    done = _run([*_PYTHON, load, str(path)])
    if done is None:
        return f"{path} took longer than {_TIMEOUT} s to load"
    if done.returncode == 0:
        return None
    return _last_line(done.stderr, f"{path}: loading it ended with status {done.returncode}").removeprefix("trtbert.errors.PackageError: ")


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
    if gpu != target or problems[targets.MODULES[runtime]] == MISSING:
        return KIT
    return _library_problem(runtime, problems)


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
