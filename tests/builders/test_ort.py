"""The model file for ONNX Runtime: chosen by measuring, with no fused node, equal to the fused model."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.numerics import assert_close
from trtbert.builders import files, measure, ort
from trtbert.builders.lowering import BODY, ORT
from trtbert.builders.probe import embedding_probe, layer_probe
from trtbert.ops import DOMAIN


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.01)


def run(model: Path | bytes, batch: int, length: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["last_hidden_state"], {i.name: feeds(batch, length)[i.name] for i in session.get_inputs()})[0]


@pytest.mark.parametrize(
    "encoder",
    [Encoder(), Encoder(heads=(2, 2), has_relative_bias=True, approximate="tanh"), Encoder(heads=(3,), widths=(40,))],
    ids=["unequal", "relative-bias", "one-layer"],
)
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_build(tmp_path: Path, encoder: Encoder, target: str) -> None:
    model = fused_encoder(encoder)
    fused_nodes = [(node.name, node.op_type) for node in model.graph if node.domain == DOMAIN]
    built = ort.build(model, tmp_path / "model.onnx", feeds_shape=(2, 8), target=target)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"] and built.path == tmp_path / "model.onnx"
    assert [(record.node, record.op) for record in built.lowerings] == fused_nodes
    saved = onnx.load(built.path)
    assert not saved.functions and {node.domain for node in saved.graph.node} <= {"", "com.microsoft"}
    for shape in ((1, 1), (3, 33)):
        assert_close(run(built.path, *shape), run(ir.to_proto(model).SerializeToString(), *shape))


def test_every_candidate_that_fits_is_measured_and_recorded(tmp_path: Path) -> None:
    built = ort.build(fused_encoder(Encoder()), tmp_path / "model.onnx", feeds_shape=(2, 8))
    for record in built.lowerings:
        fitting = [BODY, *(name for name in ORT[record.op] if name != "com.microsoft.FastGelu")]
        assert sorted(record.milliseconds) == sorted(f"{name} {shape}" for name in fitting for shape in ("1x8", "2x8"))
        assert all(milliseconds > 0 for milliseconds in record.milliseconds.values())
        assert record.lowering in fitting


def test_nothing_is_measured_for_cuda(tmp_path: Path) -> None:
    built = ort.build(fused_encoder(Encoder()), tmp_path / "model.onnx", target="cuda")
    assert {record.op: record.lowering for record in built.lowerings} == ort.CUDA
    assert not any(record.milliseconds for record in built.lowerings)


def test_a_large_model_keeps_its_weights_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_PROTO_BYTES", 1000)
    model = fused_encoder(Encoder())
    built = ort.build(model, tmp_path / "model.onnx", feeds_shape=(2, 8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (tmp_path / "model.onnx.data").stat().st_size > 10_000
    assert_close(run(built.path, 2, 9), run(ir.to_proto(model).SerializeToString(), 2, 9))


def test_the_default_gives_way_only_to_a_real_gain() -> None:
    assert measure.fastest({"body": [[1.0], [8.0]], "Attention": [[0.99], [7.95]]}, "body") == "body"
    assert measure.fastest({"body": [[1.0], [8.0]], "Attention": [[0.9], [7.2]]}, "body") == "Attention"
    assert measure.fastest({"body": [[1.0], [8.0]], "Attention": [[0.5], [16.0]]}, "body") == "body"
    assert measure.fastest({"body": [[1.0]], "Gelu": [[2.0]]}, "com.microsoft.BiasGelu") == "body", "the default did not fit"


def test_one_lucky_round_does_not_make_a_lowering_the_fastest() -> None:
    assert measure.fastest({"body": [[1.0, 1.0, 1.0]], "Attention": [[0.8, 1.1, 1.1]]}, "body") == "body"
    assert measure.fastest({"body": [[0.9, 2.0, 2.0]], "Attention": [[0.95, 1.1, 1.1]]}, "body") == "body"


def test_the_layer_probe_is_one_layer() -> None:
    probe = layer_probe(fused_encoder(Encoder(heads=(3, 2), has_relative_bias=False)))
    assert probe is not None
    fused = [node.op_type for node in probe.model.graph if node.domain == DOMAIN]
    assert fused == ["FusedQkvAttention", "FusedSkipLayerNorm", "FusedBiasGelu", "FusedSkipLayerNorm"]
    assert [array.shape for array in probe.feeds(2, 8).values()] == [(2, 8, 48), (2, 8)]


def test_the_embedding_probe_keeps_only_the_first_rows_of_a_table() -> None:
    probe = embedding_probe(fused_encoder(Encoder(num_positions=1000)))
    assert probe is not None
    rows = [
        value.const_value.shape[0]
        for value in probe.model.graph.initializers.values()
        if value.const_value and len(value.const_value.shape) == 2
    ]
    assert sorted(rows) == [2, 60, 512]
    assert all(array.max() < 2 for array in probe.feeds(2, 8).values())


def test_a_model_with_nothing_fused_has_no_probe(tmp_path: Path) -> None:
    x = ir.val("x", ir.DataType.FLOAT, ["batch", "sequence"])
    node = ir.node("Relu", [x])
    node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.FLOAT
    model = ir.Model(ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 23}, name="relu"), ir_version=11)
    assert layer_probe(model) is None and embedding_probe(model) is None
    assert ort.build(model, tmp_path / "model.onnx").lowerings == ()
