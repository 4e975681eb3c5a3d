"""Q and DQ beside a plugin become its scales where it can read or write INT8, and the graph still computes the same to the last bit."""

import numpy as np
import onnx_ir as ir
import pytest

from tests.builders.onnx_text import Feeds, ops, parse, run
from trtbert.builders.plugin_limits import named_inputs
from trtbert.builders.plugins import lower_for_plugins, with_bodies
from trtbert.ops import DOMAIN, PLUGIN_OPS

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 3).astype(np.float32)


def lowered(graph: str, given: Feeds) -> tuple[list[str], dict[str, float]]:
    """The ops, and the scales of the one plugin; what runs instead of it gives the same bits."""
    model = parse(graph)
    result, (record,) = lower_for_plugins(model, "sm75")
    assert record.lowering == "plugin"
    (node,) = (node for node in result.graph if node.domain == DOMAIN)
    scales = {name: round(node.attributes[name].as_float(), 4) for name in PLUGIN_OPS[node.op_type].io_scales if name in node.attributes}
    assert {name for name, value in named_inputs(node).items() if is_int8(value)} == {name.removesuffix("_scale") for name in scales} - {
        "y"
    }
    assert is_int8(node.outputs[0]) == ("y_scale" in scales)
    twin = with_bodies(result)
    assert DOMAIN in twin.graph.opset_imports and not any(is_int8(v) for n in twin.graph if n.domain for v in (*n.inputs, *n.outputs))
    for actual, expected in zip(run(twin, given), run(model, given), strict=True):
        assert actual.dtype == expected.dtype and actual.tolist() == expected.tolist()
    return ops(result), scales


