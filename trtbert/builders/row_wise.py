"""Which nodes compute each row of [B,S,D] by itself, so that they may be given the rows [T,D] alone."""

from collections.abc import Collection

import onnx_ir as ir

from trtbert.ops import DOMAIN, FUSED_BIAS_GELU, FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM

_ELEMENTWISE = frozenset({"Add", "Cast", "Div", "Erf", "Gelu", "Identity", "Mul", "Relu", "Sigmoid", "Sub", "Tanh"})
_QUANTIZE = ("QuantizeLinear", "DequantizeLinear")


def is_row_wise(node: ir.Node, rows: Collection[ir.Value | None]) -> bool:
    """Whether `node`, given the rows alone of those inputs that are in `rows`, gives the rows of its result."""
    others = [value for value in node.inputs if value is not None and value not in rows]
    is_first_alone = node.inputs[0] in rows and len(others) == sum(value is not None for value in node.inputs) - 1
    if node.domain == DOMAIN:
        if node.op_type == FUSED_SKIP_LAYER_NORM.name:
            return node.inputs[0] in rows and node.inputs[1] in rows
        return node.op_type in (FUSED_BIAS_GELU.name, FUSED_QKV_ATTENTION.name) and is_first_alone
    if node.domain != "":
        return False
    if node.op_type == "MatMul":
        return is_first_alone and _rank(others[0]) == 2
    if node.op_type == "LayerNormalization":
        return is_first_alone and node.attributes.get_int("axis", -1) == -1 and all(_rank(value) == 1 for value in others)
    if node.op_type in _QUANTIZE:
        return is_first_alone and all(_rank(value) == 0 for value in others)
    return node.op_type in _ELEMENTWISE and all((_rank(value) or 0) <= 1 and value.shape is not None for value in others)


def reads_fixed_position(node: ir.Node) -> bool:
    """Whether it takes, say, the first token of each text, wherever the padding is."""
    if node.op_type == "Gather":
        return node.attributes.get_int("axis", 0) == 1 and node.inputs[1] is not None and node.inputs[1].const_value is not None
    return node.op_type == "Slice" and all(value is None or value.const_value is not None for value in node.inputs[1:])


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)
