"""The powers of two that keep a GEMM, or an attention, inside the range of a half.

y = x W is computed as y * 2^-k = (x * 2^-i) (W * 2^-j) with i + j = k; all of it is exact, except that what falls below the
range of a half is lost: 2^-24 of a tensor whose largest value is near 1.
"""

from dataclasses import dataclass

import numpy as np

from trtbert.precision.formats import Array

TARGET = 1024.0
"""What a tensor that has to be scaled is brought below: far from both ends of the range."""
_LARGEST_WEIGHT = 2.0**14
_SMALLEST_WEIGHT = 2.0**-10
_NEVER = -(10**6)
_LOST_WEIGHT = 2.0**-13
"""A column of weights whose largest is below is scaled up: half a ulp of a subnormal would be more than half an ulp of it."""


@dataclass(frozen=True)
class Exponents:
    """i of x (one number), j of W and k of y (one number, or one per column [N])."""

    x: int
    weight: Array
    result: Array


def log2_ceil(ratio: Array | float) -> Array:
    """The smallest integer k with ratio * 2^-k <= 1; -1074 for 0."""
    magnitude = np.asarray(ratio, np.float64)
    return np.ceil(np.log2(np.where(magnitude > 0, magnitude, 5e-324))).astype(np.int64)


def overflow_exponent(peak: float, limit: float) -> int:
    """What `peak` has to be scaled by: 0 within the limit, else enough to come below TARGET."""
    return int(log2_ceil(peak / TARGET)) if peak > limit else 0


def gemm_exponents(x_peak: float, weight_peak: Array, result_peak: Array, *, limit: float, x_exponent: int = 0) -> Exponents:
    """Exponents of y = x W from the peaks of x (0-d), W and y (0-d or per column [N]).

    `x_exponent`: what x is scaled by already. W takes the scaling as far as it stays in the normal range, x takes the rest.
    """
    weight_peak, result_peak = np.atleast_1d(weight_peak), np.atleast_1d(result_peak)
    is_zero = weight_peak == 0
    allowed = TARGET if result_peak.max(initial=0.0) > limit else limit
    needed = np.where(is_zero, _NEVER, log2_ceil(result_peak / allowed))
    i = max(x_exponent, overflow_exponent(x_peak, limit))
    is_extreme = (weight_peak > _LARGEST_WEIGHT) | (weight_peak < _LOST_WEIGHT)
    j = np.where(is_extreme & ~is_zero, log2_ceil(weight_peak), 0)
    room = np.maximum(log2_ceil(weight_peak / _SMALLEST_WEIGHT) - 1 - j, 0)
    j = j + np.clip(needed - (i + j), 0, room)
    i += int(np.maximum(needed - (i + j), 0).max(initial=0))
    # Where x is scaled by more than the column needs, W gives it back: often no scaling of y is left.
    spare = np.minimum(i + j - np.maximum(needed, 0), j - log2_ceil(weight_peak / _LARGEST_WEIGHT))
    j = j - np.maximum(spare, 0)
    j = np.where(is_zero, j[~is_zero].max(initial=-i) if not is_zero.all() else -i, j)
    return Exponents(i, j, i + j)


def product_exponents(a_peak: float, b_peak: float, result_peak: float, *, limit: float, given: tuple[int, int]) -> tuple[int, int]:
    """Exponents of the two computed operands of a MatMul, of which `given` are already there."""
    i = max(given[0], overflow_exponent(a_peak, limit))
    j = max(given[1], overflow_exponent(b_peak, limit))
    missing = max(overflow_exponent(result_peak, limit) - (i + j), 0)
    return i + (missing + 1) // 2, j + missing // 2


@dataclass(frozen=True)
class AttentionExponents:
    """What q, k and v are scaled by."""

    q: int
    k: int
    v: int

    def __bool__(self) -> bool:
        return bool(self.q or self.k or self.v)


def attention_exponents(peaks_3NH: Array, scale: float, *, limit: float) -> AttentionExponents:
    """Exponents of q, k and v from the peak of each column of the packed projection.

    The scores are bounded by sum_h max|q_h| max|k_h|: over any two tokens, of any two texts. The fused op's GEMM gives
    q k min(1, 2^floor(log2 scale)), the rest of the scale follows in float32.
    """
    q, k, v = (overflow_exponent(float(peaks.max()), limit) for peaks in peaks_3NH)
    raw = float((peaks_3NH[0] * peaks_3NH[1]).sum(-1).max())
    power = 2.0 ** np.floor(np.log2(scale))
    if raw * min(1.0, power * 2.0 ** (q + k)) * 2.0 ** -(q + k) > limit:
        missing = max(overflow_exponent(raw, limit) - (q + k), 0)
        q, k = q + (missing + 1) // 2, k + missing // 2
    return AttentionExponents(q, k, v)
