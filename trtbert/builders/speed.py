"""Engines -> which of them is the fastest on this machine. Each runs in a process of its own, and they take turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from trtbert.builders import measure
from trtbert.errors import UnsupportedError
from trtbert.runtime import Array, Runtime, open_runtime
from trtbert.turns import rounds
from trtbert.worker_process import Worker, worker

BATCH_SIZES, LENGTH = (1, 8), 128
SECONDS, MIN_ROUNDS = 2.0, 3
"""Time of all turns of one engine, as far as the least number of rounds allows."""
TURN_SECONDS, MIN_RUNS = 0.1, 2
"""Time of one turn, whose shortest run counts: the first pays for the change of shape, and for the last engine's threads that spin on."""
_ADVICE = "Choose a runtime yourself: --runtime onnxruntime or --runtime openvino"

Feeds = Mapping[str, Array]
_Key = tuple[str, str]
"""Shape and name of the engine."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The name of the fastest engine, and the milliseconds of each, such as {"openvino": {"1x128": 9.1, "8x128": 70.5}}."""

    name: str
    milliseconds: dict[str, dict[str, float]]


def fastest(engines: Mapping[str, Path], inputs: Sequence[str], vocab_size: int, max_length: int) -> Speed:
    """Time engines for the CPU, {name of the runtime: file}; the first is the default, which only a real gain replaces.

    `inputs` are the names of their int32 [batch, sequence] inputs. Raises UnsupportedError for an engine that cannot be timed.
    """
    length = min(LENGTH, max_length)
    feeds = {f"{batch}x{length}": _feeds(inputs, vocab_size, (batch, length)) for batch in BATCH_SIZES}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(f"The {name} engine", _ADVICE)) for name in engines}
        for name, path in engines.items():  # warm before the first turn: a start disturbs those of the others
            _call(workers[name], _load, _Engine(engine_path=path.absolute(), runtime=name), list(feeds.values()))
        turns = {(shape, name): partial(_call, workers[name], _turn, feeds[shape]) for shape, name in product(feeds, engines)}
        times = _race(turns, SECONDS * len(engines))
    rows = {name: [times[shape, name] for shape in feeds] for name in engines}
    milliseconds = {name: {shape: round(min(times[shape, name]), 4) for shape in feeds} for name in engines}
    return Speed(name=measure.fastest(rows, default=next(iter(engines))), milliseconds=milliseconds)


def _race(turns: Mapping[_Key, Callable[[], float]], seconds: float) -> dict[_Key, list[float]]:
    """What each of the turns gives, round by round."""
    end, taken = time.monotonic() + seconds, list[list[float]]()
    for given in rounds(list(turns.values())):
        taken.append(given)
        if len(taken) >= MIN_ROUNDS and time.monotonic() >= end:
            break
    return {key: list(times) for key, times in zip(turns, zip(*taken, strict=True), strict=True)}


def _call(racer: Worker, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return racer.call(function, *arguments)
    except UnsupportedError:  # it died
        raise
    except Exception as error:
        raise UnsupportedError(f"{racer.name} cannot be timed: {type(error).__name__}: {error}\n{_ADVICE}") from error


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """An engine that is in no package yet."""

    engine_path: Path
    runtime: str
    target: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    compute_capability: str | None = None
    plugins: None = None


_loaded: list[Runtime] = []
"""What `_load` left for the turns: a process holds one engine."""


def _load(engine: _Engine, warm_up: Sequence[Feeds]) -> None:
    _loaded.append(open_runtime(engine))
    for feeds in warm_up:
        _loaded[0].run(feeds)


def _turn(feeds: Feeds) -> float:
    """Milliseconds of the shortest of several runs."""
    times: list[float] = []
    while len(times) < MIN_RUNS or sum(times) < TURN_SECONDS:
        start = time.perf_counter()
        _loaded[0].run(feeds)
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def _feeds(inputs: Sequence[str], vocab_size: int, shape: tuple[int, int]) -> dict[str, Array]:
    """Random ids, everything kept; token types, if any, are 0."""
    feeds = {name: np.zeros(shape, np.int32) for name in inputs}
    feeds["input_ids"] = np.random.default_rng(0).integers(0, vocab_size, shape, np.int32)
    feeds["attention_mask"] = np.ones(shape, np.int32)
    return feeds
