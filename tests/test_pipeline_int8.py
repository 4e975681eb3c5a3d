"""INT8 packages of every family and task: for the CPU by each runtime, for GPUs by TensorRT-RTX with no GPU, and as a build kit."""

import importlib.util
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

import trtbert
from tests.compiled import Plain, feeds
from tests.fixtures.make_foreign import FOREIGN, Foreign, export_torchscript
from tests.models import make_checkpoint
from tests.rewrite.foreign import write_tokenizer
from tests.sources import BERT, make_source
from tests.tiny_tokenizers import SENTENCES
from trtbert.architectures import ARCHITECTURES, STUDENT
from trtbert.builders import speed
from trtbert.cli import main
from trtbert.config import CompileConfig, Target, config_from_mapping
from trtbert.errors import UnsupportedError
from trtbert.export import load_source
from trtbert.package import Manifest, Package, open_package
from trtbert.pipeline import verify_package
from trtbert.tasks import TASKS, Task
from trtbert.verify import Feeds

Array = npt.NDArray[Any]
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed: pip install 'trtbert[openvino]'"
)
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'trtbert[tensorrt-rtx]'"
)
FILES: dict[str, Task] = {
    "albert-sdpa-opset15.onnx": "feature-extraction",
    BERT: "text-classification",
    "bert-pruned-sdpa-opset17.onnx": "sentence-similarity",  # unevenly
    "camembert-sdpa-opset14.onnx": "sentence-similarity",
    "deberta-v2-eager-opset14.onnx": "feature-extraction",
    "distilbert-question-answering-relu-eager-opset13.onnx": "question-answering",
    "electra-eager-opset15.onnx": "sentence-similarity",
    "modernbert-sdpa-opset17.onnx": "sentence-similarity",
    "mpnet-eager-opset17.onnx": "sentence-similarity",
    "roberta-token-classification-sdpa-opset14.onnx": "token-classification",
    "xlm-roberta-sdpa-opset18.onnx": "feature-extraction",
}
"""Foreign files of every family; they compile in a second, with no export."""
RANKING = "mpnet-text-ranking-eager-opset17.onnx"
"""A foreign file that is made here."""
CHECKPOINT = "albert"
"""For fill-mask."""
ALL = [*FILES, RANKING, CHECKPOINT]
CASES = (("none", 1), ("right", 12), ("left", 12), ("right", 24))


@dataclass(frozen=True)
class Compiled:
    """A package, and what its float model answers."""

    package: Package
    reference: Callable[[Feeds], Feeds]

    @property
    def manifest(self) -> Manifest:
        return self.package.manifest


def words(num: int) -> str:
    """Lines that the tokenizers of the foreign files know."""
    rng = random.Random(0)
    return "\n".join(" ".join(f"w{rng.randrange(54)}" for _ in range(1 + index % 20)) for index in range(num))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "words.txt"
    path.write_text(words(80))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("int8")


@pytest.fixture(scope="module")
def compiled(folder: Path, texts: Path) -> Callable[[str], Compiled]:
    """The name of a foreign file, or of a family -> its INT8 package for ONNX Runtime."""
    made: dict[str, Compiled] = {}

    def get(name: str) -> Compiled:
        if name not in made:
            make = {RANKING: _from_ranking_file, CHECKPOINT: _from_checkpoint}.get(name, _from_committed_file)
            made[name] = make(name, folder / name, texts)
        return made[name]

    return get


def _from_committed_file(name: str, folder: Path, texts: Path) -> Compiled:
    return _from_file(*make_source(folder, name), FILES[name], texts)


def _from_ranking_file(name: str, folder: Path, texts: Path) -> Compiled:
    folder.mkdir()
    source = Foreign(architecture="mpnet", attention="eager", opset=17, task="text-ranking", options={"vocab_size": 60})
    assert source.name == name
    export_torchscript(folder / name, source)
    facts = {"architecture": "mpnet", "hidden_size": 16, "num_heads": [2, 2], "vocabulary_size": 60, "max_length": 24}
    write_tokenizer(folder / "tokenizer", facts)
    return _from_file(folder / name, folder / "tokenizer", "text-ranking", texts)


def _from_file(path: Path, tokenizer: Path, task: Task, texts: Path) -> Compiled:
    folder = tokenizer.parent
    package = trtbert.compile(path, folder / "package", config(tokenizer, texts, task=task), dump=folder / "dump")
    return Compiled(package, load_source(path, CompileConfig(tokenizer=tokenizer, task=task), folder / "source").reference)


