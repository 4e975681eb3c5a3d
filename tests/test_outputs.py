"""Where a compilation writes: the package, the dump of its stages, and what it replaces."""

import shutil
from pathlib import Path

import onnx_ir as ir
import pytest

import trtbert
from tests.sources import make_source
from trtbert.config import CompileConfig, Profile, Range
from trtbert.errors import ConfigError, InputError, UnsupportedError, VerificationError
from trtbert.package import Package, open_package
from trtbert.pipeline import verify_package
from trtbert.verify import LIMITS, Limits


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompileConfig]:
    path, tokenizer = make_source(tmp_path_factory.mktemp("source"))
    return path, CompileConfig(tokenizer=tokenizer)


def _compile(source: tuple[Path, CompileConfig], output: Path, *, force: bool = False, dump: Path | None = None) -> Package:
    return trtbert.compile(source[0], output, source[1], force=force, dump=dump)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_package_holds_what_its_manifest_lists_and_nothing_else(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    package = _compile(source, tmp_path / "package")
    assert _names(tmp_path) == ["package"]
    assert {"model.onnx", "tokenizer.json"} <= package.manifest.files.keys()
    assert _names(package.path) == sorted([*package.manifest.files, "manifest.json"])
    assert open_package(package.path).manifest == package.manifest


def test_dump_keeps_the_graph_of_every_stage(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    package = _compile(source, tmp_path / "package", dump=tmp_path / "stages")
    assert _names(tmp_path / "stages")[:2] == ["01-export.onnx", "02-rewrite.onnx"]
    exported, rewritten = (ir.load(tmp_path / "stages" / name) for name in ("01-export.onnx", "02-rewrite.onnx"))
    assert not any(node.domain == "trtbert" for node in exported.graph)
    assert sum(node.domain == "trtbert" for node in rewritten.graph) == sum(package.manifest.fusions.values())


def test_a_package_is_replaced_with_force_only(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    first = _compile(source, tmp_path / "package")
    before = (first.path / "manifest.json").stat().st_ino
    with pytest.raises(InputError, match=r"exists already.*--force"):
        _compile(source, tmp_path / "package")
    assert (first.path / "manifest.json").stat().st_ino == before
    _compile(source, tmp_path / "package", force=True)
    assert (first.path / "manifest.json").stat().st_ino != before
    assert _names(tmp_path) == ["package"]


def test_force_replaces_no_other_folder(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.txt").write_text("It was a dark and stormy night.")
    with pytest.raises(InputError, match="was not made by trtbert, so --force does not replace it"):
        _compile(source, tmp_path / "thesis", force=True)
    assert _names(tmp_path / "thesis") == ["chapter-1.txt"]


def test_a_failure_with_force_keeps_the_old_package(
    source: tuple[Path, CompileConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _compile(source, tmp_path / "package")
    monkeypatch.setitem(LIMITS, "fp32", Limits(max_error=1e-12, cosine=0.0, label_margin=1.0))
    with pytest.raises(VerificationError, match=r"The stage 'export' broke|The stage 'rewrite' broke"):
        _compile(source, tmp_path / "package", force=True)
    assert open_package(package.path).manifest == package.manifest
    assert _names(tmp_path) == ["package"]


def test_a_failed_verification_leaves_nothing(source: tuple[Path, CompileConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "fp32", Limits(max_error=1e-12, cosine=0.0, label_margin=1.0))
    with pytest.raises(VerificationError) as caught:
        _compile(source, tmp_path / "package")
    assert caught.value.exit_code == 4
    assert _names(tmp_path) == []


def test_an_impossible_target_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    config = CompileConfig(target="sm75", runtime="tensorrt-rtx", precision="fp32")
    with pytest.raises(UnsupportedError, match="FP32 GEMM is not supported"):
        trtbert.compile(tmp_path / "there-is-no-such-model", tmp_path / "package", config)
    assert _names(tmp_path) == []


def test_a_profile_longer_than_the_model(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    profile = Profile(seq_len=Range(min=1, opt=8, max=1000))
    config = source[1].model_copy(update={"target": "sm86", "runtime": "tensorrt", "profiles": (profile,)})
    with pytest.raises(ConfigError, match="--seq-len asks for 1000 tokens, but the model takes at most 26"):
        trtbert.compile(source[0], tmp_path / "package", config)
    assert _names(tmp_path) == []


def test_a_package_is_verified_again_against_its_source(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    package, stages = _compile(source, tmp_path / "package"), list[str]()
    verification = verify_package(package.path, source[0], tokenizer=source[1].tokenizer, on_stage=stages.append)
    assert stages == ["engine", "source model", "comparison"]
    (figures,) = verification.stages
    assert figures.stage == "engine" and figures.is_passed and figures.max_error <= 2e-5
    assert verification.num_batches >= 8 and not verification.unverified


def test_a_package_remembers_what_it_was_compiled_from(tmp_path: Path) -> None:
    fixture, tokenizer = make_source(tmp_path, "bert-sdpa-opset14.onnx")
    source = Path(shutil.copy(fixture, tmp_path / "model.onnx"))
    config = CompileConfig(task="sentence-similarity", pooling="cls", tokenizer=tokenizer)
    package = trtbert.compile(source, tmp_path / "package", config)
    assert verify_package(package.path).stages[0].max_error <= 2e-5
    source.rename(tmp_path / "moved.onnx")
    with pytest.raises(InputError, match=r"is not there \(any more\); say where it is: trtbert verify"):
        verify_package(package.path)
    assert verify_package(package.path, tmp_path / "moved.onnx").stages[0].is_passed


@pytest.mark.parametrize("name", ["package", "package/graphs"])
def test_a_dump_in_the_package_is_refused(name: str, source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--dump .* lies in the package"):
        trtbert.compile(source[0], tmp_path / "package", source[1], dump=tmp_path / name)
    assert _names(tmp_path) == []


def test_a_dump_that_cannot_be_a_folder(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made a folder: File exists"):
        trtbert.compile(source[0], tmp_path / "package", source[1], dump=tmp_path / "file")


def test_a_package_is_not_verified_against_another_model(source: tuple[Path, CompileConfig], tmp_path: Path) -> None:
    package = _compile(source, tmp_path / "package")
    model = ir.load(source[0])
    next(iter(model.graph.initializers.values())).name = "renamed"
    ir.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"was not compiled from .*other.onnx: the weights there have another sha256"):
        verify_package(package.path, tmp_path / "other.onnx", tokenizer=source[1].tokenizer)
