"""Engines -> which of them is the fastest on this machine.

Each engine runs in a process of its own, for the threads of two runtimes that wait in one process slow each other down by a factor of
two. The parent half (`fastest`) starts `python -m trtbert.builders.speed` with a JSON request on its standard input and then tells the
engines in turn to run, so that what else runs on the machine slows all of them alike. A child ends with the pipe that it is told by,
and so with its parent.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from trtbert.builders import measure
from trtbert.builders.failure import last_lines
from trtbert.errors import UnsupportedError
from trtbert.runtime import Array, Runtime, open_runtime

BATCH_SIZES, LENGTH = (1, 8), 128
SECONDS, MIN_ROUNDS = 2.0, 3
"""Time of all turns of one engine, as far as the least number of rounds allows."""
TURN_SECONDS, MIN_RUNS = 0.1, 2
"""Time of one turn, whose shortest run counts: the first pays for the change of shape, and for the last engine's threads that spin on."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The name of the fastest engine, and the milliseconds of each, such as {"openvino": {"1x128": 9.1, "8x128": 70.5}}."""

    name: str
    milliseconds: dict[str, dict[str, float]]


def fastest(engines: Mapping[str, Path], inputs: Sequence[str], vocab_size: int, max_length: int) -> Speed:
    """Time engines for the CPU, {name of the runtime: file}; the first is the default, which only a real gain replaces.

    `inputs` are the names of their int32 [batch, sequence] inputs. Raises UnsupportedError where a process dies of its engine.
    """
    shapes = [(batch, min(LENGTH, max_length)) for batch in BATCH_SIZES]
    request = {"inputs": list(inputs), "vocab_size": vocab_size, "shapes": shapes}
    with ExitStack() as stack:
        racers = [
            stack.enter_context(_started(name, request | {"runtime": name, "path": str(path.absolute())})) for name, path in engines.items()
        ]
        for racer in racers:
            racer.answer()  # once it is warm: a start disturbs the turns of the others
        times = _race(racers, len(shapes))
    labels = [f"{batch}x{length}" for batch, length in shapes]
    milliseconds = {name: {label: round(min(row), 4) for label, row in zip(labels, rows, strict=True)} for name, rows in times.items()}
    return Speed(name=measure.fastest(times, default=next(iter(engines))), milliseconds=milliseconds)


@dataclass(frozen=True, kw_only=True)
class _Racer:
    """An engine in a process of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def tell(self, message: Any) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died, and has no answer
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self._error(self.process.wait())
        return json.loads(line)

    def milliseconds(self, shape: int) -> float:
        """The time of a run of the shape of that index."""
        self.tell(shape)
        return float(self.answer())

    def _error(self, status: int) -> UnsupportedError:
        self.log.seek(0)
        lines = "".join(f"\n  {line}" for line in last_lines(self.log.read().decode(errors="replace")))
        return UnsupportedError(
            f"The {self.name} engine cannot be timed: its process ended with status {status}.{lines}\n"
            "Choose a runtime yourself: --runtime onnxruntime or --runtime openvino"
        )


@contextmanager
def _started(name: str, request: Mapping[str, Any]) -> Iterator[_Racer]:
    """An engine whose process loads it and then waits; it ends with the context."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as log,  # a third pipe could fill up and block the child
        subprocess.Popen(_COMMAND, bufsize=0, stdin=pipe, stdout=pipe, stderr=log, env=environment) as process,
    ):
        racer = _Racer(name=name, process=process, log=log)
        racer.tell(request)
        yield racer


def _race(racers: Sequence[_Racer], num_shapes: int) -> dict[str, measure.Rounds]:
    """Milliseconds of each engine: one list for each shape, one number for each round."""
    times: dict[str, measure.Rounds] = {racer.name: [[] for _ in range(num_shapes)] for racer in racers}
    end, num_rounds, order = time.monotonic() + SECONDS * len(racers), 0, list(racers)
    while num_rounds < MIN_ROUNDS or time.monotonic() < end:
        order.reverse()
        num_rounds += 1
        for shape in range(num_shapes):
            for racer in order:
                times[racer.name][shape].append(racer.milliseconds(shape))
    return times


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """An engine that is in no package yet."""

    engine_path: Path
    runtime: str
    target: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    compute_capability: str | None = None
    plugins: None = None


def _run_in_this_process() -> None:
    """The child half: load the engine and warm it up, say so, then run each shape that it is told and answer the time."""
    request = json.loads(sys.stdin.readline())
    runtime = open_runtime(_Engine(engine_path=Path(request["path"]), runtime=request["runtime"]))
    feeds = [_feeds(request["inputs"], request["vocab_size"], shape) for shape in request["shapes"]]
    for feed in feeds:
        runtime.run(feed)
    print("null", flush=True)
    for line in sys.stdin:
        print(_turn(runtime, feeds[int(line)]), flush=True)


def _feeds(inputs: Sequence[str], vocab_size: int, shape: tuple[int, int]) -> dict[str, Array]:
    """Random ids, everything kept; token types, if any, are 0."""
    feeds = {name: np.zeros(shape, np.int32) for name in inputs}
    feeds["input_ids"] = np.random.default_rng(0).integers(0, vocab_size, shape, np.int32)
    feeds["attention_mask"] = np.ones(shape, np.int32)
    return feeds


def _turn(runtime: Runtime, feeds: Mapping[str, Array]) -> float:
    """Milliseconds of the shortest of several runs."""
    times: list[float] = []
    while len(times) < MIN_RUNS or sum(times) < TURN_SECONDS:
        start = time.perf_counter()
        runtime.run(feeds)
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


_COMMAND = (sys.executable, "-m", "trtbert.builders.speed")

if __name__ == "__main__":
    _run_in_this_process()
