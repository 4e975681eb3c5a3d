"""The plugin library for the GPU of this machine, built by CMake into a folder of its own.

python -m tests.gpu.library    # prints the path of the library
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.gpu import tools
from trtbert.builders.targets import gpu_target
from trtbert.runtime.plugins import LIBRARY


def main() -> int:
    target = gpu_target()
    if target is None:
        print("There is no GPU to build the plugins for; python -m tests.gpu.preflight says what is missing.", file=sys.stderr)
        return 5
    for command in commands(target):
        print(" ".join(command), flush=True)
        code = subprocess.run(command, cwd=tools.ROOT, check=False).returncode
        if code != 0:
            return code
    print(library_path(target))
    return 0


def gpu_library() -> Path:
    """The library that was built; AssertionError where `make test-gpu` did not."""
    target = gpu_target()
    assert target is not None, "there is no GPU; python -m tests.gpu.preflight says what is missing"
    path = library_path(target)
    assert path.is_file(), f"{path} is not there; build it: python -m tests.gpu.library"
    return path


def library_path(target: str) -> Path:
    return folder(target) / "plugins" / LIBRARY


def folder(target: str) -> Path:
    """Not that of a preset, which holds a library for every GPU."""
    return tools.ROOT / "build" / f"gpu-{target}"


def commands(target: str) -> list[list[str]]:
    """To configure and to build."""
    headers = f"-DTENSORRT_INCLUDE_DIR={tools.find_headers()}"
    if target == "sm70":
        preset, options = "sm70", [f"-DTRTBERT_SM70_TOOLCHAIN={tools.TOOLCHAIN}"]
    else:
        architecture = target.removeprefix("sm")
        preset, options = "plugins", [f"-DCMAKE_CUDA_COMPILER={tools.find_nvcc()}", f"-DCMAKE_CUDA_ARCHITECTURES={architecture}-real"]
    configure = ["cmake", "--preset", preset, "-B", str(folder(target)), headers, *options]
    build = ["cmake", "--build", str(folder(target)), "--target", "trtbert_plugins", "--parallel", str(os.cpu_count() or 1)]
    return [configure, build]


if __name__ == "__main__":
    sys.exit(main())
