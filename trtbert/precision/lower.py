"""Rewrite each node of a prepared graph for the types that the plan chose."""

import onnx_ir as ir

from trtbert.ops import FUSED_EMBED_LAYER_NORM, FUSED_SKIP_LAYER_NORM
from trtbert.precision.attention import lower_attention, lower_fused_attention
from trtbert.precision.forms import Forms
from trtbert.precision.gemm import lower_gemm
from trtbert.precision.kinds import Kind, is_float
from trtbert.precision.plan import Plan
from trtbert.precision.scan import Peaks

_GAMMA = {op.name: op.inputs.index("gamma") for op in (FUSED_SKIP_LAYER_NORM, FUSED_EMBED_LAYER_NORM)}
_SCALED = {Kind.GEMM: lower_gemm, Kind.ATTENTION: lower_attention, Kind.FUSED_ATTENTION: lower_fused_attention}


def lower(graph: ir.Graph, plan: Plan, peaks: Peaks, forms: Forms) -> list[str]:
    """Walk `graph` in its order, once; gives a note for each node that was scaled."""
    notes = []
    floats = {value for node in graph for value in (*node.inputs, *node.outputs) if value is not None and is_float(value)}
    for value in graph.inputs:
        if value in floats:
            forms.put_float(value)
    for node in list(graph):
        if (scaled := _SCALED.get(plan.kinds[node])) is not None:
            notes.append(scaled(node, forms, peaks))
        elif plan.kinds[node] is not Kind.OTHER:
            _lower_other(node, floats, forms, is_float_node=node in plan.nodes, kind=plan.kinds[node])
    _restore_outputs(graph, floats, forms)
    return [note for note in notes if note is not None]


def _lower_other(node: ir.Node, floats: set[ir.Value], forms: Forms, *, is_float_node: bool, kind: Kind) -> None:
    inputs = {index: value for index, value in enumerate(node.inputs) if value is not None and value in floats}
    for index, value in inputs.items():
        if not _is_typed(node, index, kind):
            node.replace_input_with(index, forms.native(value, node))
        elif is_float_node:
            node.replace_input_with(index, forms.floating(value, node))
        else:
            node.replace_input_with(index, forms.half(value, node))
    for value in node.outputs:
        if value not in floats:
            continue
        if is_float_node:
            forms.put_float(value)
        else:
            forms.put_half(value)
    if node.op_type == "ConstantOfShape" and not is_float_node and "value" in node.attributes:
        tensor = ir.tensor(forms.format.rounded(node.attributes.get_tensor("value").numpy()))
        node.attributes["value"] = ir.AttrTensor("value", tensor)


def _is_typed(node: ir.Node, index: int, kind: Kind) -> bool:
    """Whether the input has to have the type of the node: of a fused op, the one that gives the result its type."""
    match kind:
        case Kind.SHAPE:
            return False
        case Kind.FUSED_GELU:
            return index == 0
        case Kind.FUSED_LAYER_NORM:
            return index in (_GAMMA[node.op_type], _GAMMA[node.op_type] + 1)
    return True


def _restore_outputs(graph: ir.Graph, floats: set[ir.Value], forms: Forms) -> None:
    """Give the graph's outputs back in float32, under their names."""
    for index, value in enumerate(list(graph.outputs)):
        if value not in floats or value.producer() is None:
            continue
        result = forms.floating(value, None)
        if result is not value and result not in graph.outputs:
            value.name, result.name = f"{value.name}_{forms.format.name}", value.name
        result.shape = value.shape
        graph.outputs[index] = result
