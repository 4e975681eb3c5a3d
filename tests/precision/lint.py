"""What a strongly typed 16-bit graph must obey, read from the graph with its fused bodies inlined."""

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
GEMMS = ("MatMul", "Gemm", "Conv", "Einsum", "Attention")
FLOAT_ONLY = ("Softmax", "LayerNormalization", "Pow", "Sqrt", "Exp", "Erf", "Log", "Gelu", "Tanh", "Reciprocal")


def inlined(model: ir.Model) -> ir.Model:
    """A copy with every function inlined and every value typed, as a GPU compiler reads it."""
    model = model.clone()
    passes.InlinePass()(model)
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(proto, full_check=True)
    return ir.from_proto(proto)


def problems(model: ir.Model) -> list[str]:
    """One line for each rule that a node breaks."""
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    flat = inlined(model)
    found = [problem for node in flat.graph for problem in _node_problems(node)]
    found += [problem for node in model.graph for problem in _cast_problems(node)]
    for value in flat.graph.initializers.values():
        assert value.const_value is not None
        array = value.const_value.numpy()
        if value.dtype in HALVES and not np.isfinite(array.astype(np.float32)).all():
            found.append(f"the constant {value.name} is not finite")
    found += [f"the output {value.name} is {value.dtype}" for value in flat.graph.outputs if value.dtype != ir.DataType.FLOAT]
    return found


def _node_problems(node: ir.Node) -> list[str]:
    inputs = [value for value in node.inputs if value is not None]
    types = {value.dtype for value in inputs if value.dtype in (*HALVES, ir.DataType.FLOAT)}
    found = []
    if node.op_type in GEMMS and types & {ir.DataType.FLOAT}:
        found.append(f"{node.op_type} {node.name} is float32")
    if (node.op_type in FLOAT_ONLY or node.op_type.startswith("Reduce")) and types & set(HALVES):
        found.append(f"{node.op_type} {node.name} is 16-bit")
    if node.op_type not in ("Where", "Cast", "CastLike") and len(types) > 1:
        found.append(f"{node.op_type} {node.name} mixes {types}")
    return found


def _cast_problems(node: ir.Node) -> list[str]:
    """A Cast that does nothing, or that undoes the one before it."""
    source, result = node.inputs[0], node.outputs[0]
    if node.op_type != "Cast" or source is None or result.dtype not in (*HALVES, ir.DataType.FLOAT):
        return []
    if source.dtype not in (*HALVES, ir.DataType.FLOAT):
        return []
    if source.dtype == result.dtype:
        return [f"Cast {node.name} does nothing"]
    before = source.producer()
    is_undone = before is not None and before.op_type == "Cast" and before.inputs[0].dtype == result.dtype  # type: ignore[union-attr]
    return [f"Cast {node.name} undoes {before.name}"] if is_undone else []  # type: ignore[union-attr]


def num_casts(model: ir.Model) -> int:
    """Casts between the float types, outside of fused nodes."""
    floats = (*HALVES, ir.DataType.FLOAT)
    casts = [node for node in model.graph if node.op_type == "Cast"]
    return sum(node.inputs[0].dtype in floats and node.outputs[0].dtype in floats for node in casts)  # type: ignore[union-attr]
