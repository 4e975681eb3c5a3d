"""A float graph and the scale of each GEMM's input -> the graph with Q/DQ: symmetric, zero point 0, weights per output channel.

    MatMul(x, W) + b   ->   MatMul(DQ(Q(x)), DQ(Wq)) + b

Every scale is a number that float16 holds, so that FP32, FP16 and CPU graphs have the same INT8 weights and mean the same.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]

MAX_INT8 = 127
_MAX_SCALE = 65504.0


_WORTH_A_SHIFT = 0.9
"""A shift is an operation more on a GPU: it has to make the step of the quantisation at least 10 % finer."""


@dataclass(frozen=True)
class Step:
    """x is quantised as Q((x - shift) / scale), with zero point 0."""

    scale: float
    shift: float = 0.0


def step_of(low: float, high: float) -> Step:
    """The step for numbers from `low` to `high`: about 0, or about their middle where they lie to one side, as GELUs do.

    The shift is a multiple of the scale, so that a runtime may take it for a zero point.
    """
    low, high = min(low, 0.0), max(high, 0.0)  # 0 stays exact, and the shift within what a zero point of 8 bits can be
    symmetric = float(scale_of(max(-low, high)))
    centred = float(scale_of((high - low) / 2))
    if centred > _WORTH_A_SHIFT * symmetric:
        return Step(symmetric)
    return Step(centred, round((low + high) / 2 / centred) * centred)


def scale_of(threshold: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """amax / 127, rounded up to what float16 holds, so that amax itself is not clipped; at least the smallest float16."""
    exact = np.minimum(np.asarray(threshold, np.float64) / MAX_INT8, _MAX_SCALE)
    half = exact.astype(np.float16)
    with np.errstate(over="ignore"):  # np.where computes both, also for the largest float16
        half = np.where(half < exact, np.nextafter(half, np.float16(np.inf)), half)
    return np.maximum(half, np.finfo(np.float16).smallest_subnormal).astype(np.float32)


def quantized(array: Array, scale: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """round(array / scale), ties to even, clipped to -127..127; the scale broadcasts."""
    rounded = np.rint(np.asarray(array, np.float32) / np.asarray(scale, np.float32))
    return np.clip(rounded, -MAX_INT8, MAX_INT8).astype(np.int8)


def fake_quantized(array: Array, scale: npt.ArrayLike) -> Array:
    """DQ(Q(array)) in float32."""
    return quantized(array, scale) * np.asarray(scale, np.float32)


def weight_scale(weight: Array, axis: int = 1) -> npt.NDArray[np.float32]:
    """The scale of each column (axis 1) or row (axis 0) of a weight [K,N], from its largest absolute value."""
    return scale_of(np.abs(weight).max(1 - axis, initial=0.0))


def quantize_dequantize(graph: ir.Graph, x: ir.Value, scale: float, *, before: ir.Node) -> ir.Value:
    """DQ(Q(x)), made once for all readers of x at that scale."""
    name = f"{x.name}.dq.{float(scale):.9g}"
    if (made := _find(x, "QuantizeLinear", name)) is not None:
        return made
    scale_v = add_initializer(graph, f"{name}.scale", np.asarray(scale, np.float32))
    zero_v = add_initializer(graph, "int8.zero", np.asarray(0, np.int8))
    q = _node("QuantizeLinear", [x, scale_v, zero_v], f"{name}.q", x, ir.DataType.INT8)
    dq = _node("DequantizeLinear", [q.outputs[0], scale_v, zero_v], name, x, ir.DataType.FLOAT)
    graph.insert_before(before, [q, dq])
    return dq.outputs[0]


def dequantized_weight(graph: ir.Graph, weight: ir.Value, *, axis: int = 1, before: ir.Node) -> ir.Value:
    """DQ(Wq) of a weight, a scale for each index of `axis`: a column of [K,N]; made once for all nodes that share the weight."""
    array, name = array_of(weight), f"{weight.name}.dq"
    scale = weight_scale(array, axis)
    data = add_initializer(graph, f"{name}.int8", quantized(array, np.expand_dims(scale, 1 - axis)))
    if (made := _find(data, "DequantizeLinear", name)) is not None:
        return made
    scale_v, zero_v = add_initializer(graph, f"{name}.scale", scale), add_initializer(graph, f"{name}.zero", np.zeros(len(scale), np.int8))
    dq = _node("DequantizeLinear", [data, scale_v, zero_v], name, weight, ir.DataType.FLOAT, axis=axis)
    graph.insert_before(before, dq)
    return dq.outputs[0]


def _find(value: ir.Value, op_type: str, name: str) -> ir.Value | None:
    """The value `name` behind the node `op_type` that reads `value`."""
    for reader in value.consumers():
        if reader.op_type == op_type:
            for last in (reader, *reader.outputs[0].consumers()):
                if last.outputs[0].name == name:
                    return last.outputs[0]
    return None


def _node(op_type: str, inputs: list[ir.Value], name: str, like: ir.Value, dtype: ir.DataType, **attributes: int) -> ir.Node:
    node = ir.node(op_type, inputs, attributes, name=name)
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = name, like.shape, ir.TensorType(dtype)
    return node


def add_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A float or integer constant of the graph, the same one for the same name."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def producer_of(graph: ir.Graph, name: str) -> ir.Node:
    """The node that makes the value `name`."""
    return next(node for node in graph if any(value.name == name for value in node.outputs))


def array_of(value: ir.Value) -> Array:
    """Of a constant."""
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())
