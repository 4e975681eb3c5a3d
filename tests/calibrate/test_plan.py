"""How one GEMM is quantised, worked out by numpy in float64: (x r - z) and W / r in INT8, and what the bias takes back.

Legend: K inputs, N outputs, R rows.
"""

import numpy as np
import onnx_ir as ir
import pytest

from tests.calibrate.graphs import Array, Graph, all_rows, gemm_model, only_gemm, ops, rounded, statistics_of
from tests.numerics import assert_close, relative_error
from trtbert.calibrate import calibrate
from trtbert.calibrate.collect import session
from trtbert.calibrate.gemms import Gemm, find_gemms
from trtbert.calibrate.plan import GemmPlan, plan_gemm
from trtbert.calibrate.qdq import scale_of
from trtbert.calibrate.thresholds import minmax
from trtbert.ops import fused_bias_gelu, fused_skip_layer_norm

BEHIND = ("nothing", "Add", "FusedSkipLayerNorm", "FusedBiasGelu")
ROWS, WIDTH = 62, 33


def numbers(*, is_one_sided: bool) -> tuple[Array, Array, Array]:
    """x [R,K], W [K,N] with K = N, a bias [N]."""
    rng = np.random.default_rng(7)
    x_RK = rng.normal(size=(ROWS, WIDTH)) * np.linspace(0.2, 4, WIDTH)
    x_RK = np.where(x_RK > 0, x_RK, 0.05 * x_RK) if is_one_sided else x_RK
    return x_RK.astype(np.float32), rng.normal(size=(WIDTH, WIDTH)) / 6, rng.normal(size=WIDTH)


def answer(model: ir.Model) -> Array:
    """y [R,N]."""
    return np.asarray(session(model).run(None, all_rows(ROWS, 2))[0]).reshape(ROWS, -1)


def applied(model: ir.Model, plan: GemmPlan | None) -> ir.Model:
    assert plan is not None
    model = model.clone()
    plan.apply(model.graph)
    return model


def product_in_int8(x_RK: Array, weight_KN: Array, plan: GemmPlan) -> Array:
    """(x r - z) (W / r), both in INT8."""
    r_K = np.ones(WIDTH, np.float32) if plan.factors_K is None else plan.factors_K
    shifted_RK = x_RK * r_K - np.float32(plan.step.shift)
    scaled_KN = weight_KN.astype(np.float32) / r_K[:, None]
    result: Array = rounded(shifted_RK, plan.step.scale) @ rounded(scaled_KN, scale_of(np.abs(scaled_KN).max(0)))
    return result


def behind_it(sums_RN: Array, x_RK: Array, behind: str) -> Array:
    """What gemm_model computes of the product and its bias."""
    if behind == "FusedSkipLayerNorm":
        return fused_skip_layer_norm(sums_RN, x_RK, np.linspace(0.5, 1.5, WIDTH), np.full(WIDTH, 0.1), epsilon=1e-12)
    return x_RK + (fused_bias_gelu(sums_RN, np.zeros(WIDTH), approximate="none") if behind == "FusedBiasGelu" else sums_RN)


@pytest.mark.parametrize("is_one_sided", [False, True])
@pytest.mark.parametrize("has_factors", [False, True])
@pytest.mark.parametrize("behind", BEHIND)
def test_a_quantized_gemm_is_what_numpy_works_out(behind: str, has_factors: bool, is_one_sided: bool) -> None:
    x_RK, weight_KN, bias_N = numbers(is_one_sided=is_one_sided)
    bias_N = np.zeros(WIDTH) if behind == "nothing" else bias_N
    model = gemm_model(x_RK, weight_KN, None if behind == "nothing" else bias_N, behind)
    factors_K = np.linspace(0.5, 2, WIDTH).astype(np.float32) if has_factors else None
    plan = plan_gemm(only_gemm(model), statistics_of(model, all_rows(ROWS), factors_K), factors_K, minmax)
    found = applied(model, plan)
    assert plan is not None and (plan.step.shift != 0.0) == is_one_sided
    before = ["Mul"] * has_factors + ["Sub"] * is_one_sided
    after = ["Add"] * (behind == "nothing")
    assert ops(found) == ["Gather", *before, "QuantizeLinear", *["DequantizeLinear"] * 2, "MatMul", *after, *ops(model)[2:]]
    assert plan.tensor.startswith("x" + ".smoothed" * has_factors + ".shifted" * is_one_sided)
    (quantize,) = [node for node in found.graph if node.op_type == "QuantizeLinear"]
    assert quantize.inputs[0] is not None and quantize.inputs[0].name == plan.tensor

    product_RN = product_in_int8(x_RK, weight_KN, plan)
    expected = behind_it(product_RN + bias_N + plan.bias_N, x_RK, behind)
    assert_close(answer(found), expected)
    assert np.abs(answer(found) - answer(model)).max() > 1e-4, "nothing was rounded"


