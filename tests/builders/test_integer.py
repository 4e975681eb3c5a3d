"""Q/DQ GEMMs become integer GEMMs of ONNX Runtime on uint8: every one of them, with the same numbers."""

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.calibrate.graphs import Graph, all_rows, gemm_model
from tests.numerics import relative_error
from trtbert.builders import ort
from trtbert.builders.integer import with_integer_gemms
from trtbert.builders.lowering import BODY, ORT, lower
from trtbert.builders.probe import embedding_probe, layer_probe
from trtbert.calibrate import calibrate
from trtbert.calibrate.collect import Feeds, session
from trtbert.calibrate.qdq import dequantized_weight, quantize_dequantize
from trtbert.runtime.ort import OrtRuntime

BATCHES = [feeds(3, 17, seed) for seed in range(6)]
PLAIN, WITH_BIAS = Encoder(), Encoder(heads=(2, 2), has_relative_bias=True)
Array = npt.NDArray[Any]


@functools.cache
def encoder_in_int8(encoder: Encoder, quantize: str = "linear", smooth: bool = False, has_int8_embeddings: bool = False) -> ir.Model:
    """For all tests that ask for it: do not change it."""
    return quantized(fused_encoder(encoder), quantize=quantize, smooth=smooth, has_int8_embeddings=has_int8_embeddings)


def quantized(model: ir.Model, batches: Sequence[Feeds] = BATCHES, **options: Any) -> ir.Model:
    chosen: dict[str, Any] = {"method": "minmax", "quantize": "linear", "smooth": False, "has_int8_embeddings": False} | options
    return calibrate(model, lambda: batches, batches[:2], **chosen).model()


