"""A package or its source model, in a process of its own -> the times of its runs. The parent half is `measure`."""

import resource
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtbert.config import CompileConfig
from trtbert.package import ModelFacts, open_package
from trtbert.runtime import Array, open_runtime
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS

Feeds = dict[str, Array]
Run = Callable[[Feeds], Any]
TURN_SECONDS, MIN_RUNS, MAX_RUNS = 0.25, 2, 25
"""Of one turn; the run before them wakes the threads and is not counted."""
_WARM_UP = 1
_state: dict[str, Any] = {}
"""What `load` left for the turns: a process holds one contender."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is timed: a package, or the source model that it was compiled from."""

    name: str
    package: Path
    source: Path | None = None
    """For a source model: where it lies."""


def ignore_interrupts() -> None:
    """Ctrl-C goes to the parent, which ends this process in its own order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def load(contender: Contender) -> str:
    """Give the sha256 of the weights that it has, or was made of.

    Raises a TrtbertError for what cannot be run here, ModuleNotFoundError where a source model needs what is not installed.
    """
    package = open_package(contender.package, check_hashes=False)
    manifest = package.manifest
    _state["facts"] = manifest.model
    if contender.source is None:
        _state["run"] = open_runtime(package).run
        return manifest.source.sha256
    from trtbert.export import load_source  # torch and onnx: only where they are there

    config = CompileConfig(
        task=manifest.model.task,
        tokenizer=None if manifest.source.tokenizer is None else Path(manifest.source.tokenizer),
        pooling=manifest.source.pooling,
    )
    with tempfile.TemporaryDirectory() as scratch:
        source = load_source(contender.source, config, Path(scratch))
    _state["run"] = source.reference
    return source.fingerprint["sha256"]


def turn(batch: int, length: int) -> list[float]:
    """Milliseconds of the runs of one turn; at its end the threads have come to rest."""
    run: Run = _state["run"]
    feeds = make_feeds(_state["facts"], batch, length)
    for _ in range(_WARM_UP):
        run(feeds)
    times: list[float] = []
    while len(times) < MIN_RUNS or (sum(times) < TURN_SECONDS * 1e3 and len(times) < MAX_RUNS):
        start = time.perf_counter()
        run(feeds)
        times.append((time.perf_counter() - start) * 1e3)
    _wait_until_idle()
    return times


def peak_megabytes() -> float:
    """The most memory that this process has held, Python and the libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def make_feeds(facts: ModelFacts, batch: int, length: int) -> Feeds:
    """int32 [batch,length]: random ids, always the same ones, and no padding."""
    feeds: Feeds = {tensor.name: np.zeros((batch, length), np.int32) for tensor in facts.inputs}
    feeds[INPUT_IDS] = np.random.default_rng(0).integers(0, facts.tokenizer.vocab_size, (batch, length), np.int32)
    feeds[ATTENTION_MASK] = np.ones((batch, length), np.int32)
    return feeds


def _wait_until_idle() -> None:
    """Until no thread of this process has used the CPU for 30 ms, for some spin on after a run; at most 2 s."""
    deadline, used = time.monotonic() + 2, -1.0
    while time.process_time() - used > 1e-3 and time.monotonic() < deadline:
        used = time.process_time()
        time.sleep(0.03)
