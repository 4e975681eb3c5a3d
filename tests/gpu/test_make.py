"""`make test-gpu` runs its steps in order, and the tests that it is to run are there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import library, tools
from tests.plugins import device

STEPS = (
    "-m tests.gpu.preflight",
    "-m tests.gpu.library",
    "-m pytest --numprocesses=0 tests/plugins",
    "-m pytest --numprocesses=0 -m gpu tests/gpu",
    "benchmarks/plugins.py",
)


def test_the_steps() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    printed = subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/installed", "test-gpu"], cwd=tools.ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = [line.removeprefix(".venv/bin/python ") for line in printed.splitlines() if not line.startswith("make")]
    assert tuple(lines) == STEPS


@pytest.fixture(scope="module")
def collected() -> list[str]:
    """What `make test-gpu` gives to pytest, by name."""
    command = [sys.executable, "-m", "pytest", "--numprocesses=0", "--collect-only", "--quiet", "tests/plugins", "tests/gpu"]
    environment = os.environ | {device.ENVIRONMENT: "gpu"}
    done = subprocess.run(command, cwd=tools.ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.slow
def test_every_test_of_engines_is_collected(collected: list[str]) -> None:
    engines = [name for name in collected if "test_engines.py" in name]
    for precision in ("fp16", "bf16", "int8"):
        for how in ("plugin", "plugin-packed", "native"):
            assert sum(name.endswith(f"[minilm-{precision}-{how}]") for name in engines) == 4
    assert sum("[pruned-" in name for name in engines) == 12
    assert any("test_life_cycle.py" in name for name in collected)


@pytest.mark.slow
def test_of_the_plugins_only_tests_of_kernels_run_on_a_gpu(collected: list[str]) -> None:
    files = {Path(name.partition("::")[0]).name for name in collected if name.startswith("tests/plugins/")}
    assert {"test_bias_gelu.py", "test_skip_layer_norm.py", "test_embed_layer_norm.py"} <= files
    assert not files & {"test_adapters.py", "test_data_flow.py", "test_static.py", "test_device.py"}


def test_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.ENVIRONMENT, "tpu")
    with pytest.raises(ValueError, match="TRTBERT_TEST_DEVICE is 'tpu'; leave it unset"):
        device.is_wanted()


def test_the_library_is_built_for_the_gpu_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_nvcc", lambda: Path("/cuda/bin/nvcc"))
    configure, build = library.commands("sm86")
    assert configure[:3] == ["cmake", "--preset", "plugins"] and configure[configure.index("-B") + 1] == build[2]
    assert {"-DCMAKE_CUDA_COMPILER=/cuda/bin/nvcc", "-DCMAKE_CUDA_ARCHITECTURES=86-real"} < set(configure)
    assert library.library_path("sm86") == Path(build[2]) / "plugins" / "libtrtbert_plugins.so"
    configure, _ = library.commands("sm70")
    assert configure[:3] == ["cmake", "--preset", "sm70"] and f"-DTRTBERT_SM70_TOOLCHAIN={tools.TOOLCHAIN}" in configure


@pytest.mark.slow
def test_cmake_takes_those_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if tools.find_nvcc() is None or shutil.which("cmake") is None or tools.find_headers() is None:
        pytest.skip("nvcc, cmake or TensorRT's headers are not installed")
    monkeypatch.setattr(library, "folder", lambda target: tmp_path)
    configure, _ = library.commands("sm86")
    done = subprocess.run(configure, cwd=tools.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "CMAKE_CUDA_ARCHITECTURES:UNINITIALIZED=86-real" in (tmp_path / "CMakeCache.txt").read_text()
