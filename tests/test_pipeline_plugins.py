"""`--lowering plugin` and `--packed`, through the command line: what a build kit holds, what an engine gets of it, what is refused."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.torch import load_file, save_file

from tests.models import make_checkpoint
from tests.plugin_libraries import make_library
from tests.sources import BERT, MPNET, make_source
from trtbert import engines, verification
from trtbert.cli import main
from trtbert.ops import DOMAIN
from trtbert.package import Manifest, Packing, PluginLibrary, open_package
from trtbert.runtime import plugins

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed, so an engine may be built"),
    pytest.mark.usefixtures("exported_once"),
]
Output = pytest.CaptureFixture[str]
COUNTS = {"FusedEmbedLayerNorm": 1, "FusedQkvAttention": 2, "FusedSkipLayerNorm": 4, "FusedBiasGelu": 2}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {name: make_source(tmp_path_factory.mktemp("source"), name) for name in (BERT, MPNET)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The values of the first layer lie about 0, those of the second to one side."""
    folder = make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model", "bert", task="sentence-similarity")
    weights = load_file(folder / "model.safetensors")
    first, second = (
        {end: weights[f"encoder.layer.{layer}.attention.self.value.{end}"] for end in ("weight", "bias")} for layer in range(2)
    )
    for tensor in first.values():
        tensor[1::2] = -tensor[::2]
    second["bias"] += 4.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(autouse=True)
def _nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRTBERT_PLUGINS", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "nowhere"))
    monkeypatch.setattr(plugins, "_SYSTEM", ())
    monkeypatch.setattr(plugins, "_CHECKOUT", tmp_path / "nowhere")


