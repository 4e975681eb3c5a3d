"""What the arithmetic of each kernel may cost: the sizes of what it rounds on the way, from the float64 reference.

Legend: R rows, B batch, S sequence, N heads, H head size, D hidden.
"""

from typing import Any

import numpy as np

from tests.plugins.numerics import Array, Terms, unit
from trtbert.ops import fused_bias_gelu, qkv_columns

FLOAT = unit(np.float32)
INT8_SCALES = ("q_scale", "k_scale", "v_scale")
REFERENCE = 2.0**-52
"""Where 1 + erf or 1 + tanh cancels, the reference has no more digits than this."""


def layer_norm_terms(summands: list[Array], gamma: Array, beta: Array, epsilon: float) -> Terms:
    """LayerNorm of a sum, made in float from left to right, of exact arrays [R,D] or [D]."""
    exact, in_float = summands[0].astype(np.float64), summands[0].astype(np.float32)
    for array in summands[1:]:
        exact, in_float = exact + array.astype(np.float64), in_float + array.astype(np.float32)
    lost = np.abs(in_float - exact)
    centred = exact - exact.mean(-1, keepdims=True)
    factor = 1.0 / np.sqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    size = np.abs(gamma.astype(np.float64))
    normed = np.abs(centred * factor)
    # 1 where the normed value is less: its mean is rounded as well. The variance is summed in float.
    errors = size * factor * (lost + lost.mean(-1, keepdims=True)) + FLOAT * normed * size
    return Terms(np.maximum(normed, 1.0) * size + np.abs(beta.astype(np.float64)), errors)


def gelu_terms(x: Array, bias: Array, approximate: str) -> Terms:
    """Of exact arrays. max(x, 0) is met but for |x| times a tail, erfc or 1 / (1 + exp), which has the rounding of its argument as often
    as its exponent is long."""
    none = np.zeros(bias.shape)

    def gelu(total: Array) -> Array:
        return fused_bias_gelu(total, none, approximate=approximate)

    total, step = x.astype(np.float64) + bias.astype(np.float64), 1e-6
    result, slope = gelu(total), np.abs(gelu(total + step) - gelu(total - step)) / (2 * step)
    lost = np.abs(x.astype(np.float32) + bias.astype(np.float32) - total)
    size = np.minimum(np.abs(total), 16.0)
    exponent = 2.0 * size**2 if approximate == "none" else 3.0 * 1.6 * (size + 0.045 * size**3)
    tail = np.abs(np.maximum(total, 0.0) - result)
    return Terms(result, lost * slope + FLOAT * (2 + exponent) * tail + REFERENCE * size)


def attention_terms(qkv: Array, mask: Array, bias: Array | None = None, **attributes: Any) -> Terms:
    """Of float products. Scores round at the size of the products that they sum; probabilities round to the type of qkv."""
    probs_BNSS, scores_BNSS, v_BNSH = probabilities(qkv, mask, bias, **attributes)
    context = probs_BNSS @ np.abs(v_BNSH)
    exponents = (probs_BNSS * scores_BNSS) @ np.abs(v_BNSH)
    operands = 0.0 if qkv.dtype == np.float32 else unit(qkv.dtype)
    return Terms(np.zeros(()), _rows((operands + FLOAT) * context + 2 * FLOAT * exponents))


def probabilities(
    qkv: Array, mask: Array, bias: Array | None, *, num_heads: int, head_size: int, scale: float, num_kv_heads: int = 0, **int8: float
) -> tuple[Array, Array, Array]:
    """Probabilities [B,N,S,S], the size of what is summed into their scores, and values [B,N,S,H]; Q, K, V in INT8 steps with scales."""
    batch, length, _ = qkv.shape
    packed = [np.nan_to_num(qkv[..., columns].astype(np.float64)) for columns in qkv_columns(num_heads, head_size, num_kv_heads)]
    if int8:
        packed = [np.clip(np.rint(x / int8[name]), -128, 127) * int8[name] for x, name in zip(packed, INT8_SCALES, strict=True)]
    heads = (x.reshape(batch, length, -1, head_size).transpose(0, 2, 1, 3) for x in packed)
    q, k, v = (np.repeat(x, num_heads // x.shape[1], axis=1) for x in heads)
    scores = q @ k.transpose(0, 1, 3, 2) * scale
    # Products in INT8 are summed exactly.
    sizes = np.abs(scores) if int8 else np.abs(q) @ np.abs(k).transpose(0, 1, 3, 2) * abs(scale)
    if bias is not None:
        scores, sizes = scores + bias.astype(np.float64), sizes + np.abs(np.nan_to_num(bias.astype(np.float64), neginf=0.0))
    is_kept = (mask != 0)[:, None, None, :]
    scores = np.where(is_kept, scores, -np.inf)
    largest = scores.max(-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isinf(largest), 0.0, largest))
    total = powers.sum(-1, keepdims=True)
    return powers / np.where(total > 0, total, 1.0), sizes, v


def _rows(context_BNSH: Array) -> Array:
    batch, heads, length, size = context_BNSH.shape
    rows: Array = context_BNSH.transpose(0, 2, 1, 3).reshape(batch, length, heads * size)
    return rows


def int8_attention_terms(qkv: Array, mask: Array, bias: Array | None = None, **attributes: Any) -> Terms:
    """Of INT8 products, which are exact: a probability that lies at a tie may round to the next step, and the result is rounded."""
    probs, sizes, v = probabilities(qkv, mask, bias, **attributes)
    step = attributes["probability_scale"]
    steps = probs / step
    from_tie = np.abs(steps - np.floor(steps) - 0.5)
    is_open = (from_tie <= FLOAT * steps * (8.0 + 8.0 * sizes.max(-1, keepdims=True))) & (steps < 127.5)
    assert is_open.mean() < 0.01, "too many probabilities at ties to check anything"
    context = np.abs(np.minimum(np.rint(steps), 127) @ np.abs(v)) * step
    return Terms(np.zeros(()), _rows(is_open @ np.abs(v) * step + 2 * FLOAT * context))
