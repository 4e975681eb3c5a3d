"""Fused nodes become plugins' nodes, with what those want around them; what no plugin takes keeps its body, and says why."""

import re
from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.builders.onnx_text import Feeds, ops, parse, run
from tests.numerics import assert_close
from trtbert.builders.plugin_limits import RANKS
from trtbert.builders.plugins import lower_for_plugins, with_bodies
from trtbert.config import Target
from trtbert.ops import DOMAIN, FUSED_OPS, PLUGIN_OPS

RNG = np.random.default_rng(0)


def plugins(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph if node.domain == DOMAIN)


def assert_is_stripped(model: ir.Model) -> None:
    assert not model.functions and model.graph.opset_imports[DOMAIN] == 1
    assert not any(node.overload for node in model.graph)
    onnx.checker.check_model(ir.to_proto(model))


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
@pytest.mark.parametrize("has_relative_bias", [False, True])
def test_an_encoder_with_unequal_layers(dtype: ir.DataType, has_relative_bias: bool) -> None:
    heads = (2, 2) if has_relative_bias else (3, 2)
    model = fused_encoder(Encoder(heads=heads, dtype=dtype, has_relative_bias=has_relative_bias))
    lowered, records = lower_for_plugins(model, "sm75")
    assert plugins(lowered) == plugins(model) == Counter([*FUSED_OPS, "FusedQkvAttention", "FusedBiasGelu", *3 * ["FusedSkipLayerNorm"]])
    assert {(record.lowering, record.reason) for record in records} == {("plugin", None)} and len(records) == 9
    assert_is_stripped(lowered)
    assert model.functions, "lowering changed the model it was given"
    (embedding,) = (node for node in lowered.graph if node.op_type == "FusedEmbedLayerNorm")
    assert {value.dtype for value in embedding.inputs if value is not None} == {ir.DataType.INT32, dtype}
    for batch, length in ((1, 1), (3, 40)):
        given = feeds(batch, length)
        assert run(with_bodies(lowered), {**given})[0].tolist() == run(model, {**given})[0].tolist()


def test_bf16_from_ampere_on() -> None:
    model = fused_encoder(Encoder(dtype=ir.DataType.BFLOAT16))
    assert plugins(lower_for_plugins(model, "sm80")[0]) == plugins(model)
    lowered, records = lower_for_plugins(model, "sm75")
    assert not plugins(lowered) and {record.reason for record in records} == {"BFLOAT16 needs sm80 or later"}


def test_what_no_plugin_takes_becomes_what_it_is_without_plugins() -> None:
    model = fused_encoder(Encoder(heads=(2, 2), head_size=20, dtype=ir.DataType.FLOAT16))
    lowered, records = lower_for_plugins(model, "sm80")
    assert plugins(lowered) == plugins(model) - Counter({"FusedQkvAttention": 2})
    assert Counter(ops(lowered))["Attention"] == 2
    reason = "its heads have 20 columns; the plugin takes 8 to 128, in steps of 8"
    assert [(r.lowering, r.reason) for r in records if r.op == "FusedQkvAttention"] == 2 * [("Attention", reason)]
    lowered, records = lower_for_plugins(model, "sm70")
    assert Counter(ops(lowered))["Softmax"] == 2 and Counter(ops(lowered))["Attention"] == 0, "TensorRT 10.4 knows no Attention"
    assert [r.lowering for r in records if r.op == "FusedQkvAttention"] == ["body", "body"]
    assert_is_stripped(lowered)


TWO_ATTENTIONS = """
g (float[b,s,48] x, {mask}[b,s] mask, float16[1,2,s,s] bias) => (float[b,s,16] y, float[b,s,16] z)
{{ y = trtbert.FusedQkvAttention:bias <num_heads = 2, head_size = 8, scale = 0.3> (x, mask, bias)
  z = trtbert.FusedQkvAttention:bias <num_heads = 2, head_size = 8, scale = 0.4> (x, mask, bias) }}
"""


@pytest.mark.parametrize(("mask_type", "dtype"), [("int64", np.int64), ("bool", np.bool_)])
def test_masks_and_biases_are_cast_once_for_all_layers(mask_type: str, dtype: type[np.generic]) -> None:
    model = parse(TWO_ATTENTIONS.format(mask=mask_type))
    lowered, _ = lower_for_plugins(model, "sm80")
    assert sorted(ops(lowered)) == ["Cast", "Cast", "FusedQkvAttention", "FusedQkvAttention"]
    for node in lowered.graph:
        if node.domain == DOMAIN:
            assert [None if v is None else v.dtype for v in node.inputs] == [ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.FLOAT]
    mask = np.array([[1, 0, 1], [0, 1, 1]], dtype)
    given: Feeds = {"x": RNG.standard_normal((2, 3, 48), np.float32), "mask": mask, "bias": RNG.random((1, 2, 3, 3)).astype(np.float16)}
    for actual, expected in zip(run(with_bodies(lowered), given), run(model, given), strict=True):
        assert_close(actual, expected)


def skip(x: str = "float16[b,s,8]", other: str = "float16[b,s,8]", gamma: str = "float16[8]", beta: str = "float16[8]") -> str:
    return f"""g ({x} x, {other} skip, {gamma} gamma, {beta} beta) => (float16[b,s,8] y)
    {{ y = trtbert.FusedSkipLayerNorm <epsilon = 1e-5> (x, skip, gamma, beta) }}"""


