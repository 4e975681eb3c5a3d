"""Bring a float32 graph into the form that the other modules of this stage read: typed, flat, constants as initializers."""

import onnx_ir as ir
import onnx_ir.passes.common as passes

from trtbert.errors import UnsupportedError
from trtbert.ops import DOMAIN
from trtbert.precision.kinds import is_float


def prepared(model: ir.Model) -> ir.Model:
    """A copy of `model` (weights shared) with every value typed, no local function but the fused ops', no Constant node.

    Raises UnsupportedError for control flow with floats in it and for graphs that are not float32.
    """
    model = model.clone()
    passes.InlinePass(criteria=lambda function: function.domain != DOMAIN)(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for node in list(model.graph):
        _check(node)
        _infer_fused(node)
        _replace_float_cast(node)
        _replace_outer_product(node)
    return model


def _check(node: ir.Node) -> None:
    for graph in _subgraphs(node):
        if any(_needs_conversion(inner, graph) for inner in graph.all_nodes()):
            raise UnsupportedError(
                f"Node {node.name!r} ({node.op_type}) computes with floats under control flow, which cannot be converted to "
                "16-bit floats. Export the model without control flow, or compile it with --precision fp32."
            )
    for value in node.outputs:
        if value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
            raise UnsupportedError(
                f"The graph is not float32: {value.name!r} is {value.dtype}. Give the float32 model; trtbert does the conversion."
            )


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    graphs = [attribute.as_graph() for attribute in node.attributes.values() if attribute.type == ir.AttributeType.GRAPH]
    return graphs + [graph for a in node.attributes.values() if a.type == ir.AttributeType.GRAPHS for graph in a.as_graphs()]


def _needs_conversion(inner: ir.Node, graph: ir.Graph) -> bool:
    """Whether a node of a branch is a GEMM or reads a float from outside; a branch without (relative positions) stays as it is."""
    if inner.op_type in ("Gemm", "MatMul", "Attention"):
        return True
    return any(is_float(value) and value.graph is not graph and value.const_value is None for value in inner.inputs if value is not None)


def _infer_fused(node: ir.Node) -> None:
    """Shape inference does not always see through a function: the float result of a fused node is float32 here."""
    if node.domain == DOMAIN and node.outputs[0].dtype is None:
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)


def _replace_float_cast(node: ir.Node) -> None:
    """Take out Casts from float32 to float32; a CastLike to float32 becomes a Cast."""
    if node.op_type not in ("Cast", "CastLike") or not is_float(node.outputs[0]):
        return
    source = node.inputs[0]
    assert source is not None and node.graph is not None
    if not is_float(source):
        node.op_type = "Cast"
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    elif node.outputs[0].is_graph_output():
        node.op_type = "Identity"
        node.attributes.clear()
    else:
        ir.convenience.replace_all_uses_with(node.outputs[0], source)
    node.resize_inputs(1)


def _replace_outer_product(node: ir.Node) -> None:
    """A MatMul over one element is a Mul, which may be float32: rotary angles (position x frequency) need that."""
    if node.op_type != "MatMul" or not is_float(node.outputs[0]):
        return
    a, b = node.inputs
    assert a is not None and b is not None
    if a.shape is None or b.shape is None or len(a.shape) < 2 or len(b.shape) < 2:
        return
    if a.shape[-1] == 1 or b.shape[-2] == 1:
        node.op_type = "Mul"
