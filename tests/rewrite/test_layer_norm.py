"""LayerNorm after a residual sum becomes one FusedSkipLayerNorm; other LayerNorms stay."""

import onnx_ir as ir
import pytest

from tests.rewrite.graphs import edited, fuse, fused, parse, reasons
from trtbert.ops import FUSED_SKIP_LAYER_NORM

OP = FUSED_SKIP_LAYER_NORM.name
NORM = """
    rows = Gather (table, input_ids)
    x = Relu (rows)
    inner = MatMul (x, w)
    biased = Add (b, inner)
    total = Add (biased, x)
    y = LayerNormalization <axis = -1, epsilon: float = 1e-12> (total, gamma, beta)
"""
DECOMPOSED = edited(
    NORM,
    y="""
    mean = ReduceMean (total, last_axis)
    centred = Sub (total, mean)
    squared = Pow (centred, two)
    variance = ReduceMean (squared, last_axis)
    shifted = Add (variance, epsilon)
    deviation = Sqrt (shifted)
    normed = Div (centred, deviation)
    scaled = Mul (normed, gamma)
    y = Add (scaled, beta)
""",
)
"""As exports of opsets below 17 have it."""
WEIGHTS = {"table": (12, 8), "w": (8, 8), "b": (8,), "gamma": (8,), "beta": (8,), "w_beta": (8,), "row": (1, 6, 8)}
CONSTANTS = {"last_axis": [-1], "first_axis": [1], "two": 2.0, "epsilon": 1e-12, "seven": 7.0, "zero": [0]}


def _parse(text: str, outputs: tuple[str, ...] = ("y",)) -> ir.Model:
    return parse(text, weights=WEIGHTS, constants=CONSTANTS, outputs=outputs)


FIRES = {
    "one node": NORM,
    "primitives": DECOMPOSED,
    "primitives with a product": edited(DECOMPOSED, squared="squared = Mul (centred, centred)"),
    "skip first": edited(NORM, total="total = Add (x, biased)"),
}


@pytest.mark.parametrize("name", FIRES)
def test_fires_with_its_epsilon_and_bias(name: str) -> None:
    rewritten = fuse(_parse(FIRES[name]))
    assert rewritten.fusions[OP] == 1 and not rewritten.unfused
    node = fused(rewritten, OP)
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-12, rel=1e-6)
    assert node.overload == "bias" and [v.name for v in node.inputs if v] == ["inner", "x", "gamma", "beta", "b"]
    assert [n.op_type for n in rewritten.model.graph] == ["Gather", "Relu", "MatMul", OP]


def test_without_bias() -> None:
    rewritten = fuse(_parse(edited(NORM, biased="biased = Relu (inner)")))
    assert rewritten.fusions[OP] == 1
    assert (fused(rewritten, OP).overload, len(fused(rewritten, OP).inputs)) == ("", 4)


def test_a_bias_that_is_read_elsewhere_stays_outside() -> None:
    model = _parse(edited(NORM, y="z = Relu (biased)\n y = LayerNormalization <epsilon: float = 1e-5> (total, gamma, beta)"), ("y", "z"))
    rewritten = fuse(model)
    assert rewritten.fusions[OP] == 1
    assert fused(rewritten, OP).overload == ""


NEAR_MISSES = {
    "the sum is read elsewhere": (
        edited(NORM, y="other = Relu (total)\n normed = LayerNormalization (total, gamma, beta)\n y = Add (normed, other)"),
        "the sum is read elsewhere too (a LayerNorm before the sub-layer, not after the residual)",
    ),
    "another axis in primitives": (
        edited(DECOMPOSED, mean="mean = ReduceMean (total, first_axis)", variance="variance = ReduceMean (squared, first_axis)"),
        "a LayerNormalization does not compute what the graph computes (relative error",
    ),
    "mean over another axis": (
        edited(DECOMPOSED, mean="mean = ReduceMean (total, first_axis)"),
        "a LayerNormalization does not compute what the graph computes (relative error",
    ),
    "variance of another tensor": (
        edited(DECOMPOSED, squared="squared = Pow (x, two)"),
        "a LayerNormalization does not compute what the graph computes (relative error",
    ),
    "no beta in primitives": (edited(DECOMPOSED, y="y = Relu (scaled)"), "it is not followed by a product with gamma and a sum with beta"),
    "no beta": (edited(NORM, y="y = LayerNormalization <axis = -1> (total, gamma)"), "it has no beta"),
    "a computed beta": (
        edited(NORM, y="shift = ReduceMax <keepdims = 0> (x, both)\n y = LayerNormalization <axis = -1> (total, gamma, shift)").replace(
            "shift =", "both = Constant <value_ints = [0, 1]> ()\n shift ="
        ),
        "it does not normalise the last axis with constant gamma and beta",
    ),
    "a summand that is broadcast": (
        edited(NORM, total="one_row = Slice (x, zero, one_i)\n total = Add (biased, one_row)").replace(
            "one_row =", "one_i = Constant <value_ints = [1]> ()\n one_row ="
        ),
        "its two summands have the shapes",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_miss(name: str) -> None:
    text, reason = NEAR_MISSES[name]
    found = reasons(fuse(_parse(text)), OP)
    assert any(reason in text for text in found), found


def test_over_two_axes() -> None:
    text = edited(NORM, y="y = LayerNormalization <axis = 1> (total, gamma_SD, gamma_SD)")
    model = parse(text, weights=WEIGHTS | {"gamma_SD": (6, 8)}, constants=CONSTANTS)
    (found,) = reasons(fuse(model), OP)
    assert found == "it does not normalise the last axis with constant gamma and beta"


@pytest.mark.parametrize("total", ["total = Identity (biased)", "total = Relu (biased)"])
def test_a_norm_of_no_residual_is_left_alone(total: str) -> None:
    rewritten = fuse(_parse(edited(NORM, total=total)))
    assert rewritten.fusions[OP] == 0 and not rewritten.unfused


def test_a_root_of_something_else_is_left_alone() -> None:
    rewritten = fuse(_parse("x = Gather (table, input_ids)\n squared = Mul (x, x)\n y = Sqrt (squared)"))
    assert rewritten.fusions[OP] == 0 and not rewritten.unfused
