"""Statistics of every GEMM's input -> how each is quantised, and the graph in which chosen GEMMs are quantised so.

In front of a quantised GEMM stand its factors r and its shift z. The bias behind it takes back the shift, and the mean of the error
that INT8 makes on the sampled rows (bias correction: Nagel et al., "Data-Free Quantization", 2019, arXiv 1906.04721):

    x W + b  =  (x r - z) (W / r) + (b + z sum(W / r))        b  ->  b - E[error]

Legend: K inputs, N outputs, R rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from trtbert.calibrate.collect import Statistics
from trtbert.calibrate.gemms import Gemm
from trtbert.calibrate.qdq import (
    Step,
    add_initializer,
    array_of,
    dequantized_weight,
    fake_quantized,
    producer_of,
    quantize_dequantize,
    step_of,
    weight_scale,
)
from trtbert.calibrate.thresholds import Histogram
from trtbert.ops import FUSED_BIAS_GELU, FUSED_SKIP_LAYER_NORM

Array = npt.NDArray[Any]

_BIAS_INPUT = {FUSED_BIAS_GELU.name: FUSED_BIAS_GELU.inputs.index("bias"), FUSED_SKIP_LAYER_NORM.name: len(FUSED_SKIP_LAYER_NORM.inputs)}


@dataclass(frozen=True, kw_only=True, eq=False)
class GemmPlan:
    """How one GEMM is quantised."""

    key: str
    label: str
    tensor: str
    """The name of its input in the quantised graph, just before Q."""
    threshold: float
    """amax of |x r|: what is beyond is clipped."""
    is_refused: bool
    """Whether the method's own threshold would have done more harm than good, so that this is the maximum."""
    step: Step
    factors_K: Array | None
    bias_N: Array
    """What is added to the bias: z sum(W / r) - E[error]."""

    def apply(self, graph: ir.Graph) -> None:
        node = producer_of(graph, self.key)
        x, weight = node.inputs
        assert x is not None and weight is not None
        _add_to_bias(graph, node, self.bias_N)
        if self.factors_K is not None:
            x = _arithmetic(graph, "Mul", x, self.factors_K, _smoothed_name(x, self.factors_K), before=node)
            weight = add_initializer(graph, f"{weight.name}.smoothed", array_of(weight) / self.factors_K[:, None])
        if self.step.shift:
            x = _arithmetic(graph, "Sub", x, np.asarray(self.step.shift, np.float32), self.tensor, before=node)
        node.replace_input_with(0, quantize_dequantize(graph, x, self.step.scale, before=node))
        node.replace_input_with(1, dequantized_weight(graph, weight, before=node))


def plan_gemm(gemm: Gemm, statistics: Statistics, factors_K: Array | None, method: Callable[[Histogram], float]) -> GemmPlan | None:
    """The plan from the statistics of x r; None for an input that is 0 throughout, which has no scale.

    A threshold sees how often numbers come, not what hangs on them: in BERTs a few huge ones carry the result. So one that makes the
    GEMM's own result on the sampled rows worse than no clipping does is not taken.
    """
    maximum = statistics.histogram.maximum
    if maximum == 0.0:
        return None
    weight_KN = array_of(gemm.weight) if factors_K is None else array_of(gemm.weight) / factors_K[:, None]
    integer_KN = fake_quantized(weight_KN, weight_scale(weight_KN))
    expected_RN = statistics.rows_RK @ weight_KN
    found = method(statistics.histogram)
    trials = [_tried(threshold, statistics, integer_KN, expected_RN) for threshold in dict.fromkeys((found, maximum)) if threshold > 0.0]
    best = trials[0] if trials[0].squared_error <= trials[-1].squared_error else trials[-1]
    return GemmPlan(
        key=gemm.key,
        label=gemm.label,
        tensor=_shifted_name(_smoothed_name(gemm.x, factors_K), best.step),
        threshold=best.threshold,
        is_refused=best.threshold != found,
        step=best.step,
        factors_K=factors_K,
        bias_N=best.bias_N,
    )


@dataclass(frozen=True, eq=False)
class _Tried:
    """A threshold, and what it makes of the sampled rows."""

    threshold: float
    step: Step
    bias_N: Array
    squared_error: float


def _tried(threshold: float, statistics: Statistics, integer_KN: Array, expected_RN: Array) -> _Tried:
    step = step_of(max(statistics.low, -threshold), min(statistics.high, threshold))
    errors_RN = expected_RN - fake_quantized(statistics.rows_RK - step.shift, step.scale) @ integer_KN
    bias_N = errors_RN.mean(0, dtype=np.float64).astype(np.float32)
    return _Tried(threshold, step, bias_N, float(np.square(errors_RN - bias_N).sum()))


def _smoothed_name(x: ir.Value, factors_K: Array | None) -> str:
    return str(x.name) if factors_K is None else f"{x.name}.smoothed"


def _shifted_name(name: str, step: Step) -> str:
    return f"{name}.shifted.{step.shift:.9g}" if step.shift else name


def _arithmetic(graph: ir.Graph, op_type: str, x: ir.Value, constant: Array, name: str, *, before: ir.Node) -> ir.Value:
    """`x` op `constant`, made once for all its readers."""
    for reader in x.consumers():
        if reader.outputs[0].name == name:
            return reader.outputs[0]
    node = ir.node(op_type, [x, add_initializer(graph, f"{name}.constant", constant)], name=name)
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = name, x.shape, ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(before, node)
    return node.outputs[0]


def _add_to_bias(graph: ir.Graph, gemm: ir.Node, bias_N: Array) -> None:
    """Add to the constant bias behind the GEMM, or put an Add there."""
    result = gemm.outputs[0]
    uses = list(result.uses())
    if len(uses) == 1 and not result.is_graph_output():
        reader, index = uses[0]
        place = 1 - index if reader.op_type == "Add" else _BIAS_INPUT.get(reader.op_type, -1) if index == 0 else -1
        bias = reader.inputs[place] if 0 <= place < len(reader.inputs) else None
        if bias is not None and bias.const_value is not None and bias.const_value.shape == (len(bias_N),):
            reader.replace_input_with(place, add_initializer(graph, f"{result.name}.bias", array_of(bias) + bias_N))
            return
    node = ir.node("Add", [result, add_initializer(graph, f"{result.name}.bias", bias_N)], name=f"{result.name}.biased")
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = node.name, result.shape, ir.TensorType(ir.DataType.FLOAT)
    graph.insert_after(gemm, node)
    ir.convenience.replace_all_uses_with(result, node.outputs[0], replace_graph_outputs=True)
    node.replace_input_with(0, result)
