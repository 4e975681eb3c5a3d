"""Decide which nodes compute in float32."""

import onnx_ir as ir

from trtbert.precision.formats import Format
from trtbert.precision.kinds import Kind, is_float, kind_of
from trtbert.precision.scan import Peaks

_ALWAYS_FLOAT = (Kind.FLOAT, Kind.BOUNDARY, Kind.EXACT)
_ALWAYS_HALF = (Kind.GEMM, Kind.ATTENTION, Kind.FUSED_ATTENTION)
_CONVERTIBLE = (Kind.ARITHMETIC, Kind.MOVE, Kind.QUANTIZE, Kind.FUSED_LAYER_NORM, Kind.FUSED_GELU)


class Plan:
    """The float32 nodes of a prepared graph. Start from those that always are, then grow until nothing changes:

    - over what would overflow, and over numbers that float16 cannot hold (mask constants, epsilons);
    - forward from an unstable op (Exp, Div, Pow...) up to the next GEMM, LayerNorm or Softmax;
    - backward where all readers are float32: the sums before a LayerNorm or Softmax, the task head. It costs no Cast.
    """

    def __init__(self, graph: ir.Graph, peaks: Peaks, number_format: Format) -> None:
        self._peaks, self._format = peaks, number_format
        self._outputs = frozenset(graph.outputs)
        self.kinds = {node: kind_of(node) for node in graph}
        self.nodes = {node for node, kind in self.kinds.items() if kind in _ALWAYS_FLOAT}
        self._exact = self._exact_values()
        self._grow()

    def exceeds(self, value: ir.Value | None) -> bool:
        """Whether `value` went beyond the limit of the half format in the scan."""
        return self._peaks.of(value) > self._format.limit

    def _grow(self) -> None:
        candidates = [node for node, kind in self.kinds.items() if kind in _CONVERTIBLE]
        is_changed = True
        while is_changed:
            is_changed = False
            for node in (*reversed(candidates), *candidates):
                if node not in self.nodes and self._must_be_float(node):
                    self.nodes.add(node)
                    is_changed = True

    def _must_be_float(self, node: ir.Node) -> bool:
        inputs = [value for value in node.inputs if value is not None and is_float(value)]
        outputs = [value for value in node.outputs if is_float(value)]
        if any(self.exceeds(value) or value in self._exact for value in outputs):
            return True
        is_last = all(self._has_float_readers(value) for value in outputs)
        match self.kinds[node]:
            case Kind.QUANTIZE:
                return any(self.exceeds(value) for value in inputs)
            case Kind.FUSED_LAYER_NORM:
                return is_last or any(self.exceeds(value) for value in inputs if value.const_value is not None)
            case Kind.FUSED_GELU:
                return is_last or self._forces(inputs[0])
            case Kind.MOVE:
                is_forced = any(self._forces(value) for value in inputs) and not all(map(self._has_half_readers, outputs))
                return is_forced or any(map(self.exceeds, inputs)) or (is_last and any(self._is_stored_float(v) for v in inputs))
        return is_last or any(self._forces(value) or not self._constant_fits(value) for value in inputs)

    def _constant_fits(self, value: ir.Value) -> bool:
        return value.const_value is None or self._format.fits(value.const_value.numpy())

    def _is_stored_float(self, value: ir.Value) -> bool:
        node = value.producer()
        return node is not None and (node in self.nodes or (self.kinds[node] in _ALWAYS_HALF and self.exceeds(value)))

    def _forces(self, value: ir.Value) -> bool:
        """Whether `value` is float32 and arithmetic on it has to be, too."""
        if self.exceeds(value):
            return True
        node = value.producer()
        is_rounded = node is not None and self.kinds[node] in (Kind.BOUNDARY, Kind.FUSED_LAYER_NORM)
        return self._is_stored_float(value) and not is_rounded

    def _readers(self, value: ir.Value) -> list[Kind]:
        return [Kind.FLOAT if node in self.nodes else self.kinds[node] for node in value.consumers()]

    def _has_float_readers(self, value: ir.Value) -> bool:
        readers = [kind for kind in self._readers(value) if kind is not Kind.SHAPE]
        return all(kind is Kind.FLOAT for kind in readers) and (bool(readers) or value in self._outputs)

    def _has_half_readers(self, value: ir.Value) -> bool:
        return value not in self._outputs and all(kind is not Kind.FLOAT for kind in self._readers(value))

    def _exact_values(self) -> set[ir.Value]:
        exact: set[ir.Value] = set()
        waiting = [value for node, kind in self.kinds.items() if kind is Kind.EXACT for value in node.inputs]
        while waiting:
            value = waiting.pop()
            if value is None or value in exact or not is_float(value):
                continue
            exact.add(value)
            node = value.producer()
            if node is not None and self.kinds[node] in (Kind.ARITHMETIC, Kind.MOVE):
                waiting.extend(node.inputs)
        return exact
