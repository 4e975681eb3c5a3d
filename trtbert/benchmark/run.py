"""Packages -> latency, throughput and answers to random arrivals on this machine, beside other ways to run their source models."""

import math
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

from trtbert.benchmark import arrivals, contender, race
from trtbert.benchmark.config import BenchmarkConfig
from trtbert.benchmark.field import Field, Group, Progress, Racer, check_answers
from trtbert.benchmark.machine import machine_facts, versions
from trtbert.benchmark.names import names_of
from trtbert.benchmark.noise import cpu_times, load_average, noise
from trtbert.benchmark.shapes import Shape, answered_feeds, arrival_lengths, feeds_of, shapes_of
from trtbert.hardware import num_cores
from trtbert.package import Package
from trtbert.turns import rounds
from trtbert.version import __version__

FORMAT = 1


def _silent(what: str, num_done: int, num_steps: int | None) -> None:
    pass


def benchmark(packages: Sequence[Package], config: BenchmarkConfig | None = None, *, on_progress: Progress = _silent) -> dict[str, Any]:
    """The figures as JSON; each contender runs in a process of its own.

    Raises InputError for a package that is given twice, UnsupportedError where no shape fits all packages, VerificationError for a
    contender that answers otherwise, and what `Field.line_up` raises.
    """
    config = config or BenchmarkConfig()
    named = dict(zip(names_of([package.path for package in packages]), packages, strict=True))
    shapes, lengths = shapes_of(config, packages), arrival_lengths(config, packages)
    threads = config.threads or (num_cores(),)
    machine, load = machine_facts(), load_average()  # before this run is what loads it
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        field = Field(stack, Path(scratch), threads[0], on_progress)
        groups = field.line_up(named, config.against)
        on_progress("comparing answers", 0, None)
        agreement = [row for group in groups for row in check_answers(group, answered_feeds(group.packages.values(), min(shapes)))]
        racers = [racer for group in groups for racer in group.racers]
        before, spent = cpu_times(), _cpu_seconds(racers)
        timed, arrived = _measure(groups, shapes, lengths, threads, config, on_progress)
        found = noise(load, before, cpu_times(), _cpu_seconds(racers) - spent, timed)
        memory = {racer.name: round(racer.worker.call(contender.peak_megabytes), 1) for racer in racers}
    return {
        "format": FORMAT,
        "made_by": f"trtbert {__version__}",
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command_of(packages, config),
        "machine": machine,
        "versions": versions(),
        "noise": found,
        "seconds": config.seconds,
        "packages": [
            {"name": name, "path": str(package.path), "files": package.manifest.files, "source_sha256": package.manifest.source.sha256}
            for name, package in named.items()
        ],
        "contenders": list(_contenders(groups)),
        "left_out": [asdict(entry) for entry in field.left_out],
        "agreement": agreement,
        "shapes": timed,
        "arrivals": arrived,
        "peak_megabytes": memory,
    }


def command_of(packages: Sequence[Package], config: BenchmarkConfig) -> str:
    """That repeats it."""
    options = config.model_dump(exclude_defaults=True)
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", _flag_value(value))]
    return shlex.join(["trtbert", "benchmark", *(str(package.path) for package in packages), *flags])


def _flag_value(value: Any) -> str:
    return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value) if isinstance(value, tuple) else f"{value:g}"


def _measure(
    groups: Sequence[Group],
    shapes: Sequence[Shape],
    lengths: Sequence[int],
    threads: Sequence[int],
    config: BenchmarkConfig,
    on_progress: Progress,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of every shape, and of every length and rate, for each number of threads; the first of them is what is loaded."""
    total = len(threads) * (len(shapes) + len(lengths) * len(config.rates))
    timed, arrived = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, count in enumerate(threads):
        for racer in (racer for group in groups for racer in group.racers if number):
            racer.load(count)
        for batch, length in shapes:
            on_progress(f"timing {batch} x {length} tokens", len(timed) + len(arrived), total)
            results = _race(groups, (batch, length), config.seconds)
            timed.append({"threads": count, "batch": batch, "length": length, "results": results})
        for length, rate in product(lengths, config.rates):
            on_progress(f"timing {rate:g}/s of {length} tokens", len(timed) + len(arrived), total)
            results = _serve(groups, length, rate, config.seconds)
            arrived.append({"threads": count, "length": length, "rate": rate, "results": results})
    return timed, arrived


def _contenders(groups: Sequence[Group]) -> Iterator[Mapping[str, Any]]:
    for group in groups:
        baseline = None if group.baseline is None else group.baseline.name
        for racer in group.racers:
            is_baseline = racer is group.baseline
            yield {
                "name": racer.name,
                "library": racer.contender.library,
                "what": racer.what,
                "source": group.package.manifest.source.path,
                "baseline": None if is_baseline else baseline,
                "of": list(group.packages),
            }


def _race(groups: Sequence[Group], shape: Shape, seconds: float) -> list[dict[str, Any]]:
    raced = iter(race.race(_calls(groups, shape, contender.turn), seconds))
    results = []
    for group in groups:
        own = [next(raced) for _ in group.racers]
        for racer, turns in zip(group.racers, own, strict=True):
            baseline = own[0] if group.baseline not in (None, racer) else None
            results.append({"name": racer.name, **race.summary(turns, shape[0], baseline)})
    return results


def _serve(groups: Sequence[Group], length: int, rate: float, seconds: float) -> list[dict[str, Any]]:
    """The same arrivals for all contenders, in turns as in a race."""
    calls = _calls(groups, (1, length), contender.serve_turn)
    names = [racer.name for group in groups for racer in group.racers]
    schedules = [arrivals.arrivals(rate, seconds / arrivals.TURNS, seed=number) for number in range(arrivals.TURNS)]
    turns = [map(call, schedules).__next__ for call in calls]
    taken = zip(*islice(rounds(turns), arrivals.TURNS), strict=True)
    return [{"name": name, **arrivals.summary(rate, own)} for name, own in zip(names, taken, strict=True)]


def _calls(groups: Sequence[Group], shape: Shape, function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """`function` of each contender's process on inputs of that shape, in the order of the groups."""
    calls = list[Callable[..., Any]]()
    for group in groups:
        feeds = feeds_of(group.package, shape)
        calls += [partial(racer.worker.call, function, feeds) for racer in group.racers]
    return calls


def _cpu_seconds(racers: Sequence[Racer]) -> float:
    """That the contenders and this process took so far."""
    return time.process_time() + math.fsum(racer.worker.call(time.process_time) for racer in racers)
