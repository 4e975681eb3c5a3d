"""What is installed is enough: another project finds it, and builds and runs the examples of docs/cpp.md."""

import re
from pathlib import Path

import openvino
import pytest

from tests.machine import ROOT, run
from trtbert.tasks import Task

PAGE = (ROOT / "docs/cpp.md").read_text()
OPENVINO = Path(openvino.__path__[0], "libs")


@pytest.fixture
def installed(runner: Path, tmp_path: Path) -> Path:
    done = run("cmake", "--install", runner, "--prefix", tmp_path / "installed")
    assert done.returncode == 0, done.stderr
    return tmp_path / "installed"


def _library(installed: Path) -> Path:
    (library,) = installed.rglob("libtrtbert_runner.so")
    return library


def test_a_project_finds_and_runs_the_installed_package(installed: Path, packages: dict[Task, Path], tmp_path: Path) -> None:
    assert {path.name for path in (installed / "include/trtbert").iterdir()} == {
        path.name for path in (ROOT / "cpp/include/trtbert").iterdir()
    }
    examples = f"-DEXAMPLES={ROOT / 'cpp/examples'}"
    configured = run("cmake", "-S", "tests/cpp/consumer", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}", examples)
    assert configured.returncode == 0, configured.stderr
    built = run("cmake", "--build", tmp_path / "build")
    assert built.returncode == 0, built.stdout + built.stderr

    lost = run(tmp_path / "build/embed", packages["sentence-similarity"], "a cat")
    assert lost.returncode != 0 and "libopenvino.so" in lost.stderr
    named = ("env", f"LD_LIBRARY_PATH={OPENVINO}")
    ran = run(*named, tmp_path / "build/embed", packages["sentence-similarity"], "a cat", "a cat", "a bus")
    width, itself, same, other = ran.stdout.split()
    assert (width, same) == ("48", itself) and abs(float(itself) - 1) < 1e-5 and float(other) < 1
    for library in OPENVINO.iterdir():  # From here on it lies beside the library.
        (_library(installed).parent / library.name).symlink_to(library)
    ran = run(tmp_path / "build/embed_c", packages["text-classification"], '{"inputs": ["a cat"]}')
    assert ran.stdout.startswith('{"outputs":[{"label":')
    refused = run(tmp_path / "build/embed_c", tmp_path, "a")
    assert refused.returncode == 1 and "it holds no manifest.json" in refused.stderr


def test_what_is_installed_names_no_folder_of_the_machine_that_built_it(installed: Path) -> None:
    dynamic = run("readelf", "--dynamic", "--wide", _library(installed)).stdout
    assert re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic) == ["$ORIGIN"]
    texts = {file: file.read_text() for file in installed.rglob("*.cmake")}
    assert len(texts) >= 3
    assert [file for file, text in texts.items() if str(ROOT) in text or str(OPENVINO) in text] == []


def test_the_page_shows_the_examples_as_they_are() -> None:
    blocks = re.findall(r"```(?:cpp|c)\n(.*?)```", PAGE, re.DOTALL)
    examples = [(ROOT / "cpp/examples" / name).read_text() for name in ("embed.cpp", "embed.c")]
    assert len(blocks) == 2 and blocks == examples


def test_only_the_interface_is_shown(runner: Path) -> None:
    """What the library took in, nlohmann-json and its own parts, cannot clash with another version in the same program."""
    exported = run("nm", "--dynamic", "--demangle", "--defined-only", runner / "cpp/libtrtbert_runner.so").stdout.splitlines()
    names = [line.split(maxsplit=2)[2] for line in exported]
    own = [name for name in names if name.startswith("trtbert")]
    assert any("Predictor::embed" in name for name in own) and "trtbert_load" in own
    hidden = ("Encoder", "Trie", "WordPiece", "Normalizer", "nlohmann")
    assert [name for name in names if any(part in name for part in hidden)] == []
