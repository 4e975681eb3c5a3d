"""A graph that averages over the tokens of its mask -> the same graph, finite for a row that has no token."""

import numpy as np
import onnx_ir as ir

from trtbert.tasks import ATTENTION_MASK

_SAME_COUNT = ("Cast", "Expand", "Identity", "Unsqueeze")


def clamp_mask_counts(model: ir.Model) -> int:
    """Let every Div by the number of tokens of a row divide by 1 at least; gives how many there were."""
    graph = model.graph
    divisions = [node for node in graph if node.op_type == "Div" and _is_mask_count(node.inputs[1])]
    if divisions:
        one = ir.tensor(np.float32(1.0), name="one_token")
        least = ir.Value(name=one.name, shape=ir.Shape(()), type=ir.TensorType(ir.DataType.FLOAT), const_value=one)
        graph.register_initializer(least)
    for division in divisions:
        count = division.inputs[1]
        clamped = ir.node("Max", [count, least], name=f"{division.name}_count")
        clamped.outputs[0].name = f"{division.outputs[0].name}_count"
        clamped.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        clamped.outputs[0].shape = None if count is None else count.shape
        graph.insert_before(division, clamped)
        division.replace_input_with(1, clamped.outputs[0])
    return len(divisions)


def _is_mask_count(value: ir.Value | None) -> bool:
    total = _origin(value)
    node = None if total is None else total.producer()
    mask = _origin(node.inputs[0]) if node is not None and node.op_type == "ReduceSum" else None
    return mask is not None and mask.is_graph_input() and mask.name == ATTENTION_MASK


def _origin(value: ir.Value | None) -> ir.Value | None:
    """What `value` is before it was cast and spread."""
    while value is not None and (node := value.producer()) is not None and node.op_type in _SAME_COUNT:
        value = node.inputs[0]
    return value
