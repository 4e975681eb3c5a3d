"""Turn the float32 graph into a strongly typed FP16 or BF16 graph that cannot overflow."""

from trtbert.precision.convert import Converted, convert
from trtbert.precision.emulate import emulated

__all__ = ["Converted", "convert", "emulated"]
