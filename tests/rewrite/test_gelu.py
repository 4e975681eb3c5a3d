"""Every spelling of GELU becomes one FusedBiasGelu; what only looks like it stays."""

import math

import onnx_ir as ir
import pytest

from tests.rewrite.graphs import edited, fuse, fused, parse, reasons
from trtbert.ops import FUSED_BIAS_GELU

OP = FUSED_BIAS_GELU.name
ERF = """
    x = Gather (table, input_ids)
    inner = MatMul (x, w)
    biased = Add (b, inner)
    scaled = Div (biased, root_2)
    erf = Erf (scaled)
    plus = Add (erf, one)
    product = Mul (biased, plus)
    y = Mul (product, half)
"""
TANH = """
    x = Gather (table, input_ids)
    inner = MatMul (x, w)
    biased = Add (inner, b)
    cube = Pow (biased, three)
    part = Mul (cube, c)
    sum = Add (biased, part)
    scaled = Mul (sum, root_2_pi)
    tanh = Tanh (scaled)
    plus = Add (one, tanh)
    halved = Mul (biased, half)
    y = Mul (halved, plus)
"""
CONSTANTS = {
    "root_2": math.sqrt(2.0),
    "inverse_root_2": math.sqrt(0.5),
    "root_2_pi": math.sqrt(2.0 / math.pi),
    "one": 1.0,
    "half": 0.5,
    "three": 3.0,
    "c": 0.044715,
    "quick": 1.702,
    "wrong": 0.05,
}
FIRES = {
    "erf": (ERF, "none"),
    "erf, halved first": (
        edited(ERF, product="halved = Mul (half, biased)\n product = Mul (halved, plus)", y="y = Identity (product)"),
        "none",
    ),
    "erf, halved in the middle": (edited(ERF, plus="more = Add (one, erf)\n plus = Mul (more, half)", y="y = Identity (product)"), "none"),
    "erf of a product": (edited(ERF, scaled="scaled = Mul (biased, inverse_root_2)"), "none"),
    "tanh": (TANH, "tanh"),
    "tanh of products": (edited(TANH, cube="square = Mul (biased, biased)\n cube = Mul (square, biased)"), "tanh"),
    "tanh factored": (
        edited(
            TANH, cube="square = Mul (biased, biased)", part="part = Mul (square, c)", sum="f = Add (part, one)\n sum = Mul (biased, f)"
        ),
        "tanh",
    ),
    "Gelu op": ("x = Gather (table, input_ids)\n inner = MatMul (x, w)\n biased = Add (inner, b)\n y = Gelu (biased)", "none"),
}


def _parse(text: str) -> ir.Model:
    return parse(text, weights={"table": (12, 8), "w": (8, 8), "b": (8,), "b_2d": (1, 8), "other": (12, 8)}, constants=CONSTANTS)


@pytest.mark.parametrize("name", FIRES)
def test_fires(name: str) -> None:
    text, approximate = FIRES[name]
    rewritten = fuse(_parse(text))
    assert rewritten.fusions[OP] == 1 and not rewritten.unfused
    node = fused(rewritten, OP)
    assert node.attributes["approximate"].as_string() == approximate
    assert [n.op_type for n in rewritten.model.graph] == ["Gather", "MatMul", OP]


NEAR_MISSES = {
    "a wrong constant beside erf": (edited(ERF, scaled="scaled = Div (biased, one)"), "the nodes around this Erf do not compute x * 0.5"),
    "a wrong constant beside tanh": (edited(TANH, part="part = Mul (cube, wrong)"), "the nodes around this Tanh do not compute x * 0.5"),
    "another factor": (edited(ERF, product="product = Mul (x, plus)"), "the nodes around this Erf do not compute x * 0.5"),
    "no bias": (edited(ERF, biased="biased = Identity (inner)"), "is not a sum of a computed value and a constant bias"),
    "a computed bias": (
        """x = Gather (table, input_ids)
        more = Gather (other, input_ids)
        biased = Add (x, more)
        y = Gelu (biased)""",
        "is not a sum of a computed value and a constant bias",
    ),
    "a bias of two axes": (edited(ERF, biased="biased = Add (inner, b_2d)"), "the bias 'b_2d' has the shape [1,8], not one axis"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_miss(name: str) -> None:
    text, reason = NEAR_MISSES[name]
    (found,) = reasons(fuse(_parse(text)), OP)
    assert reason in found


OTHERS = {
    "quick GELU": edited(
        ERF, scaled="scaled = Mul (biased, quick)", erf="sigmoid = Sigmoid (scaled)", plus="", product="", y="y = Mul (biased, sigmoid)"
    ),
    "SiLU": edited(ERF, scaled="", erf="sigmoid = Sigmoid (biased)", plus="", product="", y="y = Mul (biased, sigmoid)"),
    "ReLU": edited(ERF, scaled="", erf="", plus="", product="", y="y = Relu (biased)"),
    "Tanh of a pooler": edited(ERF, scaled="", erf="tanh = Tanh (biased)", plus="", product="", y="y = MatMul (tanh, w)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_activation_is_left_alone(name: str) -> None:
    rewritten = fuse(_parse(OTHERS[name]))
    assert rewritten.fusions[OP] == 0 and not rewritten.unfused
    assert {"Sigmoid", "Relu", "Tanh"} & {n.op_type for n in rewritten.model.graph}
