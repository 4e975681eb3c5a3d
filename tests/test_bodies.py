"""Each function body, run by ONNX Runtime, equals the float64 reference of its op."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from tests.numerics import TOLERANCE, assert_close
from trtbert import bodies
from trtbert.bodies import add_functions
from trtbert.ops import DOMAIN, FUSED_OPS, FUSED_PACKED_QKV_ATTENTION, OPSET, FusedOp

ONNX_TYPE = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "int32": ir.DataType.INT32}


def run_op(name: str, overload: str, feeds: dict[str, np.ndarray], **attributes: Any) -> np.ndarray:
    """Run one fused node alone, all inputs dynamic, on ONNX Runtime's CPU provider."""
    inputs = [
        ir.Value(name=key, type=ir.TensorType(ONNX_TYPE[str(value.dtype)]), shape=ir.Shape([None] * value.ndim))
        for key, value in feeds.items()
    ]
    node = ir.node(name, inputs, attributes, domain=DOMAIN, overload=overload)
    node.outputs[0].name = "y"
    node.outputs[0].shape = ir.Shape([None] * next(iter(feeds.values())).ndim if name == FUSED_PACKED_QKV_ATTENTION.name else [None] * 3)
    float_input = feeds.get("gamma", next(iter(feeds.values())))  # what gives the output its type
    node.outputs[0].dtype = ONNX_TYPE[str(float_input.dtype)]
    model = ir.Model(ir.Graph(inputs, node.outputs, nodes=[node], opset_imports={"": OPSET}, name="op"), ir_version=11)
    add_functions(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)[0]


