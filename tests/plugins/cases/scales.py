"""INT8 tensors of the cases: their scales are numbers of float32, as attributes of a node are."""

from typing import Any

import numpy as np

from tests.plugins.arrays import Array, Random


def scale(value: float) -> float:
    return float(np.float32(value))


def normal_or_int8(random: Random, shape: tuple[int, ...], dtype: Any, of_scale: float, **normal: float) -> Array:
    """Random INT8 where there is a scale, else floats."""
    return random.int8(shape) if of_scale else random.normal(shape, dtype, **normal)


def exact(array: Array, of_scale: float) -> Array:
    """In float64, without rounding."""
    return array.astype(np.float64) * (of_scale or 1.0)


def away_from_ties(values: Array, of_scale: float) -> Array:
    """With 0 for what lies so near to the middle of two INT8 steps that float32 might round it to the other one."""
    steps = values.astype(np.float64) / of_scale
    from_tie = np.abs(steps - np.floor(steps) - 0.5)
    kept = np.where(from_tie < 1e-4, values.dtype.type(0), values)
    values[...] = kept
    return values
