"""An INT8 graph in half: Q, DQ and their GEMMs in half with scales of half, and the answers of the float32 Q/DQ graph."""

import functools
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.numerics import TOLERANCE
from tests.precision.encoder import Array, batch, cosine, encoder, run, run_half
from tests.precision.lint import inlined, problems
from trtbert.calibrate import calibrate
from trtbert.calibrate.collect import session
from trtbert.precision import Converted, convert

BATCHES = [batch(seed) for seed in range(8)]
EACH = batch(seed=9)
PRESETS = ("linear", "full")
EXPLODING = {
    "q, undone by k": {"q": 1e5, "k": 1e-5},
    "k, undone by q": {"q": 1e-6, "k": 1e6},
    "v": {"v": 1e6},
    "v, undone": {"v": 1e6, "attention_out": 1e-6},
    "ffn": {"up": 1e5},
    "ffn, undone": {"up": 1e6, "down": 1e-6},
    "LayerNorm": {"gamma": 1e6, "q": 1e-6, "k": 1e-6, "head": 1e-6},
}
SCALES = ("q_scale", "k_scale", "v_scale")


@functools.cache
def int8(quantize: str, smooth: bool, factors: tuple[tuple[str, float], ...] = ()) -> ir.Model:
    """For all tests that ask for it: do not change it."""
    chosen: dict[str, Any] = {"method": "minmax", "quantize": quantize, "smooth": smooth, "has_int8_embeddings": True}
    options: dict[str, Any] = dict(factors)
    return calibrate(encoder(**options), lambda: BATCHES, BATCHES[:2], **chosen).model()


@functools.cache
def in_half(quantize: str, smooth: bool, factors: tuple[tuple[str, float], ...] = ()) -> Converted:
    return convert(int8(quantize, smooth, factors), "fp16", BATCHES)


def exact(model: ir.Model) -> Array:
    return np.asarray(session(model).run(None, EACH)[0])


def producers(node: ir.Node) -> list[str]:
    return ["" if value is None or (made := value.producer()) is None else made.op_type for value in node.inputs]


def nodes(model: ir.Model, *op_types: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in op_types]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("quantize", PRESETS)
def test_no_cast_stands_between_dq_and_matmul(quantize: str, smooth: bool) -> None:
    model = in_half(quantize, smooth).model
    gemms = nodes(model, "MatMul")
    assert len(gemms) == 8
    assert {tuple(producers(node)) for node in gemms} == {("DequantizeLinear", "DequantizeLinear")}
    assert not any("Cast" in producers(node) for node in nodes(model, "QuantizeLinear", "DequantizeLinear"))


@pytest.mark.parametrize("quantize", PRESETS)
def test_every_scale_is_in_half_and_is_the_same_number(quantize: str) -> None:
    before, after = int8(quantize, False), in_half(quantize, False).model
    pairs = list(zip(*(nodes(each, "QuantizeLinear", "DequantizeLinear") for each in (before, after)), strict=True))
    assert len(pairs) >= 25  # 8 GEMMs with 3, the table, and the residuals that share no Q with a GEMM
    for old, new in pairs:
        scale, exact_scale = new.inputs[1], old.inputs[1]
        assert scale is not None and scale.const_value is not None and scale.dtype == ir.DataType.FLOAT16
        assert exact_scale is not None and exact_scale.const_value is not None
        assert scale.const_value.numpy().astype(np.float32).tolist() == exact_scale.const_value.numpy().tolist()


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("quantize", PRESETS)
def test_no_float32_gemm_is_left(quantize: str, smooth: bool) -> None:
    model = in_half(quantize, smooth).model
    assert problems(model) == []
    gemms = [node for node in inlined(model).graph if node.op_type in ("MatMul", "Gemm")]
    assert len(gemms) == 8 + 2 * 2 + 1  # products of attention, and the head
    assert {value.dtype for node in gemms for value in node.inputs if value is not None} == {ir.DataType.FLOAT16}


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("quantize", PRESETS)
def test_it_answers_as_the_float32_graph_does(quantize: str, smooth: bool) -> None:
    expected = exact(int8(quantize, smooth))
    assert cosine(expected, run(encoder(), EACH)[0]) < 0.99999, "INT8 shows nowhere"
    assert cosine(run_half(in_half(quantize, smooth).model, EACH)[0], expected) > 0.9995


