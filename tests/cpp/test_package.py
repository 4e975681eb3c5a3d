"""A package that is not whole, was altered, or does not fit is refused with the reason, by a build with sanitizers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cpp.driver import Driver
from trtbert.package import open_package, write_package
from trtbert.tasks import Task


@pytest.fixture
def package(packages: dict[Task, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(packages["text-classification"], tmp_path / "package"))


def _refusal(driver: Driver, package: Path) -> str:
    (answer,) = driver("predict", package)
    return str(answer["error"])


def _change(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((package / "manifest.json").read_text())
    change(manifest)
    (package / "manifest.json").write_text(json.dumps(manifest))


def test_a_folder_that_is_none(sanitized_driver: Driver, tmp_path: Path) -> None:
    assert "there is no such folder. Give a folder that `trtbert compile` wrote." in _refusal(sanitized_driver, tmp_path / "none")
    assert "it holds no manifest.json" in _refusal(sanitized_driver, tmp_path)


def test_an_altered_file(sanitized_driver: Driver, package: Path) -> None:
    with (package / "model.bin").open("r+b") as file:
        file.write(b"\xff")
    message = _refusal(sanitized_driver, package)
    assert '"model.bin"' in message and "was altered: its sha256 is not the one in manifest.json. Compile the package again." in message


def test_a_missing_file(sanitized_driver: Driver, package: Path) -> None:
    (package / "model.bin").unlink()
    assert 'is incomplete: the file "model.bin" is missing.' in _refusal(sanitized_driver, package)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "./x", "..", "", "a\\b", "a\0b"])
def test_a_name_that_leads_out(name: str, sanitized_driver: Driver, package: Path) -> None:
    _change(package, lambda manifest: manifest["files"].update({name: "0" * 64}))
    assert "only plain relative names inside the folder are allowed" in _refusal(sanitized_driver, package)


def test_a_link_that_leads_out(sanitized_driver: Driver, package: Path) -> None:
    (package / "model.bin").rename(package.parent / "elsewhere")
    (package / "model.bin").symlink_to(package.parent / "elsewhere")
    assert "is a link that leads out of the folder" in _refusal(sanitized_driver, package)


def test_a_manifest_that_is_cut_off_anywhere(sanitized_driver: Driver, package: Path) -> None:
    whole = (package / "manifest.json").read_bytes()
    for size in (0, 1, 50, len(whole) // 2, len(whole.rstrip()) - 1):
        (package / "manifest.json").write_bytes(whole[:size])
        assert "cannot be read as JSON" in _refusal(sanitized_driver, package)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=2), "it has the format version 2, and this library reads version 1"),
        (lambda m: m.update(runtime=None), "manifest.json.runtime: it must be a string, got null."),
        (lambda m: m["model"].pop("task"), 'manifest.json.model: the field "task" is missing.'),
        (lambda m: m["model"].update(max_length=0), "model.max_length: it must be 1 or more."),
        (lambda m: m["model"].update(max_length=1e30), "model.max_length: it must be an integer, got 1e+30."),
        (lambda m: m["model"]["tokenizer"].update(pad_token_id=-1), "pad_token_id: it must be an integer of 0 to 2147483647, got -1."),
        (lambda m: m.update(files=[]), "manifest.json.files: it must be an object, got an array."),
        (lambda m: m.update(engine="other.xml"), 'does not list "other.xml" among its files'),
        (lambda m: m.update(engine=None), "is a build kit for cpu, with no engine yet."),
        (lambda m: m["model"]["inputs"][0].update(name="pixels"), "The model takes pixels (int32); supported are int32 input_ids"),
        (lambda m: m.update(profiles=[{"batch_size": {"min": 2, "max": 1}}]), "profiles.0.batch_size: it must hold 1 <= min <= max."),
        (lambda m: m.update(runtime="onnxruntime"), "The package runs on onnxruntime, which this library does not have"),
    ],
)
def test_a_wrong_manifest(change: Callable[[dict[str, Any]], Any], message: str, sanitized_driver: Driver, package: Path) -> None:
    _change(package, change)
    assert message in _refusal(sanitized_driver, package)


def test_a_model_that_does_not_load(driver: Driver, package: Path) -> None:
    """Without sanitizers: OpenVINO leaks, in one of the libraries that it tries and unloads."""
    (package / "model.xml").write_text("<net/>")
    write_package(package, _manifest(package))
    assert "OpenVINO cannot load" in _refusal(driver, package)


def test_a_model_of_another_task(driver: Driver, package: Path) -> None:
    """The manifest says embeddings, and the model gives scores."""
    _change(package, lambda manifest: manifest["model"].update(task="sentence-similarity"))
    (answer,) = driver("predict", package, lines=[{"inputs": ["a"]}])
    assert "The model gives no output sentence_embedding, which its task needs." in answer["error"]


def _manifest(package: Path) -> Any:
    return open_package(package, check_hashes=False).manifest
