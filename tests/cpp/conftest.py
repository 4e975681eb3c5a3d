"""What the tests of cpp/ share: builds under build/, which stay from run to run, and a package on OpenVINO for each task."""

import sysconfig
from pathlib import Path

import pytest

from plugins.tools.emulated_build import MissingTool, cuda_include
from tests.cpp.driver import Driver
from tests.cpp.packages import make_packages
from tests.machine import BUILD, ROOT, locked, need, run
from trtbert.tasks import Task

SANITIZED = "-Og -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"


def build(name: str, *options: str) -> Path:
    """build/`name`, configured and built; skips where cpp/scripts/install-dependencies has not been run."""
    need("cmake", "c++", "make")
    openvino = Path(sysconfig.get_path("purelib"), "openvino", "cmake")
    with locked(name):
        configured = run(
            "cmake", "--preset", "cpp", "-B", BUILD / name, "-DTRTBERT_RUNNER_TESTS=ON", f"-DOpenVINO_DIR={openvino}", *options
        )
        if configured.returncode and any(missing in configured.stderr for missing in ("ICU", "OpenSSL", "nlohmann_json", "cpp-httplib")):
            pytest.skip("the libraries that cpp/ needs are not installed: cpp/scripts/install-dependencies")
        assert configured.returncode == 0, configured.stderr
        built = run("cmake", "--build", BUILD / name, "--parallel", "2")
        assert built.returncode == 0, built.stdout + built.stderr
    return BUILD / name


def _tensorrt() -> list[str]:
    """The options that build TensorRT's backend too; none where its headers, or CUDA's, cannot be had."""
    headers = BUILD / "tensorrt-headers"
    with locked("tensorrt-headers"):
        fetched = run(ROOT / "plugins/scripts/fetch-tensorrt-headers", headers)
    try:
        cuda = cuda_include()
    except MissingTool:
        return []
    found = ["-DTRTBERT_RUNNER_TENSORRT=ON", f"-DTENSORRT_INCLUDE_DIR={headers}", f"-DCUDA_INCLUDE_DIR={cuda}"]
    return [] if fetched.returncode else found


@pytest.fixture(scope="session")
def runner() -> Path:
    """The build of the library, its programs and the driver."""
    return build("test-cpp", *_tensorrt())


@pytest.fixture(scope="session")
def driver(runner: Path) -> Driver:
    return Driver(runner / "cpp/tests/runner_driver")


@pytest.fixture(scope="session")
def sanitized_driver() -> Driver:
    """The driver with AddressSanitizer and UndefinedBehaviorSanitizer."""
    folder = build("test-cpp-address", "-DTRTBERT_RUNNER_PROGRAMS=OFF", f"-DCMAKE_CXX_FLAGS_RELEASE={SANITIZED}")
    return Driver(folder / "cpp/tests/runner_driver")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    """A tiny random bert on OpenVINO for each task."""
    return make_packages(tmp_path_factory.mktemp("packages"))
