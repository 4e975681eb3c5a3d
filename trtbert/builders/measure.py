"""Measure which lowering of each fused op is the fastest on this machine's CPU.

Two probes are cut from the model: one whole encoder layer, so that what ONNX Runtime fuses by itself and the streaming of the
weights count; and the embeddings. Each lowering of each op is put into its probe in turn, the other ops keep their default.

What is measured is the CPU time of one thread: with other programs at work the time of a clock misleads, by more than lowerings differ.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from trtbert.builders.integer import with_integer_gemms
from trtbert.builders.lowering import BODY, ORT, lower
from trtbert.builders.probe import Probe, embedding_probe, layer_probe
from trtbert.turns import rounds

LOGGER = logging.getLogger(__name__)

SECONDS = 1.2
"""Time spent on one probe at one shape, as far as the least and the largest number of rounds allow."""
MIN_ROUNDS, MAX_ROUNDS = 3, 15
GAIN = 0.97
"""A lowering takes the default's place only if it needs less than this share of the default's time: the rest is noise."""

Shape = tuple[int, int]
Key = tuple[tuple[str, str], ...]
"""What each op of a probe becomes."""
Feeds = dict[str, npt.NDArray[Any]]
Rounds = list[list[float]]
"""Milliseconds: one list for each shape, one number for each round."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The lowering of each fused op, and the CPU time of its probe with each candidate, such as "Attention 8x128"."""

    choice: Mapping[str, str]
    milliseconds: Mapping[str, dict[str, float]] = field(default_factory=dict)


def measure(model: ir.Model, default: Mapping[str, str], feeds_shape: Shape) -> Measurement:
    """Choose among the lowerings in `ORT` at batch 1 and at `feeds_shape`; an op that is in no probe keeps its default."""
    shapes = tuple(dict.fromkeys([(1, feeds_shape[1]), feeds_shape]))
    choice, milliseconds = dict(default), {}
    for probe in (layer_probe(model), embedding_probe(model)):
        for op, times in ({} if probe is None else _race(probe, default, shapes)).items():
            choice[op] = fastest(times, default[op])
            milliseconds[op] = {
                f"{name} {b}x{s}": round(min(row), 4) for name, rows in times.items() for (b, s), row in zip(shapes, rows, strict=True)
            }
            LOGGER.info("%s becomes %s: %s", op, choice[op], milliseconds[op])
    return Measurement(choice=choice, milliseconds=milliseconds)


def fastest(times: Mapping[str, Rounds], default: str) -> str:
    """The lowering that takes the smallest share of the default's time, on average over shapes; the default unless the gain is real.

    `times` are milliseconds: {lowering: one list for each shape, one number for each round}. The share is the larger of two, of
    which each alone is fooled by a busy machine: that of the shortest times, and the median of the shares within each round.
    """
    default = default if default in times else BODY
    shares = {name: float(np.mean([_share(*pair) for pair in zip(rows, times[default], strict=True)])) for name, rows in times.items()}
    best = min(shares, key=shares.__getitem__)
    return best if shares[best] < GAIN else default


def _share(row: Sequence[float], default: Sequence[float]) -> float:
    return max(min(row) / min(default), float(np.median(np.divide(row, default))))


def _race(probe: Probe, default: Mapping[str, str], shapes: tuple[Shape, ...]) -> dict[str, dict[str, Rounds]]:
    """Milliseconds of the probe: {op: {lowering: one list for each shape}}."""
    sessions: dict[Key, onnxruntime.InferenceSession] = {}
    candidates: dict[tuple[str, str], Key] = {}
    for op in sorted({node.op_type for node in probe.model.graph if node.op_type in ORT}):
        for name in (BODY, *ORT[op]):
            lowered, records = lower(probe.model, ORT, {**default, op: name})
            key = tuple(sorted({(record.op, record.lowering) for record in records}))
            if (op, name) in key:
                candidates[op, name] = key
                sessions[key] = sessions[key] if key in sessions else _session(with_integer_gemms(lowered))
    times = [_interleaved(sessions, probe.feeds(*shape)) for shape in shapes]
    result: dict[str, dict[str, Rounds]] = {op: {} for op, _ in candidates}
    for (op, name), key in candidates.items():
        result[op][name] = [time[key] for time in times]
    return result


def _interleaved(sessions: Mapping[Key, onnxruntime.InferenceSession], feeds: Feeds) -> dict[Key, list[float]]:
    """Milliseconds of each session, round by round; one run of each in a round."""
    turns = [partial(_milliseconds, session, feeds) for session in sessions.values()]
    for turn in turns:
        turn()
    taken = rounds(turns)
    times = [next(taken)]
    num_rounds = int(np.clip(SECONDS * 1e3 / sum(times[0]), MIN_ROUNDS, MAX_ROUNDS))
    times += islice(taken, num_rounds - 1)
    return {key: list(row) for key, row in zip(sessions, zip(*times, strict=True), strict=True)}


def _milliseconds(session: onnxruntime.InferenceSession, feeds: Feeds) -> float:
    start = time.thread_time()
    session.run(None, feeds)
    return (time.thread_time() - start) * 1e3


def _session(model: ir.Model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # the thread that calls, whose time is measured
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
