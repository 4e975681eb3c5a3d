"""Which attention becomes one FusedQkvAttention, and which is left alone and why. Legend: B batch, S sequence, D 8, N 2 heads, H 4."""

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.rewrite.graphs import edited, fuse, fused, parse, reasons
from trtbert.ops import FUSED_QKV_ATTENTION
from trtbert.rewrite.attention import _prove
from trtbert.rewrite.probe import Probe
from trtbert.rewrite.walk import Miss

OP = FUSED_QKV_ATTENTION.name
GRAPH = """
    x = Gather (table, input_ids)
    q_MM = MatMul (x, wq)
    q_BSD = Add (q_MM, bq)
    q_BSNH = Reshape (q_BSD, split)
    q = Transpose <perm = [0, 2, 1, 3]> (q_BSNH)
    k_MM = MatMul (x, wk)
    k_BSD = Add (bk, k_MM)
    k_BSNH = Reshape (k_BSD, split)
    k = Transpose <perm = [0, 2, 3, 1]> (k_BSNH)
    v_MM = MatMul (x, wv)
    v_BSD = Add (v_MM, bv)
    v_BSNH = Reshape (v_BSD, split)
    v = Transpose <perm = [0, 2, 1, 3]> (v_BSNH)
    raw = MatMul (q, k)
    scores = Div (raw, root)
    mask_B11S = Unsqueeze (attention_mask, axes)
    mask = Cast <to = 1> (mask_B11S)
    inverse = Sub (one, mask)
    additive = Mul (inverse, lowest)
    masked = Add (scores, additive)
    probs = Softmax <axis = -1> (masked)
    context = MatMul (probs, v)
    context_BSNH = Transpose <perm = [0, 2, 1, 3]> (context)
    y = Reshape (context_BSNH, merge)
"""
"""Eager attention as TorchScript writes it."""
POSITIONS = """
    length = Shape <start = 1, end = 2> (input_ids)
    last = Squeeze (length, axis_0)
    steps = Range (i0, last, i1)
    rows = Unsqueeze (steps, axis_1)
    columns = Unsqueeze (steps, axis_0)
    full = Concat <axis = 0> (ones_2, length, length)
"""
"""rows [S,1] and columns [1,S] of the scores."""
STANDARD = edited(
    GRAPH,
    k="k = Transpose <perm = [0, 2, 1, 3]> (k_BSNH)",
    raw=POSITIONS,
    scores="",
    masked="keep = Cast <to = 9> (mask_B11S)\n pairs = Expand (keep, full)",
    probs="",
    context="context = Attention <scale: float = 0.5> (q, k, v, pairs)",
)
"""Attention as the dynamo exporter writes it at opset 23."""
WEIGHTS = {
    "table": (12, 8),
    "wq": (8, 8),
    "wk": (8, 8),
    "wv": (8, 8),
    "bq": (8,),
    "bk": (8,),
    "bv": (8,),
    "table_2": (12, 8),
    "distance": (16, 2),
}
CONSTANTS: dict[str, Any] = {
    "split": [0, 0, 2, 4],
    "merge": [0, 0, -1],
    "root": 2.0,
    "half": 0.5,
    "fourth_root": math.sqrt(2.0),
    "axes": [1, 2],
    "one": 1.0,
    "lowest": float(np.finfo(np.float32).min),
    "ones_2": [1, 1],
    "minus_inf": -math.inf,
    "zero": 0.0,
    "minus_five": -5.0,
    "i0": 0,
    "i1": 1,
    "axis_0": [0],
    "axis_1": [1],
    "temperatures": np.array([1.0, 0.5], np.float32).reshape(1, 2, 1, 1),
    "unsqueezed_0": [0],
    "axis_last": [3],
}


def _parse(text: str) -> ir.Model:
    return parse(text, weights=WEIGHTS, constants=CONSTANTS)