@pytest.mark.parametrize("quantize", PRESETS)
def test_it_runs_on_onnx_runtime_as_it_is(quantize: str) -> None:
    assert cosine(run(in_half(quantize, False).model, EACH)[0], exact(int8(quantize, False))) > 0.9995


@pytest.mark.parametrize("quantize", PRESETS)
@pytest.mark.parametrize("name", EXPLODING)
def test_exploding_weights_stay_finite_and_close(name: str, quantize: str) -> None:
    factors = tuple(EXPLODING[name].items())
    converted = in_half(quantize, False, factors)
    assert any("times 2^-" in note for note in converted.notes)
    assert problems(converted.model) == []
    actual, expected = run_half(converted.model, EACH)[0], exact(int8(quantize, False, factors))
    assert np.isfinite(actual).all()
    assert cosine(actual, expected) > 0.998  # 0.9989 measured


@pytest.mark.parametrize("name", ["q, undone by k", "k, undone by q", "v"])
def test_scales_of_attention_follow_the_powers_of_two(name: str) -> None:
    factors = tuple(EXPLODING[name].items())
    before, after = (nodes(each, "FusedQkvAttention") for each in (int8("full", False, factors), in_half("full", False, factors).model))
    assert len(before) == len(after) == 2
    exploding = {"q, undone by k": "q_scale", "k, undone by q": "k_scale", "v": "v_scale"}[name]
    for old, new in zip(before, after, strict=True):
        exponents = {scale: np.log2(new.attributes[scale].as_float() / old.attributes[scale].as_float()) for scale in SCALES}
        assert all(exponent == round(exponent) for exponent in exponents.values())
        assert exponents[exploding] < 0
        shared = np.log2(new.attributes["scale"].as_float() / old.attributes["scale"].as_float())
        assert shared == -exponents["q_scale"] - exponents["k_scale"]
        assert new.attributes["probability_scale"].as_float() == old.attributes["probability_scale"].as_float()


@pytest.mark.parametrize("quantize", PRESETS)
def test_wholly_masked_rows_are_finite(quantize: str) -> None:
    masked = batch()
    masked["attention_mask"][2:] = 0
    assert np.isfinite(run_half(in_half(quantize, False).model, masked)[0]).all()


@pytest.mark.parametrize("smooth", [False, True])
def test_the_table_stays_in_int8_up_to_the_embeddings(smooth: bool) -> None:
    model = in_half("linear", smooth).model
    (embeddings,) = nodes(model, "FusedEmbedLayerNorm")
    assert producers(embeddings)[2] == "DequantizeLinear"
    dequantize = embeddings.inputs[2].producer()  # type: ignore[union-attr]
    assert dequantize is not None and dequantize.inputs[0] is not None and dequantize.inputs[0].dtype == ir.DataType.INT8
    assert dequantize.outputs[0].dtype == ir.DataType.FLOAT16
    weights = [value for value in model.graph.initializers.values() if value.shape is not None and len(value.shape) == 2]
    # All but the position ids, the position table and the head.
    assert sum(value.dtype == ir.DataType.INT8 for value in weights) == 9
    assert sum(value.dtype == ir.DataType.FLOAT16 for value in weights) == 2


def test_a_shift_in_half_costs_little() -> None:
    """The inputs of the second FFN GEMM lie to one side."""
    model = int8("linear", False)
    shifts = nodes(model, "Sub")
    assert len(shifts) >= 2
    half = nodes(in_half("linear", False).model, "Sub")
    for old, new in zip(shifts, half, strict=True):
        exact_shift, shift = (float(each.inputs[1].const_value.numpy()) for each in (old, new))  # type: ignore[union-attr]
        scale = next(iter(old.outputs[0].consumers())).inputs[1]
        assert scale is not None and scale.const_value is not None
        assert abs(shift - exact_shift) <= 0.1 * float(scale.const_value.numpy())
        assert abs(shift - exact_shift) <= TOLERANCE["float16"] * abs(exact_shift)
