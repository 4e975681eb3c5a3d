"""Each lowering leaves no fused node, makes the node it is named for, and computes what the fused op computes."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.reference
import onnx_ir as ir
import onnxruntime
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.numerics import TOLERANCE, assert_close, relative_error
from trtbert.bodies import add_functions
from trtbert.builders.lowering import BODY, ORT, TENSORRT, lower, lower_for_tensorrt
from trtbert.ops import DOMAIN, FUSED_OPS, OPSET
from trtbert.package import Lowering

CONTRIB = "com.microsoft"
Feeds = dict[str, npt.NDArray[Any]]


def run(model: ir.Model, inputs: Feeds) -> npt.NDArray[Any]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return np.asarray(
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, inputs)[0]
    )


def ops(model: ir.Model) -> Counter[str]:
    return Counter(f"{node.domain}.{node.op_type}".removeprefix(".") for node in model.graph)


def one_node(
    name: str, inputs: Feeds, weights: Feeds, attributes: dict[str, Any], overload: str = "", projection: Feeds | None = None
) -> ir.Model:
    """A model of one fused node; with `projection` its first input x [B,S,D] goes through MatMul and Add first."""
    values = {key: ir.val(key, ir.DataType.from_numpy(a.dtype), [None] * a.ndim) for key, a in inputs.items()}
    constants = {key: ir.val(key, const_value=ir.tensor(a, name=key)) for key, a in (weights | (projection or {})).items()}
    tape = ir.tape.Tape()
    node_inputs = [(values | constants)[key] for key in (*inputs, *weights)]
    if projection is not None:
        made = tape.op("MatMul", [node_inputs[0], constants["w"]])
        node_inputs[0] = tape.op("Add", [constants["b"], made]) if "b" in constants else made
        node_inputs[0].dtype = made.dtype = ir.DataType.FLOAT
    y = tape.op(name, node_inputs, attributes, domain=DOMAIN, overload=overload)
    y.name, y.dtype, y.shape = "y", ir.DataType.FLOAT, ir.Shape([None, None, None])
    graph = ir.Graph(
        list(values.values()), [y], nodes=tape.nodes, initializers=list(constants.values()), opset_imports={"": OPSET}, name="op"
    )
    model = ir.Model(graph, ir_version=11)
    add_functions(model)
    return model


def floats(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


ATTENTIONS = [
    (name, has_bias) for name in (BODY, *ORT["FusedQkvAttention"]) for has_bias in (False, True) if (name, has_bias) != ("Attention", True)
]


@pytest.mark.parametrize("lowering,has_bias", ATTENTIONS)
@pytest.mark.parametrize(
    "batch,length,num_heads,head_size", [(1, 1, 1, 16), (3, 17, 3, 24), (2, 33, 2, 128), (64, 5, 5, 64), (2, 512, 1, 16)]
)
def test_attention(lowering: str, batch: int, length: int, num_heads: int, head_size: int, has_bias: bool) -> None:
    rng = np.random.default_rng(length)
    x, width = 20, num_heads * head_size
    mask = (rng.random((batch, length)) < 0.6).astype(np.int32)
    mask[0, : length // 2], mask[:, -1] = 0, 1  # left-padded
    inputs: Feeds = {"x": floats(rng, batch, length, x), "mask": mask}
    if has_bias:
        inputs["bias"] = floats(rng, 1, num_heads, length, length)
    projection: Feeds = {"w": floats(rng, x, 3 * width) * np.float32(0.2), "b": floats(rng, 3 * width)}
    attributes = {"num_heads": num_heads, "head_size": head_size, "scale": head_size**-0.5 * 1.1}
    model = one_node("FusedQkvAttention", inputs, {}, attributes, "bias" if has_bias else "", projection)
    lowered, records = lower(model, ORT, {"FusedQkvAttention": lowering})
    assert [record.lowering for record in records] == [lowering]
    assert lowering == BODY or ops(lowered)[lowering] == 1
    assert ops(lowered)["MatMul"] == {BODY: 3, "Softmax": 5, "com.microsoft.Attention": 0}.get(lowering, 1)
    assert not any(node.domain == DOMAIN for node in lowered.graph)
    qkv = inputs["x"].astype(np.float64) @ projection["w"] + projection["b"]
    expected = FUSED_OPS["FusedQkvAttention"].reference(qkv, *list(inputs.values())[1:], **attributes)
    assert_close(run(lowered, inputs), expected)


@pytest.mark.parametrize("has_projection", [False, True])
@pytest.mark.parametrize("lowering", [BODY, *ORT["FusedQkvAttention"]])
@pytest.mark.parametrize("num_heads,num_kv_heads", [(4, 1), (6, 2)])
def test_attention_with_shared_keys_and_values(lowering: str, num_heads: int, num_kv_heads: int, has_projection: bool) -> None:
    """Only the lowering to Softmax takes them; none repeats them."""
    rng = np.random.default_rng(num_heads)
    head_size, length = 16, 9
    width = (num_heads + 2 * num_kv_heads) * head_size
    inputs: Feeds = {"x": floats(rng, 3, length, 20 if has_projection else width), "mask": (rng.random((3, length)) < 0.6).astype(np.int32)}
    inputs["mask"][:, -1] = 1
    projection: Feeds = {"w": floats(rng, 20, width) * np.float32(0.2), "b": floats(rng, width)}
    attributes = {"num_heads": num_heads, "num_kv_heads": num_kv_heads, "head_size": head_size, "scale": 0.3}
    model = one_node("FusedQkvAttention", inputs, {}, attributes, "grouped", projection if has_projection else None)
    lowered, (record,) = lower(model, ORT, {"FusedQkvAttention": lowering})
    assert record.lowering == (lowering if lowering == "Softmax" else BODY)
    assert not ops(lowered).keys() & {"Expand", "Tile", "FusedQkvAttention", "Attention"}
    qkv = inputs["x"].astype(np.float64) @ projection["w"] + projection["b"] if has_projection else inputs["x"]
    assert_close(run(lowered, inputs), FUSED_OPS["FusedQkvAttention"].reference(qkv, inputs["mask"], **attributes))


@pytest.mark.parametrize("lowering,has_bias", [pair for pair in ATTENTIONS if pair[0] != BODY])
def test_attention_of_a_wholly_masked_row_is_finite_and_leaves_the_others_alone(lowering: str, has_bias: bool) -> None:
    rng = np.random.default_rng(0)
    inputs: Feeds = {"x": floats(rng, 2, 7, 20) * np.float32(30), "mask": np.array([[0] * 7, [1] * 7], np.int32)}
    if has_bias:
        inputs["bias"] = floats(rng, 1, 2, 7, 7)
    projection: Feeds = {"w": floats(rng, 20, 96), "b": floats(rng, 96)}
    attributes = {"num_heads": 2, "head_size": 16, "scale": 0.25}
    model = one_node("FusedQkvAttention", inputs, {}, attributes, "bias" if has_bias else "", projection)
    lowered, (record,) = lower(model, ORT, {"FusedQkvAttention": lowering})
    assert record.lowering == lowering
    actual = run(lowered, inputs)
    assert np.isfinite(actual).all()
    qkv = inputs["x"].astype(np.float64) @ projection["w"] + projection["b"]
    expected = FUSED_OPS["FusedQkvAttention"].reference(qkv, *list(inputs.values())[1:], **attributes)
    assert relative_error(actual[1], expected[1]) < 1e-4  # scores of thousands: 2e-5 measured


@pytest.mark.parametrize("projection", [None, {"w": np.ones((48, 48), np.float32)}])
def test_attention_with_no_biased_projection_before_it_keeps_its_body(projection: Feeds | None) -> None:
    inputs: Feeds = {"x": floats(np.random.default_rng(0), 1, 3, 48), "mask": np.ones((1, 3), np.int32)}
    model = one_node("FusedQkvAttention", inputs, {}, {"num_heads": 1, "head_size": 16, "scale": 0.25}, projection=projection)
    lowered, (record,) = lower(model, ORT, {"FusedQkvAttention": "com.microsoft.Attention"})
    assert record == Lowering(node=record.node, op="FusedQkvAttention", lowering=BODY)
    assert ops(lowered)["Softmax"] == 1 and ops(lowered)["com.microsoft.Attention"] == 0


def test_attention_with_a_bias_does_not_become_one_huge_mask() -> None:
    lowered, records = lower(fused_encoder(Encoder(heads=(2, 2), has_relative_bias=True)), ORT, {"FusedQkvAttention": "Attention"})
    assert {record.lowering for record in records} == {BODY} and ops(lowered)["Attention"] == 0


@pytest.mark.parametrize("lowering", [BODY, *ORT["FusedSkipLayerNorm"]])
@pytest.mark.parametrize("width", [1, 31, 33, 768])
@pytest.mark.parametrize("has_bias", [False, True])
def test_skip_layer_norm(lowering: str, width: int, has_bias: bool) -> None:
    rng = np.random.default_rng(width)
    inputs: Feeds = {"x": floats(rng, 2, 5, width), "skip": floats(rng, 2, 5, width)}
    weights: Feeds = {key: floats(rng, width) for key in (["gamma", "beta", "bias"] if has_bias else ["gamma", "beta"])}
    model = one_node("FusedSkipLayerNorm", inputs, weights, {"epsilon": 1e-5}, "bias" if has_bias else "")
    lowered, (record,) = lower(model, ORT, {"FusedSkipLayerNorm": lowering})
    assert record.lowering == lowering and ops(lowered)[lowering] == (lowering != BODY)
    expected = FUSED_OPS["FusedSkipLayerNorm"].reference(*inputs.values(), *weights.values(), epsilon=1e-5)
    assert_close(run(lowered, inputs), expected)


@pytest.mark.parametrize(
    "lowering,approximate",
    [(BODY, "none"), ("Gelu", "none"), ("Gelu", "tanh"), ("com.microsoft.BiasGelu", "none"), ("com.microsoft.FastGelu", "tanh")],
)
def test_bias_gelu(lowering: str, approximate: str) -> None:
    rng = np.random.default_rng(1)
    inputs, weights = {"x": floats(rng, 3, 7, 33) * np.float32(3)}, {"bias": floats(rng, 33)}
    model = one_node("FusedBiasGelu", inputs, weights, {"approximate": approximate})
    lowered, (record,) = lower(model, ORT, {"FusedBiasGelu": lowering})
    assert record.lowering == lowering and ops(lowered)[lowering] == (lowering != BODY)
    assert_close(run(lowered, inputs), FUSED_OPS["FusedBiasGelu"].reference(*inputs.values(), *weights.values(), approximate=approximate))


@pytest.mark.parametrize("lowering,approximate", [("com.microsoft.BiasGelu", "tanh"), ("com.microsoft.FastGelu", "none")])
def test_the_other_gelu_keeps_its_body(lowering: str, approximate: str) -> None:
    rng = np.random.default_rng(1)
    model = one_node("FusedBiasGelu", {"x": floats(rng, 1, 2, 8)}, {"bias": floats(rng, 8)}, {"approximate": approximate})
    lowered, (record,) = lower(model, ORT, {"FusedBiasGelu": lowering})
    assert record.lowering == BODY and ops(lowered)["Gelu"] == 1 and ops(lowered)[lowering] == 0


@pytest.mark.parametrize("lowering", [BODY, *ORT["FusedEmbedLayerNorm"]])
@pytest.mark.parametrize("has_token_type", [False, True])
@pytest.mark.parametrize("position_rows", [1, 3])
def test_embed_layer_norm(lowering: str, has_token_type: bool, position_rows: int) -> None:
    rng = np.random.default_rng(2)
    inputs: Feeds = {
        "input_ids": rng.integers(0, 50, (3, 9), dtype=np.int32),
        "position_ids": np.stack([rng.permutation(9) for _ in range(position_rows)]),
    }
    weights: Feeds = {"word": floats(rng, 50, 24), "position": floats(rng, 16, 24), "gamma": floats(rng, 24), "beta": floats(rng, 24)}
    if has_token_type:
        weights |= {"token_type_ids": rng.integers(0, 2, (3, 9), dtype=np.int32), "token_type": floats(rng, 2, 24)}
    model = one_node("FusedEmbedLayerNorm", inputs, weights, {"epsilon": 1e-12}, "token_type" if has_token_type else "")
    lowered, (record,) = lower(model, ORT, {"FusedEmbedLayerNorm": lowering})
    assert record.lowering == lowering and ops(lowered)[lowering] == (lowering != BODY)
    assert_close(run(lowered, inputs), FUSED_OPS["FusedEmbedLayerNorm"].reference(*inputs.values(), *weights.values(), epsilon=1e-12))


@pytest.mark.parametrize(
    "op,lowering", [(op, lowering) for op, lowerings in ORT.items() for lowering in lowerings if "FastGelu" not in lowering]
)
def test_encoder_with_unequal_layers(op: str, lowering: str) -> None:
    model = fused_encoder(Encoder())
    before = ops(model)
    lowered, records = lower(model, ORT, {op: lowering})
    assert ops(model) == before, "lowering changed the model it was given"
    assert ops(lowered)[lowering] >= before[f"{DOMAIN}.{op}"] > 0
    assert Counter((r.op, r.lowering == BODY) for r in records) == {(name, name != op): before[f"{DOMAIN}.{name}"] for name in FUSED_OPS}
    assert not lowered.functions and DOMAIN not in lowered.graph.opset_imports
    for batch, length in ((1, 1), (3, 40)):
        assert_close(run(lowered, feeds(batch, length)), run(model, feeds(batch, length)))


@pytest.mark.parametrize(
    "lowering,has_bias",
    [(name, has_bias) for name, has_bias in ATTENTIONS if name in ("Softmax", "Attention", "com.microsoft.MultiHeadAttention")],
)
def test_masks_are_made_once_for_all_layers(lowering: str, has_bias: bool) -> None:
    model = fused_encoder(Encoder(heads=(2, 2, 2), widths=(32, 32, 32), has_relative_bias=has_bias))
    lowered, _ = lower(model, ORT, {"FusedQkvAttention": lowering})
    assert ops(lowered)[lowering] == 3
    assert ops(lowered)["Where"] == (lowering in ("Softmax", "Attention"))
    assert sum(node.op_type == "Cast" and node.inputs[0] is lowered.graph.inputs[1] for node in lowered.graph) == 1
    assert_close(run(lowered, feeds(2, 9)), run(model, feeds(2, 9)))


@pytest.mark.parametrize("has_bias", [False, True])
def test_tensorrt_attention_in_half_precision(has_bias: bool) -> None:
    model = fused_encoder(Encoder(heads=(2, 2), dtype=ir.DataType.FLOAT16, has_relative_bias=has_bias))
    lowered, records = lower_for_tensorrt(model, "sm80")
    assert ops(lowered)["Attention"] == 2 and not any(node.domain for node in lowered.graph)
    assert Counter(r.lowering for r in records) == {"Attention": 2, BODY: 7}
    inputs: Feeds = {**feeds(3, 11)}
    inputs["attention_mask"][2] = 0
    actual = onnx.reference.ReferenceEvaluator(ir.to_proto(lowered)).run(None, inputs)[0]
    expected = run(model, inputs)
    assert np.isfinite(actual).all()
    assert relative_error(actual[:2], expected[:2]) < TOLERANCE["float16"] * 2  # two layers in half precision: 5e-3 measured


def test_tensorrt_attention_in_float32_keeps_its_body() -> None:
    lowered, records = lower(fused_encoder(Encoder()), TENSORRT, {"FusedQkvAttention": "Attention"})
    assert {record.lowering for record in records} == {BODY} and ops(lowered)["Attention"] == 0
    assert ops(lowered)["Softmax"] == 2
    assert_close(run(lowered, feeds(2, 9)), run(fused_encoder(Encoder()), feeds(2, 9)))