def _from_checkpoint(architecture: str, folder: Path, _: Path) -> Compiled:
    checkpoint = make_checkpoint(folder / "checkpoint", architecture, task="fill-mask")
    rng, known = random.Random(0), " ".join(SENTENCES).split()
    (folder / "texts.txt").write_text("\n".join(" ".join(rng.choices(known, k=1 + index % 20)) for index in range(80)))
    options = CompileConfig(precision="int8", runtime="onnxruntime", calibration_data=folder / "texts.txt")
    package = trtbert.compile(checkpoint, folder / "package", options, dump=folder / "dump")
    return Compiled(package, Plain(checkpoint, package.manifest.model))


def config(tokenizer: Path, texts: Path, **options: Any) -> CompileConfig:
    return config_from_mapping({"tokenizer": tokenizer, "precision": "int8", "runtime": "onnxruntime", "calibration_data": texts} | options)


def test_every_family_and_task_is_here() -> None:
    facts = json.loads((FOREIGN / "files.json").read_text())
    assert {facts[name]["architecture"] for name in FILES} == ARCHITECTURES.keys() - {STUDENT}
    assert {*FILES.values(), "text-ranking", "fill-mask"} == set(TASKS)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore")  # of the old exporter, which is quick
def test_every_stage_is_verified(name: str, compiled: Callable[[str], Compiled]) -> None:
    manifest = compiled(name).manifest
    assert (manifest.target, manifest.runtime, manifest.precision) == ("cpu", "onnxruntime", "int8")
    assert [stage.stage for stage in manifest.verification.stages] == ["export", "rewrite", "calibrate", "build"]
    assert all(stage.is_passed for stage in manifest.verification.stages) and manifest.verification.unverified == ()
    assert all(stage.max_error < 2e-5 for stage in manifest.verification.stages[:2])
    assert manifest.verification.stages[2].max_error > 1e-5, "nothing was quantised"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore")
def test_every_gemm_of_the_encoder_is_int8(name: str, compiled: Callable[[str], Compiled]) -> None:
    manifest = compiled(name).manifest
    assert manifest.quantization is not None and all(part.is_int8 for part in manifest.quantization.parts)
    found = Counter(part.part for part in manifest.quantization.parts if part.tensor)
    labels = {f"layer {layer} {part}" for layer in range(manifest.model.num_layers or 0) for part in _GEMMS}
    assert found.keys() - {"embeddings projection"} == labels
    assert {part.part for part in manifest.quantization.parts if not part.tensor} == {"word embedding"}


_GEMMS = ("qkv", "attention output", "ffn up", "ffn down")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore")
def test_the_fused_ops_stay(name: str, compiled: Callable[[str], Compiled], folder: Path) -> None:
    manifest = compiled(name).manifest
    before, after = (fused(folder / name / "dump" / graph) for graph in ("02-rewrite.onnx", "03-calibrate.onnx"))
    assert before == after == Counter({op: count for op, count in manifest.fusions.items() if count})
    are_expected = name.split("-")[0] not in ("deberta", "modernbert")
    assert (sum(after.values()) >= 4) == are_expected


def fused(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in ir.load(path).graph if node.domain == "trtbert")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore")
def test_answers_are_near_those_in_float(name: str, compiled: Callable[[str], Compiled]) -> None:
    found = compiled(name)
    assert_near(found, trtbert.load(found.package.path).runtime.run)


def assert_near(found: Compiled, run: Callable[[Feeds], Feeds]) -> None:
    """Not equal, and on average not far: the squared error is below 1 % of the outputs (tiny random models measured up to 0.3 %)."""
    squares = differences = 0.0
    for padding, length in CASES:
        case = feeds(found.manifest.model, 4, length, padding)
        expected, actual = found.reference(case), run(case)
        is_kept_BS = case["attention_mask"] != 0
        assert actual.keys() == expected.keys()
        for name, array in expected.items():
            assert actual[name].shape == array.shape and np.isfinite(actual[name]).all()
            is_kept = is_kept_BS if array.shape[:2] == is_kept_BS.shape else is_kept_BS.any(1)
            squares += float(np.square(array[is_kept]).sum())
            differences += float(np.square(actual[name][is_kept] - array[is_kept]).sum())
    assert 0 < differences < 0.01 * squares


