"""Statistics of a GEMM's input and its weights -> the factors [K] that even out its columns before they are quantised.

    x W  =  (x r) (W / r)        r_k = max|W_k|^(1-a) / max|x_k|^a

Xiao et al., "SmoothQuant", 2022, arXiv 2211.10438. There r is folded into the LayerNorm before the GEMM. In a post-LN encoder the
residual sum reads that LayerNorm too, so that the fold would be wrong: r is a product of its own here. Folded, exactly, it is only
into the values of attention: (P V) r = P (V r). The strength a is searched per tensor, for the least error of the GEMMs' own results.

Legend: K inputs, N outputs, R rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from trtbert.calibrate.collect import Statistics
from trtbert.calibrate.gemms import Gemm
from trtbert.calibrate.qdq import add_initializer, array_of, fake_quantized, step_of, weight_scale
from trtbert.ops import FUSED_QKV_ATTENTION

Array = npt.NDArray[Any]

STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LARGEST_LOG = 6.0
"""A factor is at most e^6 = 400 times the mean one: a column that was nearly 0 on all texts may not stay so."""


def find_factors(gemms: Sequence[Gemm], statistics: Mapping[str, Statistics]) -> dict[str, Array]:
    """The factors [K] of each tensor (by the name of the value) that gains by them.

    A weight that GEMMs of several tensors share (ALBERT's) keeps r = 1: it would have to be stored once for each.
    """
    readers: dict[str, list[Gemm]] = {}
    for gemm in gemms:
        readers.setdefault(str(gemm.x.name), []).append(gemm)
    found = {}
    for name, group in readers.items():
        weights = {gemm.weight: None for gemm in group}
        if any(node.inputs[0] is not group[0].x for weight in weights for node in weight.consumers()):
            continue
        factors = _best_factors(statistics[name], np.concatenate([array_of(weight) for weight in weights], axis=1))
        if factors is not None:
            found[name] = factors
    return found


def _best_factors(statistics: Statistics, weight_KN: Array) -> Array | None:
    """None where no strength is better than r = 1."""
    candidates: list[Array | None] = [None, *(smoothing_factors(statistics, weight_KN, strength) for strength in STRENGTHS)]
    expected_RN = statistics.rows_RK @ weight_KN
    errors = [_squared_error(statistics, weight_KN, factors, expected_RN) for factors in candidates]
    return candidates[int(np.argmin(errors))]


def smoothing_factors(statistics: Statistics, weight_KN: Array, strength: float) -> Array:
    """The factors [K] float32 for one strength a, of geometric mean 1, so that neither x nor W leaves the range of float16."""
    x_K = np.maximum(np.abs(statistics.low_K), np.abs(statistics.high_K)).astype(np.float64)
    w_K = np.abs(weight_KN).max(1).astype(np.float64)
    is_used_K = (x_K > 0) & (w_K > 0)
    logs_K = np.zeros(len(x_K))
    logs_K[is_used_K] = (1 - strength) * np.log(w_K[is_used_K]) - strength * np.log(x_K[is_used_K])
    logs_K[is_used_K] -= logs_K[is_used_K].mean() if is_used_K.any() else 0.0
    factors: Array = np.exp(np.clip(logs_K, -_LARGEST_LOG, _LARGEST_LOG)).astype(np.float32)
    return factors


def _squared_error(statistics: Statistics, weight_KN: Array, factors_K: Array | None, expected_RN: Array) -> float:
    """Of the GEMM on the sampled rows with its input and weight in INT8, nothing clipped."""
    r_K = np.ones(len(weight_KN), np.float32) if factors_K is None else factors_K
    step = step_of(float((statistics.low_K * r_K).min()), float((statistics.high_K * r_K).max()))
    scaled_KN = weight_KN / r_K[:, None]
    x_RK = fake_quantized(statistics.rows_RK * r_K - step.shift, step.scale) + np.float32(step.shift)
    actual_RN = x_RK @ fake_quantized(scaled_KN, weight_scale(scaled_KN))
    return float(np.square(actual_RN - expected_RN).sum())


def fold_into_values(model: ir.Model, gemms: Sequence[Gemm], factors: Mapping[str, Array]) -> dict[str, Array]:
    """Fold the factors of attention outputs into the weights of V, in place; gives the factors that are left."""
    left = dict(factors)
    for gemm in gemms:
        name = str(gemm.x.name)
        if name in left and _fold(model.graph, gemm, left[name]):
            del left[name]
    return left


def _fold(graph: ir.Graph, gemm: Gemm, factors_K: Array) -> bool:
    attention = gemm.x.producer()
    if attention is None or attention.op_type != FUSED_QKV_ATTENTION.name or len(gemm.x.uses()) != 1 or gemm.x.is_graph_output():
        return False
    if "num_kv_heads" in attention.attributes:  # a column of V is then seen by several of the factors
        return False
    projection = _projection(attention)
    if projection is None:
        return False
    for node, index in projection:
        _multiply_values(graph, node, index, factors_K)
    name = f"{gemm.weight.name}.folded"
    gemm.node.replace_input_with(1, add_initializer(graph, name, array_of(gemm.weight) / factors_K[:, None]))
    return True


def _projection(attention: ir.Node) -> list[tuple[ir.Node, int]] | None:
    """(node, index of the constant) of the MatMul and the Add that make q, k and v, read by this attention alone; or None."""
    value, found = attention.inputs[0], list[tuple[ir.Node, int]]()
    while True:
        node = None if value is None or len(value.uses()) != 1 else value.producer()
        if node is None or node.op_type not in ("Add", "MatMul") or len(node.inputs) != 2:
            return None
        constants = [i for i, v in enumerate(node.inputs) if v is not None and v.const_value is not None and len(v.uses()) == 1]
        if len(constants) != 1:
            return None
        found.append((node, constants[0]))
        if node.op_type == "MatMul":
            return found if constants == [1] else None
        value = node.inputs[1 - constants[0]]


def _multiply_values(graph: ir.Graph, node: ir.Node, index: int, factors_K: Array) -> None:
    """Multiply the columns of V, the last third, of a packed weight or bias."""
    constant = node.inputs[index]
    assert constant is not None
    array = array_of(constant).copy()
    array[..., -len(factors_K) :] *= factors_K
    node.replace_input_with(index, add_initializer(graph, f"{constant.name}.folded", array))
