"""Which fused nodes a plugin takes as they are, and why it does not take the others.

A plugin has tensors of one float type, of the ranks in RANKS, and no broadcasting but that of a bias or of positions over the batch.
"""

from collections.abc import Mapping

import onnx_ir as ir

from trtbert.builders.site import Site
from trtbert.config import Target
from trtbert.ops import (
    FUSED_BIAS_GELU,
    FUSED_EMBED_LAYER_NORM,
    FUSED_PACKED_QKV_ATTENTION,
    FUSED_QKV_ATTENTION,
    FUSED_SKIP_LAYER_NORM,
    PLUGIN_OPS,
    FusedOp,
)

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
INTEGERS = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL)
"""What is cast to INT32 for a plugin."""
HEAD_SIZES = range(8, 129, 8)

RANKS: dict[str, dict[str, int]] = {
    FUSED_EMBED_LAYER_NORM.name: {
        **dict.fromkeys(("input_ids", "position_ids", "word", "position", "token_type_ids", "token_type"), 2),
        **dict.fromkeys(("gamma", "beta"), 1),
    },
    FUSED_QKV_ATTENTION.name: {"qkv": 3, "mask": 2, "bias": 4},
    FUSED_PACKED_QKV_ATTENTION.name: {"qkv": 2, "cu_seqlens": 1},
    FUSED_SKIP_LAYER_NORM.name: {"gamma": 1, "beta": 1, "bias": 1},
    FUSED_BIAS_GELU.name: {"bias": 1},
}
_CAST = ("bias", FUSED_QKV_ATTENTION.name)
"""The one float input that is cast to the type of the others."""


def named_inputs(node: ir.Node) -> dict[str, ir.Value]:
    """The inputs that a fused node has, by their names in trtbert.ops."""
    op: FusedOp = PLUGIN_OPS[node.op_type]
    names = op.inputs + op.optional_inputs
    return {name: value for name, value in zip(names, node.inputs, strict=False) if value is not None}


def why_no_plugin(node: ir.Node, target: Target) -> str | None:
    """The reason that no plugin takes the fused node on `target`; None where one does."""
    inputs = named_inputs(node)
    return (
        _type_reason(node, inputs, target)
        or _rank_reason(inputs, RANKS[node.op_type])
        or _size_reason(node, inputs)
        or _table_reason(inputs)
        or _attention_reason(node, target)
    )


def _type_reason(node: ir.Node, inputs: Mapping[str, ir.Value], target: Target) -> str | None:
    floats = {value.dtype for name, value in inputs.items() if (name, node.op_type) != _CAST and value.dtype not in INTEGERS}
    if len(floats) != 1:
        return f"its tensors are {' and '.join(sorted(str(dtype) for dtype in floats))}, and a plugin has one float type"
    if not floats <= set(FLOATS):
        return f"its tensors are {floats.pop()}; plugins take {', '.join(map(str, FLOATS))}"
    if ir.DataType.BFLOAT16 in floats and target in ("sm70", "sm75"):
        return "BFLOAT16 needs sm80 or later"
    return None


def _rank_reason(inputs: Mapping[str, ir.Value], ranks: Mapping[str, int]) -> str | None:
    for name, value in inputs.items():
        if value.shape is None:
            return f"the shape of {name} is not known"
        if len(value.shape) != ranks.get(name, len(value.shape)):
            return f"{name} has the shape {value.shape}; the plugin takes a rank of {ranks[name]}"
    return None


def _size_reason(node: ir.Node, inputs: Mapping[str, ir.Value]) -> str | None:
    shapes = {name: list(value.shape or ()) for name, value in inputs.items()}
    match node.op_type:
        case FUSED_EMBED_LAYER_NORM.name:
            (batch, length), (rows, columns) = shapes["input_ids"], shapes["position_ids"]
            if (rows != 1 and _differ(rows, batch)) or _differ(columns, length):
                return f"position_ids are {inputs['position_ids'].shape}; the plugin takes one row, or one for each text of input_ids"
        case FUSED_QKV_ATTENTION.name:
            if "bias" in inputs and shapes["bias"][0] != 1 and _differ(shapes["bias"][0], shapes["qkv"][0]):
                return f"the bias is {inputs['bias'].shape}; the plugin takes one for all texts, or one for each"
        case FUSED_SKIP_LAYER_NORM.name:
            if len(shapes["x"]) != len(shapes["skip"]) or any(map(_differ, shapes["x"], shapes["skip"])):
                return f"x is {inputs['x'].shape} and skip {inputs['skip'].shape}; the plugin does not broadcast"
        case FUSED_BIAS_GELU.name:
            if _differ(shapes["bias"][0], shapes["x"][-1]):
                return f"x is {inputs['x'].shape} and the bias {inputs['bias'].shape}; the plugin does not broadcast"
    return None


def _differ(one: int | ir.SymbolicDim, other: int | ir.SymbolicDim) -> bool:
    """Whether two sizes are known not to be the same; two names may be: "sequence" and "Min(512, sequence)" are."""
    return one != other and (isinstance(one, int) or isinstance(other, int))


def _table_reason(inputs: Mapping[str, ir.Value]) -> str | None:
    """An INT8 table would be made float as a whole at every run; TensorRT's own Gather takes only its rows."""
    for name, value in inputs.items():
        made = value.producer()
        if made is not None and made.op_type == "DequantizeLinear" and made.inputs[1] is not None and len(made.inputs[1].shape or ()):
            return f"{name} is INT8 with a scale for each row; the plugin's INT8 has one for the tensor"
    return None


def _attention_reason(node: ir.Node, target: Target) -> str | None:
    if node.op_type not in (FUSED_QKV_ATTENTION.name, FUSED_PACKED_QKV_ATTENTION.name):
        return None
    head_size = Site(node=node, tape=ir.tape.Tape(), shared={}).head_size
    if head_size not in HEAD_SIZES:
        return f"its heads have {head_size} columns; the plugin takes 8 to 128, in steps of 8"
    if "int8" in node.overload.split(".") and target == "sm70":
        return "INT8 products need sm75 or later"
    return None