@pytest.mark.parametrize("is_one_sided", [False, True])
@pytest.mark.parametrize("behind", ["nothing", "Add"])
def test_the_bias_takes_back_the_shift_and_the_mean_error(behind: str, is_one_sided: bool) -> None:
    x_RK, weight_KN, bias_N = numbers(is_one_sided=is_one_sided)
    model = gemm_model(x_RK, weight_KN, None if behind == "nothing" else bias_N)
    plan = plan_gemm(only_gemm(model), statistics_of(model, all_rows(ROWS)), None, minmax)
    assert plan is not None
    missing_RN = x_RK.astype(np.float64) @ weight_KN - product_in_int8(x_RK, weight_KN, plan)
    assert_close(plan.bias_N, missing_RN.mean(0))
    assert np.abs(plan.bias_N).max() > 1e-4
    assert_close(answer(applied(model, plan)).mean(0), answer(model).mean(0))


def test_the_constant_of_a_bias_that_others_read_stays_as_it_is() -> None:
    x_RK, weight_KN, bias_N = numbers(is_one_sided=True)
    graph = Graph(x_RK)
    weight, bias = graph.constant("weight", weight_KN), graph.constant("bias", bias_N)
    sums = [graph.node(f"sum_{i}", "Add", graph.node(f"product_{i}", "MatMul", graph.x, weight), bias) for i in range(2)]
    model = graph.model(*(graph.node(f"y_{i}", "Add", value, graph.x) for i, value in enumerate(sums)))
    (gemm,) = [gemm for gemm in find_gemms(model.graph) if gemm.key == "product_1"]
    found = applied(model, plan_gemm(gemm, statistics_of(model, all_rows(ROWS)), None, minmax))
    assert [found.graph.node(f"sum_{i}").inputs[1].name for i in range(2)] == ["bias", "product_1.bias"]  # type: ignore[union-attr]
    expected, actual = (session(each).run(None, all_rows(ROWS, 2)) for each in (model, found))
    assert actual[0].tolist() == expected[0].tolist()
    assert_close(actual[1].mean((0, 1)), expected[1].mean((0, 1)))


def test_a_result_with_two_readers_is_corrected_for_both() -> None:
    x_RK, weight_KN, bias_N = numbers(is_one_sided=True)
    graph = Graph(x_RK)
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", weight_KN))
    biased = graph.node("biased", "Add", product, graph.constant("bias", bias_N))
    model = graph.model(graph.node("relu", "Relu", product), graph.node("y", "Add", biased, graph.x))
    found = applied(model, plan_gemm(only_gemm(model), statistics_of(model, all_rows(ROWS)), None, minmax))
    assert ops(found).count("Add") == 3
    for actual, expected in zip(*(session(each).run(None, all_rows(ROWS, 2)) for each in (found, model)), strict=True):
        assert np.abs(actual.mean((0, 1)) - expected.mean((0, 1))).max() < 0.02 * np.abs(expected).max()


def with_outliers(weight_of_outliers: float) -> ir.Model:
    """Column 3 of x is 50 times the others, and its weights are those of the others times a factor."""
    x_RK, weight_KN, bias_N = numbers(is_one_sided=False)
    x_RK[:, 3], weight_KN[3] = 50 * x_RK[:, 20], weight_of_outliers * weight_KN[20]
    return gemm_model(x_RK, weight_KN, bias_N)


