"""Measure which lowering of each fused op is the fastest on this machine's CPU.

Two probes are cut from the model: one whole encoder layer, so that what ONNX Runtime fuses by itself and the streaming of the
weights count; and the embeddings. Each lowering of each op is put into its probe in turn, the other ops keep their default.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from trtbert.builders.lowering import BODY, ORT, lower
from trtbert.builders.probe import Probe, embedding_probe, layer_probe

LOGGER = logging.getLogger(__name__)

SECONDS = 1.2
"""Time spent on one probe at one shape, the shortest times of three to fifteen rounds."""
MIN_ROUNDS, MAX_ROUNDS = 3, 15
GAIN = 0.97
"""A lowering takes the default's place only if it needs less than this share of the default's time: the rest is noise."""

Shape = tuple[int, int]
Key = tuple[tuple[str, str], ...]
"""What each op of a probe becomes."""
Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The lowering of each fused op, and the time of its probe with each candidate, such as "Attention 8x128"."""

    choice: Mapping[str, str]
    milliseconds: Mapping[str, dict[str, float]] = field(default_factory=dict)


def measure(model: ir.Model, default: Mapping[str, str], feeds_shape: Shape) -> Measurement:
    """Choose among the lowerings in `ORT` at batch 1 and at `feeds_shape`; an op that is in no probe keeps its default."""
    shapes = tuple(dict.fromkeys([(1, feeds_shape[1]), feeds_shape]))
    choice, milliseconds = dict(default), {}
    for probe in (layer_probe(model), embedding_probe(model)):
        if probe is None:
            continue
        for op, times in _race(probe, default, shapes).items():
            milliseconds[op] = {f"{name} {b}x{s}": round(t, 4) for name, row in times.items() for (b, s), t in zip(shapes, row, strict=True)}
            choice[op] = fastest(times, default[op])
            LOGGER.info("%s becomes %s: %s", op, choice[op], milliseconds[op])
    return Measurement(choice=choice, milliseconds=milliseconds)


def fastest(times: Mapping[str, list[float]], default: str) -> str:
    """The lowering with the smallest time relative to the default's, averaged over shapes; the default unless the gain is real."""
    default = default if default in times else BODY
    share = {name: float(np.mean(np.divide(row, times[default]))) for name, row in times.items()}
    best = min(share, key=share.__getitem__)
    return best if share[best] < GAIN else default


def _race(probe: Probe, default: Mapping[str, str], shapes: tuple[Shape, ...]) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of the probe: {op: {lowering: [one for each shape]}}."""
    sessions: dict[Key, onnxruntime.InferenceSession] = {}
    of_candidate: dict[tuple[str, str], Key] = {}
    for op in sorted({node.op_type for node in probe.model.graph if node.op_type in ORT}):
        for name in (BODY, *ORT[op]):
            lowered, records = lower(probe.model, ORT, {**default, op: name})
            became = tuple(sorted({(record.op, record.lowering) for record in records}))
            if (op, name) in became:
                of_candidate[op, name] = became
                if became not in sessions:
                    sessions[became] = _session(lowered)
    times = [_interleaved(sessions, probe.feeds(*shape)) for shape in shapes]
    result: dict[str, dict[str, list[float]]] = {op: {} for op, _ in of_candidate}
    for (op, name), became in of_candidate.items():
        result[op][name] = [row[became] for row in times]
    return result


def _interleaved(sessions: Mapping[Key, onnxruntime.InferenceSession], feeds: Feeds) -> dict[Key, float]:
    """Shortest milliseconds of each session; one run of each by turns, so that a busy machine slows all of them alike."""
    for session in sessions.values():
        _milliseconds(session, feeds)
    best = {key: _milliseconds(session, feeds) for key, session in sessions.items()}
    rounds = int(np.clip(SECONDS * 1e3 / sum(best.values()), MIN_ROUNDS, MAX_ROUNDS))
    for _ in range(rounds - 1):
        for key, session in sessions.items():
            best[key] = min(best[key], _milliseconds(session, feeds))
    return best


def _milliseconds(session: onnxruntime.InferenceSession, feeds: Feeds) -> float:
    start = time.perf_counter()
    session.run(None, feeds)
    return (time.perf_counter() - start) * 1e3


def _session(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else the idle sessions' threads slow the one that runs
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
