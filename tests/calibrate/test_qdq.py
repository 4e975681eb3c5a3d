"""Scales, and the Q/DQ nodes that hold them."""

import numpy as np
import onnx_ir as ir
import pytest

from tests.calibrate.graphs import Array, Graph, all_rows, ops, rounded
from trtbert.calibrate.collect import session
from trtbert.calibrate.gemms import find_gemms
from trtbert.calibrate.qdq import (
    dequantized_weight,
    fake_quantized,
    quantize_dequantize,
    quantized,
    scale_of,
    step_of,
    weight_scale,
)

LARGEST = 127 * 65504.0


@pytest.mark.parametrize("amax", [*10.0 ** np.arange(-9, 7), 127.0, 0.1, 4.4, LARGEST])
def test_a_scale_is_one_of_float16_and_clips_nothing(amax: float) -> None:
    scale = scale_of(amax)
    assert scale.dtype == np.float32
    assert np.float32(np.float16(scale)) == scale
    assert 127 * np.float64(scale) >= amax
    assert scale <= max(amax / 127 * (1 + 2**-10), amax / 127 + 2**-24), "not the next one"


def test_what_float16_holds_stays_as_it_is() -> None:
    assert scale_of([127.0, 127 * 0.0625, 127 * 1.5]).tolist() == [1.0, 0.0625, 1.5]


@pytest.mark.parametrize("amax,scale", [(0.0, 2.0**-24), (1e-30, 2.0**-24), (2 * LARGEST, 65504.0), (3e38, 65504.0)])
def test_scales_beyond_float16_are_its_ends(amax: float, scale: float) -> None:
    assert scale_of(amax) == scale


def test_ties_go_to_even_and_what_is_beyond_is_clipped() -> None:
    array = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 126.5, 127.5, 128.0, 1e9, -127.5, -128.0, -1e9])
    found = quantized(array * 0.25, 0.25)
    assert found.dtype == np.int8
    assert found.tolist() == [0, 2, 2, 0, -2, 0, 126, 127, 127, 127, -127, -127, -127]


def test_it_rounds_as_onnx_does() -> None:
    graph = Graph(np.random.default_rng(0).normal(size=(31, 33)))
    scale = float(scale_of(4.0))
    x = graph.x
    model = graph.model(graph.node("y", "Identity", x))
    node = model.graph[-1]
    node.replace_input_with(0, quantize_dequantize(model.graph, x, scale, before=node))
    feeds = all_rows(31)
    table = model.graph.initializers["table"].const_value
    assert table is not None
    assert session(model).run(None, feeds)[0][0].tolist() == fake_quantized(table.numpy(), scale).tolist()


@pytest.mark.parametrize("low,high", [(-1.0, 1.0), (-3.0, 2.7), (-2.5, 3.0), (0.0, 0.0)])
def test_a_range_about_0_is_not_shifted(low: float, high: float) -> None:
    step = step_of(low, high)
    assert step.shift == 0.0
    assert step.scale == scale_of(max(-low, high))


RANGES = [(-0.17, 5.0), (-5.0, 0.3), (0.0, 1.0), (-1.0, 0.0), (-0.17, 6e4), (-0.17e-4, 5e-4), (1.0, 3.0), (-6.0, -5.0), (10.0, 10.5)]


@pytest.mark.parametrize("low,high", RANGES)
def test_a_range_to_one_side_is_shifted_and_covered(low: float, high: float) -> None:
    step = step_of(low, high)
    assert step.shift != 0.0
    assert step.scale < 0.9 * scale_of(max(-low, high))
    steps = step.shift / step.scale
    assert steps == round(steps) and np.float32(step.shift) == step.shift
    x = np.linspace(low, high, 1001)
    # Half a step, and what is lost where scale and shift are rounded to float16 and to steps.
    assert np.abs(rounded(x - step.shift, step.scale) + step.shift - x).max() <= 0.5001 * step.scale


@pytest.mark.parametrize("low,high", RANGES)
def test_a_shift_is_a_zero_point_of_uint8(low: float, high: float) -> None:
    step = step_of(low, high)
    assert 0 <= 128 - round(step.shift / step.scale) <= 255


def test_columns_have_their_own_scales_and_multiples_of_them_are_exact() -> None:
    rng = np.random.default_rng(0)
    integers_KN = rng.integers(-127, 128, (33, 31))
    integers_KN[0] = 127
    scale_N = scale_of(10.0 ** rng.uniform(-3, 3, 31))
    weight_KN = (integers_KN * scale_N).astype(np.float32)
    assert weight_scale(weight_KN).tolist() == scale_N.tolist()
    assert quantized(weight_KN, scale_N).tolist() == integers_KN.tolist()
    assert fake_quantized(weight_KN, scale_N).tolist() == weight_KN.tolist()
    assert weight_scale(weight_KN.T, axis=0).tolist() == scale_N.tolist()


def two_gemms(table_VK: Array, weight_KN: Array) -> Graph:
    """a = x W, b = x W."""
    graph = Graph(table_VK)
    weight = graph.constant("weight", weight_KN)
    for name in "ab":
        graph.node(name, "MatMul", graph.x, weight)
    return graph


@pytest.mark.parametrize("scales,num_made", [((0.5, 0.5), 1), ((0.5, 0.25), 2)])
def test_q_and_dq_of_a_tensor_are_made_once_for_each_scale(scales: tuple[float, float], num_made: int) -> None:
    graph = two_gemms(np.ones((3, 8)), np.ones((8, 8)))
    a, b = graph.nodes[-2:]
    model = graph.model(a.outputs[0], b.outputs[0])
    for node, scale in zip((a, b), scales, strict=True):
        node.replace_input_with(0, quantize_dequantize(model.graph, graph.x, scale, before=node))
    assert ops(model).count("QuantizeLinear") == ops(model).count("DequantizeLinear") == num_made
    assert (a.inputs[0] is b.inputs[0]) == (num_made == 1)
    zero = {node.inputs[2] for node in model.graph if node.op_type.endswith("Linear")}
    assert len(zero) == 1, "zero points of int8"


def test_a_shared_weight_is_dequantized_once_and_exactly() -> None:
    weight_KN = np.random.default_rng(0).normal(size=(33, 31)).astype(np.float32)
    weight_KN[:, 7] = 0.0
    graph = two_gemms(np.eye(33), weight_KN)
    a, b = graph.nodes[-2:]
    model = graph.model(a.outputs[0], b.outputs[0])
    weight = model.graph.initializers["weight"]
    for node in (a, b):
        node.replace_input_with(1, dequantized_weight(model.graph, weight, before=node))
    assert ops(model).count("DequantizeLinear") == 1 and a.inputs[1] is b.inputs[1]
    expected_KN = rounded(weight_KN, scale_of(np.abs(weight_KN).max(0)))
    assert np.abs(expected_KN - weight_KN).max() > 0
    found = session(model).run(None, all_rows(33))
    assert found[0][0].tolist() == found[1][0].tolist() == expected_KN.tolist()


def test_the_layers_of_albert_share_their_weights_in_int8_too(shared_layers: ir.Model) -> None:
    graph = shared_layers.clone().graph
    gemms = find_gemms(graph)
    for gemm in gemms:
        gemm.node.replace_input_with(1, dequantized_weight(graph, gemm.weight, before=gemm.node))
    num_made = sum(node.op_type == "DequantizeLinear" for node in graph)
    assert (len(gemms), num_made) == (9, 5)  # two layers and the projection