def test_a_package_pruned_unevenly(compiled: Callable[[str], Compiled], folder: Path) -> None:
    name = "bert-pruned-sdpa-opset17.onnx"
    assert compiled(name).manifest.verification.stages[-1].is_passed
    graph = ir.load(folder / name / "dump" / "03-calibrate.onnx").graph
    assert [node.attributes["num_heads"].as_int() for node in graph if node.op_type == "FusedQkvAttention"] == [2, 1]
    shapes = [value.shape for value in graph.initializers.values() if value.dtype == ir.DataType.INT8 and len(value.shape or ()) == 2]
    assert {(24, 48), (24, 24), (16, 24), (8, 24), (24, 20), (24, 12), (12, 24)} <= {tuple(shape or ()) for shape in shapes}


def test_the_engine_holds_integer_gemms_and_an_int8_table(compiled: Callable[[str], Compiled]) -> None:
    graph = ir.load(compiled(BERT).package.engine_path).graph
    ops = Counter(node.op_type for node in graph)
    assert ops["MatMulIntegerToFloat"] in (8, 12), "q, k and v may be one GEMM or three"
    sizes = [value.const_value.size for value in graph.initializers.values() if value.dtype == ir.DataType.INT8 and value.const_value]
    assert sum(size for size in sizes if size >= 16 * 16) == 320 * 16 + 2 * 16 * (48 + 16 + 20 + 20)


def test_a_package_is_verified_again(compiled: Callable[[str], Compiled], folder: Path) -> None:
    found, (path, tokenizer) = compiled(BERT), make_source(folder / BERT)
    (figures,) = verify_package(found.package.path, path, tokenizer=tokenizer).stages
    assert figures.stage == "engine" and figures.is_passed
    assert figures.max_error == pytest.approx(found.manifest.verification.stages[-1].max_error)


def test_the_products_of_attention_in_int8(texts: Path, tmp_path: Path) -> None:
    path, tokenizer = make_source(tmp_path)
    manifest = trtbert.compile(path, tmp_path / "package", config(tokenizer, texts, quantize="full")).manifest
    assert manifest.quantization is not None and manifest.quantization.preset == "full"
    assert [stage.stage for stage in manifest.verification.stages] == ["export", "rewrite", "calibrate", "build"]


# OpenVINO


@needs_openvino
def test_openvino(compiled: Callable[[str], Compiled], texts: Path, tmp_path: Path) -> None:
    path, tokenizer = make_source(tmp_path)
    package = trtbert.compile(path, tmp_path / "package", config(tokenizer, texts, runtime="openvino"))
    manifest = open_package(package.path).manifest
    assert (manifest.runtime, manifest.engine, manifest.raced) == ("openvino", "model.xml", {})
    assert {"model.xml", "model.bin"} <= manifest.files.keys() and "openvino" in manifest.versions
    assert [stage.stage for stage in manifest.verification.stages] == ["export", "rewrite", "calibrate", "build"]
    assert_near(Compiled(package, compiled(BERT).reference), trtbert.load(package.path).runtime.run)


@needs_openvino
@pytest.mark.slow
def test_of_two_runtimes_one_is_kept(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.2)  # which of the two is faster is of no matter here
    path, tokenizer = make_source(tmp_path)
    package = trtbert.compile(path, tmp_path / "package", config(tokenizer, texts, runtime="auto"))
    manifest = open_package(package.path).manifest
    assert manifest.raced.keys() == {"onnxruntime", "openvino"} and manifest.runtime in manifest.raced
    shapes = {runtime: times.keys() for runtime, times in manifest.raced.items()}
    assert shapes["onnxruntime"] == shapes["openvino"] and all(time > 0 for times in manifest.raced.values() for time in times.values())
    engines = {"onnxruntime": {"model.onnx"}, "openvino": {"model.xml", "model.bin"}}[manifest.runtime]
    assert {name for name in manifest.files if name.startswith("model.")} == engines
    assert sorted(path.name for path in package.path.iterdir()) == sorted([*manifest.files, "manifest.json"])
    assert [stage.stage for stage in manifest.verification.stages] == ["export", "rewrite", "calibrate", "build"]
    assert main(["inspect", str(package.path)]) == 0
    assert "timed  onnxruntime " in capsys.readouterr().out


