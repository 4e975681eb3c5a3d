"""`trtbert doctor`: what is missing or broken is named with what to do, and what is there is counted on."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trtbert import doctor
from trtbert.cli import main
from trtbert.doctor import KIT, LIBRARIES, TOOLS, Library, Machine, Route, describe, examine

CMAKE = TOOLS[0]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return examine()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine whose libraries all load, without looking at them."""
    monkeypatch.setattr(doctor, "_library", lambda library: doctor.Found(library.module, "1.0"))
    monkeypatch.setattr(doctor, "_gpu", lambda: (None, None))
    monkeypatch.setattr(doctor, "_has_cuda_provider", lambda: True)
    return monkeypatch


def route(target: str, runtime: str, routes: Sequence[Route]) -> Route:
    return next(route for route in routes if (route.target, route.runtime) == (target, runtime))


def test_this_machine(machine: Machine) -> None:
    """It compiles: these tests do."""
    versions = {found.name: found.version for found in machine.libraries}
    assert versions["onnxruntime"] and versions["torch"] and versions["transformers"]
    cpu = route("cpu", "onnxruntime", machine.routes)
    assert cpu.precisions == ("fp32", "int8") and cpu.build_problem is None and cpu.run_problem is None
    assert {route.target for route in machine.routes} == set(doctor.get_args(doctor.Target))


def test_lines_fit_a_terminal(machine: Machine) -> None:
    lines = list(describe(machine))
    assert lines[-1].startswith("- ") and any(line.split() == ["cpu", "onnxruntime", "fp32", "int8", "yes", "yes"] for line in lines)
    table = [line for line in lines if not line.startswith(("- ", "cpu    ", "  plugins"))]
    assert max(map(len, table)) <= 80, max(table, key=len)


def test_json(machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: machine)
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["routes"]) == len(machine.routes) and facts["routes"][0]["target"] == "cpu"


def test_no_gpu(bare: pytest.MonkeyPatch) -> None:
    routes = examine().routes
    assert route("sm75", "tensorrt-rtx", routes).build_problem is None
    assert route("sm75", "tensorrt-rtx", routes).run_problem == "an engine runs on the GPU that it was built for, and this machine has none"
    assert route("sm70", "tensorrt", routes).build_problem == KIT
    assert route("cuda", "onnxruntime", routes).run_problem == "cuda runs on an NVIDIA GPU, and this machine has none"


