"""Stage `verify`: outputs of one stage against the source model's, as figures and a verdict.

Legend: B batch, S sequence, L labels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trtbert.config import Precision
from trtbert.errors import VerificationError
from trtbert.package import StageFigures
from trtbert.tasks import ATTENTION_MASK, Task

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a stage may differ by."""

    max_error: float
    cosine: float
    label_margin: float
    """Two labels whose scores differ by less than this in the source may change places."""
    squared_error: float = math.inf
    """Sum of |difference|^2 over all rows, as a share of that of the outputs."""


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(max_error=2e-5, cosine=0.999999, label_margin=1e-4),
    "fp16": Limits(max_error=2e-2, cosine=0.9999, label_margin=1e-2),
    "bf16": Limits(max_error=1e-1, cosine=0.999, label_margin=5e-2),
    # A single odd text or token may change its mind in INT8, and is no broken graph: all of them together tell that. What INT8 costs
    # on the user's texts is measured when it is calibrated.
    "int8": Limits(max_error=math.inf, cosine=-1.0, label_margin=math.inf, squared_error=0.2),
}
SAME_INT8 = Limits(max_error=math.inf, cosine=-1.0, label_margin=math.inf, squared_error=0.02)
"""What a stage after the Q/DQ graph may differ from it by: it computes the same, but a number that rounds the other way makes a step."""
_LABELLED: frozenset[Task] = frozenset({"text-classification", "token-classification", "question-answering", "fill-mask"})


@dataclass
class _Figures:
    """The figures of one pair of arrays, or of several joined."""

    max_difference: float = 0.0
    scale: float = 0.0
    cosine: float = 1.0
    total_cosine: float = 0.0
    squared_difference: float = 0.0
    squared_output: float = 0.0
    num_rows: int = 0
    num_agreeing: int = 0
    num_flipped: int = 0
    """Rows with another best label although the source was clear."""
    is_finite: bool = True


def compare(
    stage: str, feeds: Sequence[Feeds], expected: Sequence[Feeds], run: Callable[[Feeds], Feeds], *, task: Task, limits: Limits
) -> StageFigures:
    """Run every batch and compare what a user reads: rows and tokens that are not padding; all numbers must be finite.

    `expected` holds the outputs of the source model (or of another stage). Rows with no token at all are only checked to be finite:
    what a model computes there is not defined.
    """
    figures = _Figures()
    for batch, outputs in zip(feeds, expected, strict=True):
        actual = run(batch)
        for name, array in outputs.items():
            if not np.isfinite(actual[name]).all():
                figures.is_finite = False
                continue
            rows_expected, rows_actual = (_rows(a, batch[ATTENTION_MASK]) for a in (array, actual[name]))
            _add(figures, rows_expected, rows_actual, limits.label_margin)
    max_error = figures.max_difference / max(figures.scale, 1e-12)
    is_labelled = task in _LABELLED
    mean_cosine = figures.total_cosine / max(figures.num_rows, 1)
    squared_error = figures.squared_difference / max(figures.squared_output, 1e-12)
    is_near = max_error <= limits.max_error and figures.cosine >= limits.cosine and squared_error <= limits.squared_error
    is_passed = figures.is_finite and is_near
    return StageFigures(
        stage=stage,
        max_error=max_error if figures.is_finite else float("inf"),
        cosine=figures.cosine if figures.is_finite else 0.0,
        mean_cosine=mean_cosine if figures.is_finite else 0.0,
        squared_error=squared_error if figures.is_finite else float("inf"),
        label_agreement=figures.num_agreeing / max(figures.num_rows, 1) if is_labelled else None,
        is_passed=is_passed and not (is_labelled and figures.num_flipped),
    )


def _rows(array: Array, mask_BS: Array) -> Array:
    """float64 [rows, values]: one row a text, or a token that is not padding; the single scores of all texts are one row."""
    array = np.asarray(array, np.float64)
    is_kept_BS = mask_BS != 0
    if array.ndim == 3:
        return np.asarray(array[is_kept_BS])
    if array.shape == mask_BS.shape:  # logits over the tokens: padding is compared as 0
        array = np.where(is_kept_BS, array, 0.0)
    rows = np.asarray(array[is_kept_BS.any(1)])
    return rows.T if rows.ndim == 2 and rows.shape[1] == 1 else rows


def _add(figures: _Figures, expected: Array, actual: Array, label_margin: float) -> None:
    if not expected.size:
        return
    figures.max_difference = max(figures.max_difference, float(np.abs(actual - expected).max()))
    figures.scale = max(figures.scale, float(np.abs(expected).max()))
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    cosines = np.divide((expected * actual).sum(1), norms, out=np.ones(len(norms)), where=norms > 0)
    figures.cosine = min(figures.cosine, float(cosines.min()))
    figures.total_cosine += float(cosines.sum())
    figures.squared_difference += float(np.square(actual - expected).sum())
    figures.squared_output += float(np.square(expected).sum())
    best, actual_best = expected.argmax(1), actual.argmax(1)
    rows = np.arange(len(expected))
    figures.num_rows += len(rows)
    figures.num_agreeing += int((best == actual_best).sum())
    figures.num_flipped += int((expected[rows, best] - expected[rows, actual_best] > label_margin).sum())


def check(figures: StageFigures, *, limits: Limits, against: str = "the source model") -> StageFigures:
    """Give `figures` back, or raise VerificationError that names the stage and what was measured."""
    if figures.is_passed:
        return figures
    agreement = "" if figures.label_agreement is None else f", labels agree in {figures.label_agreement:.2%} of the rows"
    raise VerificationError(
        f"The stage {figures.stage!r} broke the model: against {against}, error {figures.max_error:.1e} of the output's scale, cosine "
        f"{figures.cosine:.6f}, squared error {figures.squared_error:.1e}{agreement}. Allowed is {_allowed(limits)}. "
        "Every stage before it passed; compile with --dump DIR to look at the graph of each stage."
    )


def _allowed(limits: Limits) -> str:
    if math.isfinite(limits.squared_error):
        return f"a squared error of {limits.squared_error}"
    return f"an error of {limits.max_error:.0e} and a cosine of {limits.cosine}"