def lowered(model: ir.Model, **choice: str) -> ir.Model:
    return with_integer_gemms(lower(model, ORT, {**ort.DEFAULT, **choice})[0])


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def run(model: ir.Model, each: Feeds) -> Array:
    """Optimised, as a package is run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    runtime = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(runtime.run(None, each)[0])


def exact(model: ir.Model, each: Feeds) -> Array:
    """With Q and DQ computed one by one in float32."""
    return np.asarray(session(model).run(None, each)[0])


def assert_same(actual: Array, expected: Array) -> None:
    """1e-5 of the scale; but a number at the middle of two steps may go either way, and its text is 1e-2 off (measured)."""
    errors = np.abs(actual - expected).max(-1) / np.abs(expected).max()
    assert np.isfinite(errors).all()
    assert np.median(errors) < 1e-5 and errors.max() < 3e-2


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("encoder", [PLAIN, WITH_BIAS], ids=["plain", "bias"])
@pytest.mark.parametrize("lowering", [BODY, *ORT["FusedQkvAttention"]])
def test_every_gemm_is_an_integer_gemm(lowering: str, encoder: Encoder, smooth: bool) -> None:
    model = encoder_in_int8(encoder, smooth=smooth)
    assert ops(model)["MatMul"] == ops(model)["QuantizeLinear"] == 8
    num_shifted = sum(node.op_type == "Sub" and node.outputs[0].dtype == ir.DataType.FLOAT for node in model.graph)
    assert num_shifted > 0
    found = lowered(model, FusedQkvAttention=lowering)
    assert ops(found)["MatMulIntegerToFloat"] == (12 if lowering == "Softmax" else 8)  # q, k and v apart
    assert ops(found)["QuantizeLinear"] == 8 and ops(found)["DequantizeLinear"] == 0
    assert ops(found)["Sub"] == ops(model)["Sub"] - num_shifted, "a shift is left"
    for each in (BATCHES[0], feeds(1, 1), feeds(5, 33)):
        assert_same(run(found, each), exact(model, each))


def test_q_k_and_v_read_one_tensor_of_uint8() -> None:
    found = lowered(encoder_in_int8(PLAIN))
    readers = [len(node.outputs[0].uses()) for node in found.graph if node.op_type == "QuantizeLinear"]
    assert sorted(readers) == [1] * 6 + [3] * 2
    for node in found.graph:
        if node.op_type == "MatMulIntegerToFloat":
            types = [None if value is None or value.const_value is None else value.const_value.dtype for value in node.inputs]
            assert types[1:5] == [ir.DataType.INT8, ir.DataType.FLOAT, ir.DataType.FLOAT, ir.DataType.UINT8]


def one_sided(num_rows: int = 30, width: int = 33) -> Array:
    return np.maximum(np.random.default_rng(0).normal(size=(num_rows, width)), -0.1).astype(np.float32)


def weights(width: int = 33) -> Array:
    return np.random.default_rng(1).normal(size=(width, width)).astype(np.float32)


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_shift_becomes_the_zero_point_and_a_bias_is_inside(has_bias: bool) -> None:
    each = all_rows(30, 2)
    model = quantized(gemm_model(one_sided(), weights(), np.ones(33) if has_bias else None), [each])
    (sub,) = [node for node in model.graph if node.op_type == "Sub"]
    assert ops(model)["Add"] == 2
    found = lowered(model)
    assert ops(found) == {"Gather": 1, "QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Add": 1}
    (quantize,) = [node for node in found.graph if node.op_type == "QuantizeLinear"]
    (scale, zero, shift) = (number_of(value) for value in (*quantize.inputs[1:], sub.inputs[1]))
    assert zero == 128 - shift / scale and 0 < zero < 128
    assert relative_error(run(found, each), exact(model, each)) < 1e-5


def number_of(value: ir.Value | None) -> float:
    assert value is not None and value.const_value is not None
    return float(value.const_value.numpy().reshape(()))


@pytest.mark.parametrize("low,high", [(1.0, 3.0), (-6.0, -5.0), (10.0, 10.5)])
def test_numbers_far_from_0_are_computed_too(low: float, high: float) -> None:
    each = all_rows(30, 2)
    table_VK = np.random.default_rng(0).uniform(low, high, (30, 33))
    model = quantized(gemm_model(table_VK, weights(), np.ones(33)), [each])
    found = lowered(model)
    assert ops(found)["MatMulIntegerToFloat"] == 1
    assert relative_error(run(found, each), exact(model, each)) < 1e-5


def with_qdq(graph: Graph, gemm: ir.Value, *results: ir.Value, scale: float = 0.03) -> ir.Model:
    model, node = graph.model(*results), gemm.producer()
    assert node is not None and node.inputs[0] is not None and node.inputs[1] is not None
    node.replace_input_with(0, quantize_dequantize(model.graph, node.inputs[0], scale, before=node))
    node.replace_input_with(1, dequantized_weight(model.graph, node.inputs[1], before=node))
    return model


@pytest.mark.parametrize("number", [0.6, 0.5001, 9.0])
def test_a_subtraction_of_the_model_itself_keeps_its_numbers(number: float) -> None:
    graph = Graph(one_sided())
    x = graph.node("less", "Sub", graph.x, graph.constant("number", np.array(number)))
    y = graph.node("y", "MatMul", x, graph.constant("weight", weights()))
    model = with_qdq(graph, y, y)
    found = lowered(model)
    assert ops(found)["MatMulIntegerToFloat"] == 1
    assert relative_error(run(found, all_rows(30)), exact(model, all_rows(30))) < 1e-5


def test_a_sum_with_what_is_no_bias_stays() -> None:
    graph = Graph(one_sided())
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", weights()))
    table = graph.node("table_sum", "Add", product, graph.constant("of_rows", np.arange(30.0)[None, :, None]))
    number = graph.node("number_sum", "Add", table, graph.constant("of_all", np.array([7.0])))
    model = with_qdq(graph, product, number)
    assert ops(lowered(model)) == {"Gather": 1, "QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Add": 2}
    assert relative_error(run(lowered(model), all_rows(30)), exact(model, all_rows(30))) < 1e-5

    graph = Graph(one_sided())
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", weights()))
    model = with_qdq(graph, product, graph.node("sum", "Add", product, graph.constant("of_all", np.array([7.0]))))
    assert ops(lowered(model)) == {"Gather": 1, "QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Add": 1}
    assert relative_error(run(lowered(model), all_rows(30)), exact(model, all_rows(30))) < 1e-5


def test_a_result_that_others_read_keeps_its_add() -> None:
    graph = Graph(one_sided())
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", weights()))
    biased = graph.node("biased", "Add", product, graph.constant("bias", np.arange(33.0)))
    model = with_qdq(graph, product, graph.node("y", "Mul", biased, product))
    assert ops(lowered(model)) == {"Gather": 1, "QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Add": 1, "Mul": 1}
    assert relative_error(run(lowered(model), all_rows(30)), exact(model, all_rows(30))) < 1e-5


def test_two_gemms_of_one_tensor_read_it_quantized_once() -> None:
    graph = Graph(one_sided())
    a, b = (graph.node(name, "MatMul", graph.x, graph.constant(f"weight_{name}", weights())) for name in "ab")
    model = graph.model(graph.node("y", "Add", graph.node("sum", "Add", a, b), graph.x))
    found = lowered(quantized(model, [all_rows(30)]))
    assert ops(found)["QuantizeLinear"] == 1 and ops(found)["MatMulIntegerToFloat"] == 2


def test_a_product_of_two_computed_tensors_is_left_alone() -> None:
    graph = Graph(one_sided())
    model = graph.model(graph.node("y", "MatMul", graph.x, graph.node("transposed", "Transpose", graph.x, perm=[0, 2, 1])))
    node = model.graph[-1]
    for index, value in enumerate(list(node.inputs)):
        assert value is not None
        node.replace_input_with(index, quantize_dequantize(model.graph, value, 0.03, before=node))
    found = with_integer_gemms(model.clone())
    assert ops(found) == ops(model) and ops(found)["MatMul"] == 1


def test_a_float_gemm_is_left_alone() -> None:
    model = fused_encoder(PLAIN)
    assert ops(with_integer_gemms(model.clone())) == ops(model)
    int8 = encoder_in_int8(PLAIN, "ffn")
    ffn = lowered(int8, FusedQkvAttention=BODY)
    assert ops(ffn)["MatMulIntegerToFloat"] == 4 and ops(ffn)["MatMul"] == 8  # two projections and two products a layer
    assert_same(run(ffn, BATCHES[0]), exact(int8, BATCHES[0]))


@pytest.mark.parametrize("encoder", [PLAIN, WITH_BIAS], ids=["plain", "bias"])
def test_attention_in_int8_is_lowered_and_keeps_its_numbers(encoder: Encoder) -> None:
    model = encoder_in_int8(encoder, "full")
    found = lowered(model)
    assert ops(found)["MatMulIntegerToFloat"] == 8 and ops(found)["MatMul"] == 4
    assert_same(run(found, BATCHES[0]), exact(model, BATCHES[0]))


def test_rows_of_the_word_table_are_dequantized_after_they_are_gathered() -> None:
    model = encoder_in_int8(PLAIN, has_int8_embeddings=True)
    assert ops(model)["DequantizeLinear"] == 17
    found = lowered(model)
    assert ops(found)["DequantizeLinear"] == 0
    gathers = [node for node in found.graph if node.op_type == "Gather"]
    gathered = [value.const_value.dtype for node in gathers if (value := node.inputs[0]) is not None and value.const_value is not None]
    assert gathered.count(ir.DataType.INT8) == 1
    assert_same(run(found, BATCHES[0]), exact(model, BATCHES[0]))


def test_so_are_those_of_embeddings_that_are_not_fused() -> None:
    each = all_rows(30)
    model = quantized(gemm_model(one_sided(), weights()), [each], has_int8_embeddings=True)
    assert ops(model)["DequantizeLinear"] == 3
    found = lowered(model)
    assert ops(found)["DequantizeLinear"] == 0, "the whole table is dequantized at each run"
    assert relative_error(run(found, each), exact(model, each)) < 1e-5


@pytest.mark.parametrize("encoder", [PLAIN, WITH_BIAS], ids=["plain", "bias"])
@pytest.mark.parametrize("smooth", [False, True])
def test_the_probe_of_a_layer_has_its_integer_gemms(encoder: Encoder, smooth: bool) -> None:
    model = encoder_in_int8(encoder, smooth=smooth, has_int8_embeddings=True)
    probe = layer_probe(model)
    assert probe is not None
    assert ops(probe.model)["QuantizeLinear"] == ops(probe.model)["MatMul"] == 4
    assert ops(lowered(probe.model))["MatMulIntegerToFloat"] == 6
    for batch, length in ((1, 2), (3, 31)):
        each = probe.feeds(batch, length)
        assert exact(probe.model, each).shape == (batch, length, 48)
        assert_same(run(lowered(probe.model), each), exact(probe.model, each))


def test_the_probe_of_embeddings_has_its_table_in_int8() -> None:
    model = encoder_in_int8(PLAIN, has_int8_embeddings=True)
    probe = embedding_probe(model)
    assert probe is not None, "so no lowering of the embeddings is measured"
    assert ops(probe.model) == {"DequantizeLinear": 1, "FusedEmbedLayerNorm": 1}
    assert ops(lowered(probe.model))["DequantizeLinear"] == 0
    each = probe.feeds(3, 31)
    assert exact(probe.model, each).shape == (3, 31, 48)
    assert_same(run(lowered(probe.model), each), exact(probe.model, each))


@pytest.mark.parametrize("quantize", ["linear", "full"])
def test_the_file_that_is_built_runs(tmp_path: Path, quantize: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtbert.builders.measure.SECONDS", 0.0)
    model = encoder_in_int8(PLAIN, quantize, has_int8_embeddings=True)
    before = str(ir.to_proto(model))
    built = ort.build(model, tmp_path / "model.onnx", feeds_shape=(2, 17))
    assert str(ir.to_proto(model)) == before
    assert ops(ir.load(built.path))["MatMulIntegerToFloat"] >= 8
    assert_same(OrtRuntime(built.path).run(BATCHES[0])["last_hidden_state"], exact(model, BATCHES[0]))
