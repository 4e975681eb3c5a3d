"""The forms each float tensor exists in - float32, half, half times a power of two - and the Casts between them.

A tensor "in half at exponent k" is stored as x * 2^-k: an exact scaling that keeps it inside the range of the format.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from trtbert.precision.formats import Array, Format
from trtbert.precision.losses import Losses

_LARGEST_FACTOR = 16
"""2^16 is no half."""


@dataclass
class _Stored:
    floating: ir.Value | None = None
    half: dict[int, ir.Value] = field(default_factory=dict)
    """By exponent; 0 is the plain half tensor."""
    by_column: tuple[ir.Value, Array] | None = None
    """In half, each column [N] at its own exponent."""


class Forms:
    """Gives every tensor in the form a node asks for; a form is made once, right before its first reader (None: at the end)."""

    def __init__(self, graph: ir.Graph, number_format: Format) -> None:
        self._graph, self.format = graph, number_format
        self.losses = Losses(number_format)
        self._stored: dict[ir.Value, _Stored] = {}
        self._constants: dict[tuple[ir.Value, bytes], ir.Value] = {}
        self._names = {value.name for node in graph for value in node.outputs} | set(graph.initializers)

    def put_float(self, value: ir.Value) -> None:
        self._stored[value] = _Stored(floating=value)

    def put_half(self, value: ir.Value, exponent: int = 0) -> None:
        """`value` is now in half, at `exponent`."""
        value.type = ir.TensorType(self.format.dtype)
        self._stored[value] = _Stored(half={exponent: value})

    def put_columns(self, value: ir.Value, exponents: Array) -> None:
        """`value` is now in half, each column at its own exponent [N]."""
        value.type = ir.TensorType(self.format.dtype)
        self._stored[value] = _Stored(by_column=(value, exponents))

    def exponent(self, value: ir.Value) -> int:
        """The smallest exponent `value` can be had at in half without a new node, 0 for any but a scaled tensor."""
        stored = self._stored.get(value)
        return min(stored.half, default=0) if stored is not None else 0

    def floating(self, value: ir.Value, before: ir.Node | None) -> ir.Value:
        """`value` in float32."""
        if value.const_value is not None:
            return value
        stored = self._stored[value]
        if stored.floating is None:
            nearest = min(stored.half, default=0)
            source, exponents = stored.by_column or (stored.half[nearest], nearest)
            cast = self.emit("Cast", [source], ir.DataType.FLOAT, before, to=ir.DataType.FLOAT)
            stored.floating = self.multiplied(cast, exponents, before)
        return stored.floating

    def half(self, value: ir.Value, before: ir.Node | None, exponent: int = 0) -> ir.Value:
        """`value` in half at exactly `exponent`."""
        if value.const_value is not None:
            return self.constant(value, exponent)
        stored = self._stored[value]
        if exponent not in stored.half:
            stored.half[exponent] = self._new_half(value, exponent, before)
        return stored.half[exponent]

    def _new_half(self, value: ir.Value, exponent: int, before: ir.Node | None) -> ir.Value:
        halves = self._stored[value].half
        nearest = min(halves, default=None)
        if nearest is not None and nearest - exponent < _LARGEST_FACTOR:
            return self.multiplied(halves[nearest], nearest - exponent, before)
        return self.cast(self.multiplied(self.floating(value, before), -exponent, before), before)

    def native(self, value: ir.Value, before: ir.Node | None) -> ir.Value:
        """`value` in the form it has, for a node that reads any; half for constants that fit."""
        if value.const_value is not None:
            return self.half(value, before) if self.format.fits(value.const_value.numpy()) else value
        is_half = self._stored[value].half.get(0) is value
        return value if is_half else self.floating(value, before)

    def constant(self, value: ir.Value, exponents: int | Array = 0) -> ir.Value:
        """The constant `value` times 2^-exponents (a number, or an array that broadcasts) as an initializer in half."""
        key = (value, np.asarray(exponents, np.int64).tobytes())
        if key not in self._constants:
            assert value.const_value is not None
            array = value.const_value.numpy()
            scaled = np.ldexp(array, -np.asarray(exponents, np.int32)) if np.any(exponents) else array
            self.losses.add(str(value.name), array, scaled)
            self._constants[key] = self.initializer(f"{value.name}_{self.format.name}", self.format.rounded(scaled))
        return self._constants[key]

    def multiplied(self, value: ir.Value, exponents: int | Array, before: ir.Node | None) -> ir.Value:
        """value * 2^exponents (a number, or an array [N]), in the type of `value`; no node where that changes nothing."""
        if not np.any(exponents):
            return value
        assert value.dtype is not None
        factor = np.exp2(exponents).astype(value.dtype.numpy())
        return self.emit("Mul", [value, self.initializer(f"{value.name}_factor", factor)], value.dtype, before)

    def at_least(self, value: ir.Value, lowest: float, before: ir.Node | None) -> ir.Value:
        """max(value, lowest), in float32."""
        bound = self.initializer(f"{value.name}_lowest", np.asarray(lowest, np.float32))
        return self.emit("Max", [value, bound], ir.DataType.FLOAT, before)

    def cast(self, value: ir.Value, before: ir.Node | None) -> ir.Value:
        return self.emit("Cast", [value], self.format.dtype, before, to=self.format.dtype)

    def emit(self, op_type: str, inputs: list[ir.Value], dtype: ir.DataType, before: ir.Node | None, **attributes: int) -> ir.Value:
        """A new node `op_type` in front of `before`; gives its result, of the shape of the first input."""
        node = ir.node(op_type, inputs, attributes)
        result = node.outputs[0]
        result.name = node.name = self._new_name(f"{inputs[0].name}_{op_type.lower()}")
        result.dtype, result.shape = dtype, inputs[0].shape
        if before is None:
            self._graph.append(node)
        else:
            self._graph.insert_before(before, node)
        return result

    def initializer(self, name: str, array: Array) -> ir.Value:
        """A new constant."""
        name = self._new_name(name)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _new_name(self, name: str) -> str:
        number, result = 1, name
        while result in self._names:
            number, result = number + 1, f"{name}_{number}"
        self._names.add(result)
        return result
