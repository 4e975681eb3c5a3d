"""Graphs and batches -> how far their outputs are from the float model's."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from trtbert.calibrate.collect import Array, Feeds, session
from trtbert.tasks import ATTENTION_MASK


class Judge:
    """The batches that were held back, and what the float model answers to them."""

    def __init__(self, model: ir.Model, batches: Sequence[Feeds]) -> None:
        self._batches = batches
        self._expected = self._rows(model)

    def error(self, model: ir.Model) -> float:
        """The mean over rows (texts, or tokens that are not padding) of |actual - expected|^2 / |expected|^2."""
        shares = [
            np.square(actual - expected).sum(1) / np.maximum(np.square(expected).sum(1), np.finfo(np.float32).tiny)
            for actual, expected in zip(self._rows(model), self._expected, strict=True)
        ]
        return float(np.concatenate(shares).mean())

    def _rows(self, model: ir.Model) -> list[Array]:
        running = session(model)
        return [_valid(output, feeds[ATTENTION_MASK]) for feeds in self._batches for output in running.run(None, feeds)]


def _valid(output: Array, mask_BS: Array) -> Array:
    """[rows, values] without padding."""
    is_kept_BS = mask_BS != 0
    if output.ndim == 3:
        return np.asarray(output[is_kept_BS])
    if output.shape[1] == 1:  # a score a text says something beside the others only
        return output.T
    return np.where(is_kept_BS, output, 0.0) if output.shape == mask_BS.shape else output
