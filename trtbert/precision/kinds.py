"""What each node is to the precision stage: half always, float always, or whichever its neighbours are."""

import enum

import onnx_ir as ir

from trtbert.ops import DOMAIN, FUSED_BIAS_GELU, FUSED_EMBED_LAYER_NORM, FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM


class Kind(enum.Enum):
    """How a node chooses the float type it computes in."""

    GEMM = enum.auto()
    """Half always: TensorRT-RTX has no FP32 GEMM on Turing."""
    ATTENTION = enum.auto()
    """The standard Attention: half; TensorRT-RTX has no FP32 one."""
    FUSED_ATTENTION = enum.auto()
    FUSED_LAYER_NORM = enum.auto()
    """Any inputs; gamma gives the type of the result."""
    FUSED_GELU = enum.auto()
    """Any bias; x gives the type of the result."""
    ARITHMETIC = enum.auto()
    """Half, unless it would overflow, or lies between float nodes."""
    MOVE = enum.auto()
    """Moves data: keeps the type it finds."""
    FLOAT = enum.auto()
    """Float32, and so is the arithmetic after it."""
    BOUNDARY = enum.auto()
    """Float32 inside, but its result is rounded to half without harm."""
    QUANTIZE = enum.auto()
    """Q or DQ: half, scale included, unless what it reads or gives would overflow: between DQ and GEMM no Cast may stand."""
    EXACT = enum.auto()
    """Float32, and so is the arithmetic before it: its result jumps, as a bucket's number does."""
    SHAPE = enum.auto()
    """Reads the shape alone."""
    OTHER = enum.auto()
    """No float tensor at all."""


_FUSED = {
    FUSED_QKV_ATTENTION.name: Kind.FUSED_ATTENTION,
    FUSED_SKIP_LAYER_NORM.name: Kind.FUSED_LAYER_NORM,
    FUSED_EMBED_LAYER_NORM.name: Kind.FUSED_LAYER_NORM,
    FUSED_BIAS_GELU.name: Kind.FUSED_GELU,
}
_MOVES = (
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
)
_ARITHMETIC = ("Abs", "Add", "Clip", "ConstantOfShape", "Max", "Min", "Mul", "Neg", "Relu", "RotaryEmbedding", "Sub", "Where")
_BOUNDARIES = (
    "Cos",
    "Gelu",
    "GroupNormalization",
    "HardSigmoid",
    "LayerNormalization",
    "LpNormalization",
    "RMSNormalization",
    "Sigmoid",
    "Sin",
    "Softmax",
)
_EXACT = ("Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Mod", "Round", "Sign")
_STANDARD = {
    **dict.fromkeys(("MatMul", "Gemm", "Conv", "Einsum"), Kind.GEMM),
    "Attention": Kind.ATTENTION,
    **dict.fromkeys(_MOVES, Kind.MOVE),
    **dict.fromkeys(_ARITHMETIC, Kind.ARITHMETIC),
    **dict.fromkeys(_BOUNDARIES, Kind.BOUNDARY),
    **dict.fromkeys(_EXACT, Kind.EXACT),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), Kind.QUANTIZE),
    **dict.fromkeys(("Shape", "Size"), Kind.SHAPE),
}


def is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def stored_weight(node: ir.Node) -> ir.Value | None:
    """The constant weight of a GEMM, or the INT8 one that is dequantised for it; None if it is computed."""
    weight = node.inputs[1]
    made = None if weight is None else weight.producer()
    if made is not None and made.op_type == "DequantizeLinear":
        weight = made.inputs[0]
    return weight if weight is not None and weight.const_value is not None else None


def kind_of(node: ir.Node) -> Kind:
    """The kind of `node`, whose values are still float32; an op that is not listed is FLOAT."""
    has_float_input = any(is_float(value) for value in node.inputs)
    if not has_float_input and not any(is_float(value) for value in node.outputs):
        return Kind.OTHER
    if node.domain == DOMAIN:
        return _FUSED.get(node.op_type, Kind.FLOAT)
    if node.op_type == "Cast":
        return Kind.EXACT if has_float_input else Kind.FLOAT
    if node.op_type == "Div":  # only a division by a constant is as harmless as a product
        divisor = node.inputs[1]
        return Kind.ARITHMETIC if divisor is not None and divisor.const_value is not None else Kind.FLOAT
    return _STANDARD.get(node.op_type, Kind.FLOAT)
