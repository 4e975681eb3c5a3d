"""The four fused ops: inputs, attributes and float64 numpy reference of each.

Legend: B batch, S sequence, D hidden, N heads, H head size, V rows of a table.
The ONNX function bodies that define the same ops for every runtime are in `trtbert/bodies.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DOMAIN = "trtbert"
DOMAIN_VERSION = 1
OPSET = 23
"""The ONNX opset of every model between the stages."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class FusedOp:
    """Name and interface of one fused op; its optional inputs come last, and its overload names the optional parts that a node has."""

    name: str
    inputs: tuple[str, ...]
    optional_inputs: tuple[str, ...] = ()
    attributes: tuple[str, ...]
    int8_attributes: tuple[str, ...] = ()
    """Those that a node has as well whose overload names "int8"."""
    reference: Callable[..., Array]


def _float64(*arrays: Array) -> tuple[npt.NDArray[np.float64], ...]:
    return tuple(np.asarray(array, dtype=np.float64) for array in arrays)


def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    """LayerNorm over the last axis, variance in two passes; x [...,D], gamma and beta [D]."""
    x, gamma, beta = _float64(x, gamma, beta)
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + epsilon) * gamma + beta
    return normed


def fused_embed_layer_norm(
    input_ids: Array,
    position_ids: Array,
    word: Array,
    position: Array,
    gamma: Array,
    beta: Array,
    token_type_ids: Array | None = None,
    token_type: Array | None = None,
    *,
    epsilon: float,
) -> Array:
    """LayerNorm(word[input_ids] + position[position_ids] (+ token_type[token_type_ids])).

    input_ids and token_type_ids [B,S]; position_ids [B,S] or [1,S]; tables [V,D]; gives [B,S,D].
    """
    word, position = _float64(word, position)
    total = word[input_ids] + position[position_ids]
    if token_type_ids is not None and token_type is not None:
        total = total + token_type.astype(np.float64)[token_type_ids]
    return layer_norm(total, gamma, beta, epsilon)


def fused_qkv_attention(
    qkv: Array,
    mask: Array,
    bias: Array | None = None,
    *,
    num_heads: int,
    head_size: int,
    scale: float,
    q_scale: float = 0.0,
    k_scale: float = 0.0,
    v_scale: float = 0.0,
    probability_scale: float = 0.0,
) -> Array:
    """Softmax(scale * Q Kᵀ + bias, over the keys whose mask is not 0) V.

    qkv [B,S,3*N*H] packed as (q, k, v) x heads x head size; mask [B,S]; bias [1|B,N,S,S] or None; gives [B,S,N*H].
    A row whose mask is 0 everywhere attends to nothing: its context is 0.
    With scales (all four, or none) Q, K, V and the probabilities go through symmetric INT8, of that scale, before they are multiplied.
    """
    batch, length, _ = qkv.shape
    packed = np.asarray(qkv, np.float64).reshape(batch, length, 3, num_heads, head_size).transpose(2, 0, 3, 1, 4)
    q_BNSH, k_BNSH, v_BNSH = (_through_int8(x, s) for x, s in zip(packed, (q_scale, k_scale, v_scale), strict=True))
    scores_BNSS = q_BNSH @ k_BNSH.transpose(0, 1, 3, 2) * scale
    if bias is not None:
        scores_BNSS = scores_BNSS + bias.astype(np.float64)
    is_kept_B11S = (mask != 0)[:, None, None, :]
    scores_BNSS = np.where(is_kept_B11S, scores_BNSS, -np.finfo(np.float64).max)
    probs_BNSS = np.exp(scores_BNSS - scores_BNSS.max(-1, keepdims=True)) * is_kept_B11S
    total_BNS1 = probs_BNSS.sum(-1, keepdims=True)
    probs_BNSS = np.divide(probs_BNSS, total_BNS1, out=np.zeros_like(probs_BNSS), where=total_BNS1 > 0)
    context_BNSH: Array = _through_int8(probs_BNSS, probability_scale) @ v_BNSH
    return context_BNSH.transpose(0, 2, 1, 3).reshape(batch, length, -1)


def _through_int8(x: Array, scale: float) -> Array:
    """DQ(Q(x)), symmetric; x itself for a scale of 0."""
    return x if scale == 0.0 else np.clip(np.rint(x / scale), -128, 127) * scale


def fused_skip_layer_norm(x: Array, skip: Array, gamma: Array, beta: Array, bias: Array | None = None, *, epsilon: float) -> Array:
    """LayerNorm(x (+ bias) + skip); x and skip [...,D], bias [D]."""
    x, skip = _float64(x, skip)
    return layer_norm(x + skip if bias is None else x + bias.astype(np.float64) + skip, gamma, beta, epsilon)


def fused_bias_gelu(x: Array, bias: Array, *, approximate: str) -> Array:
    """GELU(x + bias); approximate is "none" (erf) or "tanh"; x [...,D], bias [D]."""
    x, bias = _float64(x, bias)
    total: Array = x + bias
    if approximate == "tanh":
        factor: Array = 1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (total + 0.044715 * total**3))
    else:
        factor = 1.0 + np.vectorize(math.erf, otypes=[np.float64])(total / math.sqrt(2.0))
    return 0.5 * total * factor


FUSED_EMBED_LAYER_NORM = FusedOp(
    name="FusedEmbedLayerNorm",
    inputs=("input_ids", "position_ids", "word", "position", "gamma", "beta"),
    optional_inputs=("token_type_ids", "token_type"),
    attributes=("epsilon",),
    reference=fused_embed_layer_norm,
)
FUSED_QKV_ATTENTION = FusedOp(
    name="FusedQkvAttention",
    inputs=("qkv", "mask"),
    optional_inputs=("bias",),
    attributes=("num_heads", "head_size", "scale"),
    int8_attributes=("q_scale", "k_scale", "v_scale", "probability_scale"),
    reference=fused_qkv_attention,
)
FUSED_SKIP_LAYER_NORM = FusedOp(
    name="FusedSkipLayerNorm",
    inputs=("x", "skip", "gamma", "beta"),
    optional_inputs=("bias",),
    attributes=("epsilon",),
    reference=fused_skip_layer_norm,
)
FUSED_BIAS_GELU = FusedOp(name="FusedBiasGelu", inputs=("x", "bias"), attributes=("approximate",), reference=fused_bias_gelu)

FUSED_OPS = {op.name: op for op in (FUSED_EMBED_LAYER_NORM, FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM, FUSED_BIAS_GELU)}
