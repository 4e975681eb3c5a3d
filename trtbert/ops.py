"""The four fused ops, and the packed attention that one becomes: inputs, attributes and float64 numpy reference of each.

Legend: B batch, S sequence, T tokens of all sequences, D hidden, N heads, G heads of keys and values, H head size, V rows of a table.
The ONNX function bodies that define the same ops for every runtime are in `trtbert/bodies.py`.
Floats of one plugin node are all FP32, FP16 or BF16; a scale beside them says which tensors are INT8 instead, symmetric, per tensor.
"""

import math
from collections.abc import Callable, Container
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

DOMAIN = "trtbert"
DOMAIN_VERSION = 1
OPSET = 23
"""The ONNX opset of every model between the stages."""

UNFUSED = "unfused."
"""With the name of a fused op behind it, metadata of an exported model: why there is nothing in it that becomes that op."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class FusedOp:
    """Name and interface of one fused op; its optional inputs come last, and its overload names the optional parts that a node has."""

    name: str
    inputs: tuple[str, ...]
    optional_inputs: tuple[str, ...] = ()
    attributes: tuple[str, ...]
    grouped_attributes: tuple[str, ...] = ()
    """Those that a node has as well whose overload names "grouped"."""
    int8_attributes: tuple[str, ...] = ()
    """Those that a node has as well whose overload names "int8"."""
    io_scales: tuple[str, ...] = ()
    """Those that only a plugin's node has: `x_scale` says that the tensor x is INT8 of that scale; 0, or none, that it is float."""
    reference: Callable[..., Array]

    def overload(self, num_inputs: int, attributes: Container[str]) -> str:
        """The overload of a node with so many inputs and these attributes."""
        parts = [self.optional_inputs[-1]] if num_inputs > len(self.inputs) else []
        named = (("grouped", self.grouped_attributes), ("int8", self.int8_attributes))
        return ".".join([*parts, *(part for part, names in named if any(name in attributes for name in names))])


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
    word_scale: float = 0.0,
    position_scale: float = 0.0,
    token_type_scale: float = 0.0,
    y_scale: float = 0.0,
) -> Array:
    """LayerNorm(word[input_ids] + position[position_ids] (+ token_type[token_type_ids])).

    input_ids and token_type_ids [B,S]; position_ids [B,S] or [1,S]; tables [V,D]; gives [B,S,D].
    """
    total = _dequantized(word, word_scale)[input_ids] + _dequantized(position, position_scale)[position_ids]
    if token_type_ids is not None and token_type is not None:
        total = total + _dequantized(token_type, token_type_scale)[token_type_ids]
    return _quantized(layer_norm(total, gamma, beta, epsilon), y_scale)


def qkv_columns(num_heads: int, head_size: int, num_kv_heads: int = 0) -> tuple[slice, slice, slice]:
    """Where q, k and v are in the columns of qkv; 0 heads of keys and values are as many as those of queries."""
    q_end, width = num_heads * head_size, (num_kv_heads or num_heads) * head_size
    return slice(0, q_end), slice(q_end, q_end + width), slice(q_end + width, q_end + 2 * width)