@pytest.fixture
def library(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = make_library(tmp_path_factory.mktemp("library"))
    monkeypatch.setenv("TRTBERT_PLUGINS", str(path))
    return path


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in (
        *plugins.SOURCES[:2],
        "plugins/kernels/one.cu",
        "tests/plugins/host/host.cpp",
        "tests/plugins/driver/x",
        "trtbert/version.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.setattr(plugins, "_CHECKOUT", folder)
    return folder


def compile_arguments(source: tuple[Path, Path], folder: Path, *options: str) -> list[str]:
    path, tokenizer = source
    return ["compile", str(path), "--tokenizer", str(tokenizer), "-o", str(folder / "package"), *options]


def plugin_nodes(graph: ir.Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph if node.domain == DOMAIN)


def stripped(kit: Path) -> ir.Graph:
    model = ir.load(kit / "model.onnx")
    assert not model.functions and not any(node.overload for node in model.graph)
    return model.graph


def test_a_build_kit(library: Path, sources: Any, tmp_path: Path, capsys: Output) -> None:
    arguments = compile_arguments(sources[BERT], tmp_path, "--target", "sm80", "--runtime", "tensorrt", "--lowering", "plugin")
    assert main(arguments) == 5
    kit, output = tmp_path / "package.build-kit", tmp_path / "package"
    message = capsys.readouterr().err
    assert "pip install 'trtbert[tensorrt]'" in message and message.rstrip().endswith(f"TensorRT: trtbert build {kit} -o {output}")
    assert list(tmp_path.iterdir()) == [kit]

    manifest = open_package(kit).manifest
    assert manifest.plugins == PluginLibrary(name=library.name, version="1.2.3", sha256=plugins.sha256_of(library))
    assert (kit / library.name).read_bytes() == library.read_bytes() and library.name in manifest.files
    assert manifest.fusions == COUNTS and manifest.packing is None
    assert {record.lowering for record in manifest.lowerings} == {"plugin"} and len(manifest.lowerings) == 9
    assert manifest.profiles and manifest.verification.stages[-1].stage == "build" and manifest.verification.stages[-1].is_passed
    graph = stripped(kit)
    assert plugin_nodes(graph) == COUNTS
    ids = [v.dtype for node in graph if node.op_type == "FusedEmbedLayerNorm" for v in node.inputs if v is not None]
    assert Counter(ids) == {ir.DataType.INT32: 3, ir.DataType.FLOAT16: 5}

    assert main(["inspect", str(kit)]) == 0
    printed = capsys.readouterr().out
    assert "lowered FusedQkvAttention -> plugin\n" in printed and "plugins libtrtbert_plugins.so 1.2.3\n" in printed


def test_volta_takes_plugins_by_itself(library: Path, sources: Any, tmp_path: Path) -> None:
    assert main(compile_arguments(sources[MPNET], tmp_path, "--target", "sm70")) == 5
    graph = stripped(tmp_path / "package.build-kit")
    assert plugin_nodes(graph)["FusedQkvAttention"] == 2
    assert all(len(node.inputs) == 3 for node in graph if node.op_type == "FusedQkvAttention"), (
        "the relative bias is an input of the plugin"
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_floats(precision: str, library: Path, sources: Any, tmp_path: Path) -> None:
    options = ("--target", "sm90", "--lowering", "plugin", "--precision", precision)
    assert main(compile_arguments(sources[BERT], tmp_path, *options)) == 5
    kit = tmp_path / "package.build-kit"
    assert plugin_nodes(stripped(kit)) == COUNTS and open_package(kit).manifest.precision == precision


@pytest.mark.slow
@pytest.mark.parametrize("packed", [[], ["--packed"]])
def test_int8(packed: list[str], library: Path, checkpoint: Path, tmp_path: Path) -> None:
    options = ("--target", "sm75", "--lowering", "plugin", "--precision", "int8", "--quantize", "full", *packed)
    assert main(["compile", str(checkpoint), "-o", str(tmp_path / "package"), *options]) == 5
    kit = tmp_path / "package.build-kit"
    attentions = [node for node in stripped(kit) if node.op_type.endswith("QkvAttention")]
    assert len(attentions) == 2
    for node in attentions:
        assert {"q_scale", "k_scale", "v_scale", "probability_scale"} <= node.attributes.keys()
    assert ["y_scale" in node.attributes for node in attentions] == [True, False]  # a shift is before the second's Q
    assert attentions[0].outputs[0].dtype == ir.DataType.INT8
    manifest = open_package(kit).manifest
    assert {r.lowering: r.reason for r in manifest.lowerings if r.op == "FusedEmbedLayerNorm"} == {
        "body": "word is INT8 with a scale for each row; the plugin's INT8 has one for the tensor"
    }


def test_the_sources_travel_where_there_is_no_library(checkout: Path, sources: Any, tmp_path: Path, capsys: Output) -> None:
    assert main(compile_arguments(sources[BERT], tmp_path, "--target", "sm70")) == 5
    kit = tmp_path / "package.build-kit"
    copied = kit / "plugin-sources"
    message = capsys.readouterr().err
    assert (
        f"build the plugin library from {copied} (plugins/README.md there says how), set TRTBERT_PLUGINS to it, then trtbert build"
        in message
    )
    assert (copied / "plugins/kernels/one.cu").read_text() == "plugins/kernels/one.cu" and (copied / "tests/plugins/host/host.cpp").exists()
    manifest = open_package(kit).manifest
    assert manifest.plugins is None and "plugin-sources/CMakeLists.txt" in manifest.files
    assert plugin_nodes(stripped(kit)) == COUNTS


def test_neither_library_nor_sources(sources: Any, tmp_path: Path, capsys: Output) -> None:
    assert main(compile_arguments(sources[BERT], tmp_path, "--target", "sm80", "--lowering", "plugin")) == 5
    message = capsys.readouterr().err
    assert "there is no libtrtbert_plugins.so in" in message and "cmake --preset plugins && cmake --build" in message
    assert "TRTBERT_PLUGINS" in message and not list(tmp_path.iterdir())


def test_a_library_that_is_none(sources: Any, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTBERT_PLUGINS", __file__)
    assert main(compile_arguments(sources[BERT], tmp_path, "--target", "sm80", "--lowering", "plugin")) == 2
    assert "test_pipeline_plugins.py is no plugin library of trtbert: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def fake_build(manifest_of_build: list[dict[str, Any]], folder: Path) -> Any:
    """Stands in for TensorRT: writes a plan, and keeps what it was asked for."""

    def build(onnx: Path, output: Path, **options: Any) -> Any:
        manifest_of_build.append(options)
        output.write_bytes(b"plan")
        (folder / "log").write_text("log")
        return SimpleNamespace(path=output, versions={"tensorrt": "10.4.0"}, log=folder / "log")

    return build


@pytest.mark.parametrize("has_sources", [False, True])
def test_a_kit_becomes_a_package_with_its_library(
    has_sources: bool, sources: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("checkout" if has_sources else "library")
    assert main(compile_arguments(sources[BERT], tmp_path, "--target", "sm70")) == 5
    kit, output, asked = tmp_path / "package.build-kit", tmp_path / "package", list[dict[str, Any]]()
    monkeypatch.delenv("TRTBERT_PLUGINS", raising=False)
    monkeypatch.setattr(engines, "check_available", lambda target, runtime: None)
    monkeypatch.setattr(engines.trt, "build", fake_build(asked, tmp_path))
    build = ["build", str(kit), "-o", str(output)]
    if has_sources:
        assert main(build) == 5 and not output.exists(), "the library is not built yet"
        monkeypatch.setenv("TRTBERT_PLUGINS", str(make_library(tmp_path / "built")))
    assert main(build) == 0
    manifest = open_package(output).manifest
    assert manifest.plugins is not None and manifest.plugins.version == "1.2.3"
    assert plugins.sha256_of(output / manifest.plugins.name) == manifest.plugins.sha256 == manifest.files[manifest.plugins.name]
    assert asked[0]["plugins"].name == plugins.LIBRARY and manifest.engine == "model.plan"
    assert not any(name.startswith("plugin-sources") for name in manifest.files) and not (output / "plugin-sources").exists()


def test_a_library_that_is_not_the_kits(
    library: Path, sources: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert main(compile_arguments(sources[BERT], tmp_path, "--target", "sm70")) == 5
    monkeypatch.setattr(engines, "check_available", lambda target, runtime: None)
    monkeypatch.setenv("TRTBERT_PLUGINS", str(make_library(tmp_path / "other", "9.9.9")))
    capsys.readouterr()
    assert main(["build", str(tmp_path / "package.build-kit"), "-o", str(tmp_path / "package")]) == 2
    assert "is not the libtrtbert_plugins.so 1.2.3 that the engine was built with" in capsys.readouterr().err
    assert not (tmp_path / "package").exists()


REFUSED = {
    (
        "--target",
        "sm80",
        "--runtime",
        "tensorrt-rtx",
        "--lowering",
        "plugin",
    ): "TensorRT-RTX does not support plugins; use --runtime tensorrt",
    ("--lowering", "plugin"): "onnxruntime does not load TensorRT's plugins",
    ("--target", "cuda", "--lowering", "plugin"): "onnxruntime does not load TensorRT's plugins",
    ("--packed",): "only the plugins compute attention without padding",
    ("--target", "sm80", "--runtime", "tensorrt", "--packed"): "use --packed with --runtime tensorrt --lowering plugin",
}


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_refused_before_any_work(options: tuple[str, ...], tmp_path: Path, capsys: Output) -> None:
    assert main(["compile", "no-such-model.onnx", "-o", str(tmp_path / "package"), *options]) == 3
    assert REFUSED[options] in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_packed_kit(library: Path, sources: Any, tmp_path: Path, capsys: Output) -> None:
    """A classifier reads its first token."""
    assert main(compile_arguments(sources[BERT], tmp_path, "--target", "sm70", "--packed")) == 5
    kit = tmp_path / "package.build-kit"
    manifest = open_package(kit).manifest
    assert manifest.packing == Packing(takes_left_padding=False) and manifest.fusions == COUNTS
    graph = stripped(kit)
    counts = Counter(node.op_type for node in graph)
    assert (counts["FusedPackedQkvAttention"], counts["FusedQkvAttention"], counts["ScatterND"], counts["GatherND"]) == (2, 0, 1, 3)
    assert all(len(v.shape or ()) == 2 for v in graph.inputs), "the inputs are those of the model"
    stages = {stage.stage: stage for stage in manifest.verification.stages}
    assert manifest.verification.num_batches == 7, "the left-padded batch is left out"
    assert stages["build"].is_passed and any("start with padding" in text for text in manifest.verification.unverified)
    capsys.readouterr()
    assert main(["inspect", str(kit)]) == 0
    assert "no text may start with padding, for the head reads the first position" in capsys.readouterr().out


@pytest.mark.slow
def test_packed_sentence_embeddings_take_left_padding(library: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert main(["compile", str(checkpoint), "-o", str(tmp_path / "package"), "--target", "sm75", "--lowering", "plugin", "--packed"]) == 5
    manifest: Manifest = open_package(tmp_path / "package.build-kit").manifest
    assert manifest.packing == Packing(takes_left_padding=True)
    assert manifest.verification.num_batches == 8 and not any("padding" in text for text in manifest.verification.unverified)
    assert manifest.verification.stages[-1].cosine > 0.9999


@pytest.mark.parametrize(("takes_left_padding", "is_fitting"), [(None, True), (True, True), (False, False)])
def test_an_engine_is_verified_on_what_it_takes(
    takes_left_padding: bool | None, is_fitting: bool, library: Path, sources: Any, tmp_path: Path
) -> None:
    main(compile_arguments(sources[BERT], tmp_path, "--target", "sm70"))
    packing = None if takes_left_padding is None else Packing(takes_left_padding=takes_left_padding)
    manifest = open_package(tmp_path / "package.build-kit").manifest.model_copy(update={"packing": packing})
    left, right = (np.array([row, [1, 1]], np.int32) for row in ([0, 1], [1, 0]))
    assert verification.fits({"attention_mask": left}, manifest) == is_fitting
    assert verification.fits({"attention_mask": right}, manifest)
    assert verification.fits({"attention_mask": np.array([[0, 0], [1, 1]], np.int32)}, manifest), "a text of padding alone starts with none"


def test_a_relative_bias_is_not_packed(library: Path, sources: Any, tmp_path: Path, capsys: Output) -> None:
    assert main(compile_arguments(sources[MPNET], tmp_path, "--target", "sm70", "--packed")) == 3
    assert "has a relative-position bias, which the packed plugin does not take; compile it without --packed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
