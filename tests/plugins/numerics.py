"""How far a kernel may be from its float64 reference: one measure and one limit for all types.

What the arithmetic of a kernel may cost is told by its Terms (terms.py): the rounding of the result to its type, and no more than
a rounding of what it must round on the way. LIMIT times that is allowed, for each element by itself.
"""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tests.plugins import device

Array = np.ndarray[Any, Any]

LIMIT = 1.5
"""Measured over the whole grid of the tests: at most 1.06 in FP16 and BF16, 1.4 in FP32; correctly rounded results have 1.0."""
GPU_FLOAT_LIMIT = 8.0
"""Of FP32 results on a GPU, where erfcf is good to 4 ulp and exp2f to 2 (CUDA C++ Programming Guide): the CPU's have less than 1."""
TENSOR_LIMIT = 1.5
"""Of a tensor of attention in FP16 or BF16: the largest error, in roundings of its type at its largest result. Measured: 1.28."""


@dataclass(frozen=True)
class Terms:
    """Sizes of what a kernel rounds to get to each result."""

    summands: Array
    """Of the last sum: the result is rounded at least as if it were of their size."""
    errors: Array
    """What rounding the operands of earlier steps may add to the result."""


def half_spacing(values: Array, dtype: Any) -> Array:
    """What rounding a value of this size to dtype costs at most."""
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    exponents: Array = np.floor(np.log2(np.maximum(np.abs(values), float(info.smallest_normal))))
    spacing: Array = 2.0 ** (exponents - info.nmant - 1)
    return spacing


def unit(dtype: Any) -> float:
    """Half the spacing at 1."""
    return float(half_spacing(np.ones(()), dtype))


def roundings(got: Array, exact: Array, terms: Terms) -> float:
    """The largest error, in what the arithmetic may cost there."""
    assert got.shape == exact.shape
    allowed = half_spacing(np.maximum(np.abs(exact), terms.summands), got.dtype) + terms.errors
    return float((np.abs(got.astype(np.float64) - exact) / allowed).max(initial=0.0))


def tensor_roundings(got: Array, exact: Array) -> float:
    """The largest error, in roundings of got's type at its largest result."""
    largest = np.abs(exact).max(initial=0.0)
    return float(np.abs(got.astype(np.float64) - exact).max(initial=0.0) / half_spacing(largest, got.dtype))


def assert_exact(got: Array, exact: Array, terms: Terms) -> None:
    assert np.isfinite(got.astype(np.float64)).all(), "the result holds NaN or infinity"
    found, allowed = roundings(got, exact, terms), _limit(got.dtype)
    assert found <= allowed, f"off by {found:.2f} of what the arithmetic may cost in {got.dtype}; allowed are {allowed}"


def assert_exact_int8(got: Array, exact: Array, scale: float, terms: Terms) -> None:
    """Each INT8 result is the nearest; where the result before it was rounded may lie beyond the tie, the next one."""
    assert got.dtype == np.int8 and got.shape == exact.shape
    in_float = half_spacing(np.maximum(np.abs(exact), terms.summands), np.float32) + terms.errors
    slack = _limit(np.dtype(np.float32)) * (in_float / scale + 128 * unit(np.float32))
    beyond = np.abs(got - np.clip(exact / scale, -128, 127)) - 0.5 - slack
    assert (beyond <= 0.0).all(), f"{(beyond > 0).sum()} of {got.size} are not the nearest, by up to {beyond.max():.3f} of a step"


def _limit(dtype: np.dtype[Any]) -> float:
    return GPU_FLOAT_LIMIT if dtype == np.float32 and device.is_wanted() else LIMIT