def fused_qkv_attention(
    qkv: Array,
    mask: Array,
    bias: Array | None = None,
    *,
    num_heads: int,
    head_size: int,
    scale: float,
    num_kv_heads: int = 0,
    q_scale: float = 0.0,
    k_scale: float = 0.0,
    v_scale: float = 0.0,
    probability_scale: float = 0.0,
    y_scale: float = 0.0,
) -> Array:
    """Softmax(scale * Q Kᵀ + bias, over the keys whose mask is not 0) V.

    qkv [B,S,3*N*H] packed as (q, k, v) x heads x head size; mask [B,S]; bias [1|B,N,S,S] or None; gives [B,S,N*H].
    With num_kv_heads G it is [B,S,(N+2*G)*H], and N/G heads of queries that follow one another share a head of keys and values.
    A row whose mask is 0 everywhere attends to nothing: its context is 0.
    With scales (all four, or none) Q, K, V and the probabilities go through symmetric INT8, of that scale, before they are multiplied.
    """
    batch, length, _ = qkv.shape
    parts = [np.asarray(qkv, np.float64)[..., columns] for columns in qkv_columns(num_heads, head_size, num_kv_heads)]
    heads = (part.reshape(batch, length, -1, head_size).transpose(0, 2, 1, 3) for part in parts)
    rounded = (_through_int8(x, s) for x, s in zip(heads, (q_scale, k_scale, v_scale), strict=True))
    q_BNSH, k_BNSH, v_BNSH = (np.repeat(x, num_heads // x.shape[1], axis=1) for x in rounded)
    scores_BNSS = q_BNSH @ k_BNSH.transpose(0, 1, 3, 2) * scale
    if bias is not None:
        scores_BNSS = scores_BNSS + bias.astype(np.float64)
    is_kept_B11S = (mask != 0)[:, None, None, :]
    scores_BNSS = np.where(is_kept_B11S, scores_BNSS, -np.finfo(np.float64).max)
    probs_BNSS = np.exp(scores_BNSS - scores_BNSS.max(-1, keepdims=True)) * is_kept_B11S
    total_BNS1 = probs_BNSS.sum(-1, keepdims=True)
    probs_BNSS = np.divide(probs_BNSS, total_BNS1, out=np.zeros_like(probs_BNSS), where=total_BNS1 > 0)
    context_BNSH: Array = _through_int8(probs_BNSS, probability_scale) @ v_BNSH
    return _quantized(context_BNSH.transpose(0, 2, 1, 3).reshape(batch, length, num_heads * head_size), y_scale)


def fused_packed_qkv_attention(qkv: Array, cu_seqlens: Array, **attributes: Any) -> Array:
    """FusedQkvAttention of sequences that lie one after the other, with no padding.

    qkv [T,3*N*H], or [T,(N+2*G)*H] with num_kv_heads; cu_seqlens [B+1], from 0 to T: sequence b is the rows
    cu_seqlens[b] .. cu_seqlens[b+1] - 1; gives [T,N*H].
    """
    sequences = [qkv[None, start:end] for start, end in pairwise(cu_seqlens) if start < end]
    contexts = [fused_qkv_attention(one, np.ones(one.shape[:2], np.int32), **attributes)[0] for one in sequences]
    width = attributes["num_heads"] * attributes["head_size"]
    return np.concatenate(contexts) if contexts else np.zeros((0, width), np.int8 if attributes.get("y_scale") else np.float64)


def _dequantized(x: Array, scale: float) -> Array:
    """DQ(x) in float64; x itself, as float64, for a scale of 0."""
    exact: Array = np.asarray(x, np.float64) * (scale or 1.0)
    return exact


def _quantized(x: Array, scale: float) -> Array:
    """Q(x), symmetric, ties to even; x itself for a scale of 0."""
    return x if scale == 0.0 else np.clip(np.rint(x / scale), -128, 127).astype(np.int8)


def _through_int8(x: Array, scale: float) -> Array:
    return _dequantized(_quantized(x, scale), scale)


def fused_skip_layer_norm(
    x: Array,
    skip: Array,
    gamma: Array,
    beta: Array,
    bias: Array | None = None,
    *,
    epsilon: float,
    x_scale: float = 0.0,
    skip_scale: float = 0.0,
    y_scale: float = 0.0,
) -> Array:
    """LayerNorm(x (+ bias) + skip); x and skip [...,D], bias [D]."""
    x, skip = _dequantized(x, x_scale), _dequantized(skip, skip_scale)
    total = x + skip if bias is None else x + bias.astype(np.float64) + skip
    return _quantized(layer_norm(total, gamma, beta, epsilon), y_scale)


def fused_bias_gelu(x: Array, bias: Array, *, approximate: str, x_scale: float = 0.0, y_scale: float = 0.0) -> Array:
    """GELU(x + bias); approximate is "none" (erf) or "tanh"; x [...,D], bias [D]."""
    total: Array = _dequantized(x, x_scale) + bias.astype(np.float64)
    if approximate == "tanh":
        factor: Array = 1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (total + 0.044715 * total**3))
    else:
        factor = 1.0 + np.vectorize(math.erf, otypes=[np.float64])(total / math.sqrt(2.0))
    return _quantized(0.5 * total * factor, y_scale)


FUSED_EMBED_LAYER_NORM = FusedOp(
    name="FusedEmbedLayerNorm",
    inputs=("input_ids", "position_ids", "word", "position", "gamma", "beta"),
    optional_inputs=("token_type_ids", "token_type"),
    attributes=("epsilon",),
    io_scales=("word_scale", "position_scale", "token_type_scale", "y_scale"),
    reference=fused_embed_layer_norm,
)
FUSED_QKV_ATTENTION = FusedOp(
    name="FusedQkvAttention",
    inputs=("qkv", "mask"),
    optional_inputs=("bias",),
    attributes=("num_heads", "head_size", "scale"),
    grouped_attributes=("num_kv_heads",),
    int8_attributes=("q_scale", "k_scale", "v_scale", "probability_scale"),
    io_scales=("y_scale",),
    reference=fused_qkv_attention,
)
FUSED_SKIP_LAYER_NORM = FusedOp(
    name="FusedSkipLayerNorm",
    inputs=("x", "skip", "gamma", "beta"),
    optional_inputs=("bias",),
    attributes=("epsilon",),
    io_scales=("x_scale", "skip_scale", "y_scale"),
    reference=fused_skip_layer_norm,
)
FUSED_BIAS_GELU = FusedOp(
    name="FusedBiasGelu",
    inputs=("x", "bias"),
    attributes=("approximate",),
    io_scales=("x_scale", "y_scale"),
    reference=fused_bias_gelu,
)
FUSED_PACKED_QKV_ATTENTION = FusedOp(
    name="FusedPackedQkvAttention",
    inputs=("qkv", "cu_seqlens"),
    attributes=FUSED_QKV_ATTENTION.attributes,
    grouped_attributes=FUSED_QKV_ATTENTION.grouped_attributes,
    int8_attributes=FUSED_QKV_ATTENTION.int8_attributes,
    io_scales=FUSED_QKV_ATTENTION.io_scales,
    reference=fused_packed_qkv_attention,
)

FUSED_OPS = {op.name: op for op in (FUSED_EMBED_LAYER_NORM, FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM, FUSED_BIAS_GELU)}
"""What the rewrite stage makes."""
PLUGIN_OPS = FUSED_OPS | {FUSED_PACKED_QKV_ATTENTION.name: FUSED_PACKED_QKV_ATTENTION}
"""What there is a plugin for; the packed attention is made by `--packed`, from FusedQkvAttention."""
