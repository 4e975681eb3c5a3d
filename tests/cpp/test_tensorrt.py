"""TensorRT's backend builds with headers alone, and says what is missing where it cannot run."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cpp.driver import Driver
from tests.machine import run
from trtbert.package import open_package, write_package
from trtbert.tasks import Task


@pytest.fixture
def tensorrt_package(runner: Path, packages: dict[Task, Path], tmp_path: Path) -> Path:
    if "TRTBERT_RUNNER_TENSORRT:BOOL=ON" not in (runner / "CMakeCache.txt").read_text():
        pytest.skip("the headers of TensorRT (plugins/scripts/fetch-tensorrt-headers) or of CUDA are missing")
    package = Path(shutil.copytree(packages["text-classification"], tmp_path / "package"))
    _rewrite(package, runtime="tensorrt", target="sm80", versions={"tensorrt": "10.14.1"})
    return package


def _rewrite(package: Path, **fields: Any) -> None:
    manifest = open_package(package).manifest
    write_package(package, manifest.model_copy(update=fields))


def test_neither_tensorrt_nor_cuda_is_linked(runner: Path, tensorrt_package: Path) -> None:
    needed = run("readelf", "--dynamic", runner / "cpp/libtrtbert_runner.so").stdout
    undefined = run("nm", "--dynamic", "--undefined-only", runner / "cpp/libtrtbert_runner.so").stdout
    assert "libopenvino" in needed and "ov::" not in undefined
    assert not any(name in needed + undefined for name in ("nvinfer", "createInfer", "cuda"))


def test_what_is_missing_is_named(driver: Driver, tensorrt_package: Path) -> None:
    (answer,) = driver("predict", tensorrt_package)
    if "cannot be loaded" not in answer["error"]:
        pytest.skip("TensorRT is installed on this machine")
    assert "The package needs tensorrt, which cannot be loaded: tried libnvinfer.so.10, libnvinfer.so." in answer["error"]


def test_the_other_tensorrt_is_refused(driver: Driver, tensorrt_package: Path) -> None:
    _rewrite(tensorrt_package, runtime="tensorrt-rtx")
    (answer,) = driver("predict", tensorrt_package)
    assert "The package runs on tensorrt-rtx, and this library was built for tensorrt." in answer["error"]


def test_a_build_without_a_backend_says_so(sanitized_driver: Driver, tensorrt_package: Path) -> None:
    (answer,) = sanitized_driver("predict", tensorrt_package)
    assert "this library was built without it. Build it with -DTRTBERT_RUNNER_TENSORRT=ON" in answer["error"]
