"""Random rows of one mean -> the errors of our kernel and of the replaced one against float64."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from plugins.tools.kernel_accuracy import replaced
from tests.plugins.arrays import Random
from tests.plugins.kernels import FLOAT_TYPES, Array, Kernels
from trtbert.ops import fused_skip_layer_norm

DTYPES = ("fp16", "fp32")
WIDTHS = (768, 1024)
MEANS = (0.0, 10.0, 100.0, 1000.0)
ROWS = 64
EPSILON = 1e-12
"""BERT's."""


@dataclass(frozen=True)
class Comparison:
    dtype: str
    width: int
    mean: float
    ours: float
    replaced: float
    """Largest errors, of results of about 1; infinity where one is NaN or infinite."""


def comparisons(kernels: Kernels) -> Iterable[Comparison]:
    for dtype in DTYPES:
        for width in WIDTHS:
            for mean in MEANS:
                yield compare(kernels, dtype, width, mean)


def compare(kernels: Kernels, dtype: str, width: int, mean: float) -> Comparison:
    """x has this mean and a standard deviation of 1, skip is small: the residual stream of a deep model."""
    random, of_type = Random(width), FLOAT_TYPES[dtype]
    x = random.normal((ROWS, width), of_type, mean=mean)
    skip = random.normal((ROWS, width), of_type, std=0.1)
    gamma, beta = random.normal((width,), of_type, mean=1.0, std=0.1), random.normal((width,), of_type, std=0.1)
    exact = fused_skip_layer_norm(x, skip, gamma, beta, epsilon=EPSILON)
    ours = kernels.skip_layer_norm(x, skip, gamma, beta, epsilon=EPSILON)
    return Comparison(dtype, width, mean, _error(ours, exact), _error(replaced.skip_layer_norm(x, skip, gamma, beta), exact))


def _error(got: Array, exact: Array) -> float:
    error = np.abs(got.astype(np.float64) - exact)
    return float(np.where(np.isnan(error), np.inf, error).max())
