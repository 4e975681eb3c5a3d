"""Compile one model with TensorRT's own layers, with plugins and packed, and time the engines in turn on the same batches."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from contenders import Array, Timing, cosines, make_feeds
from feeds import Feeds
from gpu import Gpu
from kernel_times import mixed_lengths
from processes import trtbert_command

from trtbert.package import open_package
from trtbert.runtime import open_runtime

NATIVE = "native"
LOWERINGS: Mapping[str, Sequence[str]] = {
    NATIVE: ("--lowering", "native"),
    "plugin": ("--lowering", "plugin"),
    "plugin, packed": ("--lowering", "plugin", "--packed"),
}
PROFILES = ("--batch-size", "1", "1", "1", "--batch-size", "2", "32", "32")
LONGEST = {"base": 384, "real": 256}
"""What is timed of each of models.TITLES; MiniLM takes no more."""
INT8 = ("--calibration-size", "128")
RUNS = 10
"""In one turn, after as many that are not counted."""
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.98, "int8": 0.7}
"""Of the answers of two engines. INT8: texts of random words show it at its worst, as in contenders.py."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    num_rows: int
    length: int
    is_mixed: bool
    """Rows of many lengths, padded; else all of one length, with no padding."""

    def feeds(self) -> Feeds:
        feeds = make_feeds((self.num_rows, self.length))
        if self.is_mixed:
            lengths = np.array(mixed_lengths(self.num_rows, self.length))
            feeds["attention_mask"] = (np.arange(self.length) < lengths[:, None]).astype(np.int32)
        return feeds


def batches(longest: int) -> Iterator[Batch]:
    """What is timed."""
    for num_rows in (1, 8, 32):
        for length in (16, 64, 128, longest):
            yield Batch(num_rows=num_rows, length=length, is_mixed=False)
    for num_rows in (8, 32):
        for length in (128, longest):
            yield Batch(num_rows=num_rows, length=length, is_mixed=True)


@dataclass(frozen=True, kw_only=True)
class Times:
    gpu: Timing
    """From the first kernel to the last."""
    wall: Timing
    """Until the host has waited for the answer, which stays on the GPU."""


def compile_engines(
    model: Path, folder: Path, *, target: str, precision: str, longest: int, report: Callable[[str], None]
) -> dict[str, Path]:
    """A package for each of LOWERINGS, by `trtbert compile` in a process of its own, as users make it."""
    lengths = [option for _ in range(2) for option in ("--seq-len", "16", "128", str(longest))]
    int8 = INT8 if precision == "int8" else ()
    options = ["--target", target, "--runtime", "tensorrt", "--precision", precision, *PROFILES, *lengths, *int8]
    packages = {name: folder / name.replace(", ", "-") for name in LOWERINGS}
    for name, package in packages.items():
        report(f"Compiling with trtbert: {precision}, {name}")
        command = trtbert_command("compile", model, "-o", package, *options, *LOWERINGS[name])
        subprocess.run(command, check=True, stdout=sys.stderr)
    return packages


def load(package: Path) -> Any:
    return open_runtime(open_package(package))


def race(runtimes: Mapping[str, Any], batch: Batch, gpu: Gpu, *, precision: str, rounds: int) -> dict[str, Times]:
    """Time every engine, one turn after the other. Raises RuntimeError for one that answers other than the first."""
    stream = gpu.stream()
    times = {name: Times(gpu=Timing(rounds=[]), wall=Timing(rounds=[])) for name in runtimes}
    expected: Array | None = None
    for number in range(rounds):
        for name in list(runtimes)[:: -1 if number % 2 else 1]:
            answer, enqueue = bind(runtimes[name], batch.feeds(), stream)
            expected = answer if expected is None else expected
            _check_answer(name, answer, expected, MIN_COSINE[precision])
            times[name].gpu.rounds.append(gpu.times([enqueue] * RUNS, stream))
            times[name].wall.rounds.append([_wall_milliseconds(enqueue, gpu, stream) for _ in range(RUNS)])
    return times


def bind(runtime: Any, feeds: Feeds, stream: int) -> tuple[Array, Callable[[], object]]:
    """The answer at the tokens that are no padding, and what computes it again from the feeds that are on the GPU now."""
    names = {tensor.name for tensor in runtime.inputs}
    answer = next(iter(runtime.run({name: array for name, array in feeds.items() if name in names}).values()))
    if answer.ndim > 2:
        answer = answer[feeds["attention_mask"] == 1]
    # run() copies in and out each time; its context stays set to the shapes and buffers of the last call.
    context = runtime._context
    return answer, lambda: _enqueue(context, stream)


def _enqueue(context: Any, stream: int) -> None:
    if not context.execute_async_v3(stream):
        raise RuntimeError("TensorRT could not enqueue the inference; its message is in the log")


def _wall_milliseconds(enqueue: Callable[[], object], gpu: Gpu, stream: int) -> float:
    start = time.perf_counter()
    enqueue()
    gpu.wait(stream)
    return (time.perf_counter() - start) * 1e3


def _check_answer(name: str, answer: Array, expected: Array, smallest: float) -> None:
    cosine = float(cosines(answer.astype(np.float64), expected.astype(np.float64)).min())
    if not cosine >= smallest:
        raise RuntimeError(f"{name!r} does not compute the same: the smallest cosine of its answer is {cosine:.4f}")
