"""The OpenVINO IR of a fused model: standard ops only, the same names and answers, and INT8 weights and GEMMs for a Q/DQ graph."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.models import make_checkpoint
from tests.numerics import assert_close, relative_error
from trtbert.builders import files, openvino
from trtbert.calibrate.gemms import find_gemms
from trtbert.calibrate.qdq import dequantized_weight, quantize_dequantize
from trtbert.config import CompileConfig
from trtbert.errors import UnsupportedError
from trtbert.export import load_source
from trtbert.ops import DOMAIN
from trtbert.rewrite import rewrite
from trtbert.runtime.openvino import OpenVinoRuntime, import_openvino

Feeds = Mapping[str, npt.NDArray[Any]]
ENCODERS = {
    "unequal": Encoder(),
    "relative-bias": Encoder(heads=(2, 2), has_relative_bias=True, approximate="tanh"),
    "one-layer": Encoder(heads=(3,), widths=(40,)),
}


def expected(model: ir.Model, inputs: Feeds) -> npt.NDArray[Any]:
    """What the fused model computes by its function bodies, no node of it fused with others."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["last_hidden_state"], {name: inputs[name] for name in (i.name for i in session.get_inputs())})[0])


def quantized(model: ir.Model, scale: float = 0.04) -> int:
    """Put Q/DQ around every GEMM of `model`; gives their number."""
    gemms = find_gemms(model.graph)
    for gemm in gemms:
        gemm.node.replace_input_with(0, quantize_dequantize(model.graph, gemm.x, scale, before=gemm.node))
        gemm.node.replace_input_with(1, dequantized_weight(model.graph, gemm.weight, before=gemm.node))
    RemoveUnusedNodesPass()(model)
    return len(gemms)


def executed(path: Path) -> Counter[tuple[str, str]]:
    """The layers that OpenVINO executes, each with the precision that it computes in."""
    compiled = import_openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    facts = [layer.get_rt_info() for layer in compiled.get_runtime_model().get_ops()]
    return Counter((str(fact["layerType"].astype(str)), str(fact["runtimePrecision"].astype(str))) for fact in facts)


@pytest.mark.parametrize("name", ENCODERS)
def test_build(tmp_path: Path, name: str) -> None:
    model = fused_encoder(ENCODERS[name])
    fused_nodes = [(node.name, node.op_type) for node in model.graph if node.domain == DOMAIN]
    built = openvino.build(model, tmp_path / "model.xml")
    assert built.path == tmp_path / "model.xml"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert [(record.node, record.op) for record in built.lowerings] == fused_nodes
    assert {record.op: record.lowering for record in built.lowerings} == openvino.STANDARD
    assert built.versions["openvino"][:2] == "20"
    assert sum(node.domain == DOMAIN for node in model.graph) == len(fused_nodes), "the model was changed"

    runtime = OpenVinoRuntime(built.path)
    assert [(t.name, t.dtype, t.shape) for t in runtime.inputs] == [(key, np.int32, (None, None)) for key in feeds(1, 1)]
    assert [(t.name, t.dtype, t.shape) for t in runtime.outputs] == [("last_hidden_state", np.float32, (None, None, 48))]
    for batch, length in ((1, 1), (3, 33), (2, 64)):
        inputs = feeds(batch, length)
        assert_close(runtime.run(inputs)["last_hidden_state"], expected(model, inputs))


@pytest.mark.parametrize("name", ENCODERS)
def test_a_wholly_masked_row_is_finite_and_leaves_the_others_alone(tmp_path: Path, name: str) -> None:
    model = fused_encoder(ENCODERS[name])
    inputs = feeds(4, 17)
    inputs["attention_mask"][2] = 0
    actual = OpenVinoRuntime(openvino.build(model, tmp_path / "model.xml").path).run(inputs)["last_hidden_state"]
    assert np.isfinite(actual).all()
    rows = [0, 1, 3]
    assert_close(actual[rows], expected(model, inputs)[rows])


def test_a_large_model_is_converted_from_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_PROTO_BYTES", 1000)
    model = fused_encoder(Encoder())
    built = openvino.build(model, tmp_path / "model.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert_close(OpenVinoRuntime(built.path).run(feeds(2, 9))["last_hidden_state"], expected(model, feeds(2, 9)))


@pytest.mark.parametrize("name", ENCODERS)
def test_int8_weights_stay_int8_and_the_gemms_are_int8(tmp_path: Path, name: str) -> None:
    model = fused_encoder(ENCODERS[name])
    num_weights = sum(gemm.weight.const_value.size for gemm in find_gemms(model.graph) if gemm.weight.const_value is not None)
    full = openvino.build(model, tmp_path / "fp32.xml").path
    assert not any(precision == "i8" for _, precision in executed(full))
    assert quantized(model) == 4 * len(ENCODERS[name].heads)
    small = openvino.build(model, tmp_path / "int8.xml").path
    saved = full.with_suffix(".bin").stat().st_size - small.with_suffix(".bin").stat().st_size
    assert 2.8 * num_weights < saved < 3 * num_weights, "three bytes of four, less the scales"

    layers = executed(small)
    num_gemms = 6 * len(ENCODERS[name].heads)  # q, k and v are three
    assert layers["FullyConnected", "i8"] == num_gemms and layers["FullyConnected", "f32"] == 0
    for batch, length in ((1, 1), (3, 33)):
        inputs = feeds(batch, length)
        actual, exact = OpenVinoRuntime(small).run(inputs)["last_hidden_state"], expected(model, inputs)
        # 3e-7 measured, but 1.7e-2 where one sum rounds to the next of 255 steps; without Q/DQ it is 3.6e-2.
        assert np.isfinite(actual).all() and relative_error(actual, exact) < 2e-2


def test_what_openvino_does_not_read_is_refused(tmp_path: Path) -> None:
    x = ir.val("x", ir.DataType.FLOAT, ["batch"])
    node = ir.node("Nonsense", [x], domain="elsewhere")
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = "y", ir.DataType.FLOAT, ir.Shape(["batch"])
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 23, "elsewhere": 1}, name="nonsense")
    with pytest.raises(UnsupportedError, match=r"OpenVINO 20.* cannot read .*elsewhere\.Nonsense\. Use --runtime onnxruntime\.$"):
        openvino.build(ir.Model(graph, ir_version=11), tmp_path / "model.xml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("family", ["deberta-v2", "modernbert", "mpnet"])
def test_a_family_with_ops_that_bert_does_not_have(tmp_path: Path, family: str) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", family)
    (tmp_path / "tokenizer").mkdir()
    source = load_source(checkpoint, CompileConfig(task="feature-extraction"), tmp_path / "tokenizer")
    facts = source.facts
    model = rewrite(source.model, architecture=facts.architecture, num_layers=facts.num_layers, allow_unfused=False).model
    runtime = OpenVinoRuntime(openvino.build(model, tmp_path / "model.xml").path)
    names = [tensor.name for tensor in runtime.inputs]
    assert names == [tensor.name for tensor in facts.inputs]
    assert [tensor.name for tensor in runtime.outputs] == ["last_hidden_state"]
    inputs = {name: array + 3 * (name == "input_ids") for name, array in feeds(3, 20).items() if name in names}
    inputs = {name: array * (name != "token_type_ids") for name, array in inputs.items()}
    assert_close(runtime.run(inputs)["last_hidden_state"], source.reference(inputs)["last_hidden_state"])