FIRES = {
    "eager": GRAPH,
    "scores multiplied": edited(GRAPH, scores="scores = Mul (half, raw)"),
    "scaled twice by numbers": edited(GRAPH, scores="part = Mul (raw, half)\n scores = Mul (part, half)"),
    "query scaled": edited(GRAPH, raw="q_half = Mul (q, half)\n raw = MatMul (q_half, k)", scores="scores = Identity (raw)"),
    "query and key scaled": edited(
        GRAPH, raw="q_4 = Div (q, fourth_root)\n k_4 = Div (k, fourth_root)\n raw = MatMul (q_4, k_4)", scores="scores = Identity (raw)"
    ),
    "not scaled": edited(GRAPH, scores="scores = Identity (raw)"),
    "mask selects": edited(
        GRAPH, masked="keep = Cast <to = 9> (mask_B11S)\n masked = Where (keep, scores, lowest)", additive="", inverse="", mask=""
    ),
    "mask rejects": edited(GRAPH, masked="drop = Cast <to = 9> (inverse)\n masked = Where (drop, minus_inf, scores)", additive=""),
    "mask of -10000": edited(
        GRAPH, additive="ten_thousand = Constant <value_float = -10000.0> ()\n additive = Mul (inverse, ten_thousand)"
    ),
    "mask for every query": edited(GRAPH, masked=f"{POSITIONS} wide = Expand (additive, full)\n masked = Add (scores, wide)"),
    "guard against NaN": edited(GRAPH, context="nan = IsNaN (probs)\n safe = Where (nan, zero, probs)\n context = MatMul (safe, v)"),
    "no bias in one projection": edited(GRAPH, k_BSD="k_BSD = Identity (k_MM)"),
    "Attention-23": STANDARD,
    "Attention-23 with an additive mask": edited(
        STANDARD, context="wide = Expand (additive, full)\n context = Attention <scale: float = 0.5> (q, k, v, wide)"
    ),
}


@pytest.mark.parametrize("name", FIRES)
def test_fires(name: str) -> None:
    rewritten = fuse(_parse(FIRES[name]))
    assert rewritten.fusions[OP] == 1 and not rewritten.unfused
    node = fused(rewritten, OP)
    assert [node.attributes[key].as_int() for key in ("num_heads", "head_size")] == [2, 4]
    scale = {"scaled twice by numbers": 0.25, "not scaled": 1.0}.get(name, 0.5)
    assert node.attributes["scale"].as_float() == pytest.approx(scale, rel=1e-6)
    ops = [n.op_type for n in rewritten.model.graph]
    assert (ops.count("MatMul"), ops.count("Softmax"), ops.count("Attention")) == (1, 0, 0)
    weight = next(n for n in rewritten.model.graph if n.op_type == "MatMul").inputs[1]
    assert weight is not None and weight.const_value is not None and tuple(weight.const_value.shape) == (8, 24)
    assert [value.name for value in node.inputs[1:] if value is not None] == ["attention_mask"]


def test_without_any_bias_there_is_no_add() -> None:
    rewritten = fuse(
        _parse(edited(GRAPH, q_BSD="q_BSD = Identity (q_MM)", k_BSD="k_BSD = Identity (k_MM)", v_BSD="v_BSD = Identity (v_MM)"))
    )
    assert rewritten.fusions[OP] == 1
    assert "Add" not in [n.op_type for n in rewritten.model.graph]


def test_a_model_that_attends_to_padding_gets_a_mask_of_ones() -> None:
    text = edited(GRAPH, masked="masked = Identity (scores)", additive="", inverse="", mask="", mask_B11S="")
    rewritten = fuse(_parse(text))
    assert rewritten.fusions[OP] == 1
    assert [n.op_type for n in rewritten.model.graph].count("ConstantOfShape") == 1


BIAS = """
    difference = Sub (columns, rows)
    apart = Abs (difference)
    bias_SSN = Gather (distance, apart)
    bias_NSS = Transpose <perm = [2, 0, 1]> (bias_SSN)
    bias = Unsqueeze (bias_NSS, unsqueezed_0)
"""


