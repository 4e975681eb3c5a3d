"""Packages -> their latency on this machine beside that of the model they were compiled from, in one run.

Each contender runs in a process of its own, for the threads of two libraries that wait in one process slow each other down. Turns are
interleaved, in an order that is turned round each time, so that what else runs on the machine slows all of them alike.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from trtbert.errors import TrtbertError, UnsupportedError
from trtbert.package import Manifest, Package
from trtbert.report import contender
from trtbert.report.contender import Contender
from trtbert.report.machine import machine_facts
from trtbert.report.names import names_of

BATCH_SIZES, LENGTHS = (1, 8, 32), (32, 128)
SECONDS, MIN_ROUNDS, MAX_RUNS = 4.0, 3, 200
"""Of each contender at each shape, as far as the least number of rounds allows."""
LEAST_RUNS = {50: 1, 95: 20, 99: 100}
"""Of fewer runs a percentile is little but the slowest run, and is left out."""
_LIBRARIES = ("numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch", "transformers")
Rounds = list[list[float]]
"""Milliseconds: one list for each turn."""
Progress = Callable[[str, int, int | None], None]


def measure(packages: Sequence[Package], on_progress: Progress) -> dict[str, Any]:
    """The figures as JSON; a baseline that cannot run here is left out, with the reason. Raises a TrtbertError for such a package."""
    names = names_of([package.path for package in packages])
    shapes = _shapes(packages)
    machine = machine_facts()  # before this run is what loads it
    with ExitStack() as stack:
        on_progress("loading", 0, None)
        racers = [_Racer(stack, Contender(name=name, package=package.path)) for name, package in zip(names, packages, strict=True)]
        for racer in racers:
            racer.call(contender.load, racer.contender)
        baselines, missing = _start_baselines(stack, dict(zip(names, packages, strict=True)))
        measured = []
        for num_done, (batch, length) in enumerate(shapes):
            on_progress(f"timing batch {batch} x {length} tokens", num_done, len(shapes))
            rounds = _race([*racers, *(baseline.racer for baseline in baselines)], batch, length)
            measured.append({"batch": batch, "length": length, "results": _results(rounds, batch, baselines)})
        memory = {racer.contender.name: round(racer.call(contender.peak_megabytes), 1) for racer in racers}
    return {
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine,
        "versions": _versions(),
        "seconds": SECONDS,
        "baselines": [{"name": baseline.racer.contender.name, "what": baseline.what, "of": baseline.packages} for baseline in baselines],
        "no_baseline": missing,
        "shapes": measured,
        "peak_megabytes": memory,
    }


class _Racer:
    """A contender in a process of its own, which ends with the stack."""

    def __init__(self, stack: ExitStack, raced: Contender) -> None:
        self.contender = raced
        context = multiprocessing.get_context("spawn")
        self._pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=context, initializer=contender.ignore_interrupts))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Raises what the function raises, and UnsupportedError where the process dies of it."""
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise UnsupportedError(f"{self.contender.name} cannot be timed: its process died. Report without --measure.") from error


@dataclass(frozen=True, kw_only=True)
class _Baseline:
    racer: _Racer
    packages: list[str]
    """That were compiled from it."""
    what: str


def _start_baselines(stack: ExitStack, packages: Mapping[str, Package]) -> tuple[list[_Baseline], list[str]]:
    """One for each different source model, and why there is none for the others."""
    by_source: dict[tuple[str, str], list[str]] = {}
    for name, package in packages.items():
        by_source.setdefault((package.manifest.source.sha256, package.manifest.model.task), []).append(name)
    found, missing = list[_Baseline](), list[str]()
    for number, names in enumerate(by_source.values(), start=1):
        package = packages[names[0]]
        source = Path(package.manifest.source.path)
        name = "source model" if len(by_source) == 1 else f"source model {number}"
        racer = _Racer(stack, Contender(name=name, package=package.path, source=source))
        try:
            if not source.exists():
                raise UnsupportedError(f"the source model {source} is not there any more")
            if racer.call(contender.load, racer.contender) != package.manifest.source.sha256:
                raise UnsupportedError(f"the weights in {source} are not those that the package was compiled from")
        except (TrtbertError, ModuleNotFoundError) as error:
            missing.append(f"{', '.join(names)}: {error}")
            continue
        found.append(_Baseline(racer=racer, packages=names, what=_what(package.manifest)))
    return found, missing


def _what(manifest: Manifest) -> str:
    runner = "ONNX Runtime" if manifest.source.path.endswith(".onnx") else "PyTorch, eager, with its fused attention where the model has it"
    return f"{manifest.source.path} in float32, run by {runner}"


def _shapes(packages: Sequence[Package]) -> list[tuple[int, int]]:
    """Those that every package takes; UnsupportedError where there is none."""
    longest = min(package.manifest.model.max_length for package in packages)
    lengths = dict.fromkeys(min(length, longest) for length in LENGTHS)
    shapes = [(batch, length) for length in lengths for batch in BATCH_SIZES if all(_takes(p.manifest, batch, length) for p in packages)]
    if not shapes:
        raise UnsupportedError("The profiles of the packages have no common shape to time, of batches 1, 8, 32 and 32 or 128 tokens.")
    return shapes


def _takes(manifest: Manifest, batch: int, length: int) -> bool:
    return not manifest.profiles or any(
        p.batch_size.min <= batch <= p.batch_size.max and (p.seq_len is None or p.seq_len.min <= length <= p.seq_len.max)
        for p in manifest.profiles
    )


def _race(racers: Sequence[_Racer], batch: int, length: int) -> dict[str, Rounds]:
    """Turns of all contenders until the time is up or each has runs enough."""
    rounds: dict[str, Rounds] = {racer.contender.name: [] for racer in racers}
    spent, order = 0.0, list(racers)
    while True:
        order.reverse()
        for racer in order:
            start = time.monotonic()
            rounds[racer.contender.name].append(racer.call(contender.turn, batch, length))
            spent += time.monotonic() - start
        num_runs = min(sum(map(len, turns)) for turns in rounds.values())
        if len(next(iter(rounds.values()))) >= MIN_ROUNDS and (spent >= SECONDS * len(racers) or num_runs >= MAX_RUNS):
            return rounds


def _results(rounds: Mapping[str, Rounds], batch: int, baselines: Sequence[_Baseline]) -> list[dict[str, Any]]:
    baseline_of = {name: baseline.racer.contender.name for baseline in baselines for name in baseline.packages}
    return [_result(name, turns, batch, rounds.get(baseline_of.get(name, ""))) for name, turns in rounds.items()]


def _result(name: str, turns: Rounds, batch: int, baseline: Rounds | None) -> dict[str, Any]:
    """`speedup` is the median over the rounds of the baseline's time divided by this one's: a busy machine slows both sides of a round."""
    times = [time for turn in turns for time in turn]
    median = float(np.median(times))
    ratios = [] if baseline is None else [np.median(theirs) / np.median(mine) for mine, theirs in zip(turns, baseline, strict=True)]
    return {
        "name": name,
        "num_runs": len(times),
        **{f"p{q}": float(np.percentile(times, q)) if len(times) >= least else None for q, least in LEAST_RUNS.items()},
        "texts_per_second": batch / median * 1e3,
        "speedup": float(np.median(ratios)) if ratios else None,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
