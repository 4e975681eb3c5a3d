"""A float graph and batches of texts -> what its tensors hold: histograms of |x|, ranges of columns, some rows.

One pass, and memory that does not grow with the texts: a histogram whose range is too small doubles it by adding its bins two by
two, which is exact, since every bin width is a power of two. Padding is left out, so that it may be of any length.

Legend: B batch, S sequence, R rows (tokens that are not padding), K columns.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from trtbert.calibrate.thresholds import Histogram
from trtbert.errors import UnsupportedError
from trtbert.tasks import ATTENTION_MASK

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
Batches = Callable[[], Iterable[Feeds]]
"""The calibration batches, from the start each time."""

NUM_BINS = 2048
NUM_ROWS = 256
"""Rows kept of each tensor, drawn with equal chance from all."""
_LOWEST_EXPONENT = -126
"""Of a bin width; what is all smaller counts as 0."""


@dataclass(frozen=True)
class Tensor:
    """A tensor [B,S,K] to watch, or some of its columns."""

    key: str
    """What its statistics are found by."""
    value: str
    """Its name in the graph."""
    columns: tuple[int, int] | None = None
    """The first and the one after the last; None for all."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a tensor held on all texts."""

    histogram: Histogram
    low_K: Array
    high_K: Array
    rows_RK: Array
    """At most NUM_ROWS rows."""

    @property
    def low(self) -> float:
        return float(self.low_K.min())

    @property
    def high(self) -> float:
        return float(self.high_K.max())


class _Accumulator:
    """The statistics of one tensor so far."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._counts_N, self._exponent = np.zeros(NUM_BINS, np.int64), _LOWEST_EXPONENT
        self._low_K = self._high_K = self._rows_RK = self._ranks_R = np.zeros(0)

    def add(self, x_RK: Array) -> None:
        low_K, high_K = x_RK.min(0), x_RK.max(0)
        if len(self._ranks_R):
            low_K, high_K = np.minimum(low_K, self._low_K), np.maximum(high_K, self._high_K)
        self._low_K, self._high_K = low_K, high_K
        self._widen(self._peak())
        bins = (np.abs(x_RK) * np.float32(np.ldexp(1.0, -self._exponent))).astype(np.intp)
        self._counts_N += np.bincount(np.minimum(bins, NUM_BINS - 1).ravel(), minlength=NUM_BINS)
        self._sample(x_RK)

    def _peak(self) -> float:
        return float(max(-self._low_K.min(), self._high_K.max()))

    def _widen(self, peak: float) -> None:
        """Make the range, 2^exponent * NUM_BINS, at least `peak`."""
        if peak == 0.0:
            return
        wanted = int(np.frexp(peak / NUM_BINS)[1])
        if not self._counts_N[1:].any():  # nothing yet, or zeros, which are in bin 0 of any width
            self._exponent = max(self._exponent, wanted)
        for _ in range(self._exponent, wanted):
            self._counts_N = np.concatenate([self._counts_N.reshape(-1, 2).sum(1), np.zeros(NUM_BINS // 2, np.int64)])
            self._exponent += 1

    def _sample(self, x_RK: Array) -> None:
        """Keep the NUM_ROWS rows with the lowest of random ranks."""
        ranks_R = self._rng.random(len(x_RK))
        if len(self._ranks_R) == NUM_ROWS:
            is_low_R = ranks_R < self._ranks_R.max()
            x_RK, ranks_R = x_RK[is_low_R], ranks_R[is_low_R]
        rows_RK = np.concatenate([self._rows_RK, x_RK]) if len(self._ranks_R) else x_RK
        ranks_R = np.concatenate([self._ranks_R, ranks_R])
        kept_R = np.argsort(ranks_R)[:NUM_ROWS]
        self._rows_RK, self._ranks_R = rows_RK[kept_R], ranks_R[kept_R]

    def result(self) -> Statistics:
        width, peak = float(np.ldexp(1.0, self._exponent)), self._peak()
        counts_N = self._counts_N[: int(peak / width) + 1]
        return Statistics(Histogram(counts_N, width, peak), self._low_K, self._high_K, self._rows_RK)


def collect(
    model: ir.Model,
    tensors: Sequence[Tensor],
    batches: Batches,
    *,
    factors: Mapping[str, Array] | None = None,
    on_progress: Callable[[int], None] = lambda num_texts: None,
) -> dict[str, Statistics]:
    """Run the float32 `model` on all batches; gives the statistics of each tensor by its key.

    `factors` [K] by key: what the columns are multiplied by first (the sampled rows are as well). `on_progress` is told how many
    texts each batch had. Raises UnsupportedError where a tensor holds infinity or NaN.
    """
    factors = factors or {}
    accumulators = {tensor.key: _Accumulator() for tensor in tensors}
    values = list(dict.fromkeys(tensor.value for tensor in tensors))
    session = watching(model, values)
    for feeds in batches():
        arrays = dict(zip(values, session.run(values, feeds), strict=True))
        for tensor in tensors:
            rows_RK = _rows(arrays[tensor.value], feeds[ATTENTION_MASK])[:, slice(*tensor.columns or (None,))]
            if not np.isfinite(rows_RK).all():
                raise UnsupportedError(
                    f"The tensor {tensor.value!r} holds infinity or NaN on a calibration text, in the float32 model itself: it has no "
                    "threshold. Check the checkpoint, or compile it with --precision fp32."
                )
            if len(rows_RK):
                accumulators[tensor.key].add(rows_RK * factors[tensor.key] if tensor.key in factors else rows_RK)
        del arrays, rows_RK  # before the next batch makes its own
        on_progress(len(feeds[ATTENTION_MASK]))
    return {key: accumulator.result() for key, accumulator in accumulators.items()}


def watching(model: ir.Model, values: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session of `model` that gives these values."""
    model = model.clone()
    by_name = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs[:] = [by_name[name] for name in values]
    for value in model.graph.outputs:
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return session(model)


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    """`model` in ONNX Runtime on the CPU; Q/DQ stay as they are, for its own int8 GEMMs are slower than float ones."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        ir.save(model, path, external_data="model.data")
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _rows(array: Array, mask_BS: Array) -> Array:
    """[R,K]: the rows of tokens that are not padding; all rows of what is not laid out by tokens (tables of positions)."""
    array = np.asarray(array)
    return array[mask_BS != 0] if array.ndim == 3 and array.shape[:2] == mask_BS.shape else array.reshape(-1, array.shape[-1])
