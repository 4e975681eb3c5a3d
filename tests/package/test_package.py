"""A written package opens; an incomplete, altered or malicious one is refused with exit code 2 and says why."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.predictor.packages import make_manifest
from trtbert.errors import MissingRuntimeError, PackageError
from trtbert.package import MANIFEST, ModelFacts, TokenizerFacts, open_package, write_package

FACTS = ModelFacts(
    architecture="bert",
    task="fill-mask",
    max_length=8,
    num_layers=1,
    tokenizer=TokenizerFacts(pad_token_id=0, vocab_size=9),
    inputs=(),
    outputs=(),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pkg"
    (path / "licences").mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"model")
    (path / "tokenizer.json").write_text("{}")
    (path / "licences" / "LICENSE").write_text("text")
    write_package(path, make_manifest(FACTS))
    return path


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def assert_refused(folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(PackageError) as raised:
        open_package(folder, **options)
    assert raised.value.exit_code == 2
    for word in words:
        assert word in str(raised.value)


def test_a_written_package_opens(folder: Path) -> None:
    package = open_package(folder)
    assert sorted(package.manifest.files) == ["licences/LICENSE", "model.onnx", "tokenizer.json"]
    assert package.manifest.model == FACTS
    assert package.engine_path == folder / "model.onnx"
    assert package.tokenizer_path == folder / "tokenizer.json"
    assert sorted(path.name for path in folder.iterdir()) == ["licences", "manifest.json", "model.onnx", "tokenizer.json"]


def test_a_file_beside_the_listed_ones_is_let_be(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert "notes.txt" not in open_package(folder).manifest.files


def test_no_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", "nowhere", "no such folder")


def test_no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    assert_refused(folder, "holds no manifest.json")


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000, '"text"', "[]"])
def test_a_manifest_that_is_no_json_object(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    assert_refused(folder, MANIFEST)


def test_wrong_fields_are_all_named(folder: Path) -> None:
    edit(folder, lambda m: m["model"].update(max_length="long", task="poetry", secret=1))
    assert_refused(folder, "model.max_length", "model.task", "model.secret")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_are_none(folder: Path, number: str) -> None:
    text = (folder / MANIFEST).read_text()
    assert text.count('"raced": {}') == 1
    (folder / MANIFEST).write_text(text.replace('"raced": {}', f'"raced": {{"onnxruntime": {{"1 x 8": {number}}}}}'))
    assert_refused(folder, "cannot be read as JSON")


@pytest.mark.parametrize("version", [2, "1", None])
def test_another_format_version(folder: Path, version: Any) -> None:
    edit(folder, lambda m: m.update(format_version=version))
    assert_refused(folder, f"format version {version!r}")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/passwd", "..\\outside", "licences/../../outside", "", ".", "x\0y"])
@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_name_that_leads_out_of_the_folder(folder: Path, name: str, check_hashes: bool) -> None:
    (folder.parent / "outside").write_text("secret")
    edit(folder, lambda m: m["files"].update({name: "0" * 64}))
    assert_refused(folder, repr(name), "only plain relative names", check_hashes=check_hashes)


@pytest.mark.parametrize("field", ["engine", "onnx", "tokenizer"])
def test_an_engine_or_tokenizer_that_is_not_listed(folder: Path, field: str) -> None:
    (folder / "other").write_text("unhashed")
    edit(folder, lambda m: m["model"]["tokenizer"].update(file="../other") if field == "tokenizer" else m.update({field: "other"}))
    assert_refused(folder, "does not list", "other")


def test_a_link_out_of_the_folder(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere.onnx")
    assert_refused(folder, "'model.onnx'", "link that leads out")


def test_a_linked_folder_opens(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert open_package(link).manifest.engine == "model.onnx"


def test_a_missing_file(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert_refused(folder, "incomplete", "'tokenizer.json'")


@pytest.mark.parametrize("length", [300, 5000])
def test_names_that_are_too_long_for_the_system(folder: Path, length: int) -> None:
    assert_refused(folder / ("x" * length), "no such folder")
    edit(folder, lambda m: m["files"].update({"x" * length: "0" * 64}))
    assert_refused(folder, "incomplete", "x" * length)


def test_a_pipe_is_not_read(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    assert_refused(folder, "'model.onnx'")


def test_an_altered_file(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"mod3l")
    assert_refused(folder, "'model.onnx'", "was altered")
    assert open_package(folder, check_hashes=False).path == folder


def test_a_build_kit_has_no_engine(folder: Path) -> None:
    edit(folder, lambda m: m.update(engine=None, onnx="model.onnx", target="sm75", runtime="tensorrt"))
    package = open_package(folder)
    with pytest.raises(MissingRuntimeError, match=r"build kit for sm75.*trtbert build .*pkg -o PKG"):
        _ = package.engine_path
