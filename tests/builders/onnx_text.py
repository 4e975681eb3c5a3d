"""Small fused graphs as ONNX text, with the bodies of their fused nodes, and how ONNX Runtime runs them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from trtbert.bodies import add_functions
from trtbert.ops import OPSET

Feeds = dict[str, npt.NDArray[Any]]


def parse(graph: str) -> ir.Model:
    """A model of one graph: `name (inputs) => (outputs) <initializers and types of values> { nodes }`."""
    model = ir.from_onnx_text(f'<ir_version: 11, opset_import: ["" : {OPSET}, "trtbert" : 1]> {graph}')
    for name in list(model.graph.initializers):
        value = model.graph.initializers[name]
        assert value.const_value is not None
        value.shape, value.type = value.const_value.shape, ir.TensorType(value.const_value.dtype)
    for node in model.graph:
        node.overload = node.overload.replace("_", ".")  # the text has no word with a dot: bias_int8
    add_functions(model)
    return model


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


def run(model: ir.Model, feeds: Feeds) -> list[npt.NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # What is rounded in the graph is to be rounded here, too.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, feeds)]
