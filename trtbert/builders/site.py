"""One fused node that is to be lowered, and the tape that takes the nodes that replace it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's contrib ops."""

ORT_FLOAT = (ir.DataType.FLOAT, ir.DataType.FLOAT16)

Attributes = dict[str, int | float | str | Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One fused node, the tape that takes its replacement, and the values that all nodes of the model share (masks)."""

    node: ir.Node
    tape: ir.tape.Tape
    shared: dict[tuple[object, ...], ir.Value]

    def op(self, name: str, *inputs: ir.Value | None, attributes: Attributes | None = None, domain: str = "") -> ir.Value:
        return self.tape.op(name, inputs, attributes or {}, domain=domain)

    def constant(self, value: npt.ArrayLike, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        tensor = ir.tensor(np.asarray(value, dtype.numpy()), dtype=dtype)
        return self.tape.op("Constant", [], {"value": tensor})

    def input(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def required(self, index: int) -> ir.Value:
        value = self.node.inputs[index]
        assert value is not None, f"input {index} of {self.node.op_type} is missing"
        return value

    def has_types(self, allowed: Sequence[ir.DataType], *inputs: int) -> bool:
        """Whether these inputs, where they are there, have one and the same type and it is allowed."""
        types = {value.dtype for value in map(self.input, inputs) if value is not None}
        return len(types) == 1 and types <= set(allowed)

    @property
    def num_heads(self) -> int:
        return self.node.attributes["num_heads"].as_int()

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.node.attributes.get_int("num_kv_heads", self.num_heads)

    @property
    def head_size(self) -> int:
        return self.node.attributes["head_size"].as_int()

    @property
    def scale(self) -> float:
        return self.node.attributes["scale"].as_float()

    @property
    def epsilon(self) -> float:
        return self.node.attributes["epsilon"].as_float()
