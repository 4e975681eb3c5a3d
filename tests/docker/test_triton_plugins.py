"""docker/triton_plugins.cpp gives Triton our plugins, in the registry of NVIDIA's TensorRT 10; the kernels are the emulated ones."""

import os
import subprocess
from pathlib import Path

import pytest

from plugins.tools.emulated_build import cuda_include
from tests.machine import BUILD, ROOT, run
from tests.plugins.conftest import emulated, emulated_plugins, fetched, tensorrt_headers

__all__ = ["emulated", "emulated_plugins", "tensorrt_headers"]  # Fixtures that this file takes too.

PLUGINS = ["FusedBiasGelu", "FusedEmbedLayerNorm", "FusedPackedQkvAttention", "FusedQkvAttention", "FusedSkipLayerNorm"]


@pytest.fixture(scope="module")
def built(emulated_plugins: Path, tensorrt_headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our plugins, the library for Triton beside them, and a program that opens both as Triton does."""
    if fetched("fetch-tensorrt-lean", "10.16.1.11", folder="tensorrt-lean-10.16.1.11") is None:
        pytest.skip("tensorrt-lean cannot be fetched: the package index cannot be reached")
    folder = tmp_path_factory.mktemp("triton-plugins")
    compiler = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-isystem", tensorrt_headers, "-isystem", cuda_include()]
    for source, target in (
        (ROOT / "docker" / "triton_plugins.cpp", ["-fPIC", "-shared", "-o", folder / "libtrtbert_triton.so"]),
        (ROOT / "tests" / "docker" / "registered.cpp", ["-o", folder / "registered"]),
    ):
        done = run(*compiler, source, *target, "-ldl")
        assert done.returncode == 0, done.stderr
    (folder / emulated_plugins.name).symlink_to(emulated_plugins)
    (folder / "libnvinfer.so.10").symlink_to(BUILD / "tensorrt-lean-10.16.1.11" / "libnvinfer_lean.so.10")
    return folder


def registered(built: Path, library: Path, **environment: str) -> tuple[list[str], str]:
    command = [str(built / "registered"), str(built / "libnvinfer.so.10"), str(library)]
    search = {"LD_LIBRARY_PATH": str(built)} | environment
    done = subprocess.run(command, env=os.environ | search, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def test_opening_the_plugins_registers_nothing(built: Path) -> None:
    """Why there is a library for Triton at all."""
    assert registered(built, built / "libtrtbert_plugins.so") == ([], "")


def test_the_library_for_triton_registers_them(built: Path, tmp_path: Path) -> None:
    assert registered(built, built / "libtrtbert_triton.so") == (PLUGINS, "")
    alone = tmp_path / "libtrtbert_triton.so"
    alone.write_bytes((built / "libtrtbert_triton.so").read_bytes())
    named = str(built / "libtrtbert_plugins.so")
    assert registered(built, alone, TRTBERT_PLUGINS=named) == (PLUGINS, "")
    found, message = registered(built, alone, TRTBERT_PLUGINS="")
    assert found == [] and message == f"libtrtbert_triton: TensorRT did not load {tmp_path}/libtrtbert_plugins.so\n"


def test_without_tensorrt_it_says_so(built: Path) -> None:
    found, message = registered(built, built / "libtrtbert_triton.so", LD_LIBRARY_PATH="")
    assert found == [] and message.startswith("libtrtbert_triton: no libnvinfer.so.10 is loaded")