@needs_openvino
def test_what_openvino_does_not_run_is_kept_for_onnx_runtime(texts: Path, tmp_path: Path) -> None:
    """DeBERTa as TorchScript writes it has an If of unknown rank."""
    name = "deberta-v2-eager-opset14.onnx"
    path, tokenizer = make_source(tmp_path, name)
    package = trtbert.compile(path, tmp_path / "package", config(tokenizer, texts, task=FILES[name], runtime="auto"))
    manifest = open_package(package.path).manifest
    assert (manifest.runtime, manifest.engine, manifest.raced) == ("onnxruntime", "model.onnx", {})
    assert manifest.notes[-1].startswith("OpenVINO was not compared: ")
    assert sorted(path.name for path in package.path.iterdir()) == sorted([*manifest.files, "manifest.json"])


# GPUs


@pytest.mark.tensorrt
@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize("target", ["sm75", "sm86"])
def test_an_engine_with_no_gpu(target: Target, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))
    path, tokenizer = make_source(tmp_path)
    options = config(tokenizer, texts, target=target, runtime="tensorrt-rtx")
    package = trtbert.compile(path, tmp_path / "package", options, dump=tmp_path / "dump")
    manifest = open_package(package.path).manifest
    assert (manifest.target, manifest.runtime, manifest.precision) == (target, "tensorrt-rtx", "int8")
    assert [stage.stage for stage in manifest.verification.stages] == ["export", "rewrite", "calibrate", "precision", "build"]
    assert all(stage.is_passed for stage in manifest.verification.stages)
    assert (package.path / "model.plan").stat().st_size > 50_000
    assert {"model.plan", "calibration.cache"} <= manifest.files.keys() and manifest.onnx is None
    assert_int8_on_half(tmp_path / "dump" / "05-build.onnx")


def assert_int8_on_half(path: Path) -> None:
    """Eight GEMMs read INT8, no product and no constant is in float32, and Q/DQ stand where TensorRT takes them."""
    graph = ir.load(path).graph
    ops = Counter(node.op_type for node in graph)
    assert (ops["QuantizeLinear"], ops["DequantizeLinear"]) == (8, 8 + 9)
    products = [node for node in graph if node.op_type in ("MatMul", "Gemm")]
    assert sum(is_int8(node) for node in products) == 8
    types = {value.dtype for node in products for value in node.inputs if value is not None and value.dtype is not None}
    assert types == {ir.DataType.FLOAT16}
    assert not [name for name, value in graph.initializers.items() if value.dtype == ir.DataType.FLOAT]


def is_int8(node: ir.Node) -> bool:
    """Whether both operands come out of a DequantizeLinear."""
    producers = [value.producer() for value in node.inputs[:2] if value is not None]
    return all(producer is not None and producer.op_type == "DequantizeLinear" for producer in producers)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed, so an engine may be built")
def test_a_build_kit(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, tokenizer = make_source(tmp_path)
    arguments = ["compile", str(path), "--tokenizer", str(tokenizer), "-o", str(tmp_path / "out"), "--calibration-data", str(texts)]
    assert main([*arguments, "--precision", "int8", "--runtime", "tensorrt", "--target", "sm90"]) == 5
    assert f"trtbert build {tmp_path / 'out.build-kit'} -o {tmp_path / 'out'}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    manifest = open_package(tmp_path / "out.build-kit").manifest
    assert (manifest.engine, manifest.onnx, manifest.precision) == (None, "model.onnx", "int8")
    assert manifest.quantization is not None and manifest.quantization.method == "entropy"
    assert {"calibration.cache", "calibration.cache.json"} <= manifest.files.keys()
    assert_int8_on_half(tmp_path / "out.build-kit" / "model.onnx")


@pytest.mark.parametrize(("target", "advice"), [("sm70", "use --precision fp16"), ("cuda", "use --precision fp16 or fp32")])
def test_refused_before_any_work(target: Target, advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedError, match=advice):
        trtbert.compile(tmp_path / "there-is-no-such.onnx", tmp_path / "package", CompileConfig(target=target, precision="int8"))
    arguments = ["compile", "there-is-no-such.onnx", "-o", str(tmp_path / "package"), "--precision", "int8", "--target", target]
    assert main(arguments) == 3 and advice in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
