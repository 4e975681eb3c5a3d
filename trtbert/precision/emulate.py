"""Make a graph that computes in float32 what a BF16 graph computes, rounding after every node: to verify it on a CPU."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from trtbert.precision.formats import Array

_BF16 = ir.DataType.BFLOAT16


def emulated(model: ir.Model) -> ir.Model:
    """The BF16 `model` for a runtime without BF16 kernels: each BF16 result is computed in float32 and rounded to bfloat16.

    The bodies of fused nodes are inlined first, so that their inner GEMM operands are rounded as well. The sums inside a GEMM
    stay float32, as they do on tensor cores.
    """
    model = model.clone()
    passes.InlinePass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    rounded = {value for node in model.graph for value in node.outputs if value.dtype == _BF16}
    for value in model.graph.initializers.values():
        _widen(value)
    for node in list(model.graph):
        _widen_node(node)
        for value in node.outputs:
            if value in rounded:
                _round(value, node)
    return model


def _float32(array: Array) -> Array:
    return array.astype(np.float32)


def _widen(value: ir.Value) -> None:
    if value.const_value is not None and value.dtype == _BF16:
        value.const_value = ir.tensor(_float32(value.const_value.numpy()), name=value.name)
        value.dtype = ir.DataType.FLOAT


def _widen_node(node: ir.Node) -> None:
    if node.op_type == "CastLike":
        result = node.outputs[0].dtype
        assert result is not None, f"the type of {node.outputs[0].name} is not known"
        node.op_type = "Cast"
        node.attributes["to"] = ir.AttrInt64("to", result)
        node.resize_inputs(1)
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) == _BF16:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    if node.op_type == "ConstantOfShape" and node.outputs[0].dtype == _BF16:
        value = node.attributes.get_tensor("value").numpy()
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(_float32(value)))


def _round(value: ir.Value, node: ir.Node) -> None:
    """Round the float32 result `value` of `node` to bfloat16, for all its readers."""
    value.dtype = ir.DataType.FLOAT
    narrow = ir.node("Cast", [value], {"to": _BF16})
    wide = ir.node("Cast", narrow.outputs, {"to": ir.DataType.FLOAT})
    for new, suffix, dtype in ((narrow, "bfloat16", _BF16), (wide, "rounded", ir.DataType.FLOAT)):
        new.outputs[0].name, new.outputs[0].dtype, new.outputs[0].shape = f"{value.name}_{suffix}", dtype, value.shape
    assert node.graph is not None
    node.graph.insert_after(node, [narrow, wide])
    ir.convenience.replace_all_uses_with(value, wide.outputs[0])
    narrow.replace_input_with(0, value)
