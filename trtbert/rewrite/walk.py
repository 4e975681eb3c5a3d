"""Small steps through a graph: constants, producers, linear layers."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

NO_OPS = frozenset({"Identity", "Dropout", "Cast"})
"""Ops that leave the numbers of an inference graph of one float type as they are."""


class Miss(Exception):
    """Why a rule does not fire at a place that looks like its op."""

    def __init__(self, reason: str, *, is_required: bool = True) -> None:
        """`is_required` is False for a place outside the encoder's layers, where the op may look like this."""
        super().__init__(reason)
        self.is_required = is_required


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The array of an initializer or of a Constant node, None for anything that is computed."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def array_of(value: ir.Value) -> npt.NDArray[Any]:
    """The array of a value that is known to be constant."""
    array = constant(value)
    assert array is not None
    return array


def initializer(tensor: ir.TensorProtocol) -> ir.Value:
    """A value for `graph.register_initializer`, named as the tensor."""
    return ir.Value(name=tensor.name, const_value=tensor, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype))


def is_constant(value: ir.Value | None) -> bool:
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def producer(value: ir.Value | None, ops: Collection[str]) -> ir.Node | None:
    """The node that computes `value` if its op is one of `ops`."""
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type in ops else None


def skip_back(value: ir.Value, ops: Collection[str] = NO_OPS) -> ir.Value:
    """The value before all nodes of `ops` that lie directly behind `value`."""
    while (node := producer(value, ops)) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def only_use(value: ir.Value) -> ir.Node | None:
    """The one node that reads the numbers of `value`, None if there are several or if it is a graph output."""
    users = {node for node, _ in value.uses() if node.op_type != "Shape"}
    return users.pop() if len(users) == 1 and not value.is_graph_output() else None


def split_constant(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """(computed, constant) of a node of two inputs, None if not exactly one of them is constant."""
    if len(node.inputs) != 2:
        return None
    a, b = node.inputs
    if a is None or b is None or is_constant(a) == is_constant(b):
        return None
    return (b, a) if is_constant(a) else (a, b)


@dataclass(frozen=True)
class Linear:
    """x @ weight + bias, with weight [in, out] and bias [out] or None, both initializers."""

    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None


def linear(value: ir.Value) -> Linear | None:
    """The linear layer whose output `value` is, None if it is anything else."""
    value, bias = skip_back(value), None
    add = producer(value, {"Add"})
    if add is not None and (parts := split_constant(add)) is not None and (parts[1].shape is not None and len(parts[1].shape) == 1):
        value, bias = skip_back(parts[0]), parts[1]
    matmul = producer(value, {"MatMul"})
    if matmul is None:
        return None
    x, weight = matmul.inputs
    if x is None or weight is None or is_constant(x) or not is_constant(weight) or weight.shape is None or len(weight.shape) != 2:
        return None
    return Linear(skip_back(x), weight, bias)
