"""LayerNorm written in primitives -> one LayerNormalization node; a residual sum before it -> FusedSkipLayerNorm."""

import onnx_ir as ir

from trtbert.ops import FUSED_SKIP_LAYER_NORM, layer_norm
from trtbert.rewrite.probe import Probe
from trtbert.rewrite.rule import Fusion, Rule, check_equal, fused_node
from trtbert.rewrite.walk import Miss, array_of, is_constant, only_use, producer, skip_back, split_constant

_DEFAULT_EPSILON = 1e-5  # of ONNX LayerNormalization


def _scaled(value: ir.Value, op: str) -> tuple[ir.Value, ir.Value] | None:
    """(result, vector) if the one reader of `value` is `op` with a constant vector."""
    node = only_use(value)
    parts = None if node is None or node.op_type != op else split_constant(node)
    if node is None or parts is None or parts[1].shape is None or len(parts[1].shape) != 1:
        return None
    return node.outputs[0], parts[1]


def find_layer_norm(anchor: ir.Node, probe: Probe) -> Fusion | None:
    """From Sqrt(variance + epsilon): (x - mean) / Sqrt * gamma + beta."""
    add = producer(anchor.inputs[0], {"Add"})
    parts = None if add is None else split_constant(add)
    if parts is None or producer(parts[0], {"ReduceMean"}) is None:
        return None  # a square root of something else
    epsilon = probe.scalar(parts[1])
    division = only_use(anchor.outputs[0])
    if epsilon is None or division is None or division.op_type != "Div":
        raise Miss("the root of the variance is not what x - mean is divided by")
    centred = None if division.inputs[0] is None else producer(skip_back(division.inputs[0]), {"Sub"})
    scaled = _scaled(division.outputs[0], "Mul")
    shifted = None if scaled is None else _scaled(scaled[0], "Add")
    if centred is None or scaled is None or shifted is None or centred.inputs[0] is None:
        raise Miss("it is not followed by a product with gamma and a sum with beta")
    x, (output, beta), gamma = centred.inputs[0], shifted, scaled[1]
    proposed = [layer_norm(array, array_of(gamma), array_of(beta), epsilon) for array in probe[x]]
    check_equal("a LayerNormalization", proposed, probe[output])
    node = ir.node("LayerNormalization", [x, gamma, beta], {"axis": -1, "epsilon": epsilon}, name=f"{anchor.name}.layer_norm")
    return Fusion(output, (node,))


def _is_last_axis(anchor: ir.Node) -> bool:
    axis, shape = anchor.attributes.get_int("axis", -1), anchor.outputs[0].shape
    return axis == -1 or (shape is not None and axis == len(shape) - 1)


def epsilon_of(anchor: ir.Node) -> float:
    return anchor.attributes.get_float("epsilon", _DEFAULT_EPSILON)


def find_skip_layer_norm(anchor: ir.Node, probe: Probe) -> Fusion | None:
    """LayerNormalization(x (+ bias) + skip)."""
    total = anchor.inputs[0]
    add = None if total is None else producer(skip_back(total), {"Add"})
    if add is None or any(is_constant(v) for v in add.inputs):
        return None  # the LayerNorm of a head or of the embeddings: no residual
    if len(anchor.inputs) < 3:
        raise Miss("it has no beta")
    if not _is_last_axis(anchor) or not all(is_constant(v) for v in anchor.inputs[1:]):
        raise Miss("it does not normalise the last axis with constant gamma and beta")
    if only_use(add.outputs[0]) is None:
        raise Miss("the sum is read elsewhere too (a LayerNorm before the sub-layer, not after the residual)")
    a, b = (skip_back(v) for v in add.inputs if v is not None)
    if a in probe and b in probe and any(x.shape != y.shape for x, y in zip(probe[a], probe[b], strict=True)):
        raise Miss(f"its two summands have the shapes {probe[a][0].shape} and {probe[b][0].shape}")
    x, skip = (a, b) if _biased(a) is not None else (b, a)
    biased = _biased(x)
    gamma, beta = anchor.inputs[1:3]
    assert gamma is not None and beta is not None
    inputs = [x, skip, gamma, beta] if biased is None else [biased[0], skip, gamma, beta, biased[1]]
    node = fused_node(
        FUSED_SKIP_LAYER_NORM.name,
        inputs,
        {"epsilon": epsilon_of(anchor)},
        overload="" if biased is None else "bias",
        name=f"{anchor.name}.fused",
    )
    return Fusion(anchor.outputs[0], (node,))


def _biased(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """(x, bias) if `value` is a MatMul plus a constant vector that nobody else reads."""
    add = producer(value, {"Add"})
    parts = None if add is None or only_use(value) is None else split_constant(add)
    if parts is None or producer(parts[0], {"MatMul"}) is None or parts[1].shape is None or len(parts[1].shape) != 1:
        return None
    return parts


canonical = Rule(op="LayerNormalization", anchors=frozenset({"Sqrt"}), find=find_layer_norm)
rule = Rule(op=FUSED_SKIP_LAYER_NORM.name, anchors=frozenset({"LayerNormalization"}), find=find_skip_layer_norm)