def attention(qkv: str = "float16[b,s,48]", mask: str = "int32[b,s]", head_size: int = 8, overload: str = "", more: str = "") -> str:
    return f"""g ({qkv} qkv, {mask} mask) => (float16[b,s,n] y)
    {{ y = trtbert.FusedQkvAttention{overload} <num_heads = 2, head_size = {head_size}, scale = 0.3{more}> (qkv, mask) }}"""


def embed(ids: str = "int32[b,s]", positions: str = "int64[1,s]") -> str:
    return f"""g ({ids} ids, {positions} positions, float16[9,8] word, float16[7,8] position, float16[8] gamma, float16[8] beta)
    => (float16[b,s,8] y) {{ y = trtbert.FusedEmbedLayerNorm <epsilon = 1e-5> (ids, positions, word, position, gamma, beta) }}"""


def gelu(bias: str) -> str:
    return f"""g (float16[b,s,8] x, {bias} bias) => (float16[b,s,8] y)
    {{ y = trtbert.FusedBiasGelu <approximate = "none"> (x, bias) }}"""


ROWS_IN_INT8 = """
g (int32[b,s] ids, int32[b,s] positions, float[7,8] position, float[8] gamma, float[8] beta) => (float[b,s,8] y)
<int8[2,8] table = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}, float[2] scale = {0.1, 0.2}, int8[2] zero = {0, 0}, float[2,8] word>
{ word = DequantizeLinear <axis = 0> (table, scale, zero)
  y = trtbert.FusedEmbedLayerNorm <epsilon = 1e-5> (ids, positions, word, position, gamma, beta) }
"""
INT8 = ", q_scale = 0.1, k_scale = 0.1, v_scale = 0.1, probability_scale = 0.0079"


def test_the_graphs_of_the_near_misses_are_plugins_but_for_what_they_miss() -> None:
    for graph in (skip(), attention(), embed(), embed(positions="int64[b,s]"), gelu("float16[8]"), attention(overload=":int8", more=INT8)):
        lowered, (record,) = lower_for_plugins(parse(graph), "sm75")
        assert (record.lowering, record.reason) == ("plugin", None) and sum(plugins(lowered).values()) == 1


@pytest.mark.parametrize(
    ("graph", "target", "reason"),
    [
        (skip(gamma="float[8]", beta="float[8]"), "sm80", "its tensors are FLOAT and FLOAT16, and a plugin has one float type"),
        (skip(*2 * ["double[b,s,8]"], *2 * ["double[8]"]), "sm80", "its tensors are DOUBLE; plugins take FLOAT, FLOAT16, BFLOAT16"),
        (skip(other="float16[1,s,8]"), "sm80", r"x is \[b,s,8\] and skip \[1,s,8\]; the plugin does not broadcast"),
        (skip(x="float16"), "sm80", "x is"),
        (attention(head_size=12), "sm80", "its heads have 12 columns"),
        (attention(head_size=136), "sm80", "its heads have 136 columns"),
        (attention(mask="int32[b,1,s]"), "sm80", r"mask has the shape \[b,1,s\]; the plugin takes a rank of 2"),
        (attention(overload=":int8", more=INT8), "sm70", "INT8 products need sm75 or later"),
        (embed(positions="int64[2,s]"), "sm80", r"position_ids are \[2,s\]; the plugin takes one row, or one for each text"),
        (embed(positions="int64[s]"), "sm80", "position_ids has the shape"),
        (embed(positions="int64[b,1]"), "sm80", r"position_ids are \[b,1\]"),
        (gelu("float16[1]"), "sm80", r"the bias \[1\]; the plugin does not broadcast"),
        (ROWS_IN_INT8, "sm80", "word is INT8 with a scale for each row"),
    ],
)
def test_near_misses_keep_their_bodies(graph: str, target: Target, reason: str) -> None:
    model = parse(graph)
    lowered, (record,) = lower_for_plugins(model, target)
    assert record.lowering in ("body", "Attention") and record.reason is not None
    assert not plugins(lowered) and not lowered.functions and DOMAIN not in lowered.graph.opset_imports
    assert re.search(reason, record.reason), record.reason


@pytest.mark.parametrize(("overload", "more"), [("grouped", ""), ("grouped_int8", INT8)])
def test_shared_keys_and_values(overload: str, more: str) -> None:
    model = parse(attention("float16[b,s,32]", overload=f":{overload}", more=f", num_kv_heads = 1{more}"))
    lowered, (record,) = lower_for_plugins(model, "sm75")
    assert (record.lowering, record.reason) == ("plugin", None)
    assert_is_stripped(lowered)
    assert [node.attributes["num_kv_heads"].as_int() for node in lowered.graph] == [1]
    given: Feeds = {"qkv": RNG.standard_normal((2, 3, 32)).astype(np.float16), "mask": np.array([[1, 0, 1], [0, 1, 1]], np.int32)}
    assert run(with_bodies(lowered), given)[0].tolist() == run(model, given)[0].tolist()


def test_a_shape_that_is_not_known() -> None:
    model = parse(skip())
    model.graph.inputs[0].shape = None
    lowered, (record,) = lower_for_plugins(model, "sm80")
    assert (record.lowering, record.reason) == ("body", "the shape of x is not known") and not plugins(lowered)


def test_ranks_are_of_inputs_that_there_are() -> None:
    assert RANKS.keys() == PLUGIN_OPS.keys()
    for name, ranks in RANKS.items():
        assert ranks.keys() <= {*PLUGIN_OPS[name].inputs, *PLUGIN_OPS[name].optional_inputs}