@pytest.mark.parametrize("weight_of_outliers,is_refused", [(1.0, True), (0.0, False)])
def test_a_threshold_that_does_harm_is_refused(weight_of_outliers: float, is_refused: bool) -> None:
    model = with_outliers(weight_of_outliers)
    statistics = statistics_of(model, all_rows(ROWS))
    maximum, proposed = statistics.histogram.maximum, 12.0
    assert maximum > 5 * proposed
    plan = plan_gemm(only_gemm(model), statistics, None, lambda histogram: proposed)
    assert plan is not None
    assert (plan.is_refused, plan.threshold) == ((True, maximum) if is_refused else (False, proposed))
    assert plan.step.scale <= scale_of(plan.threshold)
    assert relative_error(answer(applied(model, plan)), answer(model)) < 0.02


def test_a_threshold_of_0_is_refused() -> None:
    model = gemm_model(*numbers(is_one_sided=False))
    statistics = statistics_of(model, all_rows(ROWS))
    plan = plan_gemm(only_gemm(model), statistics, None, lambda histogram: 0.0)
    assert plan is not None and plan.is_refused and plan.threshold == statistics.histogram.maximum


def gemms_of_one_tensor() -> tuple[ir.Model, Gemm, Gemm]:
    """y = x A + x B + x, x to one side with an outlier in column 3 that only A reads."""
    x_RK, weight_KN, _ = numbers(is_one_sided=True)
    x_RK[:, 3] *= 50
    other_KN = weight_KN[::-1].copy()
    other_KN[3] = 0.0
    graph = Graph(x_RK)
    a, b = (graph.node(name, "MatMul", graph.x, graph.constant(f"weight_{name}", w)) for name, w in (("a", weight_KN), ("b", other_KN)))
    model = graph.model(graph.node("y", "Add", graph.node("sum", "Add", a, b), graph.x))
    first, second = find_gemms(model.graph)
    return model, first, second


def test_gemms_of_one_tensor_with_different_thresholds_have_each_their_own_shift() -> None:
    model, *gemms = gemms_of_one_tensor()
    statistics = statistics_of(model, all_rows(ROWS))
    plans = [plan_gemm(gemm, statistics, None, lambda histogram: 12.0) for gemm in gemms]
    assert [plan is not None and plan.is_refused for plan in plans] == [True, False]
    assert len({plan.step.shift for plan in plans if plan is not None} - {0.0}) == 2
    alone = [answer(applied(model, plan)) - answer(model) for plan in plans]
    both = answer(applied(applied(model, plans[0]), plans[1])) - answer(model)
    assert_close(both, alone[0] + alone[1], "float16")  # of their rounding errors, themselves known to 1e-4


def test_an_input_of_zeros_stays_in_float() -> None:
    x_RK, weight_KN, bias_N = numbers(is_one_sided=False)
    model = gemm_model(np.zeros((ROWS, WIDTH)), weight_KN, bias_N)
    assert plan_gemm(only_gemm(model), statistics_of(model, all_rows(ROWS)), None, minmax) is None

    graph = Graph(x_RK)
    weight, nothing = graph.constant("weight", weight_KN), graph.node("zeros", "Sub", graph.x, graph.x)
    zeros = graph.node("zero_product", "MatMul", nothing, weight)
    sums = graph.node("sum", "Add", graph.node("product", "MatMul", graph.x, weight), zeros)
    model = graph.model(graph.node("y", "Add", sums, graph.x))
    batches = [all_rows(ROWS, 2)]
    found = calibrate(model, lambda: batches, batches, method="minmax", quantize="linear", smooth=False, has_int8_embeddings=False)
    assert [part.key for part in found.parts] == ["product"]
    assert [node.inputs[0].name for node in found.model().graph if node.op_type == "QuantizeLinear"] == ["x"]  # type: ignore[union-attr]
