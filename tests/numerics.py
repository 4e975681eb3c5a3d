"""The one table of tolerances, and how an error is measured."""

from typing import Any

import numpy as np
import numpy.typing as npt

TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
"""Largest allowed error relative to the largest expected magnitude, by the dtype computed in."""


def relative_error(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """max |actual - expected| / max |expected|, both as float64."""
    actual64, expected64 = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual64.shape == expected64.shape, f"shapes differ: {actual64.shape} and {expected64.shape}"
    if actual64.size == 0:
        return 0.0
    return float(np.abs(actual64 - expected64).max() / max(np.abs(expected64).max(), 1e-12))


def assert_close(actual: npt.NDArray[Any], expected: npt.NDArray[Any], dtype: str = "float32") -> None:
    assert np.isfinite(actual.astype(np.float64)).all(), "the result holds NaN or infinity"
    error = relative_error(actual, expected)
    assert error <= TOLERANCE[dtype], f"error {error:.2e} of the scale; allowed is {TOLERANCE[dtype]:.0e}"