def test_a_gpu(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(doctor, "_gpu", lambda: ("sm86", None))
    machine = examine()
    assert machine.gpu == "sm86" and "gpu    sm86" in describe(machine)
    for runtime in ("tensorrt", "tensorrt-rtx"):
        found = route("sm86", runtime, machine.routes)
        assert found.build_problem is None and found.run_problem is None
        assert route("sm80", runtime, machine.routes).run_problem
    assert route("cuda", "onnxruntime", machine.routes).run_problem is None
    bare.setattr(doctor, "_has_cuda_provider", lambda: False)
    assert "onnxruntime-gpu" in str(route("cuda", "onnxruntime", examine().routes).run_problem)


@pytest.mark.parametrize(
    ("problem", "words"), [("missing", "openvino is missing: pip install 'trtbert[openvino]'"), ("broken", "installed and does not load")]
)
def test_a_runtime_that_cannot_be_used(bare: pytest.MonkeyPatch, problem: str, words: str) -> None:
    bare.setattr(
        doctor,
        "_library",
        lambda one: doctor.Found(one.module, None, problem) if one.module == "openvino" else doctor.Found(one.module, "1"),
    )
    found = route("cpu", "openvino", examine().routes)
    assert found.build_problem == found.run_problem and words in str(found.run_problem)


def test_compiling_needs_its_extra(bare: pytest.MonkeyPatch) -> None:
    """A server's machine runs packages and compiles none."""
    compiling = [library.module for library in LIBRARIES if library.extra == "compile"]

    def look(library: Library) -> Any:
        return doctor.Found(library.module, None, "missing") if library.module in compiling else doctor.Found(library.module, "1.0")

    bare.setattr(doctor, "_library", look)
    cpu = route("cpu", "onnxruntime", examine().routes)
    assert cpu.run_problem is None
    assert (
        cpu.build_problem == "compiling needs torch, transformers, safetensors, onnx, onnx_ir, onnxscript: pip install 'trtbert[compile]'"
    )


def test_a_gpu_without_tensorrt_gets_a_build_kit(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(doctor, "_gpu", lambda: ("sm86", None))
    bare.setattr(doctor, "_library", lambda one: doctor.Found(one.module, None, "missing" if one.module == "tensorrt" else None))
    found = route("sm86", "tensorrt", examine().routes)
    assert (found.build_problem, found.run_problem) == (KIT, "tensorrt is missing: pip install 'trtbert[tensorrt]'")


def test_a_broken_library_is_not_to_be_installed(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(doctor, "_library", lambda one: doctor.Found(one.module, None, "broken" if one.module == "torch" else None))
    routes = examine().routes
    assert {route.build_problem for route in routes} == {"torch is installed and does not load: python -c 'import torch' says why"}
    assert route("cpu", "onnxruntime", routes).run_problem is None


def test_a_library_is_really_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "fine_module.py").write_text("__version__ = '3.2-local'")
    (tmp_path / "broken_module.py").write_text("raise OSError('libx.so: cannot open shared object file')")
    (tmp_path / "dying_module.py").write_text("import os; os.abort()")
    (tmp_path / "half_module.py").write_text("import no_such_thing")
    found = {
        name: doctor._library(Library(name, "x", ""))
        for name in ("fine_module", "broken_module", "dying_module", "half_module", "not_there")
    }
    assert found["fine_module"].version == "3.2"
    assert (found["broken_module"].problem, found["broken_module"].advice) == ("broken", "OSError: libx.so: cannot open shared object file")
    assert (found["dying_module"].problem, found["dying_module"].advice) == ("broken", "its import ended with status -6")
    assert found["half_module"].problem == "broken" and "no_such_thing" in str(found["half_module"].advice)
    assert (found["not_there"].problem, found["not_there"].advice) == ("missing", "pip install 'trtbert[x]'")


def test_no_file_of_the_working_directory_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fine_module.py").write_text("open('ran', 'w')")
    (tmp_path / "fine_folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [doctor._library(Library(name, "x", "")).problem for name in ("fine_module", "fine_folder")] == ["missing", "missing"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", None),
        ("#include <stdlib.h>\nint cuInit(int flags) { abort(); }", "not known: the NVIDIA driver, asked for it, ended with status -6"),
        ("#include <unistd.h>\nint cuInit(int flags) { return pause(); }", "not known: the NVIDIA driver gave no answer in 2 s"),
    ],
    ids=["no driver", "aborts", "hangs"],
)
def test_a_broken_driver(source: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    (tmp_path / "driver.c").write_text(source)
    subprocess.run(["gcc", "-shared", "-o", tmp_path / "libcuda.so.1", tmp_path / "driver.c"], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    if problem is not None and problem.endswith("2 s"):
        monkeypatch.setattr(doctor, "_TIMEOUT", 2)
    assert doctor._gpu() == (None, problem)


def test_an_unknown_gpu_is_told(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(doctor, "_gpu", lambda: (None, "not known: the NVIDIA driver gave no answer in 120 s"))
    assert "gpu    not known: the NVIDIA driver gave no answer in 120 s" in describe(examine())


def test_a_cpu_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cpu_info", lambda: "")
    assert doctor._cpu().endswith(", 8-bit products not known: /proc/cpuinfo cannot be read")
    monkeypatch.setattr(doctor, "cpu_info", lambda: "flags : fpu sse")
    assert doctor._cpu().endswith(", no 8-bit products: INT8 gains little")


def test_a_plugin_library_that_is_none(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    bare.setenv("TRTBERT_PLUGINS", str(text))
    machine = examine()
    assert machine.plugin_libraries == {}
    [problem] = machine.plugin_problems
    assert problem.startswith(f"{text} is no plugin library of trtbert: ") and f"- {problem}" in describe(machine)
    assert "  plugins        broken         see plugins/README.md in a checkout of trtbert" in describe(machine)
    bare.setenv("TRTBERT_PLUGINS", str(tmp_path / "nothing.so"))
    [problem] = examine().plugin_problems
    assert problem.startswith("TRTBERT_PLUGINS is ") and "there is no such file" in problem


def test_a_plugin_library(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    (tmp_path / "library.c").write_text('const char* trtbert_plugins_version() { return "0.1.0"; }')
    library = tmp_path / "library.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "library.c"], check=True)
    bare.setenv("TRTBERT_PLUGINS", str(library))
    machine = examine()
    assert machine.plugin_libraries == {"Volta": str(library), "sm75 and later": str(library)} and machine.plugin_problems == ()


def test_a_slow_import_is_not_a_broken_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fine_module.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor, "_TIMEOUT", 0.001)
    slow, missing = (doctor._library(Library(name, "x", "")) for name in ("fine_module", "not_there"))
    assert (slow.version, slow.problem, slow.advice) == ("installed", None, "its import took longer than 0.001 s")
    assert (missing.problem, missing.advice) == ("missing", "pip install 'trtbert[x]'")


@pytest.mark.parametrize(
    ("script", "version", "problem", "advice"),
    [
        ("#!/bin/sh\necho cmake version 3.25.1", "3.25.1", None, None),
        ("#!/bin/sh\n", "installed", None, None),
        ("#!/bin/sh\necho one; echo 'no licence' >&2; exit 3", None, "broken", "no licence"),
        ("#!/bin/sh\nexit 3", None, "broken", "cmake --version ended with status 3"),
        ("#!/not/there", None, "broken", "No such file or directory: 'cmake'"),
        ("#!/bin/sh\nprintf '\\377 4.5'", "4.5", None, None),
        ("#!/bin/sh\nexec /bin/sleep 9", "installed", None, "cmake --version took longer than 0.5 s"),
    ],
    ids=["fine", "silent", "an error", "a status", "cannot start", "no UTF-8", "slow"],
)
def test_a_tool(
    script: str, version: str | None, problem: str | None, advice: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cmake").write_text(script)
    (tmp_path / "cmake").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if "sleep" in script:
        monkeypatch.setattr(doctor, "_TIMEOUT", 0.5)
    found = doctor._tool(CMAKE)
    assert (found.version, found.problem) == (version, problem)
    assert found.advice == advice or (advice is not None and str(found.advice).endswith(advice))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_missing_tool_says_how_to_install_it(tool: doctor.Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (doctor._tool(tool).problem, doctor._tool(tool).advice) == ("missing", tool.advice)
    (tmp_path / tool.commands[-1]).write_text("#!/bin/sh\necho 19.1.7")
    (tmp_path / tool.commands[-1]).chmod(0o755)
    assert doctor._tool(tool).version == "19.1.7"
