"""Arrays for the kernels: aligned as on a GPU, or off by one element so that only single elements can be loaded."""

from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_ALIGNMENT = 256


def empty(shape: tuple[int, ...], dtype: Any, *, is_unaligned: bool = False) -> Array:
    dtype = np.dtype(dtype)
    memory = np.empty(prod(shape) * dtype.itemsize + 2 * _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT + (dtype.itemsize if is_unaligned else 0)
    result: Array = memory[start : start + prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
    return result


def array(values: Any, dtype: Any, *, is_unaligned: bool = False) -> Array:
    result = empty(np.shape(values), dtype, is_unaligned=is_unaligned)
    result[...] = np.asarray(values).astype(dtype)
    return result


class Random:
    """Random arrays of one seed."""

    def __init__(self, seed: int = 0, *, is_unaligned: bool = False) -> None:
        self._generator = np.random.default_rng(seed)
        self._is_unaligned = is_unaligned

    def normal(self, shape: tuple[int, ...], dtype: Any, *, mean: float = 0.0, std: float = 1.0) -> Array:
        values = self._generator.standard_normal(shape, np.float32) * std + mean
        return array(values, dtype, is_unaligned=self._is_unaligned)

    def integers(self, low: int, high: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """From low to high - 1."""
        return array(self._generator.integers(low, high, shape), dtype, is_unaligned=self._is_unaligned)

    def int8(self, shape: tuple[int, ...]) -> Array:
        return self.integers(-128, 128, shape, np.int8)
