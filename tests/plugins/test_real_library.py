"""The library for GPUs, built and held by NVIDIA's registries as the emulated one is; only its kernels cannot run here."""

import ctypes
from pathlib import Path

import pytest

from tests.machine import BUILD, locked, need, run

pytestmark = pytest.mark.slow

SM70_TOOLCHAIN = BUILD / "sm70-toolchain"
OPTIONS = {"plugins": "-DCMAKE_CUDA_ARCHITECTURES=75-real", "sm70": f"-DTRTBERT_SM70_TOOLCHAIN={SM70_TOOLCHAIN}"}
TARGETS = {"plugins": "sm75", "sm70": "sm70"}


@pytest.fixture(scope="module", params=["plugins", "sm70"])
def built(request: pytest.FixtureRequest, tensorrt_headers: Path) -> tuple[str, Path]:
    """A preset, and its library."""
    preset: str = request.param
    need("cmake", "c++", "make")
    if preset == "plugins":
        need("nvcc")
    elif not SM70_TOOLCHAIN.exists():
        pytest.skip(f"there is no compiler for sm_70; make one: plugins/scripts/install-sm70-toolchain {SM70_TOOLCHAIN}")
    folder = BUILD / f"test-{preset}"
    with locked(folder.name):
        configured = run("cmake", "--preset", preset, "-B", folder, f"-DTENSORRT_INCLUDE_DIR={tensorrt_headers}", OPTIONS[preset])
        assert configured.returncode == 0, configured.stderr
        made = run("cmake", "--build", folder, "--parallel", "2", "--target", "trtbert_plugins")
        assert made.returncode == 0, made.stdout + made.stderr
    return preset, folder / "plugins" / "libtrtbert_plugins.so"


def test_it_says_what_it_is_compiled_for(built: tuple[str, Path]) -> None:
    preset, path = built
    targets = ctypes.CDLL(str(path)).trtbert_plugins_targets
    targets.restype = ctypes.c_char_p
    assert targets().decode() == TARGETS[preset]


def test_the_whole_life_but_for_the_kernels(built: tuple[str, Path], plugin_host: Path, registry: Path) -> None:
    done = run(plugin_host, built[1], registry)
    assert done.returncode == 0 and done.stdout.rstrip().endswith("kernels did not run"), done.stdout + done.stderr
