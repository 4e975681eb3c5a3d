"""A calibration <-> JSON, so that it can be applied again to the same model with nothing measured."""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from trtbert.calibrate.choose import Calibrated, Part, Trial
from trtbert.calibrate.collect import Array
from trtbert.calibrate.embeddings import EmbeddingPlan
from trtbert.calibrate.full import AttentionPlan, ResidualPlan
from trtbert.calibrate.gemms import find_gemms
from trtbert.calibrate.lstm import LstmPlan
from trtbert.calibrate.plan import GemmPlan
from trtbert.calibrate.qdq import Step
from trtbert.calibrate.smooth import fold_into_values

_KINDS = {"gemm": GemmPlan, "attention": AttentionPlan, "residual": ResidualPlan, "lstm": LstmPlan, "embedding": EmbeddingPlan}


def to_record(calibrated: Calibrated) -> dict[str, Any]:
    """All of `calibrated` but the graph."""
    return {
        "trial": dataclasses.asdict(calibrated.trial),
        "trials": [dataclasses.asdict(trial) for trial in calibrated.trials],
        "maxima": dict(calibrated.maxima),
        "thresholds": dict(calibrated.thresholds),
        "folds": {name: _encoded(factors_K) for name, factors_K in calibrated.folds.items()},
        "parts": [_part_record(part) for part in calibrated.parts],
    }


def from_record(record: Mapping[str, Any], model: ir.Model) -> Calibrated:
    """The calibration of `model`, which must be the fused graph of the same source."""
    base = model.clone()
    folds = {name: _decoded(text) for name, text in record["folds"].items()}
    fold_into_values(base, find_gemms(base.graph), folds)
    return Calibrated(
        base=base,
        parts=tuple(_part(fields) for fields in record["parts"]),
        trial=Trial(**record["trial"]),
        trials=tuple(Trial(**trial) for trial in record["trials"]),
        maxima=record["maxima"],
        thresholds=record["thresholds"],
        folds=folds,
    )


def _part_record(part: Part) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if type(part) is cls)
    fields = dataclasses.asdict(part)  # type: ignore[call-overload]
    return {"kind": kind} | {name: _encoded(value) if isinstance(value, np.ndarray) else value for name, value in fields.items()}


def _part(fields: Mapping[str, Any]) -> Part:
    values = dict(fields)
    cls: Any = _KINDS[values.pop("kind")]
    if cls is GemmPlan:
        values["step"] = Step(**values["step"])
        values |= {name: None if values[name] is None else _decoded(values[name]) for name in ("factors_K", "bias_N")}
    if cls is AttentionPlan:
        values["scales"] = tuple(values["scales"])
    part: Part = cls(**values)
    return part


def _encoded(array: Array) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def _decoded(text: str) -> Array:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
