"""A calibration's histograms of 2048 bins -> small ones that a package keeps, for people to look at."""

import numpy as np

from trtbert.calibrate.choose import Calibrated
from trtbert.calibrate.plan import GemmPlan
from trtbert.calibrate.thresholds import Histogram
from trtbert.package import TensorHistogram

NUM_BINS = 64


def coarse_histograms(calibrated: Calibrated) -> dict[str, TensorHistogram]:
    """By the tensor of each GEMM; GEMMs of one input share it."""
    gemms = (part for part in calibrated.parts if isinstance(part, GemmPlan) and part.key in calibrated.histograms)
    return {gemm.tensor: coarse(calibrated.histograms[gemm.key]) for gemm in gemms}


def coarse(histogram: Histogram, num_bins: int = NUM_BINS) -> TensorHistogram:
    """The bins joined, as many to one as leave at most `num_bins`."""
    num_joined = max(1, -(-len(histogram.counts) // num_bins))
    counts = np.add.reduceat(histogram.counts, np.arange(0, len(histogram.counts), num_joined))
    return TensorHistogram(bin_width=histogram.bin_width * num_joined, counts=tuple(int(count) for count in counts))
