"""What a plugin library is built with: where this machine has it, and what it says of itself."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADERS = ROOT / "build" / "tensorrt-headers"
"""What plugins/scripts/fetch-tensorrt-headers makes."""
TOOLCHAIN = ROOT / "build" / "sm70-toolchain"
"""What plugins/scripts/install-sm70-toolchain makes."""


def find_nvcc() -> Path | None:
    """The compiler: CUDACXX, else the one on PATH, else that of CUDA_HOME or of /usr/local/cuda."""
    folders = filter(None, (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"))
    names = (os.environ.get("CUDACXX"), "nvcc", *(f"{folder}/bin/nvcc" for folder in folders))
    return next((Path(found) for name in names if name and (found := shutil.which(name))), None)


def nvcc_targets(nvcc: Path) -> set[str]:
    """The GPUs that it compiles for: {"sm75", "sm80", ...}."""
    return {line.strip().replace("_", "") for line in _said(nvcc, "--list-gpu-code").splitlines() if line.strip()}


def nvcc_version(nvcc: Path) -> tuple[int, int]:
    """Of its CUDA, such as (13, 0)."""
    found = re.search(r"release (\d+)\.(\d+)", _said(nvcc, "--version"))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def find_headers() -> Path | None:
    """The folder of NvInferRuntime.h: what was fetched, for it is what the plugins are tested with, else the system's."""
    return next((folder for folder in _header_folders() if (folder / "NvInferRuntime.h").is_file()), None)


def headers_version(folder: Path) -> str:
    """Major and minor version of TensorRT's headers, such as "10.14"; "?" where they do not say it."""
    text = (folder / "NvInferVersion.h").read_text() if (folder / "NvInferVersion.h").is_file() else ""
    numbers = [re.search(rf"#define (?:TRT_{part}_ENTERPRISE|NV_TENSORRT_{part}) (\d+)", text) for part in ("MAJOR", "MINOR")]
    return ".".join(number[1] if number else "?" for number in numbers)


def _header_folders() -> Iterator[Path]:
    yield HEADERS
    yield from sorted(Path("/usr/include").glob("*-linux-gnu"))
    yield from map(Path, ("/usr/include", "/usr/local/include", "/usr/local/tensorrt/include"))


def _said(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False).stdout
