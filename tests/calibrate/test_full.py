"""The preset full: attention's products and the residuals in INT8, with the same meaning on every runtime.

Legend: B batch, S sequence, N heads, H head size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.calibrate.graphs import Array, Graph, all_rows, rounded
from tests.export.running import run_graph
from tests.numerics import TOLERANCE, assert_close, relative_error
from trtbert.calibrate import Calibrated, calibrate
from trtbert.calibrate.collect import Feeds, session, watching
from trtbert.calibrate.qdq import scale_of
from trtbert.ops import fused_qkv_attention

BATCHES = [feeds(3, 17, seed) for seed in range(6)]
ENCODERS = {"": Encoder(heads=(3, 2), widths=(80, 56)), "bias": Encoder(heads=(2, 2), has_relative_bias=True)}
SCALES = ("q_scale", "k_scale", "v_scale", "probability_scale")


def calibrated(model: ir.Model, batches: list[Feeds] | None = None, **options: Any) -> Calibrated:
    every = BATCHES if batches is None else batches
    chosen: dict[str, Any] = {"method": "minmax", "quantize": "full", "smooth": False, "has_int8_embeddings": False} | options
    return calibrate(model, lambda: every, every[:2], **chosen)


def attentions(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "FusedQkvAttention"]


def numbers_of(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def values(model: ir.Model, each: Feeds, *wanted: ir.Value | None) -> list[Array]:
    names = [str(value.name) for value in wanted if value is not None]
    return list(watching(model, names).run(names, each))


@pytest.mark.parametrize("overload", ENCODERS)
def test_every_attention_has_the_scales_of_its_q_k_and_v(overload: str) -> None:
    model = fused_encoder(ENCODERS[overload])
    found = calibrated(model).model()
    assert [node.overload for node in attentions(found)] == [f"{overload}.int8".removeprefix(".")] * 2
    assert {key[2] for key in found.functions if key[1] == "FusedQkvAttention"} == {node.overload for node in attentions(found)}
    for before, after in zip(attentions(model), attentions(found), strict=True):
        peaks = []
        for each in BATCHES:
            qkv_BSD = values(model, each, before.inputs[0])[0][each["attention_mask"] != 0]
            peaks.append([np.abs(part).max() for part in np.split(qkv_BSD, 3, axis=-1)])
        attributes = numbers_of(after)
        assert [np.float32(attributes[name]) for name in SCALES[:3]] == scale_of(np.max(peaks, 0)).tolist()
        assert len({attributes[name] for name in SCALES[:3]}) == 3
        assert np.float32(attributes["probability_scale"]) == scale_of(1.0)


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_the_method_holds_for_q_k_and_v(method: str) -> None:
    scales = [[numbers_of(node)[name] for name in SCALES[:3]] for node in attentions(calibrated(fused_encoder(Encoder())).model())]
    clipped = attentions(calibrated(fused_encoder(Encoder()), method=method).model())
    found = [[numbers_of(node)[name] for name in SCALES[:3]] for node in clipped]
    assert (np.array(found) <= scales).all() and found != scales


@pytest.mark.parametrize("overload", ENCODERS)
def test_attention_in_the_graph_is_that_of_the_float64_reference(overload: str) -> None:
    found = calibrated(fused_encoder(ENCODERS[overload])).model()
    each = BATCHES[0]
    for node in attentions(found):
        qkv, *bias = values(found, each, node.inputs[0], *node.inputs[2:])
        (context,) = values(found, each, node.outputs[0])
        attributes = numbers_of(node)
        expected = fused_qkv_attention(qkv, each["attention_mask"], *bias, **attributes)
        exact = fused_qkv_attention(qkv, each["attention_mask"], *bias, **{k: v for k, v in attributes.items() if k not in SCALES})
        assert relative_error(expected, exact) > 1e-3, "INT8 shows nowhere"
        # A probability at the middle of two steps may go either way in float32.
        is_close = np.abs(context - expected) <= TOLERANCE["float32"] * np.abs(expected).max()
        assert is_close.mean() > 0.99
        assert np.abs(context - expected).max() < 2 / 127 * np.abs(qkv).max()


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("overload", ENCODERS)
def test_it_runs_on_onnx_runtime_as_it_is(overload: str, smooth: bool) -> None:
    model = fused_encoder(ENCODERS[overload])
    found = calibrated(model, smooth=smooth, has_int8_embeddings=True).model()
    assert all("int8" in node.overload for node in attentions(found))
    each = BATCHES[1]
    actual, expected = run_graph(found, each)["last_hidden_state"], session(found).run(None, each)[0]
    is_close = np.abs(actual - expected) <= TOLERANCE["float32"] * np.abs(expected).max()
    assert is_close.mean() > 0.95  # 1.0 measured; a sum at the middle of two steps may go either way
    assert relative_error(actual, run_graph(model, each)["last_hidden_state"]) < 0.2


def skip_layer_norms(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "FusedSkipLayerNorm"]


def made_by(node: ir.Node, index: int) -> str:
    value = node.inputs[index]
    assert value is not None
    producer = value.producer()
    return "" if producer is None else producer.op_type


def test_the_residual_is_quantized_and_not_the_result_of_the_gemm() -> None:
    found = calibrated(fused_encoder(Encoder()))
    for before, node in zip(skip_layer_norms(found.base), skip_layer_norms(found.model()), strict=True):
        assert (made_by(node, 0), made_by(node, 1)) == ("MatMul", "DequantizeLinear")
        quantized = node.inputs[1].producer().inputs[0].producer()  # type: ignore[union-attr]
        assert quantized is not None and quantized.inputs[0] is not None and before.inputs[1] is not None
        assert quantized.inputs[0].name == before.inputs[1].name
    residuals = [part.label for part in found.parts if "residual" in part.label]
    assert residuals == [f"layer {layer} {place} residual" for layer in range(2) for place in ("attention", "ffn")]


@pytest.mark.parametrize("is_first", [False, True])
def test_the_residual_may_be_either_operand(is_first: bool) -> None:
    rng = np.random.default_rng(0)
    graph = Graph(rng.normal(size=(30, 33)))
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", rng.normal(size=(33, 33))))
    weights = [graph.constant(name, rng.normal(size=33)) for name in ("gamma", "beta", "bias")]
    operands = (graph.x, product) if is_first else (product, graph.x)
    model = graph.model(graph.node("y", "FusedSkipLayerNorm", *operands, *weights, overload="bias", epsilon=1e-12))
    found = calibrated(model, [all_rows(30, 2)])
    (plan,) = [part for part in found.parts if "residual" in part.label]
    one = found.model({plan.key})
    (node,) = skip_layer_norms(one)
    assert [made_by(node, i) for i in (0, 1)] == (["DequantizeLinear", "MatMul"] if is_first else ["MatMul", "DequantizeLinear"])
    table = graph.constants[0].const_value
    assert table is not None
    (residual,) = values(one, all_rows(30, 2), node.inputs[0 if is_first else 1])
    assert_close(residual.reshape(30, 33), rounded(table.numpy(), scale_of(np.abs(table.numpy()).max())))


@pytest.mark.parametrize("name", ["electra", "albert"])
def test_the_first_residual_of_projected_embeddings_is_found_too(family: Callable[[str], ir.Model], name: str) -> None:
    model = family(name)
    names = {value.name for value in model.graph.inputs}
    batches = [{key: np.maximum(a, 5) if key == "input_ids" else a for key, a in each.items() if key in names} for each in BATCHES]
    found = calibrated(model, batches)
    assert [made_by(node, 0) for node in skip_layer_norms(model)] == ["MatMul"] * 4
    assert [made_by(node, 1) for node in skip_layer_norms(found.model())] == ["DequantizeLinear"] * 4
    residuals = [part.label for part in found.parts if "residual" in part.label]
    assert residuals == [f"layer {layer} {place} residual" for layer in range(2) for place in ("attention", "ffn")]


def test_an_attention_whose_v_is_all_zero_stays_in_float() -> None:
    model = fused_encoder(Encoder(heads=(3,), widths=(33,)))
    qkv = attentions(model)[0].inputs[0]
    add = None if qkv is None else qkv.producer()
    assert add is not None
    for value in (*add.inputs, *add.inputs[0].producer().inputs):  # type: ignore[union-attr]
        if value is not None and value.const_value is not None:
            array = value.const_value.numpy().copy()
            array[..., 96:] = 0.0
            value.const_value = ir.tensor(array, name=value.name)
    found = calibrated(model)
    assert "layer 0 attention products" not in [part.label for part in found.parts]
    assert "int8" not in attentions(found.model())[0].overload


def test_products_and_residuals_are_parts_of_their_own() -> None:
    found = calibrated(fused_encoder(Encoder()))
    products = {part.key for part in found.parts if part.label.endswith("products")}
    assert len(products) == 2
    one = found.model(products)
    assert [node.overload for node in attentions(one)] == ["int8", "int8"]
    assert not any(node.op_type == "QuantizeLinear" for node in one.graph)
    none = found.model({part.key for part in found.parts} - products)
    assert [node.overload for node in attentions(none)] == ["", ""]
