"""Which nodes of small graphs are float32, and where Casts go."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tests.numerics import assert_close
from tests.precision.encoder import Array, run, run_half
from tests.precision.lint import num_casts, problems
from trtbert.errors import UnsupportedError
from trtbert.ops import DOMAIN
from trtbert.precision import convert
from trtbert.precision.kinds import Kind, kind_of

W = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((2, 3, 8)).astype(np.float32)


def model(body: str, *, inputs: str = "", **constants: Array | float) -> ir.Model:
    """A graph from x [2,3,8], ids [2] (and `inputs`) to y, with a matrix w [8,8] and `constants` as initializers."""
    arrays = {name: np.asarray(number, np.float32) if isinstance(number, float) else number for name, number in constants.items()}
    arrays = {name: array for name, array in ({"w": W} | arrays).items() if name in body}
    kinds = {np.dtype("float32"): "float", np.dtype("int64"): "int64"}
    shown = "".join(f", {kinds[array.dtype]}{list(array.shape)} {name}" for name, array in arrays.items()).replace("[]", "")
    proto = onnx.parser.parse_model(f"""
<ir_version: 10, opset_import: ["" : 23]>
small (float[2,3,8] x, int64[2] ids{inputs}{shown}) => (float[a,b,c] y) {{ {body} }}""")
    result = ir.from_proto(proto)
    for value in list(result.graph.inputs):
        if value.name in arrays:
            value.const_value = ir.tensor(arrays[value.name], name=value.name)
            result.graph.inputs.remove(value)
            result.graph.register_initializer(value)
    return result


def types(graph: ir.Model) -> dict[str, str]:
    """The type of the first output of each node, by its name."""
    return {node.outputs[0].name: str(node.outputs[0].dtype) for node in graph.graph}


FEED: dict[str, Array] = {"x": X, "ids": np.array([70000, 5])}


def test_sums_before_a_softmax_are_float_and_cost_no_more_casts() -> None:
    small = model("p = MatMul (x, w) q = MatMul (p, w) s = Add (q, c) z = Softmax <axis = -1> (s) y = MatMul (z, w)", c=0.5)
    converted = convert(small, "fp16", [FEED]).model
    assert problems(converted) == []
    assert types(converted)["s"] == "FLOAT"
    assert num_casts(converted) == 4  # x, scores, probabilities, y
    assert_close(run_half(converted, FEED)[0], run(small, FEED)[0], "float16")


def test_a_decomposed_gelu_is_one_float_island() -> None:
    small = model(
        "p = MatMul (x, w) d = Div (p, root) e = Erf (d) a = Add (e, one) m = Mul (p, a) h = Mul (m, half) y = MatMul (h, w)",
        root=2**0.5,
        one=1.0,
        half=0.5,
    )
    converted = convert(small, "fp16", [FEED]).model
    assert problems(converted) == []
    assert [types(converted)[name] for name in "deamh"] == ["FLOAT"] * 5
    assert num_casts(converted) == 4  # x, in, out, y
    assert_close(run_half(converted, FEED)[0], run(small, FEED)[0], "float16")


def test_cheap_arithmetic_between_gemms_is_half() -> None:
    small = model("p = MatMul (x, w) a = Add (p, c) t = Transpose <perm = [0, 2, 1]> (a) r = Relu (t) y = MatMul (r, x)", c=0.5)
    converted = convert(small, "fp16", [FEED]).model
    assert problems(converted) == []
    assert [types(converted)[name] for name in "atr"] == ["FLOAT16"] * 3
    assert num_casts(converted) == 2


def test_what_becomes_an_index_is_exact() -> None:
    # 70000 / 4 = 17500 needs more than 11 bits, and is no half at all before the division.
    body = "f = Cast <to = 1> (ids) d = Mul (f, c) e = Add (d, c) i = Cast <to = 7> (e) g = Cast <to = 1> (i) y = MatMul (x, w)"
    small = model(body, c=0.25)
    small.graph.outputs.append(small.graph.node(4).outputs[0])
    small.graph.outputs[1].type, small.graph.outputs[1].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([2])
    converted = convert(small, "fp16", [FEED]).model
    assert problems(converted) == []
    assert run_half(converted, FEED)[1].tolist() == run(small, FEED)[1].tolist() == [17500.0, 1.0]


def test_a_product_over_one_element_is_no_gemm() -> None:
    frequency = np.array([[[1.0], [0.1], [0.01], [0.001]]], np.float32)
    small = model(
        "f = Cast <to = 1> (ids) p = Unsqueeze (f, axes) a = MatMul (frequency, p) y = Cos (a)", axes=np.array([0, 1]), frequency=frequency
    )
    converted = convert(small, "fp16", [FEED]).model
    assert problems(converted) == []
    assert_close(run(converted, FEED)[0], np.cos(frequency * FEED["ids"]), "float16")


@pytest.mark.parametrize("lowest", [-3.4028235e38, -1e9, -1e4])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_additive_mask_never_becomes_infinite(precision: str, lowest: float) -> None:
    body = """p = MatMul (x, w) f = Cast <to = 1> (mask) n = Sub (one, f) m = Mul (n, lowest)
    q = Unsqueeze (p, axis) a = Attention <scale = 0.3> (q, q, q, m) s = Squeeze (a, axis) y = MatMul (s, w)"""
    small = model(body, inputs=", int32[1,1,3,3] mask", one=1.0, lowest=lowest, axis=np.array([1]))
    feed = FEED | {"mask": np.array([[[[1, 1, 0], [1, 0, 1], [0, 0, 0]]]], np.int32)}
    unpadded = feed | {"mask": np.ones((1, 1, 3, 3), np.int32)}
    converted = convert(small, precision, [unpadded]).model
    assert problems(converted) == []
    attention = next(node for node in converted.graph if node.op_type == "Attention")
    mask = run_half_value(converted, attention.inputs[3].name, feed)
    assert np.isfinite(mask).all() and mask.min() <= -9e3
    rows = slice(0, 2)  # the last is wholly masked: finite, no more is asked
    actual, expected = run_half(converted, feed)[0], run(small, feed)[0]
    assert np.isfinite(actual).all()
    assert_close(actual[:, rows], expected[:, rows], "float16" if precision == "fp16" else "bfloat16")


def run_half_value(graph: ir.Model, name: str, feed: dict[str, Array]) -> Array:
    """One inner tensor of a 16-bit model."""
    graph = graph.clone()
    value = next(v for node in graph.graph for v in node.outputs if v.name == name)
    wide = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
    wide.outputs[0].name, wide.outputs[0].dtype = "wide", ir.DataType.FLOAT
    graph.graph.append(wide)
    graph.graph.outputs.append(wide.outputs[0])
    return run_half(graph, feed)[-1]


def test_an_epsilon_is_not_flushed() -> None:
    small = model("p = MatMul (x, w) z = Mul (p, zero) a = Add (z, eps) d = Div (eps, a) y = Add (d, zero)", zero=0.0, eps=1e-12)
    converted = convert(small, "fp16", [FEED]).model
    assert problems(converted) == []
    np.testing.assert_allclose(run_half(converted, FEED)[0], 1.0)


def test_control_flow_with_floats_is_refused() -> None:
    small = model("""c = Constant <value_int = 1> () b = Cast <to = 9> (c)
    y = If (b) <then_branch = t () => (float[a,b,c] u) { u = MatMul (x, w) }, else_branch = e () => (float[a,b,c] v) { v = Neg (x) }>""")
    with pytest.raises(UnsupportedError, match=r"computes with floats under control flow.*--precision fp32"):
        convert(small, "fp16", [FEED])


def test_a_half_model_is_refused() -> None:
    small = model("h = Cast <to = 10> (x) y = Cast <to = 1> (h)")
    with pytest.raises(UnsupportedError, match="not float32"):
        convert(small, "fp16", [FEED])


def test_an_op_that_nobody_knows_stays_in_float32() -> None:
    """Fused or not."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT))
    for op_type, domain in (("FusedBiasRelu", DOMAIN), ("SomeOp", "")):
        assert kind_of(ir.node(op_type, [x], domain=domain)) is Kind.FLOAT
