"""INT8 tensors of a plugin's node: Q and DQ beside it become its scale attributes, and come back where its body is to run.

FusedBiasGelu -> Q -> DQ      <->   FusedBiasGelu <y_scale> -> DQ
DQ -> FusedBiasGelu           <->   FusedBiasGelu <x_scale>
"""

import numpy as np
import onnx_ir as ir

from trtbert.builders.plugin_limits import FLOATS, named_inputs
from trtbert.ops import PLUGIN_OPS

_RESULT = "y_scale"


def fold_scales(node: ir.Node) -> None:
    """Let the plugin read INT8 where all its tensors that may be are dequantised, and write INT8 where nobody reads floats."""
    inputs = named_inputs(node)
    scaled = [name for name in inputs if f"{name}_scale" in PLUGIN_OPS[node.op_type].io_scales]
    scales = {name: _scale(inputs[name].producer(), "DequantizeLinear") for name in scaled}
    for name, scale in scales.items() if all(scales.values()) else ():
        assert scale is not None
        _replace_input(node, inputs[name], _input(inputs[name].producer()))
        node.attributes[f"{name}_scale"] = ir.AttrFloat32(f"{name}_scale", scale)
    _fold_result(node)


def unfold_scales(node: ir.Node) -> None:
    """Q and DQ of the node's scale attributes, which it then has no more; its body knows nothing of them."""
    graph, inputs = node.graph, named_inputs(node)
    assert isinstance(graph, ir.Graph)
    dtype = next(value.dtype for value in inputs.values() if value.dtype in FLOATS)
    assert dtype is not None
    for name, value in inputs.items():
        if (attribute := node.attributes.pop(f"{name}_scale", None)) is not None:
            dequantize = _node(
                graph, f"{node.outputs[0].name}.{name}", "DequantizeLinear", value, attribute.as_float(), dtype, result=dtype
            )
            graph.insert_before(node, dequantize)
            _replace_input(node, value, dequantize.outputs[0])
    if (attribute := node.attributes.pop(_RESULT, None)) is not None:
        y = node.outputs[0]
        y.type = ir.TensorType(dtype)
        quantize = _node(graph, f"{y.name}.y", "QuantizeLinear", y, attribute.as_float(), dtype, result=ir.DataType.INT8)
        graph.insert_after(node, quantize)
        ir.convenience.replace_all_uses_with(y, quantize.outputs[0])
        quantize.replace_input_with(0, y)


def _fold_result(node: ir.Node) -> None:
    y = node.outputs[0]
    readers = list(y.consumers())
    if len(readers) != 1 or y.is_graph_output() or (scale := _scale(readers[0], "QuantizeLinear")) is None:
        return
    node.attributes[_RESULT] = ir.AttrFloat32(_RESULT, scale)
    quantized = readers[0].outputs[0]
    y.type = quantized.type
    ir.convenience.replace_all_uses_with(quantized, y, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.remove(readers[0], safe=True)


def _scale(node: ir.Node | None, op_type: str) -> float | None:
    """The one scale of a symmetric INT8 Q or DQ; None for another node."""
    if node is None or node.op_type != op_type or node.domain != "" or len(node.inputs) != 3:  # with no zero point it is uint8
        return None
    scale, zero = (None if value is None or value.const_value is None else value.const_value.numpy() for value in node.inputs[1:])
    if scale is None or zero is None or scale.size != 1 or zero.dtype != np.int8 or zero.any():
        return None
    return float(scale.reshape(()))


def _input(node: ir.Node | None) -> ir.Value:
    assert node is not None and node.inputs[0] is not None
    return node.inputs[0]


def _replace_input(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    node.replace_input_with(list(node.inputs).index(old), new)


def _node(graph: ir.Graph, name: str, op_type: str, x: ir.Value, scale: float, dtype: ir.DataType, *, result: ir.DataType) -> ir.Node:
    """Q or DQ of `x`; a tensor may be read by many nodes, so that the names are those of the one it stands beside."""
    constants = []
    for suffix, tensor in (("scale", ir.tensor(np.asarray(scale, dtype.numpy()), dtype=dtype)), ("zero", ir.tensor(np.int8(0)))):
        value = ir.Value(name=f"{name}_{op_type}_{suffix}", const_value=tensor, shape=ir.Shape([]), type=ir.TensorType(tensor.dtype))
        graph.register_initializer(value)
        constants.append(value)
    node = ir.node(op_type, [x, *constants], name=f"{name}_{op_type}")
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = node.name, x.shape, ir.TensorType(result)
    return node
