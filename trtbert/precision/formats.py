"""The two 16-bit float formats, and what of a float32 tensor fits in them."""

from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Precision = Literal["fp16", "bf16"]
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Format:
    """Numbers of one 16-bit float format."""

    name: str
    dtype: ir.DataType
    numpy: Any
    max: float
    tiny: float
    """The smallest normal number."""
    flush: float
    """Half the smallest subnormal: what is below becomes 0."""
    limit: float
    """Largest |x| that a tensor may show on the scanned texts and still be stored in this format."""
    is_narrow: bool
    """Whether its range is narrower than float32's, so that a GEMM may have to be scaled."""
    mask: float
    """What a mask is clamped to: far below any score, and score + mask stays finite."""

    def fits(self, array: Array) -> bool:
        """Whether `array` can be stored: nothing beyond the limit, and not all of it below the normal range."""
        peak = float(np.abs(array).max(initial=0.0))
        return peak == 0.0 or self.tiny <= peak <= self.limit

    def rounded(self, array: Array) -> Array:
        """`array` in this format; what lies beyond the range becomes the largest finite number."""
        result: Array = np.clip(array, -self.max, self.max).astype(self.numpy)
        return result


# A quarter of the largest half: a factor of 2 for partial sums inside a GEMM that exceed the result (Turing may add in half),
# and a factor of 2 for texts that were not scanned.
FP16 = Format(
    name="float16",
    dtype=ir.DataType.FLOAT16,
    numpy=np.float16,
    max=65504.0,
    tiny=2.0**-14,
    flush=2.0**-25,
    limit=65504.0 / 4,
    is_narrow=True,
    mask=-30000.0,
)
_BF16_MAX = 255 / 256 * 2.0**128
BF16 = Format(
    name="bfloat16",
    dtype=ir.DataType.BFLOAT16,
    numpy=ml_dtypes.bfloat16,
    max=_BF16_MAX,
    tiny=2.0**-126,
    flush=2.0**-134,
    limit=_BF16_MAX,
    is_narrow=False,
    mask=-1e30,
)
FORMATS: dict[Precision, Format] = {"fp16": FP16, "bf16": BF16}
