"""The end of a task (pooling, dense, normalisation, softmax), once in ONNX ops and once in numpy.

A head is a tuple of steps; each step adds itself to a graph, and computes the same in float64.
Legend: B batch, S sequence, D hidden, L labels, E embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from trtbert.config import Pooling as PoolingMode
from trtbert.tasks import ATTENTION_MASK

Array = npt.NDArray[Any]
HEAD_PREFIX = "head/"
"""Nodes of a head have names that start so: they stay in float32 whatever the precision of the encoder."""
_LOWEST = float(np.finfo(np.float32).min)


class GraphBuilder:
    """Collects the nodes of a head."""

    def __init__(self, mask_BS: ir.Value) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self.mask_BS = mask_BS
        self.mask_f_BS = self.op("Cast", mask_BS, to=ir.DataType.FLOAT)

    def op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, name=f"{HEAD_PREFIX}{op_type}_{len(self.nodes)}")
        self.nodes.append(node)
        value = node.outputs[0]
        value.name = f"{node.name}_out"
        return value

    def constant(self, values: Any, dtype: type[np.generic] = np.int64) -> ir.Value:
        name = f"{HEAD_PREFIX}constant_{len(self.initializers)}"
        tensor = ir.tensor(np.asarray(values, dtype), name=name)
        value = ir.Value(name=name, shape=ir.Shape(np.shape(values)), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.initializers.append(value)
        return value

    def float_constant(self, values: Any) -> ir.Value:
        return self.constant(values, np.float32)


class Step(Protocol):
    def to_onnx(self, graph: GraphBuilder, x: ir.Value) -> ir.Value: ...

    def to_numpy(self, x: Array, mask_BS: Array) -> Array: ...

    def output_size(self, size: int) -> int:
        """Size of the last axis for an input of `size`."""
        ...


@dataclass(frozen=True)
class Activation:
    """Softmax over the last axis, or a sigmoid of each."""

    kind: Literal["softmax", "sigmoid"]

    def to_onnx(self, graph: GraphBuilder, x: ir.Value) -> ir.Value:
        return graph.op("Softmax", x, axis=-1) if self.kind == "softmax" else graph.op("Sigmoid", x)

    def to_numpy(self, x: Array, mask_BS: Array) -> Array:
        if self.kind == "sigmoid":
            return 0.5 * (1.0 + np.tanh(0.5 * x))
        exponentials = np.exp(x - x.max(-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))

    def output_size(self, size: int) -> int:
        return size


@dataclass(frozen=True)
class Normalize:
    """Divide by the L2 norm over the last axis; zero stays zero."""

    def to_onnx(self, graph: GraphBuilder, x: ir.Value) -> ir.Value:
        norm_B1 = graph.op("ReduceL2", x, graph.constant([-1]), keepdims=1)
        return graph.op("Div", x, graph.op("Max", norm_B1, graph.float_constant(1e-12)))

    def to_numpy(self, x: Array, mask_BS: Array) -> Array:
        return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12))

    def output_size(self, size: int) -> int:
        return size


DENSE_ACTIVATIONS: dict[str, tuple[str | None, Callable[[Array], Array]]] = {
    "Identity": (None, lambda x: x),
    "ReLU": ("Relu", lambda x: np.maximum(x, 0.0)),
    "Sigmoid": ("Sigmoid", lambda x: 0.5 * (1.0 + np.tanh(0.5 * x))),
    "Tanh": ("Tanh", np.tanh),
}
"""torch's class name -> ONNX op and numpy function."""


@dataclass(frozen=True, eq=False)
class Dense:
    """activation(x W + b); weight_DE [D,E], bias_E [E] or None."""

    weight_DE: Array
    bias_E: Array | None
    activation: str

    def to_onnx(self, graph: GraphBuilder, x: ir.Value) -> ir.Value:
        total = graph.op("MatMul", x, graph.float_constant(self.weight_DE))
        if self.bias_E is not None:
            total = graph.op("Add", total, graph.float_constant(self.bias_E))
        op_type = DENSE_ACTIVATIONS[self.activation][0]
        return total if op_type is None else graph.op(op_type, total)

    def to_numpy(self, x: Array, mask_BS: Array) -> Array:
        total = x @ self.weight_DE.astype(np.float64)
        if self.bias_E is not None:
            total = total + self.bias_E
        return DENSE_ACTIVATIONS[self.activation][1](total)

    def output_size(self, size: int) -> int:
        return int(self.weight_DE.shape[1])


@dataclass(frozen=True)
class Pooling:
    """Token embeddings [B,S,D] -> one or several pooled vectors, concatenated [B,n*D]; a fully padded row is finite."""

    modes: tuple[PoolingMode, ...]

    def to_onnx(self, graph: GraphBuilder, x: ir.Value) -> ir.Value:
        pooled = [_POOLING_ONNX[mode](graph, x) for mode in self.modes]
        return pooled[0] if len(pooled) == 1 else graph.op("Concat", *pooled, axis=-1)

    def to_numpy(self, x: Array, mask_BS: Array) -> Array:
        return np.concatenate([_POOLING_NUMPY[mode](x, mask_BS.astype(np.float64)) for mode in self.modes], axis=-1)

    def output_size(self, size: int) -> int:
        return size * len(self.modes)


def _count(graph: GraphBuilder, weights_BS: ir.Value) -> ir.Value:
    # Weights are whole numbers, so 1 does what 1e-9 does, and does not become 0 in FP16.
    total_B1 = graph.op("ReduceSum", weights_BS, graph.constant([1]), keepdims=1)
    return graph.op("Max", total_B1, graph.float_constant(1.0))


