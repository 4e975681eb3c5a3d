"""A float graph, texts and perhaps an accuracy budget -> the graph in INT8, and what the manifest says of it."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from trtbert import package
from trtbert.accuracy import Judge
from trtbert.accuracy_intervals import BlockJudge
from trtbert.calibrate import (
    Calibrated,
    Cost,
    GemmPlan,
    Identity,
    Part,
    calibrate,
    coarse_histograms,
    fit_budget,
    from_record,
    measure_costs,
    measure_error,
    read_details,
    to_record,
    write_cache,
)
from trtbert.calibration_texts import CalibrationTexts, read_calibration_texts
from trtbert.config import CompileConfig
from trtbert.errors import InputError, VerificationError
from trtbert.package import HISTOGRAMS, Histograms, ModelFacts, Quantization, QuantizedPart

Progress = Callable[[str, int, int | None], None]
"""What is being done, how many of its steps, and of how many (None: not known)."""

_ROUNDING = 1e-9
_MAX_ERROR = 0.1
"""Of the outputs on the held-back texts, where no budget says what INT8 may cost: a cosine of about 0.95."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """The graph with Q/DQ, what the manifest says of it, and what a user should know, one sentence each."""

    model: ir.Model
    facts: Quantization
    notes: tuple[str, ...]


def quantize(
    model: ir.Model, facts: ModelFacts, tokenizer: Path, config: CompileConfig, *, source_sha256: str, cache: Path, on_progress: Progress
) -> Quantized:
    """Calibrate the fused float32 `model` and put Q/DQ into it, within `config.max_drop` if there is one.

    `tokenizer` is the tokenizer.json, `source_sha256` that of the source's weights; the calibration is written to `cache`.
    Raises InputError for texts or a cache that cannot be used, VerificationError where INT8 costs more than the budget allows.
    """
    identity = Identity(
        model=source_sha256,
        data=None,
        tokenizer=hashlib.sha256(tokenizer.read_bytes()).hexdigest(),
        method=None,
        task=f"{facts.task}, pooling {config.pooling}",
    )
    if config.calibration_cache is not None:
        return _from_cache(model, config.calibration_cache, identity, cache)
    texts = read_calibration_texts(config.calibration_data, tokenizer, facts, column=config.text_column, size=config.calibration_size)
    judge = None if config.max_drop is None else BlockJudge(model, facts, tokenizer, config, texts)  # first: it reads the user's file
    calibrated = _calibrate(model, texts, config, on_progress)
    parts, budget, costs = {part.key for part in calibrated.parts}, None, dict[str, float]()
    held_back = texts.held_back_batches()
    if judge is not None and config.max_drop is not None:
        on_progress("measuring what each layer costs", 0, None)
        found = measure_costs(calibrated, held_back)
        costs = {cost.key: cost.error for cost in found}
        budget, kept = _fit(calibrated, found, judge, config.max_drop)
        parts &= set(kept)
        budget = budget.model_copy(update=judge.intervals(model, calibrated.model(parts), budget.int8_score))
    error = measure_error(calibrated, parts, held_back)
    if judge is None and not error <= _MAX_ERROR:
        raise VerificationError(
            f"INT8 changes what the model answers: on {len(texts.held_back)} texts held back from calibration the squared error is "
            f"{error:.0%} of the outputs, and {_MAX_ERROR:.0%} is allowed. Give --max-drop POINTS to keep the layers in float that cost "
            f"most, {_advice(calibrated)}."
        )
    quantized = Quantized(
        model=calibrated.model(parts),
        facts=_facts(calibrated, parts, costs, budget, texts, config, error),
        notes=(*texts.notes, *_notes(calibrated, parts)),
    )
    identity = dataclasses.replace(identity, data=texts.sha256, method=calibrated.trial.method)
    _write_cache(cache, identity, calibrated, parts, quantized)
    return quantized


def _write_cache(cache: Path, identity: Identity, calibrated: Calibrated, kept: Collection[str], quantized: Quantized) -> None:
    details = {
        "calibration": to_record(calibrated),
        "kept": sorted(kept),
        "facts": quantized.facts.model_dump(mode="json"),
        "notes": list(quantized.notes),
    }
    write_cache(cache, calibrated.thresholds, identity, details=details)
    if tensors := coarse_histograms(calibrated):
        histograms = Histograms(calibration_sha256=_sha256(cache), tensors=tensors)
        cache.with_name(HISTOGRAMS).write_text(histograms.model_dump_json(), encoding="utf-8")


def _from_cache(model: ir.Model, path: Path, identity: Identity, cache: Path) -> Quantized:
    """Repeat the calibration that the cache `path` holds, and copy it to `cache`."""
    details = read_details(path, identity)
    try:
        calibrated = from_record(details["calibration"], model)
        facts = Quantization.model_validate(details["facts"])
        quantized = Quantized(model=calibrated.model(details["kept"]), facts=facts, notes=tuple(details["notes"]))
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise InputError(f"{path}.json does not hold a whole calibration ({error!r}). Calibrate again without the cache.") from error
    for suffix in ("", ".json"):
        shutil.copyfile(path.with_name(path.name + suffix), cache.with_name(cache.name + suffix))
    _copy_histograms(path, cache)
    return quantized


def _copy_histograms(path: Path, cache: Path) -> None:
    """Those beside the cache `path`, if they are of its calibration: they are for people to look at, nothing depends on them."""
    try:
        found = Histograms.model_validate_json(path.with_name(HISTOGRAMS).read_bytes())
    except (OSError, ValueError):
        return
    if found.calibration_sha256 == _sha256(cache):
        cache.with_name(HISTOGRAMS).write_text(found.model_dump_json(), encoding="utf-8")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _calibrate(model: ir.Model, texts: CalibrationTexts, config: CompileConfig, on_progress: Progress) -> Calibrated:
    num_done = 0

    def advance(num_texts: int) -> None:
        nonlocal num_done
        num_done += num_texts
        on_progress("calibrating", num_done % (len(texts.encodings) + 1), len(texts.encodings))

    return calibrate(
        model,
        texts.batches,
        texts.held_back_batches(),
        method=config.calibration_method,
        quantize=config.quantize,
        smooth=config.smooth,
        has_int8_embeddings=config.quantize_embeddings,
        on_progress=advance,
    )


def _fit(calibrated: Calibrated, costs: tuple[Cost, ...], judge: Judge, max_drop: float) -> tuple[package.Budget, Collection[str]]:
    """The budget as it was met, and the parts that are in INT8."""
    scores: list[float] = []

    def score(kept: Collection[str]) -> float:
        scores.append(judge.score(calibrated.model(kept)))
        return scores[-1]

    budget = fit_budget(costs, score, least=judge.float_score - max_drop - _ROUNDING)
    if budget is None:
        table = "".join(f"\n  {cost.label:<32} {cost.error:.2e}" for cost in costs)
        raise VerificationError(
            f"INT8 costs {judge.float_score - scores[0]:.4f} points of {judge.metric} on {judge.num_examples} examples "
            f"({judge.float_score:.4f} -> {scores[0]:.4f}), and --max-drop allows {max_drop:g}. With all but the cheapest part in float "
            f"it is {scores[-1]:.4f}, still too little. What each part costs alone (error of the outputs):{table}\n"
            f"Allow more with --max-drop, {_advice(calibrated)}."
        )
    kept = [cost.key for cost in costs if cost.key not in budget.reverted]
    facts = package.Budget(
        metric=judge.metric,
        max_drop=max_drop,
        num_examples=judge.num_examples,
        examples_sha256=judge.examples_sha256,
        float_score=judge.float_score,
        int8_score=budget.score,
    )
    return facts, kept


def _advice(calibrated: Calibrated) -> str:
    if calibrated.trial.method == package.DYNAMIC:  # an LSTM, for the CPU: there are no thresholds to choose
        return "or use --precision fp32"
    return "try --calibration-method auto or calibration data closer to what the model will see, or use --precision fp16 or fp32"


def _facts(
    calibrated: Calibrated,
    kept: Collection[str],
    costs: dict[str, float],
    budget: package.Budget | None,
    texts: CalibrationTexts,
    config: CompileConfig,
    error: float,
) -> Quantization:
    parts = [
        QuantizedPart(part=part.label, is_int8=part.key in kept, cost=costs.get(part.key), **_numbers(part, calibrated))
        for part in calibrated.parts
    ]
    is_dynamic = calibrated.trial.method == package.DYNAMIC
    return Quantization(
        preset=None if is_dynamic else config.quantize,
        method=calibrated.trial.method,
        is_smoothed=calibrated.trial.is_smoothed,
        error=error,
        texts=texts.source,
        num_texts=0 if is_dynamic else len(texts.encodings),
        num_held_back=len(texts.held_back),
        trials=tuple(package.CalibrationTrial(method=t.method, is_smoothed=t.is_smoothed, error=t.error) for t in calibrated.trials),
        parts=tuple(parts),
        budget=budget,
    )


def _numbers(part: Part, calibrated: Calibrated) -> dict[str, Any]:
    if not isinstance(part, GemmPlan):
        return {}
    return {
        "tensor": part.tensor,
        "threshold": part.threshold,
        "maximum": calibrated.maxima[part.key],
        "scale": part.step.scale,
        "shift": part.step.shift,
    }


def _notes(calibrated: Calibrated, kept: Collection[str]) -> Iterator[str]:
    if calibrated.trial.method == package.DYNAMIC:
        yield (
            "an LSTM quantises its inputs as they come: the texts only measure what INT8 costs, and --calibration-method, --quantize and "
            "--smooth change nothing"
        )
    gemms = [part for part in calibrated.parts if isinstance(part, GemmPlan)]
    num_refused = sum(gemm.is_refused for gemm in gemms)
    if num_refused:
        yield (
            f"nothing is clipped in {num_refused} of {len(gemms)} GEMMs: the threshold of the method {calibrated.trial.method} made their "
            "results worse"
        )
    reverted = [part.label for part in calibrated.parts if part.key not in kept]
    if reverted:
        yield f"stays in float to keep the accuracy: {', '.join(reverted)}"