def is_int8(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.INT8


def gelu(readers: str, outputs: str = "float[b,s,8] y", more: str = "") -> str:
    """GELU, then Q, then what reads them."""
    return f"""g (float[b,s,8] x, float[8] bias) => ({outputs})
    <float scale = {{0.05}}, int8 zero = {{0}}, float[b,s,8] gelu, int8[b,s,8] q {more}>
    {{ gelu = trtbert.FusedBiasGelu <approximate = "none"> (x, bias)
       {readers} }}"""


Q, DQ = "q = QuantizeLinear (gelu, scale, zero)", "y = DequantizeLinear (q, scale, zero)"
GELU_FEEDS: Feeds = {"x": floats(2, 3, 8), "bias": floats(8)}


def test_a_plugin_that_only_q_reads_writes_int8() -> None:
    assert lowered(gelu(f"{Q} {DQ}"), GELU_FEEDS) == (["FusedBiasGelu", "DequantizeLinear"], {"y_scale": 0.05})


def test_two_readers_of_one_q() -> None:
    graph = gelu(f"{Q} {DQ} z = DequantizeLinear (q, scale, zero)", "float[b,s,8] y, float[b,s,8] z")
    assert lowered(graph, GELU_FEEDS)[1] == {"y_scale": 0.05}


@pytest.mark.parametrize(
    "graph",
    [
        gelu(f"{Q} {DQ} z = Identity (gelu)", "float[b,s,8] y, float[b,s,8] z"),
        gelu(f"{Q} {DQ}", "float[b,s,8] y, float[b,s,8] gelu"),
        gelu(f"shifted = Sub (gelu, scale) {Q.replace('gelu', 'shifted')} {DQ}", more=", float[b,s,8] shifted"),
        gelu(f"{Q} {DQ}").replace("int8 zero = {0}", "int8 zero = {1}"),
        gelu(f"{Q} {DQ}").replace("int8 zero", "uint8 zero").replace("int8[b,s,8] q", "uint8[b,s,8] q"),
        gelu(f"{Q.replace('QuantizeLinear', 'QuantizeLinear <axis = 2>')} {DQ.replace('DequantizeLinear', 'DequantizeLinear <axis = 2>')}")
        .replace("float scale = {0.05}", "float[8] scale = {0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2}")
        .replace("int8 zero = {0}", "int8[8] zero = {0, 0, 0, 0, 0, 0, 0, 0}"),
    ],
    ids=["another reader", "an output of the graph", "a shift before Q", "a zero point", "uint8", "a scale for each column"],
)
def test_near_misses_write_floats(graph: str) -> None:
    names, scales = lowered(graph, GELU_FEEDS)
    assert scales == {} and "QuantizeLinear" in names


def dequantized(name: str, scale: str = "scale") -> str:
    return f"{name} = DequantizeLinear ({name}_q, {scale}, zero)"


SKIP = """g (int8[b,s,8] x_q, {skip}[b,s,8] {skip_name}, float[8] gamma, float[8] beta) => (float[b,s,8] y)
<float scale = {{0.05}}, float other = {{0.125}}, int8 zero = {{0}}, float[b,s,8] x {more}>
{{ {dq} y = trtbert.FusedSkipLayerNorm <epsilon = 1e-5> (x, skip, gamma, beta) }}"""


def test_a_plugin_reads_int8_where_all_of_its_tensors_are() -> None:
    graph = "g (int8[b,s,8] x_q, float[8] bias) => (float[b,s,8] y) <float scale = {0.05}, int8 zero = {0}, float[b,s,8] x>"
    graph += f'{{ {dequantized("x")} y = trtbert.FusedBiasGelu <approximate = "tanh"> (x, bias) }}'
    integers = RNG.integers(-128, 128, (2, 3, 8), dtype=np.int8)
    assert lowered(graph, {"x_q": integers, "bias": floats(8)}) == (["FusedBiasGelu"], {"x_scale": 0.05})
    given: Feeds = {"x_q": integers, "skip_q": integers[::-1].copy(), "gamma": floats(8), "beta": floats(8)}
    both = SKIP.format(skip="int8", skip_name="skip_q", more=", float[b,s,8] skip", dq=dequantized("x") + dequantized("skip", "other"))
    assert lowered(both, given) == (["FusedSkipLayerNorm"], {"x_scale": 0.05, "skip_scale": 0.125})
    one = SKIP.format(skip="float", skip_name="skip", more="", dq=dequantized("x"))
    given["skip"] = floats(2, 3, 8)
    del given["skip_q"]
    assert lowered(one, given) == (["DequantizeLinear", "FusedSkipLayerNorm"], {})


def test_embeddings_read_int8_tables_of_one_scale() -> None:
    graph = f"""g (int32[b,s] ids, int32[1,s] positions, int8[9,8] word_q, int8[5,8] position_q, float[8] gamma, float[8] beta)
    => (float[b,s,8] y)
    <float scale = {{0.05}}, float other = {{0.125}}, int8 zero = {{0}}, float[9,8] word, float[5,8] position,
     float[b,s,8] e, int8[b,s,8] q>
    {{ {dequantized("word")} {dequantized("position", "other")}
       e = trtbert.FusedEmbedLayerNorm <epsilon = 1e-5> (ids, positions, word, position, gamma, beta)
       q = QuantizeLinear (e, scale, zero) y = DequantizeLinear (q, scale, zero) }}"""
    tables = {name: RNG.integers(-128, 128, (rows, 8), dtype=np.int8) for name, rows in (("word_q", 9), ("position_q", 5))}
    ids = {"ids": np.array([[8, 0, 3], [1, 1, 7]], np.int32), "positions": np.array([[4, 0, 2]], np.int32)}
    names, scales = lowered(graph, {**ids, **tables, "gamma": floats(8), "beta": floats(8)})
    assert names == ["FusedEmbedLayerNorm", "DequantizeLinear"]
    assert scales == {"word_scale": 0.05, "position_scale": 0.125, "y_scale": 0.05}


@pytest.mark.parametrize("has_bias", [False, True])
def test_attention_keeps_its_products_in_int8_and_writes_int8(has_bias: bool) -> None:
    parts, bias = ("bias_int8", ", bias") if has_bias else ("int8", "")
    graph = f"""g (float[b,s,48] qkv, int32[b,s] mask {", float[1,2,s,s] bias" if has_bias else ""}) => (float[b,s,16] y)
    <float scale = {{0.05}}, int8 zero = {{0}}, float[b,s,16] c, int8[b,s,16] q>
    {{ c = trtbert.FusedQkvAttention:{parts} <num_heads = 2, head_size = 8, scale = 0.3, q_scale = 0.0625, k_scale = 0.0625,
           v_scale = 0.03125, probability_scale = 0.0078125> (qkv, mask {bias})
       q = QuantizeLinear (c, scale, zero) y = DequantizeLinear (q, scale, zero) }}"""
    given: Feeds = {"qkv": floats(2, 3, 48), "mask": np.array([[1, 0, 1], [0, 1, 1]], np.int32)}
    if has_bias:
        given["bias"] = floats(1, 2, 3, 3)
    names, scales = lowered(graph, given)
    assert names == ["FusedQkvAttention", "DequantizeLinear"]
    assert scales == {"y_scale": 0.05}


TWO_READERS = """
g (int8[b,s,8] q, float[8] bias) => (float[b,s,8] y, float[b,s,8] z, float[b,s,8] w)
<float scale = {0.05}, int8 zero = {0}>
{ x = DequantizeLinear (q, scale, zero)
  y = trtbert.FusedBiasGelu <approximate: string = "none"> (x, bias)
  z = trtbert.FusedBiasGelu <approximate: string = "tanh"> (x, bias)
  w = trtbert.FusedSkipLayerNorm <epsilon: float = 1e-5> (x, x, bias, bias) }
"""


def test_a_tensor_that_many_plugins_read() -> None:
    model = parse(TWO_READERS)
    result, records = lower_for_plugins(model, "sm75")
    assert [record.lowering for record in records] == 3 * ["plugin"]
    assert [sorted(name for name in node.attributes if name.endswith("_scale")) for node in result.graph if node.domain == DOMAIN] == [
        ["x_scale"],
        ["x_scale"],
        ["skip_scale", "x_scale"],
    ]
    given: Feeds = {"q": RNG.integers(-128, 128, (2, 3, 8)).astype(np.int8), "bias": floats(8)}
    for actual, expected in zip(run(with_bodies(result), given), run(model, given), strict=True):
        assert actual.tolist() == expected.tolist()
