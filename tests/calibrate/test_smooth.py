"""Factors change nothing in float, even out columns, and are folded into V only where that is exact.

Legend: K inputs, N outputs.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.calibrate.conftest import FAMILIES
from tests.calibrate.graphs import Array, all_rows, gemm_model, statistics_of
from tests.numerics import relative_error
from trtbert.calibrate import calibrate
from trtbert.calibrate.collect import Feeds, Statistics, Tensor, collect, session
from trtbert.calibrate.gemms import find_gemms
from trtbert.calibrate.smooth import STRENGTHS, find_factors, fold_into_values, smoothing_factors

NUM_FOLDED = {"albert": 0, "deberta-v2": 0, "modernbert": 0}
"""Of the two layers: where they share their weights or attention is not fused, none."""
UNEVEN = Encoder(heads=(3, 2), widths=(80, 56))


def texts(model: ir.Model, num_batches: int = 3, size: int = 4, length: int = 17) -> list[Feeds]:
    names = {value.name for value in model.graph.inputs}
    every = [feeds(size, length, seed) for seed in range(num_batches)]
    return [{name: np.maximum(a, 5) if name == "input_ids" else a for name, a in each.items() if name in names} for each in every]


def collected(model: ir.Model, batches: list[Feeds]) -> dict[str, Statistics]:
    names = dict.fromkeys(str(gemm.x.name) for gemm in find_gemms(model.graph))
    return collect(model, [Tensor(name, name) for name in names], lambda: batches)


def strong_factors(model: ir.Model, batches: list[Feeds]) -> dict[str, Array]:
    """For every tensor, whether it gains by them or not."""
    statistics = collected(model, batches)
    weights: dict[str, list[Array]] = {}
    for gemm in find_gemms(model.graph):
        assert gemm.weight.const_value is not None
        weights.setdefault(str(gemm.x.name), []).append(gemm.weight.const_value.numpy())
    return {name: smoothing_factors(statistics[name], np.concatenate(found, 1), 0.8) for name, found in weights.items()}


def multiply(model: ir.Model, factors: dict[str, Array]) -> None:
    """Put x r in front of each GEMM, and W / r into it."""
    for gemm in find_gemms(model.graph):
        factors_K = factors.get(str(gemm.x.name))
        if factors_K is None:
            continue
        assert gemm.weight.const_value is not None
        names = (f"{gemm.key}.factors", f"{gemm.key}.weight")
        arrays = (factors_K, gemm.weight.const_value.numpy() / factors_K[:, None])
        r, weight = (ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in zip(names, arrays, strict=True))
        product = ir.node("Mul", [gemm.x, r])
        for value in (r, weight):
            model.graph.register_initializer(value)
        model.graph.insert_before(gemm.node, product)
        gemm.node.replace_input_with(0, product.outputs[0])
        gemm.node.replace_input_with(1, weight)


def assert_changes_nothing_in_float(model: ir.Model, num_folded: int) -> None:
    batches = texts(model)
    factors = strong_factors(model, batches)
    assert all(np.ptp(np.log(factors_K)) > 0.2 for factors_K in factors.values()), "no factors to speak of"
    found = model.clone()
    left = fold_into_values(found, find_gemms(found.graph), factors)
    assert len(factors) - len(left) == num_folded
    multiply(found, left)
    assert sum(node.op_type == "Mul" for node in found.graph) > sum(node.op_type == "Mul" for node in model.graph)
    is_kept = batches[0]["attention_mask"] != 0
    for actual, expected in zip(*(session(each).run(None, batches[0]) for each in (found, model)), strict=True):
        by_token = actual.shape[:2] == is_kept.shape
        assert relative_error(actual[is_kept] if by_token else actual, expected[is_kept] if by_token else expected) < 2e-6


@pytest.mark.parametrize("name", FAMILIES)
def test_factors_and_fold_change_nothing_in_float(family: Callable[[str], ir.Model], name: str) -> None:
    assert_changes_nothing_in_float(family(name), NUM_FOLDED.get(name, 2))


def test_nor_do_they_in_layers_of_unequal_width() -> None:
    assert_changes_nothing_in_float(fused_encoder(UNEVEN), 2)
    assert_changes_nothing_in_float(fused_encoder(Encoder(heads=(2, 2), has_relative_bias=True)), 2)


def test_the_fold_multiplies_the_columns_of_v_alone() -> None:
    model = fused_encoder(UNEVEN)
    found = model.clone()
    (gemm, *_) = [gemm for gemm in find_gemms(found.graph) if gemm.role == "attention output"]
    factors_K = np.linspace(0.5, 2.0, 48).astype(np.float32)
    assert fold_into_values(found, [gemm], {str(gemm.x.name): factors_K}) == {}
    before, after = ([value.const_value.numpy() for value in qkv_constants(each)] for each in (model, found))  # type: ignore[union-attr]
    for old, new in zip(before, after, strict=True):
        assert new[..., :96].tolist() == old[..., :96].tolist()
        assert new[..., 96:].tolist() == (old[..., 96:] * factors_K).tolist()


def qkv_constants(model: ir.Model) -> list[ir.Value]:
    """Weight and bias of the first projection."""
    add = next(node for node in model.graph if node.op_type == "Add")
    (matmul,) = [value.producer() for value in add.inputs if value is not None and value.producer() is not None]
    constants = (*(matmul.inputs if matmul is not None else ()), *add.inputs)
    return [value for value in constants if value is not None and value.const_value is not None]


def test_a_context_with_a_second_reader_is_not_folded() -> None:
    model = fused_encoder(UNEVEN)
    contexts = [node.outputs[0] for node in model.graph if node.op_type == "FusedQkvAttention"]
    model.graph.insert_after(contexts[0].producer(), ir.node("Identity", [contexts[0]]))  # type: ignore[arg-type]
    factors = {str(value.name): np.full(size, 2.0, np.float32) for value, size in zip(contexts, (48, 32), strict=True)}
    left = fold_into_values(model, find_gemms(model.graph), factors)
    assert list(left) == [contexts[0].name]


def test_a_context_that_is_an_output_is_not_folded() -> None:
    model = fused_encoder(UNEVEN)
    context = next(node.outputs[0] for node in model.graph if node.op_type == "FusedQkvAttention")
    model.graph.outputs.append(context)
    factors = {str(context.name): np.full(48, 2.0, np.float32)}
    assert list(fold_into_values(model, find_gemms(model.graph), factors)) == [context.name]


def test_shared_weights_of_v_are_not_folded(shared_layers: ir.Model) -> None:
    model = shared_layers.clone()
    gemms = find_gemms(model.graph)
    factors = {str(gemm.x.name): np.full(16, 2.0, np.float32) for gemm in gemms if gemm.role == "attention output"}
    assert len(factors) == 2
    assert fold_into_values(model, gemms, factors) == factors
    assert str(ir.to_proto(model)) == str(ir.to_proto(shared_layers))


def test_shared_weights_have_no_factors(shared_layers: ir.Model) -> None:
    gemms = find_gemms(shared_layers.graph)
    statistics = collected(shared_layers, texts(shared_layers))
    for found in statistics.values():  # an outlier that every weight would gain by evening out
        found.rows_RK[:, 0] *= 100
        found.low_K[0] *= 100
        found.high_K[0] *= 100
    (projection,) = [gemm for gemm in gemms if gemm.role == "projection"]
    assert len({gemm.weight for gemm in gemms}) == 5
    assert list(find_factors(gemms, statistics)) == [projection.x.name]


def with_outlier(column: int = 5, reach: float = 60.0) -> ir.Model:
    """One column of the embeddings is huge, as in real BERTs, and the weights of the first projection take that back."""
    model = fused_encoder(UNEVEN)
    gamma = next(node for node in model.graph if node.op_type == "FusedEmbedLayerNorm").inputs[4]
    weight = next(node for node in model.graph if node.op_type == "MatMul").inputs[1]
    for value, factor in ((gamma, reach), (weight, 1 / reach)):
        assert value is not None and value.const_value is not None
        array = value.const_value.numpy().copy()
        array[column] *= factor
        value.const_value = ir.tensor(array, name=value.name)
    return model


def test_a_column_of_outliers_is_evened_out_and_the_error_is_less() -> None:
    model = with_outlier()
    batches = texts(model, 20)
    found = {
        smooth: calibrate(
            model, lambda: batches[4:], batches[:4], method="minmax", quantize="linear", smooth=smooth, has_int8_embeddings=False
        )
        for smooth in (False, True)
    }
    qkv = found[True].parts[0]
    factors_K = qkv.factors_K  # type: ignore[attr-defined]
    assert qkv.label == "layer 0 qkv" and factors_K is not None
    assert int(factors_K.argmin()) == 5 and factors_K[5] < 0.1 * np.sort(factors_K)[1]
    assert found[True].maxima[qkv.key] < 0.2 * found[False].maxima[qkv.key]
    assert found[True].trial.error < 0.5 * found[False].trial.error


@pytest.mark.parametrize("strength", STRENGTHS)
def test_columns_and_rows_meet_as_the_paper_says(strength: float) -> None:
    rng = np.random.default_rng(0)
    x_VK, weight_KN = rng.normal(size=(40, 33)) * np.linspace(0.1, 9, 33), rng.normal(size=(33, 33))
    statistics = statistics_of(gemm_model(x_VK, weight_KN), all_rows(40))
    factors_K = smoothing_factors(statistics, weight_KN, strength).astype(np.float64)
    x_K, w_K = np.abs(x_VK).max(0), np.abs(weight_KN).max(1)
    expected_K = w_K ** (1 - strength) / x_K**strength
    np.testing.assert_allclose(factors_K / factors_K[0], expected_K / expected_K[0], rtol=1e-5)
    assert np.exp(np.log(factors_K).mean()) == pytest.approx(1.0, rel=1e-5)
    if strength == 1.0:
        assert np.ptp(x_K * factors_K) < 1e-4
    if strength == 0.5:
        np.testing.assert_allclose(x_K * factors_K / (w_K / factors_K), (x_K * factors_K / (w_K / factors_K))[0], rtol=1e-4)


def test_no_factor_is_beyond_its_limit_and_columns_of_zeros_have_none() -> None:
    rng = np.random.default_rng(0)
    x_VK, weight_KN = rng.normal(size=(40, 33)), rng.normal(size=(33, 33))
    x_VK[:, 3], x_VK[:, 4], x_VK[:, 5], weight_KN[6] = 1e-20, 1e20, 0.0, 0.0
    statistics = statistics_of(gemm_model(x_VK, weight_KN), all_rows(40))
    factors_K = smoothing_factors(statistics, weight_KN, 1.0)
    assert factors_K[3] == factors_K.max() == pytest.approx(np.exp(6), rel=1e-6)
    assert factors_K[4] == factors_K.min() == pytest.approx(np.exp(-6), rel=1e-6)
    assert factors_K[5] == factors_K[6] == 1.0


def test_what_gains_nothing_has_no_factors() -> None:
    even_VK = np.where(np.random.default_rng(0).random((40, 33)) < 0.5, -1.0, 1.0)
    model = gemm_model(even_VK, np.eye(33))
    assert find_factors(find_gemms(model.graph), {"x": statistics_of(model, all_rows(40))}) == {}
