"""The ends of an axis -> round numbers to mark it with."""

import math


def ticks(low: float, high: float) -> list[float]:
    """Four to six round numbers that hold both ends."""
    raw = (high - low) / 4 or 1.0
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]
