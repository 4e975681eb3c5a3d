"""GELU written in primitives -> one Gelu node; a bias added before it -> FusedBiasGelu."""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from trtbert.ops import FUSED_BIAS_GELU, fused_bias_gelu
from trtbert.rewrite.probe import Array, Probe, run_node
from trtbert.rewrite.rule import Fusion, Rule, fused_node
from trtbert.rewrite.walk import Miss, constant, is_constant, only_use, producer, skip_back, split_constant

_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Erf", "Tanh", "Neg", "Sqrt", "Cast", "Identity"})
_GRID = np.linspace(-6.0, 6.0, 97, dtype=np.float32)
_MAX_ERROR = 1e-5
_FORMULAS = {
    "none": "x * 0.5 * (1 + erf(x / sqrt(2)))",
    "tanh": "x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))",
}


def _is_scalar(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size == 1


def _region(output: ir.Value) -> tuple[list[ir.Node], set[ir.Value]]:
    """Elementwise nodes of one computed operand behind `output`, and the values that enter them."""
    nodes: dict[ir.Node, None] = {}
    sources: set[ir.Value] = set()

    def visit(value: ir.Value) -> None:
        node = producer(value, _ELEMENTWISE)
        if node is None or any(is_constant(v) and not _is_scalar(v) for v in node.inputs):
            sources.add(value)
        elif node not in nodes:
            for operand in node.inputs:
                if operand is not None and not is_constant(operand):
                    visit(operand)
            nodes[node] = None

    visit(output)
    return list(nodes), sources


def _evaluate(nodes: Collection[ir.Node], source: ir.Value, x: Array) -> Array:
    arrays: dict[ir.Value, Array] = {source: x}
    for node in nodes:
        inputs = [None if v is None else arrays[v] if v in arrays else constant(v) for v in node.inputs]
        arrays[node.outputs[0]] = run_node(node, inputs)[0]
    return arrays[node.outputs[0]]


def _following(node: ir.Node) -> list[ir.Value]:
    """The outputs of `node` and of the elementwise nodes that follow it one by one."""
    values = [node.outputs[0]]
    while (following := only_use(values[-1])) is not None and following.op_type in _ELEMENTWISE and len(values) < 8:
        values.append(following.outputs[0])
    return values


def find_gelu(anchor: ir.Node, probe: Probe) -> Fusion | None:
    """From Erf or Tanh forward: the first value that is GELU of the one value its region starts from."""
    approximate, is_of_one_value = "none" if anchor.op_type == "Erf" else "tanh", False
    for output in _following(anchor)[1:]:
        nodes, sources = _region(output)
        if len(sources) != 1:
            continue
        is_of_one_value = True
        (source,) = sources
        expected = fused_bias_gelu(_GRID, np.zeros(1), approximate=approximate)
        if np.abs(_evaluate(nodes, source, _GRID) - expected).max() <= _MAX_ERROR:
            return Fusion(output, (ir.node("Gelu", [source], {"approximate": approximate}, name=f"{anchor.name}.gelu"),))
    if anchor.op_type == "Tanh" and not is_of_one_value:
        return None  # a pooler or a classification head
    raise Miss(f"the nodes around this {anchor.op_type} do not compute {_FORMULAS[approximate]}")


def find_bias_gelu(anchor: ir.Node, probe: Probe) -> Fusion | None:
    """Gelu(x + bias), bias a vector."""
    source = anchor.inputs[0]
    assert source is not None
    source = skip_back(source)
    add = producer(source, {"Add"})
    parts = None if add is None else split_constant(add)
    if parts is None:
        before = source.producer()
        op = "an input" if before is None else before.op_type
        is_linear = op in {"Add", "MatMul"}  # a head has a Gemm, deberta-v2 a convolution
        raise Miss(f"its input, of {op}, is not a sum of a computed value and a constant bias", is_required=is_linear)
    x, bias = parts
    if bias.shape is None or len(bias.shape) != 1:
        raise Miss(f"the bias {bias.name!r} has the shape {bias.shape}, not one axis")
    approximate = anchor.attributes.get_string("approximate", "none")
    node = fused_node(FUSED_BIAS_GELU.name, [skip_back(x), bias], {"approximate": approximate}, name=f"{anchor.name}.fused")
    return Fusion(anchor.outputs[0], (node,))


canonical = Rule(op="Gelu", anchors=frozenset({"Erf", "Tanh"}), find=find_gelu)
rule = Rule(op=FUSED_BIAS_GELU.name, anchors=frozenset({"Gelu"}), find=find_bias_gelu)
