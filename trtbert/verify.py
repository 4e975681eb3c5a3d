"""Stage `verify`: outputs of one stage against the source model's, as figures and a verdict.

Legend: B batch, S sequence, L labels.
"""

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


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(max_error=2e-5, cosine=0.999999, label_margin=1e-4),
    "fp16": Limits(max_error=2e-2, cosine=0.9999, label_margin=1e-2),
    "bf16": Limits(max_error=1e-1, cosine=0.999, label_margin=5e-2),
    "int8": Limits(max_error=0.5, cosine=0.9, label_margin=0.3),
}
_LABELLED: frozenset[Task] = frozenset({"text-classification", "token-classification", "question-answering", "fill-mask"})


@dataclass
class _Figures:
    """The figures of one pair of arrays, or of several joined."""

    max_difference: float = 0.0
    scale: float = 0.0
    cosine: float = 1.0
    num_rows: int = 0
    num_agreeing: int = 0
    num_flipped: int = 0
    """Rows with another best label although the source was clear."""
    is_finite: bool = True


def compare(
    stage: str, feeds: Sequence[Feeds], expected: Sequence[Feeds], run: Callable[[Feeds], Feeds], *, task: Task, precision: Precision
) -> StageFigures:
    """Run every batch and compare what a user reads: rows and tokens that are not padding; all numbers must be finite.

    `expected` holds the outputs of the source model. Rows with no token at all are only checked to be finite: what a model
    computes there is not defined.
    """
    figures = _Figures()
    limits = LIMITS[precision]
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
    is_passed = figures.is_finite and max_error <= limits.max_error and figures.cosine >= limits.cosine
    return StageFigures(
        stage=stage,
        max_error=max_error if figures.is_finite else float("inf"),
        cosine=figures.cosine if figures.is_finite else 0.0,
        label_agreement=figures.num_agreeing / max(figures.num_rows, 1) if is_labelled else None,
        is_passed=is_passed and not (is_labelled and figures.num_flipped),
    )


def _rows(array: Array, mask_BS: Array) -> Array:
    """float64 [rows, values]: one row a text, or a token that is not padding."""
    array = np.asarray(array, np.float64)
    is_kept_BS = mask_BS != 0
    if array.ndim == 3:
        return np.asarray(array[is_kept_BS])
    if array.shape == mask_BS.shape:  # logits over the tokens: padding is compared as 0
        array = np.where(is_kept_BS, array, 0.0)
    return np.asarray(array[is_kept_BS.any(1)])


def _add(figures: _Figures, expected: Array, actual: Array, label_margin: float) -> None:
    if not expected.size:
        return
    figures.max_difference = max(figures.max_difference, float(np.abs(actual - expected).max()))
    figures.scale = max(figures.scale, float(np.abs(expected).max()))
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    cosines = np.divide((expected * actual).sum(1), norms, out=np.ones(len(norms)), where=norms > 0)
    figures.cosine = min(figures.cosine, float(cosines.min()))
    best, actual_best = expected.argmax(1), actual.argmax(1)
    rows = np.arange(len(expected))
    figures.num_rows += len(rows)
    figures.num_agreeing += int((best == actual_best).sum())
    figures.num_flipped += int((expected[rows, best] - expected[rows, actual_best] > label_margin).sum())


def check(figures: StageFigures, *, precision: Precision) -> StageFigures:
    """Give `figures` back, or raise VerificationError that names the stage and what was measured."""
    if figures.is_passed:
        return figures
    limits = LIMITS[precision]
    agreement = "" if figures.label_agreement is None else f", labels agree in {figures.label_agreement:.2%} of the rows"
    raise VerificationError(
        f"The stage {figures.stage!r} broke the model: error {figures.max_error:.1e} of the output's scale, cosine {figures.cosine:.6f}"
        f"{agreement}. Allowed for {precision} are {limits.max_error:.0e} and {limits.cosine}. Every stage before it passed; "
        "compile with --dump DIR to look at the graph of each stage."
    )
