"""Make a graph that computes in float32 what a 16-bit graph computes, rounding after every node: to verify it on a CPU."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def emulated(model: ir.Model) -> ir.Model:
    """`model` for the CPU: each 16-bit result is computed in float32 and rounded; beyond the range it becomes infinite.

    ONNX Runtime has no BF16 kernels, and for FP16 it computes whole runs of nodes in float32 without rounding in between,
    which hides an overflow that a GPU would show. The bodies of fused nodes are inlined first, so that what is inside is
    rounded as well. The sums inside a GEMM stay float32.
    """
    model = model.clone()
    passes.InlinePass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    rounded = {value: value.dtype for node in model.graph for value in node.outputs if value.dtype in _HALVES}
    for value in model.graph.initializers.values():
        _widen(value)
    for node in list(model.graph):
        _widen_node(node)
    for value, dtype in rounded.items():
        assert dtype is not None
        _round(value, dtype)
    return model


def _widen(value: ir.Value) -> None:
    if value.const_value is not None and value.dtype in _HALVES:
        value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
        value.type = ir.TensorType(ir.DataType.FLOAT)


def _widen_node(node: ir.Node) -> None:
    result = node.outputs[0].dtype
    if node.op_type == "CastLike":
        assert result is not None, f"the type of {node.outputs[0].name} is not known"
        node.op_type = "Cast"
        node.attributes["to"] = ir.AttrInt64("to", result)
        node.resize_inputs(1)
    if result not in _HALVES:
        return
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
    if node.op_type == "ConstantOfShape":
        number = node.attributes.get_tensor("value").numpy().astype(np.float32)
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(number))


def _round(value: ir.Value, dtype: ir.DataType) -> None:
    """Round the float32 `value` to `dtype` for all its readers."""
    node = value.producer()
    assert node is not None and node.graph is not None
    value.type = ir.TensorType(ir.DataType.FLOAT)
    narrow = ir.node("Cast", [value], {"to": dtype})
    wide = ir.node("Cast", narrow.outputs, {"to": ir.DataType.FLOAT})
    for new, suffix, new_type in ((narrow, "narrow", dtype), (wide, "rounded", ir.DataType.FLOAT)):
        new.outputs[0].name, new.outputs[0].type, new.outputs[0].shape = f"{value.name}_{suffix}", ir.TensorType(new_type), value.shape
    node.graph.insert_after(node, [narrow, wide])
    ir.convenience.replace_all_uses_with(value, wide.outputs[0])
    narrow.replace_input_with(0, value)