def _weighted_sum(graph: GraphBuilder, x_BSD: ir.Value, weights_BS: ir.Value) -> ir.Value:
    weights_BS1 = graph.op("Unsqueeze", weights_BS, graph.constant([-1]))
    return graph.op("ReduceSum", graph.op("Mul", x_BSD, weights_BS1), graph.constant([1]), keepdims=0)


def _mean(graph: GraphBuilder, x_BSD: ir.Value) -> ir.Value:
    return graph.op("Div", _weighted_sum(graph, x_BSD, graph.mask_f_BS), _count(graph, graph.mask_f_BS))


def _mean_sqrt_len(graph: GraphBuilder, x_BSD: ir.Value) -> ir.Value:
    return graph.op("Div", _weighted_sum(graph, x_BSD, graph.mask_f_BS), graph.op("Sqrt", _count(graph, graph.mask_f_BS)))


def _positions(graph: GraphBuilder) -> ir.Value:
    length = graph.op("Squeeze", graph.op("Shape", graph.mask_BS, start=1, end=2), graph.constant([0]))
    return graph.op("Cast", graph.op("Range", graph.constant(0), length, graph.constant(1)), to=ir.DataType.FLOAT)


def _first(graph: GraphBuilder) -> ir.Value:
    return graph.op("ArgMax", graph.mask_f_BS, axis=1, keepdims=1)


def _weighted_mean(graph: GraphBuilder, x_BSD: ir.Value) -> ir.Value:
    first_B1 = graph.op("Cast", _first(graph), to=ir.DataType.FLOAT)
    ranks_BS = graph.op("Add", graph.op("Sub", _positions(graph), first_B1), graph.float_constant(1.0))
    weights_BS = graph.op("Mul", graph.mask_f_BS, ranks_BS)
    return graph.op("Div", _weighted_sum(graph, x_BSD, weights_BS), _count(graph, weights_BS))


def _any(graph: GraphBuilder) -> ir.Value:
    return graph.op("ReduceMax", graph.mask_f_BS, graph.constant([1]), keepdims=1)


def _cls(graph: GraphBuilder, x_BSD: ir.Value) -> ir.Value:
    return graph.op("GatherND", x_BSD, _first(graph), batch_dims=1)


def _last_token(graph: GraphBuilder, x_BSD: ir.Value) -> ir.Value:
    last_B1 = graph.op("ReduceMax", graph.op("Mul", graph.mask_f_BS, _positions(graph)), graph.constant([1]), keepdims=1)
    token_BD = graph.op("GatherND", x_BSD, graph.op("Cast", last_B1, to=ir.DataType.INT64), batch_dims=1)
    return graph.op("Mul", token_BD, _any(graph))


def _max(graph: GraphBuilder, x_BSD: ir.Value) -> ir.Value:
    mask_BS1 = graph.op("Unsqueeze", graph.op("Cast", graph.mask_BS, to=ir.DataType.BOOL), graph.constant([-1]))
    kept_BSD = graph.op("Where", mask_BS1, x_BSD, graph.float_constant(_LOWEST))
    return graph.op("Mul", graph.op("ReduceMax", kept_BSD, graph.constant([1]), keepdims=0), _any(graph))


_POOLING_ONNX: dict[PoolingMode, Callable[[GraphBuilder, ir.Value], ir.Value]] = {
    "cls": _cls,
    "lasttoken": _last_token,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
}


def _numpy_mean(x_BSD: Array, weights_BS: Array, *, power: float = 1.0) -> Array:
    total_B1 = np.maximum(weights_BS.sum(1, keepdims=True), 1e-9)
    return np.asarray(np.einsum("bsd,bs->bd", x_BSD, weights_BS) / total_B1**power)


def _numpy_ranks(mask_BS: Array) -> Array:
    return np.asarray(np.arange(1, mask_BS.shape[1] + 1) - mask_BS.argmax(1)[:, None])


def _numpy_last(mask_BS: Array) -> Array:
    return np.asarray(mask_BS.shape[1] - 1 - mask_BS[:, ::-1].argmax(1))


def _numpy_take(x_BSD: Array, index_B: Array) -> Array:
    return np.asarray(x_BSD[np.arange(len(x_BSD)), index_B])


_POOLING_NUMPY: dict[PoolingMode, Callable[[Array, Array], Array]] = {
    "cls": lambda x, mask: _numpy_take(x, mask.argmax(1)),
    "lasttoken": lambda x, mask: _numpy_take(x, _numpy_last(mask)) * mask.max(1)[:, None],
    "max": lambda x, mask: np.where(mask[:, :, None] != 0, x, _LOWEST).max(1) * mask.max(1)[:, None],
    "mean": _numpy_mean,
    "mean_sqrt_len": lambda x, mask: _numpy_mean(x, mask, power=0.5),
    "weightedmean": lambda x, mask: _numpy_mean(x, mask * _numpy_ranks(mask)),
}


def append_head(model: ir.Model, head: tuple[Step, ...], *, output: str) -> None:
    """Put `head` behind the only output of `model` and name the new output `output`."""
    graph = model.graph
    value = graph.outputs[0]
    if head:
        mask_BS = next(v for v in graph.inputs if v.name == ATTENTION_MASK)
        builder = GraphBuilder(mask_BS)
        for step in head:
            value = step.to_onnx(builder, value)
        graph.extend(node for node in builder.nodes if node.outputs[0].uses() or node.outputs[0] is value)
        for initializer in builder.initializers:
            graph.register_initializer(initializer)
        graph.outputs[0] = value
    value.name = output


def run_head(head: tuple[Step, ...], x: Array, mask_BS: Array) -> npt.NDArray[np.float32]:
    """The same as `append_head` in float64 numpy, rounded to float32 at the end."""
    result: Array = x.astype(np.float64)
    for step in head:
        result = step.to_numpy(result, mask_BS)
    return result.astype(np.float32)
