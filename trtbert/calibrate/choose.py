"""A float graph, texts and a method -> how each GEMM is quantised; what the user leaves open is chosen on texts that were held back."""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import onnx_ir as ir
import onnx_ir.passes.common as passes

from trtbert.bodies import add_functions
from trtbert.calibrate.collect import Array, Batches, Feeds, Statistics, Tensor, collect
from trtbert.calibrate.embeddings import plan_embeddings
from trtbert.calibrate.full import full_tensors, plan_full
from trtbert.calibrate.gemms import Gemm, find_gemms
from trtbert.calibrate.lstm import LstmPlan, plan_lstms
from trtbert.calibrate.plan import plan_gemm
from trtbert.calibrate.smooth import find_factors, fold_into_values
from trtbert.calibrate.thresholds import METHODS, Histogram, minmax
from trtbert.calibrate.trials import Judge
from trtbert.config import CalibrationMethod, Quantize
from trtbert.errors import UnsupportedError
from trtbert.package import DYNAMIC

logger = logging.getLogger(__name__)

_GAIN = 0.95
"""A way to calibrate takes the place of one before it in the order only if it has less than this share of its error."""
_ORDER = ("minmax", "percentile", "mse", "entropy")
"""What clips least comes first: where the held-back texts see no difference, other texts may."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to calibrate, and the error of the model's outputs that it gives on the held-back texts (see Judge.error)."""

    method: str
    is_smoothed: bool
    error: float


class Part(Protocol):
    """Something of the graph that can be quantised, or stay in float, by itself."""

    @property
    def key(self) -> str: ...

    @property
    def label(self) -> str: ...

    def apply(self, graph: ir.Graph) -> None:
        """Quantise it in `graph`, a copy of the graph that it was planned for."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """How the model is to be quantised."""

    base: ir.Model
    """The float graph that the parts are of; with smoothing, factors may be folded into its weights."""
    parts: tuple[Part, ...]
    trial: Trial
    trials: tuple[Trial, ...]
    """All that were measured."""
    maxima: Mapping[str, float]
    """Of each GEMM's input (times its factors) the largest |x|, by the key of the part."""
    folds: Mapping[str, Array]
    """The factors that `base` has folded into the values of attention, by the name of the tensor they are for."""
    thresholds: Mapping[str, float]
    """amax of each GEMM's input as the source has it, with no factors and no shift, by its name: what a calibration cache holds."""
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    """Of what `maxima` are of, by the key of the part; empty where a calibration was read and not measured."""

    def model(self, kept: Collection[str] | None = None) -> ir.Model:
        """A copy of the graph with the parts `kept` (by key; None for all) in INT8; other weights are shared with it."""
        return _quantized(self.base, [part for part in self.parts if kept is None or part.key in kept])


def calibrate(
    model: ir.Model,
    batches: Batches,
    held_back: Sequence[Feeds],
    *,
    method: CalibrationMethod,
    quantize: Quantize,
    smooth: bool | None,
    has_int8_embeddings: bool,
    on_progress: Callable[[int], None] = lambda num_texts: None,
) -> Calibrated:
    """Measure what the GEMMs of the float32 `model` read on `batches`, and choose a threshold for each; a model of LSTMs needs none.

    `method` auto: the one of the least error on `held_back`. `smooth` None: smoothed or not, likewise. `on_progress` is told how many
    texts were run. Raises UnsupportedError for a model with neither GEMM nor LSTM to quantise, or with infinite activations.
    """
    if lstms := plan_lstms(model.graph):
        return _without_thresholds(model, lstms, Judge(model, held_back), has_int8_embeddings)
    plain = _plain(model, quantize, batches, on_progress)
    bases = [plain] if smooth is False else [_smoothed(plain, batches, on_progress)]
    bases = bases if smooth is not None else [plain, *bases]
    judge = Judge(model, held_back)
    candidates = [_judged(base, name, judge) for base in bases for name in (_ORDER if method == "auto" else (method,))]
    best = candidates[0]
    for candidate in candidates[1:]:
        if candidate.trial.error < _GAIN * best.trial.error or math.isnan(best.trial.error):
            best = candidate
    logger.info("chosen: %s", best.trial)
    histograms = {gemm.key: best.base.statistics[str(gemm.x.name)].histogram for gemm in best.base.gemms}
    return Calibrated(
        base=best.base.model,
        parts=(*best.parts, *_embeddings(best.base.model, has_int8_embeddings)),
        trial=best.trial,
        trials=tuple(candidate.trial for candidate in candidates),
        folds=best.base.folds,
        thresholds=dict(_thresholds(plain, METHODS[best.trial.method])),
        maxima={key: histogram.maximum for key, histogram in histograms.items()},
        histograms=histograms,
    )


