"""TensorRT-RTX engines from whole models, with no GPU; what is refused; and the build kit where TensorRT needs one."""

import importlib.util
import json
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

import trtbert
from tests.models import make_checkpoint, prune_checkpoint
from tests.sources import BERT, MPNET, make_source
from trtbert.cli import main
from trtbert.config import CompileConfig, Precision, Profile, Range, Target
from trtbert.errors import MissingRuntimeError
from trtbert.package import Package, open_package

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'trtbert[tensorrt-rtx]'"
)
Sources = dict[str, tuple[Path, Path]]
PROFILE = Profile(batch_size=Range(min=1, opt=2, max=8), seq_len=Range(min=1, opt=8, max=20))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return {name: make_source(tmp_path_factory.mktemp("source"), name) for name in (BERT, MPNET)}


@pytest.fixture(autouse=True)
def _logs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))


def _compile(source: tuple[Path, Path], output: Path, target: Target, precision: Precision | None = None) -> Package:
    path, tokenizer = source
    config = CompileConfig(tokenizer=tokenizer, target=target, runtime="tensorrt-rtx", precision=precision or "auto", profiles=(PROFILE,))
    return trtbert.compile(path, output, config)


@pytest.mark.tensorrt
@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize(
    ("name", "target", "precision"),
    [
        (BERT, "sm75", None),
        (MPNET, "sm75", None),
        (MPNET, "sm80", None),
        (BERT, "sm80", "fp32"),
        (MPNET, "sm86", "bf16"),
        (BERT, "sm86", None),
        (MPNET, "sm89", None),
        (BERT, "sm120", None),
    ],
)
def test_an_engine_with_no_gpu(name: str, target: Target, precision: Precision | None, sources: Sources, tmp_path: Path) -> None:
    package = _compile(sources[name], tmp_path / "package", target, precision)
    manifest = open_package(package.path).manifest
    assert (manifest.target, manifest.runtime, manifest.precision) == (target, "tensorrt-rtx", precision or "fp16")
    assert (manifest.engine, manifest.onnx, manifest.compute_capability) == ("model.plan", None, target)
    assert (package.path / "model.plan").stat().st_size > 50_000
    assert sorted(path.name for path in package.path.iterdir()) == sorted([*manifest.files, "manifest.json"])
    assert manifest.profiles == (PROFILE,)
    assert manifest.fusions == {"FusedEmbedLayerNorm": 1, "FusedQkvAttention": 2, "FusedSkipLayerNorm": 4, "FusedBiasGelu": 2}
    assert {"tensorrt-rtx", "polygraphy", "onnxruntime"} <= manifest.versions.keys()
    stages = [stage.stage for stage in manifest.verification.stages]
    assert stages[:2] == ["export", "rewrite"] and ("precision" in stages) == (precision != "fp32")
    assert all(stage.is_passed for stage in manifest.verification.stages)
    assert "trtbert verify" in manifest.verification.unverified[0]
    with pytest.raises(MissingRuntimeError, match="GPU"):
        trtbert.load(package.path)