def floats(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("num_heads,head_size,length", [(1, 8, 1), (3, 16, 17), (12, 32, 33), (2, 128, 64), (5, 24, 7)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_attention(dtype: str, num_heads: int, head_size: int, length: int, has_bias: bool) -> None:
    rng = np.random.default_rng(length)
    mask = (rng.random((4, length)) < 0.6).astype(np.int32)
    mask[0], mask[1], mask[1, -1] = 0, 0, 1  # nothing to attend to; left-padded
    feeds = {"qkv": floats(rng, dtype, 4, length, 3 * num_heads * head_size), "mask": mask}
    if has_bias:
        feeds["bias"] = floats(rng, dtype, 1, num_heads, length, length)
    attributes = {"num_heads": num_heads, "head_size": head_size, "scale": head_size**-0.5}
    actual = run_op("FusedQkvAttention", "bias" if has_bias else "", feeds, **attributes)
    assert (actual[0] == 0).all()
    assert_close(actual, FUSED_OPS["FusedQkvAttention"].reference(*feeds.values(), **attributes), dtype)


INT8_SCALES = {"q_scale": 2.0**-5, "k_scale": 2.0**-6, "v_scale": 2.0**-5, "probability_scale": 2.0**-7}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("num_heads,head_size,length", [(1, 8, 1), (3, 16, 17), (12, 32, 33), (2, 128, 64), (5, 24, 7)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_attention_in_int8(dtype: str, num_heads: int, head_size: int, length: int, has_bias: bool) -> None:
    rng = np.random.default_rng(length)
    mask = (rng.random((4, length)) < 0.6).astype(np.int32)
    mask[0], mask[1], mask[1, -1] = 0, 0, 1
    feeds = {"qkv": floats(rng, dtype, 4, length, 3 * num_heads * head_size) * np.asarray(1.5, dtype), "mask": mask}
    if has_bias:
        feeds["bias"] = floats(rng, dtype, 1, num_heads, length, length)
    attributes = {"num_heads": num_heads, "head_size": head_size, "scale": head_size**-0.5}
    actual = run_op("FusedQkvAttention", "bias.int8" if has_bias else "int8", feeds, **attributes, **INT8_SCALES)
    reference = FUSED_OPS["FusedQkvAttention"].reference
    expected, exact = reference(*feeds.values(), **attributes, **INT8_SCALES), reference(*feeds.values(), **attributes)
    assert actual.dtype == dtype and (actual[0] == 0).all()
    assert np.abs(expected - exact).max() > 1e-3, "INT8 shows nowhere"
    # A probability rounded to half, or near the middle of two steps of 2^-7, may go to the other one: 0.993 measured in half.
    is_close = np.abs(actual - expected) <= TOLERANCE[dtype] * np.abs(expected).max()
    assert is_close.mean() > 0.98
    assert np.abs(actual - expected).max() <= 8 * 2.0**-7


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("num_heads,num_kv_heads,head_size,length", [(2, 1, 8, 1), (6, 2, 16, 17), (12, 1, 32, 33), (4, 4, 24, 7)])
@pytest.mark.parametrize("scales", [{}, INT8_SCALES], ids=["float", "int8"])
def test_grouped_attention(dtype: str, num_heads: int, num_kv_heads: int, head_size: int, length: int, scales: dict[str, float]) -> None:
    """As the op with keys and values repeated, head by head, for the queries that share them."""
    rng = np.random.default_rng(length)
    mask = (rng.random((3, length)) < 0.6).astype(np.int32)
    mask[0], mask[1], mask[1, -1] = 0, 0, 1
    q, k, v = (floats(rng, dtype, 3, length, heads, head_size) for heads in (num_heads, num_kv_heads, num_kv_heads))
    packed, repeated = (
        np.concatenate([part.reshape(3, length, -1) for part in parts], -1)
        for parts in ((q, k, v), (q, *(np.repeat(x, num_heads // num_kv_heads, axis=2) for x in (k, v))))
    )
    attributes = {"num_heads": num_heads, "head_size": head_size, "scale": head_size**-0.5, **scales}
    overload = "grouped.int8" if scales else "grouped"
    actual = run_op("FusedQkvAttention", overload, {"qkv": packed, "mask": mask}, num_kv_heads=num_kv_heads, **attributes)
    reference = FUSED_OPS["FusedQkvAttention"].reference
    expected = reference(repeated, mask, **attributes)
    assert np.array_equal(reference(packed, mask, num_kv_heads=num_kv_heads, **attributes), expected)
    assert actual.dtype == dtype and (actual[0] == 0).all()
    if scales:  # a probability near the middle of two steps may go to the other one
        assert np.abs(actual - expected).max() <= 8 * 2.0**-7
    else:
        assert_close(actual, expected, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_attention_in_int8_clips_and_rounds_to_even(dtype: str) -> None:
    """One key only, so that the context is V as INT8 has it."""
    v = np.array([[[0.5, 1.5, 2.5, -0.5, 126.5, 127.5, 1000.0, -1000.0]]])
    feeds = {"qkv": np.concatenate([v, v, v / 4], -1).astype(dtype), "mask": np.ones((1, 1), np.int32)}
    scales = {"q_scale": 4.0, "k_scale": 4.0, "v_scale": 0.25, "probability_scale": 0.25}
    actual = run_op("FusedQkvAttention", "int8", feeds, num_heads=1, head_size=8, scale=0.3, **scales)
    assert (actual * 4).tolist() == [[[0.0, 2.0, 2.0, 0.0, 126.0, 127.0, 127.0, -128.0]]]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_attention_scores_do_not_overflow_before_they_are_scaled(dtype: str) -> None:
    qkv = np.full((1, 3, 3 * 64), 80.0, dtype)  # q.k = 409,600, scaled 51,200
    attributes = {"num_heads": 1, "head_size": 64, "scale": 0.125}
    actual = run_op("FusedQkvAttention", "", {"qkv": qkv, "mask": np.ones((1, 3), np.int32)}, **attributes)
    assert_close(actual, np.full((1, 3, 64), 80.0), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("lengths", [[0], [1], [5], [3, 0, 1, 17], [0, 0], [33, 2, 0]])
@pytest.mark.parametrize("int8", [{}, INT8_SCALES])
@pytest.mark.parametrize("groups", [{}, {"num_kv_heads": 1}, {"num_kv_heads": 3}])
def test_packed_attention(dtype: str, lengths: list[int], int8: dict[str, float], groups: dict[str, int]) -> None:
    rng = np.random.default_rng(sum(lengths))
    feeds = {
        "qkv": floats(rng, dtype, sum(lengths), (3 + 2 * groups.get("num_kv_heads", 3)) * 16),
        "cu_seqlens": np.cumsum([0, *lengths]).astype(np.int32),
    }
    attributes = {"num_heads": 3, "head_size": 16, "scale": 0.2, **groups, **int8}
    overload = FUSED_PACKED_QKV_ATTENTION.overload(len(feeds), attributes)
    actual = run_op(FUSED_PACKED_QKV_ATTENTION.name, overload, feeds, **attributes)
    expected = FUSED_PACKED_QKV_ATTENTION.reference(*feeds.values(), **attributes)
    assert actual.dtype == dtype and actual.shape == expected.shape == (sum(lengths), 48)
    if int8:  # a probability near the middle of two steps may go to the other one
        assert np.abs(actual - expected).max(initial=0.0) <= 8 * 2.0**-7
    else:
        assert_close(actual, expected, dtype)


def test_packed_attention_is_the_padded_one_without_its_padding() -> None:
    rng = np.random.default_rng(3)
    qkv, mask = floats(rng, "float32", 3, 9, 3 * 32), (rng.random((3, 9)) < 0.6).astype(np.int32)
    attributes = {"num_heads": 2, "head_size": 16, "scale": 0.25}
    padded = run_op("FusedQkvAttention", "", {"qkv": qkv, "mask": mask}, **attributes)
    cu_seqlens = np.cumsum([0, *mask.sum(1)]).astype(np.int32)
    packed = run_op(FUSED_PACKED_QKV_ATTENTION.name, "", {"qkv": qkv[mask != 0], "cu_seqlens": cu_seqlens}, **attributes)
    assert_close(packed, padded[mask != 0])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("width", [1, 31, 32, 33, 768, 1023])
@pytest.mark.parametrize("has_bias", [False, True])
def test_skip_layer_norm(dtype: str, width: int, has_bias: bool) -> None:
    rng = np.random.default_rng(width)
    feeds = {
        "x": floats(rng, dtype, 2, 5, width) * np.asarray(30, dtype),
        "skip": floats(rng, dtype, 2, 5, width),
        "gamma": floats(rng, dtype, width),
        "beta": floats(rng, dtype, width),
    }
    if has_bias:
        feeds["bias"] = floats(rng, dtype, width)
    # width 1: x - mean is 0, so the epsilon decides and both sides must use the same one.
    actual = run_op("FusedSkipLayerNorm", "bias" if has_bias else "", feeds, epsilon=1e-5)
    assert_close(actual, FUSED_OPS["FusedSkipLayerNorm"].reference(*feeds.values(), epsilon=1e-5), dtype)


def test_skip_layer_norm_takes_float32_beside_float16() -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "x": floats(rng, "float32", 1, 4, 32) * 1e6,
        "skip": floats(rng, "float16", 1, 4, 32),
        "gamma": floats(rng, "float16", 32),
        "beta": floats(rng, "float16", 32),
    }
    actual = run_op("FusedSkipLayerNorm", "", feeds, epsilon=1e-12)
    assert actual.dtype == np.float16
    assert_close(actual, FUSED_OPS["FusedSkipLayerNorm"].reference(*feeds.values(), epsilon=1e-12), "float16")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_bias_gelu(dtype: str, approximate: str) -> None:
    rng = np.random.default_rng(1)
    feeds = {"x": floats(rng, dtype, 3, 7, 33) * np.asarray(3, dtype), "bias": floats(rng, dtype, 33)}
    actual = run_op("FusedBiasGelu", "", feeds, approximate=approximate)
    assert_close(actual, FUSED_OPS["FusedBiasGelu"].reference(*feeds.values(), approximate=approximate), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("has_token_type", [False, True])
def test_embed_layer_norm(dtype: str, has_token_type: bool) -> None:
    rng = np.random.default_rng(2)
    feeds = {
        "input_ids": rng.integers(0, 50, (3, 9), dtype=np.int32),
        "position_ids": np.arange(9, dtype=np.int32)[None],
        "word": floats(rng, dtype, 50, 24),
        "position": floats(rng, dtype, 16, 24),
        "gamma": floats(rng, dtype, 24),
        "beta": floats(rng, dtype, 24),
    }
    if has_token_type:
        feeds |= {"token_type_ids": rng.integers(0, 2, (3, 9), dtype=np.int32), "token_type": floats(rng, dtype, 2, 24)}
    actual = run_op("FusedEmbedLayerNorm", "token_type" if has_token_type else "", feeds, epsilon=1e-12)
    assert_close(actual, FUSED_OPS["FusedEmbedLayerNorm"].reference(*feeds.values(), epsilon=1e-12), dtype)


def test_an_op_without_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a rule of somebody's may add one."""
    op = FusedOp(name="FusedBiasRelu", inputs=("x", "bias"), attributes=(), reference=lambda x, bias: np.maximum(x + bias, 0))
    monkeypatch.setitem(bodies.PLUGIN_OPS, op.name, op)
    monkeypatch.setitem(bodies._BODIES, (op.name, ""), "sum = Add (x, bias) y = Relu (sum)")
    rng = np.random.default_rng(0)
    feeds = {"x": floats(rng, "float32", 2, 3, 4), "bias": floats(rng, "float32", 4)}
    np.testing.assert_allclose(run_op(op.name, "", feeds), op.reference(**feeds))
