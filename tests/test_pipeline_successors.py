"""Checkpoints with another attention, from the exported graph to packages for the CPU and for a GPU."""

import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from tests.compress.models import tiny
from tests.export.running import assert_graph_equals_reference
from tests.numerics import assert_close
from trtbert import export
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import write_checkpoint
from trtbert.compress.attention import banded_model, grouped_model
from trtbert.config import CompileConfig
from trtbert.errors import MissingRuntimeError
from trtbert.export import Source
from trtbert.package import open_package
from trtbert.pipeline import compile
from trtbert.precision import convert
from trtbert.rewrite import rewrite

pytestmark = pytest.mark.usefixtures("exported_once")

WINDOW = 10
"""Longer than the texts of the rewrite's probe, and than the exporter's usual example: both are of one block then."""
Made = Callable[[str], tuple[Path, Source]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A BERT of two layers and four heads with the attention that is named, as a folder and exported; each is made once."""
    folders: dict[str, tuple[Path, Source]] = {}

    def make(kind: str) -> tuple[Path, Source]:
        if kind not in folders:
            root = tmp_path_factory.mktemp(kind)
            checkpoint = tiny(root / "whole", hidden_size=64, num_attention_heads=4, max_position_embeddings=260)
            successor = {"mqa": (grouped_model, 1), "gqa": (grouped_model, 2), "banded": (banded_model, WINDOW)}
            function, value = successor[kind]
            with quiet():
                write_checkpoint(checkpoint.with_model(function(checkpoint.model, checkpoint.task, value)), root / "model")
            (root / "out").mkdir()
            folders[kind] = root / "model", export.load_source(root / "model", CompileConfig(), root / "out")
        return folders[kind]

    return make


def feeds(batch: int, length: int) -> dict[str, Any]:
    mask = np.ones((batch, length), np.int32)
    mask[-1, length // 2 + 1 :] = 0
    ids = np.random.default_rng(length).integers(5, 40, (batch, length), dtype=np.int32)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def run(model: ir.Model, given: dict[str, Any], *outputs: str) -> list[Any]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(outputs) or None, given))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mqa", "gqa", "banded"])
def test_the_exported_graph_takes_any_batch_and_length(kind: str, made: Made) -> None:
    assert_graph_equals_reference(made(kind)[1], vocabulary_size=40)


@pytest.mark.parametrize(("kind", "num_kv_heads"), [("mqa", 1), ("gqa", 2)])
def test_shared_keys_and_values_are_not_repeated(kind: str, num_kv_heads: int, made: Made) -> None:
    graph = made(kind)[1].model.graph
    assert not {"Expand", "Tile"} & {node.op_type for node in graph}
    products = [node for node in graph if node.op_type == "MatMul" and all(value.const_value is None for value in node.inputs)]
    assert len(products) == 4
    for node in products:
        assert [value.shape[1] for value in (*node.inputs, *node.outputs)] == [num_kv_heads] * 3


def test_no_tensor_of_a_banded_graph_has_all_pairs_of_tokens(made: Made) -> None:
    """At 240 tokens the largest tensor, the keys of three blocks, is smaller than the pairs of tokens of a single head."""
    model, length = made("banded")[1].model.clone(), 240
    outputs = list(model.graph.outputs)
    watched = [value for node in model.graph for value in node.outputs if value.name and value.dtype is not None and value not in outputs]
    model.graph.outputs.extend(watched)
    arrays = dict(zip([value.name for value in model.graph.outputs], run(model, feeds(1, length)), strict=True))
    scores = [arrays[node.outputs[0].name].shape for node in model.graph if node.op_type == "Softmax" and node.outputs[0] in watched]
    assert Counter(scores) == {(1, 4, length // WINDOW, WINDOW, 1 + 3 * WINDOW): 2, (1, 4, 1, length): 2}
    assert len(watched) > 100 and max(array.size for array in arrays.values()) == 3 * 64 * length < length * length


@pytest.mark.parametrize("kind", ["mqa", "gqa"])
def test_grouped_attention_is_fused(kind: str, made: Made) -> None:
    source = made(kind)[1]
    rewritten = rewrite(source.model, architecture="bert", num_layers=2)
    attentions = [node for node in rewritten.model.graph if node.op_type == "FusedQkvAttention"]
    assert rewritten.fusions["FusedQkvAttention"] == len(attentions) == 2
    assert [(node.overload, node.attributes["num_kv_heads"].as_int()) for node in attentions] == [
        ("grouped", 1 if kind == "mqa" else 2)
    ] * 2
    given = feeds(3, 11)
    assert_close(run(rewritten.model, given)[0], next(iter(source.reference(given).values())))


def test_banded_attention_stays_as_it_is_and_says_why(made: Made) -> None:
    source = made("banded")[1]
    rewritten = rewrite(source.model, architecture="bert", num_layers=2)
    assert rewritten.fusions == {"FusedEmbedLayerNorm": 1, "FusedQkvAttention": 0, "FusedSkipLayerNorm": 4, "FusedBiasGelu": 2}
    reasons = [miss.reason for miss in rewritten.unfused if miss.rule == "FusedQkvAttention"]
    assert reasons and all(
        "its attention is computed in bands: a token sees 10 on each side, and the first" in reason for reason in reasons
    )
    given = feeds(3, 11)
    assert_close(run(rewritten.model, given)[0], next(iter(source.reference(given).values())))


@pytest.mark.parametrize("kind", ["mqa", "gqa", "banded"])
@pytest.mark.parametrize("factor", [1.0, 1e5])
def test_half_precision(kind: str, factor: float, made: Made) -> None:
    """Also with queries, or keys, that are beyond the largest half and are scaled back by the others."""
    source = made(kind)[1]
    model, given, num_changed = source.model.clone(), feeds(3, 11), 0
    for name, value in model.graph.initializers.items():
        for part, times in (("query", factor), ("key", 1 / factor)):
            if f"self.{part}." in name and value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy() * np.float32(times), name=name)
                num_changed += 1
    assert num_changed == 2 * 4
    rewritten = rewrite(model, architecture="bert", num_layers=2).model
    converted = convert(rewritten, "fp16", [given])
    assert_close(run(converted.model, given)[0], run(rewritten, given)[0], "float16")


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed, so an engine may be built")
@pytest.mark.parametrize("is_packed", [False, True])
def test_build_kits_with_plugins(is_packed: bool, made: Made, tmp_path: Path) -> None:
    config = CompileConfig(target="sm75", lowering="plugin", packed=is_packed)
    with pytest.raises(MissingRuntimeError, match="build kit"):
        compile(made("gqa")[0], tmp_path / "package", config)
    kit = tmp_path / "package.build-kit"
    manifest = open_package(kit).manifest
    assert {record.lowering for record in manifest.lowerings} == {"plugin"}
    assert all(stage.is_passed for stage in manifest.verification.stages)
    attentions = [node for node in ir.load(kit / "model.onnx").graph if node.op_type.endswith("QkvAttention")]
    assert {node.op_type for node in attentions} == {"FusedPackedQkvAttention" if is_packed else "FusedQkvAttention"}
    assert [node.attributes["num_kv_heads"].as_int() for node in attentions] == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mqa", "banded"])
@pytest.mark.parametrize("quantize", [None, "full"])
def test_packages_for_the_cpu(kind: str, quantize: str | None, made: Made, tmp_path: Path) -> None:
    folder = made(kind)[0]
    options: dict[str, Any] = {"precision": "int8", "quantize": quantize, "calibration_size": 16, "calibration_method": "minmax"}
    package = compile(folder, tmp_path / "package", CompileConfig(**(options if quantize else {})))
    assert package.manifest.fusions["FusedQkvAttention"] == (2 if kind == "mqa" else 0)
    assert all(stage.is_passed for stage in package.manifest.verification.stages)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'trtbert[tensorrt-rtx]'"
)
@pytest.mark.parametrize("kind", ["mqa", "banded"])
def test_engines_of_tensorrt_rtx(kind: str, made: Made, tmp_path: Path) -> None:
    package = compile(made(kind)[0], tmp_path / "package", CompileConfig(target="sm80", runtime="tensorrt-rtx", precision="fp16"))
    assert package.manifest.engine == "model.plan"
    assert {record.lowering for record in package.manifest.lowerings if record.op == "FusedQkvAttention"} <= {"body"}
