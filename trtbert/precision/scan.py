"""The largest |x| of each float tensor of a float32 model on real texts, by ONNX Runtime on the CPU.

Only the maxima leave the session, so that memory does not grow with the number of texts.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime

from trtbert.ops import qkv_columns
from trtbert.precision.formats import Array
from trtbert.precision.kinds import Kind, is_float, kind_of, stored_weight

Feeds = Sequence[dict[str, Array]]
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INLINE_BYTES = 1024


class Peaks:
    """max |x| per tensor: of constants always, of others where they were scanned; 0 for what is not known."""

    def __init__(self, scanned: dict[str, Array]) -> None:
        self._scanned = scanned

    def columns(self, value: ir.Value | None) -> Array:
        """The peak per column [N] of a GEMM with constant weights or of a packed QKV, else one peak, 0-d."""
        if value is None:
            return np.asarray(0.0)
        if value.const_value is not None:
            return _finite(np.abs(value.const_value.numpy()).max(initial=0.0))
        if value.name in self._scanned:
            return self._scanned[value.name]
        return np.asarray(0.0)

    def pass_on(self, graph: ir.Graph) -> None:
        """Give what nodes move around (Transpose, Gather...) the peak of what they moved: it gets no larger."""
        for node in graph:
            if kind_of(node) is Kind.MOVE:
                peak = max(self.of(source) for source in node.inputs if is_float(source))
                self._scanned.update({str(value.name): np.asarray(peak) for value in node.outputs})

    def of(self, value: ir.Value | None) -> float:
        return float(self.columns(value).max(initial=0.0))


def scan(model: ir.Model, feeds: Feeds) -> Peaks:
    """Run the float32 `model` (prepared) on each of `feeds`; inf and NaN count as the largest float32."""
    watching = model.clone()
    watched = {value.name: _watch(watching.graph, value) for value in _values(watching.graph)}
    session = _session(watching)
    scanned: dict[str, Array] = {}
    for feed in feeds:
        results = session.run(list(watched.values()), feed)
        for name, result in zip(watched, results, strict=True):
            scanned[str(name)] = np.maximum(scanned.get(str(name), 0.0), _finite(result))
    peaks = Peaks(scanned)
    peaks.pass_on(model.graph)
    return peaks


def _finite(peak: Array) -> Array:
    return np.nan_to_num(np.asarray(peak, np.float64), nan=_FLOAT32_MAX, posinf=_FLOAT32_MAX)


def _values(graph: ir.Graph) -> list[ir.Value]:
    nodes = [node for node in graph if kind_of(node) not in (Kind.MOVE, Kind.OTHER, Kind.SHAPE)]
    return [value for node in nodes for value in node.outputs if value.name and is_float(value)]  # an unread optional output has no name


def _num_columns(value: ir.Value) -> int | None:
    """The width of a tensor whose columns are scaled one by one, None where one scale serves it all."""
    for reader in value.consumers():
        if kind_of(reader) is Kind.FUSED_ATTENTION and reader.inputs[0] is value:
            sizes = (reader.attributes.get_int(name, 0) for name in ("num_heads", "head_size", "num_kv_heads"))
            return int(qkv_columns(*sizes)[-1].stop)
    node = value.producer()
    if node is None or node.op_type not in ("MatMul", "Gemm"):
        return None
    weight = stored_weight(node)
    if weight is None or weight.const_value is None or len(weight.const_value.shape) != 2:
        return None
    return int(weight.const_value.numpy().shape[0 if node.attributes.get_int("transB", 0) else 1])


def _watch(graph: ir.Graph, value: ir.Value) -> str:
    """Add max |value| as an output of the graph and give its name."""
    node = value.producer()
    assert node is not None
    width = _num_columns(value)
    new = []
    rows: list[ir.Value | None] = [value]
    if width is not None:
        new.append(ir.node("Reshape", [value, _int64(graph, f"{value.name}_rows", [-1, width])]))
        rows = [new[-1].outputs[0], _int64(graph, f"{value.name}_axis", [0])]
    new.append(ir.node("Abs", rows[:1]))
    new.append(ir.node("ReduceMax", [new[-1].outputs[0], *rows[1:]], {"keepdims": 0}))
    graph.insert_after(node, new)
    peak = new[-1].outputs[0]
    peak.name = f"{value.name}_peak"
    peak.dtype, peak.shape = ir.DataType.FLOAT, ir.Shape([] if width is None else [width])
    graph.outputs.append(peak)
    return peak.name


def _int64(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(numbers, ir.DataType.INT64, name=name))
    graph.register_initializer(value)
    return value


def _session(model: ir.Model) -> onnxruntime.InferenceSession:
    """A session on `model` that borrows its weights: a second copy of them would be most of the memory."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Less memory: in this order the maxima are taken early, and tensors freed; and no weight is copied into another layout.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    weights = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > _INLINE_BYTES:
            array = np.ascontiguousarray(tensor.numpy())
            weights[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            value.const_value = ir.ExternalTensor("weights", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(array.shape), name=name)
    options.add_external_initializers(list(weights), list(weights.values()))
    serialized = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
