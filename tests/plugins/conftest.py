"""What the tests of plugins/ share: the emulated build, TensorRT's headers and NVIDIA's lean runtimes, all under build/.

The folders stay from run to run; a lock lets one worker of pytest-xdist make each, while the other waits.
"""

import os
from pathlib import Path

import pytest

from plugins.tools.emulated_build import MissingTool, cuda_include
from tests.gpu.library import gpu_library
from tests.machine import BUILD, ROOT, locked, need, run
from tests.plugins import device
from tests.plugins.kernels import Kernels

SCRIPTS = ROOT / "plugins" / "scripts"


def _cuda_include() -> Path:
    try:
        return cuda_include()
    except MissingTool as missing:
        pytest.skip(str(missing))


def fetched(script: str, *arguments: str, folder: str) -> Path | None:
    """build/`folder`, made by a script of plugins/scripts; None where the package index cannot be reached."""
    with locked(folder):
        done = run(SCRIPTS / script, *arguments, BUILD / folder)
    assert "DO NOT MATCH THE HASHES" not in done.stderr, done.stderr
    return BUILD / folder if done.returncode == 0 else None


@pytest.fixture(scope="session")
def emulated() -> Path:
    """build/emulated, built: kernels for the CPU, and where TensorRT's headers can be had the plugins and their host."""
    need("cmake", "c++", "make")
    headers = fetched("fetch-tensorrt-headers", folder="tensorrt-headers")
    tensorrt = ["-DTRTBERT_TENSORRT=OFF"] if headers is None else ["-DTRTBERT_TENSORRT=ON", f"-DTENSORRT_INCLUDE_DIR={headers}"]
    with locked("emulated"):
        configured = run("cmake", "--preset", "emulated", f"-DCUDA_INCLUDE_DIR={_cuda_include()}", *tensorrt)
        assert configured.returncode == 0, configured.stderr
        built = run("cmake", "--build", "--preset", "emulated", "--parallel", str(os.cpu_count()))
        assert built.returncode == 0, built.stdout + built.stderr
    return BUILD / "emulated"


@pytest.fixture(scope="session")
def emulated_kernels(emulated: Path) -> Path:
    """The library of the kernels and their C interface."""
    return emulated / "plugins" / "libtrtbert_kernels.so"


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """The kernels that the tests of an op run: the emulated ones, and with `make test-gpu` those for this machine's GPU."""
    if device.is_wanted():
        return device.DeviceKernels(gpu_library())
    return Kernels(request.getfixturevalue("emulated_kernels"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `make test-gpu` keep, of this folder, what takes `kernels` as they come: all else needs no GPU, and the default run has it."""
    if not device.is_wanted():
        return
    others = [item for item in items if Path(__file__).parent in item.path.parents and not _takes_any_kernels(item)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


def pytest_report_header() -> str:
    return "kernels: on the GPU, so tests that need none are deselected" if device.is_wanted() else "kernels: emulated"


def _takes_any_kernels(item: pytest.Item) -> bool:
    """Whether the test has the fixture `kernels` of this file, and not one of that name of its own."""
    return "kernels" in getattr(item, "fixturenames", ()) and not hasattr(getattr(item, "module", None), "kernels")


@pytest.fixture(scope="session")
def tensorrt_headers() -> Path:
    folder = fetched("fetch-tensorrt-headers", folder="tensorrt-headers")
    if folder is None:
        pytest.skip("TensorRT's headers cannot be fetched: the package index cannot be reached")
    return folder


@pytest.fixture(scope="session")
def emulated_plugins(emulated: Path, tensorrt_headers: Path) -> Path:
    """The library of the TensorRT plugins."""
    return emulated / "plugins" / "libtrtbert_plugins.so"


@pytest.fixture(scope="session")
def plugin_host(emulated: Path, emulated_plugins: Path) -> Path:
    return emulated / "tests" / "plugins" / "host" / "plugin_host"


@pytest.fixture(scope="session", params=["10.16.1.11", "11.4.0.106"])
def registry(request: pytest.FixtureRequest) -> Path:
    """NVIDIA's plugin registry: a library of TensorRT 10, and one of 11."""
    version: str = request.param
    folder = fetched("fetch-tensorrt-lean", version, folder=f"tensorrt-lean-{version}")
    if folder is None:
        pytest.skip(f"tensorrt-lean {version} cannot be fetched: the package index cannot be reached")
    return folder / "libnvinfer_lean.so"
