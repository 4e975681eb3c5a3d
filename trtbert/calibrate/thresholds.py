"""Histogram of |x| -> the threshold amax beyond which a tensor is clipped.

A tensor that is all zero, or of which nothing was seen, gets 0.0 from every method: there is nothing to scale, leave it in float.
Bin 0 holds the exact zeros, of which masks and attention give many, and which every scale represents without error. `entropy` and
`mse` keep this spike from deciding; `percentile` counts it, as a percentile of all values.

N: bins, C: candidate thresholds, L: levels
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trtbert.errors import ConfigError

_NUM_LEVELS = 128
"""Levels of |x| that entropy compares with, as in Migacz's description."""
_EMPTY_SHARE = 1e-9
"""What entropy takes for Q = 0: less than an occupied bin of any usual histogram, so that this is never the cheaper choice."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many |x| lie in each of N bins of equal width, the first of which starts at 0."""

    counts: npt.NDArray[np.int64]
    """counts[i]: values in [i * bin_width, (i + 1) * bin_width); the upper edge of the last bin belongs to it."""
    bin_width: float
    maximum: float
    """The largest |x| itself, not an edge; finite, and 0 when there is no value."""


def minmax(histogram: Histogram) -> float:
    """The largest |x|: nothing is clipped."""
    return histogram.maximum


def percentile(histogram: Histogram, percent: float = 99.99) -> float:
    """The threshold below which `percent` % of all |x| lie, zeros included; linear inside a bin. 100 gives the maximum.

    Wu et al., "Integer Quantization for Deep Learning Inference", 2020, arXiv 2004.09602; 99.99 is from NVIDIA's QDQBERT recipe.
    Where nearly all values are 0, so is the threshold, nearly. Raises ConfigError for a percentage out of range.
    """
    if not 0 < percent <= 100:
        raise ConfigError(f"A percentile of {percent} does not exist; choose more than 0 and at most 100.")
    if histogram.maximum == 0:
        return 0.0
    below_N = histogram.counts.cumsum()
    target = below_N[-1] * (percent / 100)
    bin_index = int(np.searchsorted(below_N, target))
    count = histogram.counts[bin_index]
    inside = float((target - (below_N[bin_index] - count)) / count)
    low = bin_index * histogram.bin_width
    # The last bin that holds something ends at the maximum: there are no values between that and its edge.
    high = histogram.maximum if below_N[bin_index] == below_N[-1] else low + histogram.bin_width
    return low * (1 - inside) + high * inside


def mse(histogram: Histogram, num_levels: int = 127) -> float:
    """The amax of the least mean squared error of x -> clip(round(x / s), -num_levels, num_levels) * s, s = amax / num_levels.

    Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference", 2019, arXiv 1902.06822. Each value counts as the
    centre of its bin, in bin 0 as 0. Tried are 200 thresholds from 100 % to 5 % of the maximum, then 41 around the best of them; the
    largest of equals is taken.
    """
    if histogram.maximum == 0:
        return 0.0
    trials = histogram.maximum * np.linspace(1.0, 0.05, 200)
    best = trials[squared_errors(histogram, trials, num_levels).argmin()]
    step = trials[0] - trials[1]
    trials = np.minimum(np.linspace(best + step, best - step, 41), histogram.maximum)
    return float(trials[squared_errors(histogram, trials, num_levels).argmin()])


def squared_errors(histogram: Histogram, amax_C: npt.NDArray[np.float64], num_levels: int) -> npt.NDArray[np.float64]:
    """The sum over all values of (x - quantised x)^2, for each amax; see `mse`."""
    occupied = histogram.counts.nonzero()[0]
    # An error at the centre of bin 0 is one that exact zeros do not have, and there may be millions of them.
    centres = np.where(occupied > 0, np.minimum((occupied + 0.5) * histogram.bin_width, histogram.maximum), 0.0)
    scale_C1 = amax_C[:, None] / num_levels
    quantised = np.minimum(np.rint(centres / scale_C1), num_levels) * scale_C1
    return np.asarray((centres - quantised) ** 2 @ histogram.counts[occupied])


