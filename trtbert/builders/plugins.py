"""Turn the fused nodes of a model into nodes of TensorRT's plugins, and such a graph back into one that runs anywhere.

TensorRT's parser looks a node up by its op type alone: first among ONNX's ops, then among the model's functions, then among the
plugins. So an op that a plugin computes somewhere has no function body in the model, and a node that no plugin takes is inlined.
"""

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from trtbert.bodies import add_functions
from trtbert.builders.lowering import Shared, fused_nodes, lower_node, natives_of, tidy
from trtbert.builders.plugin_int8 import fold_scales, unfold_scales
from trtbert.builders.plugin_limits import INTEGERS, named_inputs, why_no_plugin
from trtbert.config import Target
from trtbert.ops import PLUGIN_OPS
from trtbert.package import Lowering

PLUGIN = "plugin"
"""The name of the lowering; while a model is lowered also the overload of a plugin's node, so that no body is inlined for it."""


def lower_for_plugins(model: ir.Model, target: Target) -> tuple[ir.Model, tuple[Lowering, ...]]:
    """A copy of `model` in which plugins compute what they can, with no function body left, and what became of each fused node.

    A node that no plugin takes becomes what it is without plugins; the record says why.
    """
    lowered = model.clone()
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(lowered)  # a plugin broadcasts less than its body
    shared: Shared = {}
    records = []
    for node in fused_nodes(lowered):
        reason, name = why_no_plugin(node, target), PLUGIN
        if reason is None:
            _make_plugin(lowered.graph, node, shared)
        else:
            name = lower_node(lowered.graph, node, natives_of(target), shared)
        records.append(Lowering(node=node.name or "", op=node.op_type, lowering=name, reason=reason))
    tidy(lowered)
    for node in fused_nodes(lowered):
        node.overload = ""
    return lowered, tuple(records)


def with_bodies(model: ir.Model) -> ir.Model:
    """A copy of a graph with plugins that runs on ONNX Runtime: each of their nodes has its body again, between Q and DQ of its scales."""
    copy = model.clone()
    for node in fused_nodes(copy):
        unfold_scales(node)
        node.overload = PLUGIN_OPS[node.op_type].overload(len(node.inputs), node.attributes)
    add_functions(copy)
    return copy


def _make_plugin(graph: ir.Graph, node: ir.Node, shared: Shared) -> None:
    fold_scales(node)
    inputs = named_inputs(node)
    if "bias" in inputs and "qkv" in inputs:
        _cast_input(graph, node, inputs["bias"], inputs["qkv"].dtype, shared)
    for value in dict.fromkeys(inputs.values()):
        if value.dtype in INTEGERS:
            _cast_input(graph, node, value, ir.DataType.INT32, shared)
    node.overload = PLUGIN


def _cast_input(graph: ir.Graph, node: ir.Node, value: ir.Value, dtype: ir.DataType | None, shared: Shared) -> None:
    """Let the node read `value` as `dtype`, by one Cast for all nodes that do."""
    if value.dtype == dtype:
        return
    assert dtype is not None
    if (value, dtype) not in shared:
        cast = ir.node("Cast", [value], {"to": dtype}, name=f"{value.name}_as_{dtype}")
        cast.outputs[0].name, cast.outputs[0].shape, cast.outputs[0].type = cast.name, value.shape, ir.TensorType(dtype)
        graph.insert_before(node, cast)
        shared[value, dtype] = cast.outputs[0]
    for index, old in enumerate(node.inputs):
        if old is value:
            node.replace_input_with(index, shared[value, dtype])
