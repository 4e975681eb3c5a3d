"""What the preflight of `make test-gpu` says of a machine that lacks something: one message for each thing, with what to do."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.gpu import checks, preflight, tools
from tests.gpu.checks import CHECKS, Missing
from trtbert.builders.targets import gpu_target
from trtbert.errors import MissingRuntimeError

Output = pytest.CaptureFixture[str]


def test_a_machine_without_a_gpu_ends_with_five_and_says_why(capsys: Output) -> None:
    if gpu_target() is not None:
        pytest.skip("this machine has a GPU")
    assert preflight.main() == 5
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("missing  GPU: ") and lines[-1].startswith("make test-gpu cannot start: ")
    assert all(line.startswith("missing  ") for line in lines[:-1])
    assert "missing  cuda-python" in "\n".join(lines)


def test_every_thing_that_is_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    def missing(target: str | None) -> str:
        raise Missing("it is not there; do this")

    monkeypatch.setattr(preflight, "CHECKS", {"one": lambda target: "1.0", "two": missing, "three": missing})
    assert preflight.main() == 5
    printed = capsys.readouterr()
    assert printed.out == "found    one: 1.0\n"
    assert printed.err.splitlines()[:2] == ["missing  two: it is not there; do this", "missing  three: it is not there; do this"]


def test_a_machine_that_has_all(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(preflight, "CHECKS", dict.fromkeys(CHECKS, lambda target: "here"))
    assert preflight.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(CHECKS)


def test_no_driver_and_no_device_are_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_driver", lambda: None)
    with pytest.raises(Missing, match="no NVIDIA driver"):
        checks.check_gpu(None)
    monkeypatch.setattr(checks, "_driver", lambda: (13, 0))
    with pytest.raises(Missing, match="the driver finds no GPU"):
        checks.check_gpu(None)


def test_gpus_that_trtbert_has_no_target_for() -> None:
    assert checks.check_gpu("sm75") == "sm75"
    with pytest.raises(Missing, match=r"sm87, and trtbert builds for sm70, .*, sm120; choose another"):
        checks.check_gpu("sm87")


def nvcc(folder: Path, release: str, *codes: str) -> Path:
    """A compiler that says this of itself."""
    path = folder / "nvcc"
    path.write_text(
        f'#!/bin/sh\ncase $1 in\n--version) echo "tools, release {release}, V0" ;;\n*) echo "{" ".join(codes)}" | tr " " "\\n" ;;\nesac\n'
    )
    path.chmod(0o755)
    return path


def test_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "find_nvcc", lambda: None)
    with pytest.raises(Missing, match=r"nvcc is neither on PATH .* CUDACXX"):
        checks.check_compiler("sm86")
    compiler = nvcc(tmp_path, "12.4", "sm_75", "sm_90")
    monkeypatch.setattr(tools, "find_nvcc", lambda: compiler)
    monkeypatch.setattr(checks, "_driver", lambda: (12, 2))
    assert checks.check_compiler("sm90") == f"{compiler}, CUDA 12.4"
    with pytest.raises(Missing, match=r"of CUDA 12\.4, does not compile for sm120; install CUDA 13\.0"):
        checks.check_compiler("sm120")
    monkeypatch.setattr(checks, "_driver", lambda: (11, 8))
    with pytest.raises(Missing, match=r"takes at most CUDA 11\.8; update it, or set CUDACXX to an nvcc of CUDA 11"):
        checks.check_compiler("sm90")


def test_volta_has_a_compiler_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "TOOLCHAIN", tmp_path)
    with pytest.raises(Missing, match="install-sm70-toolchain build/sm70-toolchain"):
        checks.check_compiler("sm70")
    (tmp_path / "recipe").touch()
    assert checks.check_compiler("sm70") == str(tmp_path)


def test_cmake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match=r"cmake, c\+\+, make not on PATH; apt-get install"):
        checks.check_cmake("sm86")


def test_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "_header_folders", lambda: iter([tmp_path]))
    with pytest.raises(Missing, match="fetch-tensorrt-headers build/tensorrt-headers"):
        checks.check_headers("sm86")
    (tmp_path / "NvInferRuntime.h").touch()
    for text, number in (
        ("#define NV_TENSORRT_MAJOR 10 //!< major\n#define NV_TENSORRT_MINOR 4\n", "10.4"),
        ("#define TRT_MAJOR_ENTERPRISE 11\n#define TRT_MINOR_ENTERPRISE 1\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE\n", "11.1"),
    ):
        (tmp_path / "NvInferVersion.h").write_text(text)
        assert checks.check_headers("sm86") == f"{tmp_path}, TensorRT {number}"
    (tmp_path / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n")
    with pytest.raises(Missing, match=r"TensorRT 8\.6, and the plugins need 10 or 11"):
        checks.check_headers("sm86")


@pytest.mark.parametrize(
    ("target", "version", "message"),
    [
        ("sm86", "10.0.1", None),
        ("sm86", "11.4.0.106", None),
        ("sm86", "8.6.1", r"8\.6\.1 is installed, and 10\.x or 11\.x is needed"),
        ("sm86", "12.0.0", "is needed"),
        ("sm70", "10.4.0", None),
        ("sm70", "10.5.0", r"10\.0 to 10\.4, the last for Volta, is needed; .*'tensorrt<10\.5'"),
        ("sm70", "11.0.0", "the last for Volta"),
    ],
)
def test_tensorrt(target: str, version: str, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "import_runtime", lambda runtime: SimpleNamespace(__version__=version))
    if message is None:
        assert checks.check_tensorrt(target) == version
        return
    with pytest.raises(Missing, match=message):
        checks.check_tensorrt(target)


@pytest.mark.parametrize(("error", "message"), [(MissingRuntimeError("no"), "not installed"), (OSError("libnvinfer"), "cannot be loaded")])
def test_a_tensorrt_that_is_not_there(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(runtime: str) -> None:
        raise error

    monkeypatch.setattr(checks, "import_runtime", raises)
    with pytest.raises(Missing, match=f"{message}.*pip install"):
        checks.check_tensorrt("sm86")


def cudart(status: str, count: int) -> SimpleNamespace:
    errors = {name: SimpleNamespace(name=name) for name in ("cudaSuccess", "cudaErrorInsufficientDriver", "cudaErrorNoDevice")}
    return SimpleNamespace(cudaError_t=SimpleNamespace(**errors), cudaGetDeviceCount=lambda: (errors[status], count))


def test_cuda_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "version", lambda name: "13.4.4")
    found = {"status": "cudaSuccess", "count": 1}
    monkeypatch.setattr(checks, "importlib", SimpleNamespace(import_module=lambda name: cudart(**found)))
    monkeypatch.setattr(checks, "_driver", lambda: None)
    with pytest.raises(Missing, match="finds no driver to work with"):
        checks.check_cuda_python("sm86")
    monkeypatch.setattr(checks, "_driver", lambda: (12, 4))
    assert checks.check_cuda_python("sm86") == "13.4.4"
    found.update(status="cudaErrorInsufficientDriver", count=0)
    with pytest.raises(Missing, match=r"for CUDA 12\.4; update it, or .*'cuda-python==12\.\*'"):
        checks.check_cuda_python("sm86")
    found.update(status="cudaErrorNoDevice")
    with pytest.raises(Missing, match="finds no GPU"):
        checks.check_cuda_python("sm86")

    def raises(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(checks, "importlib", SimpleNamespace(import_module=raises))
    with pytest.raises(Missing, match=r"not installed \(cuda\.bindings\.runtime\); .*--editable '\.\[tensorrt\]'"):
        checks.check_cuda_python("sm86")


@pytest.mark.parametrize("check", [checks.check_polygraphy, checks.check_model])
def test_python_packages(check: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(check) and check("sm86")
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Missing, match="pip install"):
        check("sm86")