def _without_thresholds(model: ir.Model, lstms: Sequence[LstmPlan], judge: Judge, has_int8_embeddings: bool) -> Calibrated:
    trial = Trial(method=DYNAMIC, is_smoothed=False, error=judge.error(_quantized(model, lstms)))
    parts = (*lstms, *_embeddings(model, has_int8_embeddings))
    return Calibrated(base=model, parts=parts, trial=trial, trials=(trial,), maxima={}, folds={}, thresholds={})


def _embeddings(model: ir.Model, has_int8_embeddings: bool) -> Iterator[Part]:
    if has_int8_embeddings and (plan := plan_embeddings(model.graph)) is not None:
        yield plan


@dataclass(frozen=True, kw_only=True, eq=False)
class _Base:
    """A float graph, plain or smoothed, and what its tensors hold."""

    model: ir.Model
    quantize: Quantize
    gemms: list[Gemm]
    statistics: Mapping[str, Statistics]
    factors: Mapping[str, Array]
    folds: Mapping[str, Array]
    is_smoothed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    base: _Base
    parts: tuple[Part, ...]
    trial: Trial


def _plain(model: ir.Model, quantize: Quantize, batches: Batches, on_progress: Callable[[int], None]) -> _Base:
    gemms = find_gemms(model.graph, quantize)
    if not gemms:
        raise UnsupportedError(
            "No matrix product of an encoder layer was found, so nothing can be computed in INT8. Compile with --precision fp16 or fp32."
        )
    statistics = collect(model, _tensors(model, gemms, quantize), batches, on_progress=on_progress)
    return _Base(model=model, quantize=quantize, gemms=gemms, statistics=statistics, factors={}, folds={}, is_smoothed=False)


def _smoothed(plain: _Base, batches: Batches, on_progress: Callable[[int], None]) -> _Base:
    """Factors need the ranges of the columns first, their histograms need the factors: so a second pass."""
    model = plain.model.clone()
    gemms = find_gemms(model.graph, plain.quantize)
    found = find_factors(gemms, plain.statistics)
    factors = fold_into_values(model, gemms, found)
    statistics = collect(model, _tensors(model, gemms, plain.quantize), batches, factors=factors, on_progress=on_progress)
    folds = {name: factors_K for name, factors_K in found.items() if name not in factors}
    return replace(plain, model=model, gemms=gemms, statistics=statistics, factors=factors, folds=folds, is_smoothed=True)


def _judged(base: _Base, method: str, judge: Judge) -> _Candidate:
    parts = tuple(_parts(base, METHODS[method]))
    trial = Trial(method=method, is_smoothed=base.is_smoothed, error=judge.error(_quantized(base.model, parts)))
    logger.info("%s", trial)
    return _Candidate(base=base, parts=parts, trial=trial)


def _parts(base: _Base, method: Callable[[Histogram], float]) -> Iterator[Part]:
    by_tensor: dict[str, list[Gemm]] = {}
    for gemm in base.gemms:
        by_tensor.setdefault(str(gemm.x.name), []).append(gemm)
    for name, gemms in by_tensor.items():
        plans = [plan_gemm(gemm, base.statistics[name], base.factors.get(name), method) for gemm in gemms]
        if any(plan is not None and plan.is_refused for plan in plans):  # then for all: q, k and v have one scale
            plans = [plan_gemm(gemm, base.statistics[name], base.factors.get(name), minmax) for gemm in gemms]
            plans = [None if plan is None else replace(plan, is_refused=True) for plan in plans]
        yield from (plan for plan in plans if plan is not None)
    if base.quantize == "full":
        yield from plan_full(base.model.graph, base.statistics, method)


def _thresholds(plain: _Base, method: Callable[[Histogram], float]) -> Iterator[tuple[str, float]]:
    for gemm in plain.gemms:
        name = str(gemm.x.name)
        if (plan := plan_gemm(gemm, plain.statistics[name], None, method)) is not None:
            yield name, plan.threshold


def _quantized(model: ir.Model, parts: Iterable[Part]) -> ir.Model:
    model = model.clone()
    for part in parts:
        part.apply(model.graph)
    add_functions(model)
    passes.RemoveUnusedNodesPass()(model)
    return model


def _tensors(model: ir.Model, gemms: Sequence[Gemm], quantize: Quantize) -> list[Tensor]:
    names = dict.fromkeys(str(gemm.x.name) for gemm in gemms)
    return [Tensor(name, name) for name in names] + (full_tensors(model.graph) if quantize == "full" else [])
