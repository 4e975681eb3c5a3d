"""Run a graph whose fused nodes are plugins, node by node: those by the emulated kernels, every other by ONNX Runtime."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tests.plugins.kernels import Array, Kernels
from trtbert.ops import DOMAIN

LAUNCHERS = {
    "FusedBiasGelu": Kernels.bias_gelu,
    "FusedEmbedLayerNorm": Kernels.embed_layer_norm,
    "FusedPackedQkvAttention": Kernels.packed_qkv_attention,
    "FusedQkvAttention": Kernels.qkv_attention,
    "FusedSkipLayerNorm": Kernels.skip_layer_norm,
}


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], kernels: Kernels) -> tuple[dict[str, Array], dict[str, int]]:
    """The outputs of `model`, and how often each kernel ran."""
    values: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} | dict(feeds)
    counts = dict.fromkeys(LAUNCHERS, 0)
    for node in model.graph.node:
        inputs = [values[name] if name else None for name in node.input]
        if node.domain == DOMAIN:
            results = [_run_kernel(kernels, node, inputs)]
            counts[node.op_type] += 1
        else:
            results = _run_node(model, node, values)
        values |= dict(zip(node.output, results, strict=True))
    return {output.name: values[output.name] for output in model.graph.output}, counts


def _run_kernel(kernels: Kernels, node: onnx.NodeProto, inputs: list[Array | None]) -> Array:
    attributes: dict[str, Any] = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    aligned = [None if array is None else _aligned(array) for array in inputs]
    return LAUNCHERS[node.op_type](kernels, *aligned, **attributes)


def _aligned(array: Array) -> Array:
    """`array` at an address that is a multiple of 256, as TensorRT's tensors are."""
    memory = np.empty(array.nbytes + 256, np.uint8)
    start = -memory.ctypes.data % 256
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _run_node(model: onnx.ModelProto, node: onnx.NodeProto, values: Mapping[str, Array]) -> list[Array]:
    """One node in a session of its own: what is fed and fetched has the type that the node says, as in an engine."""
    names = sorted(set(filter(None, node.input)))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape) for name in names
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "node", inputs, outputs)
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(single.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: values[name] for name in names}))
