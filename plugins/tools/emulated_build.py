"""plugins/ -> the kernels and the driver built for the CPU, with the checks of one variant compiled in.

python -m plugins.tools.emulated_build address    # prints the folder of libtrtbert_kernels.so and of the driver
"""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
VARIANTS = {
    "plain": "-O2",
    "address": "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all",
    "thread": "-O1 -g -fno-omit-frame-pointer -fsanitize=thread -DTRTBERT_THREAD_SANITIZER",
    "coverage": "-O0 --coverage",
}


class MissingTool(Exception):
    """Something that the build needs is not on this machine."""


class BuildFailed(Exception):
    """The build ended with an error, which the message holds."""


@dataclass(frozen=True)
class Build:
    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / "plugins/libtrtbert_kernels.so"

    @property
    def driver(self) -> Path:
        return self.folder / "tests/plugins/driver/kernel_driver"

    @property
    def compile_commands(self) -> Path:
        return self.folder / "compile_commands.json"


def emulated_build(variant: str, *, source: Path = ROOT, folder: Path | None = None, flags: str = "") -> Build:
    """Configure and build what has changed; two processes may ask for one folder at the same time."""
    folder = folder or source / "build" / f"emulated-{variant}"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "CMAKE_CXX_FLAGS_RELEASE": f"{VARIANTS[variant]} {flags}".strip(),
        "CUDA_INCLUDE_DIR": str(cuda_include()),
        "TRTBERT_EMULATED": "ON",
        "TRTBERT_TENSORRT": "OFF",
    }
    with _locked(folder):
        _run(_cmake(), "-S", source, "-B", folder, *(f"-D{name}={value}" for name, value in options.items()))
        _run(_cmake(), "--build", folder, "--parallel", "2")
    return Build(folder)


def cuda_include() -> Path:
    """CUDA's headers: those of a toolkit, or of NVIDIA's wheels."""
    nvcc = shutil.which("nvcc")
    roots = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda", Path(nvcc).resolve().parents[1] if nvcc else None]
    toolkits = [Path(root) / "include" for root in roots if root]
    wheels = sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/include"), reverse=True)
    for folder in (*toolkits, *wheels):
        if all((folder / name).exists() for name in ("cuda_runtime_api.h", "cuda_fp16.h", "crt/host_defines.h")):
            return folder
    raise MissingTool(
        "CUDA's headers were found neither in CUDA_HOME nor in /usr/local/cuda; install the CUDA toolkit, "
        "or: pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl"
    )


def _cmake() -> str:
    for name in ("cmake", "g++"):
        if shutil.which(name) is None:
            raise MissingTool(f"{name} is not on PATH; install cmake and g++")
    return "cmake"


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    print(emulated_build(sys.argv[1]).folder)