@pytest.mark.tensorrt
@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize(("architecture", "target"), [("bert", "sm75"), ("mpnet", "sm120")])
def test_a_checkpoint_becomes_an_engine_with_attention_nodes(architecture: str, target: Target, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", architecture, task="sentence-similarity")
    package = trtbert.compile(checkpoint, tmp_path / "package", CompileConfig(target=target, runtime="tensorrt-rtx"))
    manifest = package.manifest
    assert [item.lowering for item in manifest.lowerings if item.op == "FusedQkvAttention"] == ["Attention", "Attention"]
    assert manifest.profiles == (Profile(seq_len=Range(min=1, opt=manifest.model.max_length // 4, max=manifest.model.max_length)),)
    stages = {stage.stage: stage for stage in manifest.verification.stages}
    assert stages["rewrite"].max_error <= 2e-5 and stages["precision"].cosine >= 0.9999
    assert (package.path / "model.plan").stat().st_size > 50_000


@pytest.mark.tensorrt
@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize(("architecture", "precision"), [("bert", "fp16"), ("mpnet", "fp16"), ("bert", "int8")])
def test_layers_with_other_heads_and_one_with_a_single_one(architecture: str, precision: Precision, tmp_path: Path) -> None:
    """TensorRT-RTX has no Attention of one head, so that such a layer keeps its body."""
    whole = make_checkpoint(tmp_path / "whole", architecture, task="text-classification")
    pruned = prune_checkpoint(whole, tmp_path / "pruned", {0: [1], 1: [0, 2]}, {0: 40, 1: 33})
    config = CompileConfig(target="sm75", runtime="tensorrt-rtx", precision=precision)
    manifest = trtbert.compile(pruned, tmp_path / "package", config).manifest
    assert [item.lowering for item in manifest.lowerings if item.op == "FusedQkvAttention"] == ["Attention", "body"]
    assert manifest.fusions["FusedQkvAttention"] == 2 and all(stage.is_passed for stage in manifest.verification.stages)


REFUSED = {
    ("sm75", "tensorrt-rtx", "fp32"): (3, "use --precision fp16"),
    ("sm70", "tensorrt-rtx", "fp16"): (3, "TensorRT-RTX does not support Volta"),
    ("sm70", "auto", "bf16"): (3, "use --precision fp16"),
}


@pytest.mark.parametrize("options", REFUSED, ids="-".join)
def test_refused_before_any_work(options: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, runtime, precision = options
    code, advice = REFUSED[options]
    arguments = ["--target", target, "--runtime", runtime, "--precision", precision]
    assert main(["compile", "no-such-model.onnx", "-o", str(tmp_path / "package"), *arguments]) == code
    assert advice in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed, so an engine may be built")
@pytest.mark.parametrize("target", ["sm70", "sm90"])
def test_a_build_kit_where_tensorrt_is_missing(target: str, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, tokenizer = sources[BERT]
    output = tmp_path / "package"
    arguments = ["compile", str(path), "--tokenizer", str(tokenizer), "-o", str(output), "--target", target, "--seq-len", "1", "8", "20"]
    arguments += ["--lowering", "native"]
    assert main(arguments) == 5
    message = capsys.readouterr().err
    kit = tmp_path / "package.build-kit"
    assert f"trtbert build {kit} -o {output}" in message and "pip install 'trtbert[tensorrt]'" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "package.build-kit"]

    manifest = open_package(kit).manifest
    assert (manifest.engine, manifest.onnx, manifest.target, manifest.runtime) == (None, "model.onnx", target, "tensorrt")
    assert sorted(path.name for path in kit.iterdir()) == sorted([*manifest.files, "manifest.json"])
    onnx.checker.check_model(onnx.load(kit / "model.onnx"))
    graph = ir.load(kit / "model.onnx").graph
    assert not any(node.domain == "trtbert" for node in graph)
    assert all(value.dtype == ir.DataType.INT32 for value in graph.inputs)
    assert any(value.dtype == ir.DataType.FLOAT16 for value in graph.initializers.values())
    assert manifest.verification.stages[-1].is_passed

    assert main(["build", str(kit), "-o", str(output)]) == 5
    assert "pip install 'trtbert[tensorrt]'" in capsys.readouterr().err
    assert main(["predict", str(kit), "w1"]) == 5
    assert "is a build kit for" in capsys.readouterr().err
    assert main(["inspect", str(kit)]) == 0
    assert f"target {target}, runtime tensorrt" in capsys.readouterr().out
    assert main(arguments) == 5, "a second time, over the first kit"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "package.build-kit"]


def test_an_altered_kit_is_not_built(sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, tokenizer = sources[MPNET]
    assert main(["compile", str(path), "--tokenizer", str(tokenizer), "-o", str(tmp_path / "p"), "--target", "sm90"]) == 5
    kit = tmp_path / "p.build-kit"
    manifest = json.loads((kit / "manifest.json").read_text())
    (kit / "manifest.json").write_text(json.dumps(manifest | {"onnx": "../model.onnx"}))
    capsys.readouterr()
    assert main(["build", str(kit), "-o", str(tmp_path / "out")]) == 2
    assert "does not list '../model.onnx' among its files" in capsys.readouterr().err