def entropy(histogram: Histogram) -> float:
    """The threshold that loses the least information: T = (m + 0.5) * bin_width, m = argmin KL(P_i || Q_i), the first of equals.

    Szymon Migacz, "8-bit Inference with TensorRT", GTC 2017; see `entropy_divergences`. Never more than the maximum, and the maximum
    itself where no clipping is best or the bins are fewer than 128. It needs far more values than bins, 10^5 and more: of fewer, the
    divergence mostly measures the noise of the counts.
    """
    divergences_C = entropy_divergences(histogram)
    if divergences_C.size == 0:
        return histogram.maximum
    return min((_NUM_LEVELS + int(divergences_C.argmin()) + 0.5) * histogram.bin_width, histogram.maximum)


def entropy_divergences(histogram: Histogram) -> npt.NDArray[np.float64]:
    """KL(P || Q) in nats of each candidate i = 128, 129, ..., N; empty if N < 128.

    P: counts[:i], with all values beyond (the outliers) added to the last bin. Q: counts[:i] without the outliers in 128 levels, where
    bin b is in level b * 128 // i and the total of a level is spread evenly over those of its bins that are not empty. Both normalised.

    Three things that the description leaves open:
    - Bin 0 counts as no more than bin 1. A spike of zeros else makes the best threshold the one at which level 0 is bin 0 alone
      (i = 128), whatever that clips. pytorch-quantization puts bin 1 in its place; the minimum adds no values that are not there.
    - Q = 0 < P, in an empty last bin with outliers: 1e-9 is taken for Q. Infinity would forbid to clip one huge value where all
      others are in the first 127 bins. A smoothing by counts would make the result depend on how many texts there were.
    - Outliers that make the last bin more than half of P: infinite, that is not allowed. Where nearly all of P and of Q is one bin, KL
      is near 0 whatever was clipped: values at 3 and 10 only would be clipped at 3.
    """
    counts_N = _without_zero_spike(histogram.counts)
    ends_C = np.arange(_NUM_LEVELS, counts_N.size + 1)
    total = counts_N.sum()
    if total == 0:
        return np.zeros(ends_C.size)
    outliers_C = total - counts_N.cumsum()[ends_C - 1]
    is_allowed_C = (outliers_C == 0) | (2 * (counts_N[ends_C - 1] + outliers_C) <= total)
    divergences_C = np.full(ends_C.size, np.inf)
    divergences_C[is_allowed_C] = _divergences(counts_N, ends_C[is_allowed_C])
    return divergences_C


METHODS: dict[str, Callable[[Histogram], float]] = {"entropy": entropy, "percentile": percentile, "mse": mse, "minmax": minmax}


def _without_zero_spike(counts_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    counts_N = counts_N.copy()
    if counts_N.size > 1:
        counts_N[0] = min(counts_N[0], counts_N[1])
    return counts_N


def _divergences(counts_N: npt.NDArray[np.int64], ends_C: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """KL of the candidates `ends_C`, each of which has values inside, as sum(P log P) - sum(P log Q).

    Running totals give both sums without a pass over the bins: P is counts / total but for its last bin, Q is the same all over a level.
    """
    total = counts_N.sum()
    inside_C = _running_total(counts_N)[ends_C]
    outliers_C = (total - inside_C) / total
    share_N = counts_N / total
    last_C = share_N[ends_C - 1] + outliers_C
    p_log_p_C = _running_total(_times_log(share_N, share_N))[ends_C - 1] + _times_log(last_C, last_C)

    first_CL = -(-np.arange(_NUM_LEVELS + 1) * ends_C[:, None] // _NUM_LEVELS)  # Rounded up: bins with b * 128 // i >= level.
    in_level_CL = np.diff(_running_total(counts_N)[first_CL])
    occupied_CL = np.diff(_running_total(counts_N > 0)[first_CL])
    q_CL = in_level_CL / (np.maximum(occupied_CL, 1) * inside_C[:, None])
    last_q_C = np.where(counts_N[ends_C - 1] > 0, q_CL[:, -1], _EMPTY_SHARE)
    p_log_q_C = _times_log(in_level_CL / total, q_CL).sum(axis=1) + _times_log(outliers_C, last_q_C)
    return np.asarray(p_log_p_C - p_log_q_C)


def _running_total(values_N: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The sums of the first 0, 1, ..., N values."""
    return np.concatenate(([0], np.cumsum(values_N)))


def _times_log(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """x log y, and 0 where x is 0."""
    return x * np.log(np.where(x > 0, y, 1.0))
