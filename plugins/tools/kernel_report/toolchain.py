"""Where the compilers and the disassemblers are; a missing one is an error that says how to get it."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PLUGINS = Path(__file__).parents[2]
BUILD = PLUGINS.parent / "build"
SM70 = Path(os.environ.get("TRTBERT_SM70_TOOLCHAIN", BUILD / "sm70-toolchain"))
SASS_TOOLS = Path(os.environ.get("TRTBERT_SASS_TOOLS", BUILD / "sass-tools"))


class MissingToolchain(Exception):
    """A program that the report needs is not there."""


def compiler(architecture: int) -> list[str]:
    """The command that makes a cubin; the source, the output and flags follow as sm70-compile and nvcc take them."""
    if architecture < 75:
        _require(SM70 / "recipe", f"sm_{architecture} needs clang with CUDA 12", f"plugins/scripts/install-sm70-toolchain {_shown(SM70)}")
        return [str(PLUGINS / "scripts" / "sm70-compile"), "--cubin", str(SM70)]
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise MissingToolchain(f"sm_{architecture} needs nvcc 13.0 or later, but there is no nvcc on the PATH; install the CUDA toolkit")
    return [nvcc]


def version(architecture: int) -> str:
    """What tells one compiler from another."""
    if architecture < 75:
        compiler(architecture)
        return (SM70 / "recipe").read_text()
    return _nvcc_version(compiler(architecture)[0])


def nvcc_release() -> str:
    """As in 13.0."""
    found = re.search(r"release ([\d.]+)", _nvcc_version(compiler(75)[0]))
    assert found, "nvcc --version names no release"
    return found[1]


@functools.cache
def _nvcc_version(nvcc: str) -> str:
    return run([nvcc, "--version"])


def nvdisasm(architecture: int) -> Path:
    _require(SASS_TOOLS / "recipe", "Reading SASS needs NVIDIA's disassemblers", f"plugins/scripts/fetch-sass-tools {_shown(SASS_TOOLS)}")
    return SASS_TOOLS / ("volta" if architecture < 75 else "") / "nvdisasm"


def _require(path: Path, need: str, command: str) -> None:
    if not path.exists():
        raise MissingToolchain(f"{need}, but {path} is missing; run {command}")


def _shown(path: Path) -> Path:
    return path.relative_to(PLUGINS.parent) if path.is_relative_to(PLUGINS.parent) else path


def run(command: Sequence[str | Path], text: str | None = None) -> str:
    """Its standard output, and its standard error after it; an error where it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
