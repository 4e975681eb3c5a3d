"""An LSTM -> ONNX Runtime's DynamicQuantizeLSTM: INT8 weights, and inputs and states that are quantised as they come.

    LSTM(x, W, R, B, ...)  ->  DynamicQuantizeLSTM(x, Wq, Rq, B, ..., scales and zero points of Wq and Rq)

A weight has a scale for each direction and each column of its gates. The op takes its own scale of each batch of inputs and of the states
after each token, so there is no threshold to find. It is no op of any other runtime.

Legend: D directions, K inputs, H hidden.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trtbert.calibrate.gemms import find_gemms
from trtbert.calibrate.qdq import add_initializer, array_of, producer_of, quantized, scale_of

_DOMAIN = "com.microsoft"
_NUM_FLOAT_INPUTS = 8
"""x, W, R, B, lengths, the first states, the first cells, peepholes: those of ONNX's LSTM."""


@dataclass(frozen=True, kw_only=True)
class LstmPlan:
    """The LSTM that makes the value of `key`, one layer in one or both directions, in INT8."""

    key: str
    label: str

    def apply(self, graph: ir.Graph) -> None:
        node = producer_of(graph, self.key)
        w, r = node.inputs[1:3]
        assert w is not None and r is not None
        (w_int8, *w_steps), (r_int8, *r_steps) = _quantized_weight(graph, w), _quantized_weight(graph, r)
        others = [*node.inputs[3:], *[None] * (_NUM_FLOAT_INPUTS - len(node.inputs))]
        inputs = [node.inputs[0], w_int8, r_int8, *others, *w_steps, *r_steps]
        attributes, num_outputs = dict(node.attributes), len(node.outputs)
        made = ir.node("DynamicQuantizeLSTM", inputs, attributes, domain=_DOMAIN, name=node.name, num_outputs=num_outputs)
        ir.convenience.replace_nodes_and_values(graph, node, [node], [made], node.outputs, made.outputs)
        graph.opset_imports[_DOMAIN] = 1


def plan_lstms(graph: ir.Graph) -> list[LstmPlan]:
    """A plan for each LSTM with constant weights, in the order of the graph; none where there are GEMMs of encoder layers: those are it."""
    if find_gemms(graph):
        return []
    found = [node for node in graph if node.domain == "" and node.op_type == "LSTM" and all(map(_is_weight, node.inputs[1:3]))]
    return [LstmPlan(key=_used_output(node), label=f"layer {layer} LSTM") for layer, node in enumerate(found)]


def _is_weight(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT


def _used_output(node: ir.Node) -> str:
    """All states, or the last ones alone."""
    return next(str(value.name) for value in node.outputs if value.uses() or value.is_graph_output())


def _quantized_weight(graph: ir.Graph, weight: ir.Value) -> list[ir.Value]:
    """[D,4H,K] -> INT8 [D,K,4H], its scales [D,4H] and its zero points, which are 0."""
    array_DKN = np.ascontiguousarray(array_of(weight).transpose(0, 2, 1))
    scale_DN = scale_of(np.abs(array_DKN).max(1))
    return [
        add_initializer(graph, f"{weight.name}.int8", quantized(array_DKN, scale_DN[:, None])),
        add_initializer(graph, f"{weight.name}.scale", scale_DN),
        add_initializer(graph, f"{weight.name}.zero", np.zeros(scale_DN.shape, np.int8)),
    ]