@pytest.mark.parametrize("text", [GRAPH, STANDARD], ids=["eager", "Attention-23"])
def test_a_position_bias_becomes_the_third_input(text: str) -> None:
    if text is STANDARD:
        context = "both = Add (bias, additive)\n context = Attention <scale: float = 0.5> (q, k, v, both)"
        text = edited(STANDARD, context=BIAS + context)
    else:
        text = edited(GRAPH, masked=f"{POSITIONS}{BIAS} padded = Add (scores, additive)\n masked = Add (padded, bias)")
    rewritten = fuse(_parse(text))
    assert rewritten.fusions[OP] == 1
    node = fused(rewritten, OP)
    assert node.overload == "bias" and len(node.inputs) == 3
    assert node.inputs[2] is not None and node.inputs[2].name == "bias"


CAUSAL = POSITIONS + "allowed = GreaterOrEqual (rows, columns)\n"
NEITHER = "is neither the padding mask nor a [1,N,S,S] position bias"
NEAR_MISSES = {
    "causal mask added": (
        edited(
            GRAPH,
            masked=f"{CAUSAL} triangle = Where (allowed, zero, lowest)\n padded = Add (scores, additive)\n masked = Add (padded, triangle)",
        ),
        f"the summand 'triangle' of the scores {NEITHER}",
    ),
    "causal mask joined with the padding": (
        edited(
            GRAPH,
            masked=f"{CAUSAL} triangle = Where (allowed, zero, lowest)\n both = Min (triangle, additive)\n masked = Add (scores, both)",
        ),
        f"the summand 'both' of the scores {NEITHER}",
    ),
    "causal condition": (
        edited(GRAPH, masked=f"{CAUSAL} masked = Where (allowed, scores, lowest)", additive="", inverse="", mask="", mask_B11S=""),
        "the condition 'allowed' is not the attention mask over the keys (a causal or a local mask?)",
    ),
    "causal attribute": (
        edited(STANDARD, context="context = Attention <scale: float = 0.5, is_causal = 1> (q, k, v, pairs)"),
        "it is causal or caps its scores",
    ),
    "capped scores": (
        edited(STANDARD, context="context = Attention <scale: float = 0.5, softcap: float = 30.0> (q, k, v, pairs)"),
        "it is causal or caps its scores",
    ),
    "mask after the softmax": (
        edited(
            GRAPH,
            masked="masked = Identity (scores)",
            context="late_mask = Mul (inverse, minus_five)\n late = Add (probs, late_mask)\n context = MatMul (late, v)",
        ),
        "node 'late' (Add) changes or reads the weights after the softmax (a mask added after it?)",
    ),
    "mask over the queries": (
        edited(GRAPH, additive="over_queries = Transpose <perm = [0, 1, 3, 2]> (inverse)\n additive = Mul (over_queries, lowest)"),
        f"the summand 'additive' of the scores {NEITHER}",
    ),
    "mask that hides what it should show": (
        edited(GRAPH, inverse="inverse = Identity (mask)"),
        f"the summand 'additive' of the scores {NEITHER}",
    ),
    "a weak mask": (
        edited(
            GRAPH, masked="keep = Cast <to = 9> (mask_B11S)\n masked = Where (keep, scores, minus_five)", additive="", inverse="", mask=""
        ),
        "puts numbers above -1000 in the place of scores",
    ),
    "bias that depends on the text": (
        edited(
            GRAPH,
            masked="""per_text = Gather (distance, input_ids)
            per_text_BNS = Transpose <perm = [0, 2, 1]> (per_text)
            per_text_BNS1 = Unsqueeze (per_text_BNS, axis_last)
            padded = Add (scores, additive)
            masked = Add (padded, per_text_BNS1)""",
        ),
        f"the summand 'per_text_BNS1' of the scores {NEITHER}",
    ),
    "a scale for each head": (
        edited(GRAPH, scores="part = Mul (raw, temperatures)\n scores = Div (part, root)"),
        "no summand of node 'masked' (Add) is query times key, scaled by one number",
    ),
    "a tensor of scores multiplied": (
        edited(GRAPH, scores="part = Div (raw, root)\n scores = Mul (part, part)"),
        "no summand of node 'masked' (Add) is query times key, scaled by one number",
    ),
    "two products": (
        edited(GRAPH, scores="first = Div (raw, root)\n second = MatMul (q, k)\n scores = Add (first, second)"),
        "adds 2 products: more than query times key enters the scores",
    ),
    "query of another tensor": (
        edited(GRAPH, q_MM="other = Gather (table_2, input_ids)\n q_MM = MatMul (other, wq)"),
        "query, key and value are not projections of one tensor to fitting widths (8, 8, 8)",
    ),
    "a norm on the query": (
        edited(GRAPH, q_BSNH="positive = Relu (q_BSD)\n q_BSNH = Reshape (positive, split)"),
        "(Relu) stands between the query's projection and the scores",
    ),
    "value scaled": (
        edited(GRAPH, context="v_2 = Mul (v, root)\n context = MatMul (probs, v_2)"),
        "or its value is scaled by 2.0",
    ),
    "heads of the value interleaved": (
        edited(
            GRAPH,
            v_BSNH="swapped = Constant <value_ints = [0, 0, 4, 2]> ()\n v_BSHN = Reshape (v_BSD, swapped)",
            v="v = Transpose <perm = [0, 3, 1, 2]> (v_BSHN)",
        ),
        "a FusedQkvAttention does not compute what the graph computes (relative error",
    ),
    "softmax over the queries": (
        edited(GRAPH, probs="probs = Softmax <axis = -2> (masked)"),
        "a FusedQkvAttention does not compute what the graph computes (relative error",
    ),
    "weighted values not merged": (
        edited(GRAPH, context_BSNH="doubled = Add (context, context)\n context_BSNH = Transpose <perm = [0, 2, 1, 3]> (doubled)"),
        "its weighted values are not laid out as [batch, sequence, heads * head size]",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_miss(name: str) -> None:
    text, reason = NEAR_MISSES[name]
    rewritten = fuse(_parse(text))
    (found,) = reasons(rewritten, OP)
    assert reason in found
    assert [n.op_type for n in rewritten.model.graph if n.op_type in ("Softmax", "Attention")]


def test_the_softmax_of_a_head_is_no_attention() -> None:
    rewritten = fuse(
        _parse("x = Gather (table, input_ids)\n logits = MatMul (x, wq)\n biased = Add (logits, bq)\n y = Softmax <axis = -1> (biased)")
    )
    assert rewritten.fusions[OP] == 0 and not rewritten.unfused


def test_the_proof_tells_key_from_value() -> None:
    """Right wiring passes, and the same with the weights of two projections swapped does not."""
    model = _parse(GRAPH)
    probe, values = Probe(model.graph), {str(v.name): v for n in model.graph for v in (*n.inputs, *n.outputs) if v is not None}
    weights = [np.asarray(values[name].const_value) for name in ("wq", "wk", "wv")]
    biases = [np.asarray(values[name].const_value) for name in ("bq", "bk", "bv")]
    attributes: dict[str, int | float] = {"num_heads": 2, "head_size": 4, "scale": 0.5}

    def prove(order: list[int], **changes: float) -> None:
        chosen = [weights[i] for i in order], [biases[i] for i in order]
        _prove(values["x"], *chosen, True, None, attributes | changes, values["y"], probe)

    prove([0, 1, 2])
    for order in ([0, 2, 1], [2, 1, 0]):
        with pytest.raises(Miss, match="does not compute what the graph computes"):
            prove(order)
    with pytest.raises(Miss, match="does not compute what the graph computes"):
        prove([0, 1, 2], scale=0.45)
