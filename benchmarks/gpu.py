"""This machine's GPU: what it is, how fast its memory is, and how long work on it takes, by CUDA events."""

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from roofline import Card

from tests.plugins.device import Device

Enqueue = Callable[[], object]
"""Starts work on the GPU, and does not wait for it."""
COPY_BYTES = 2**30
SCRATCH_BYTES = 2**28
RUNS = 20


class Gpu(Device):
    """The current GPU and what keeps it busy while work is queued."""

    def __init__(self, cudart: Any = None) -> None:
        super().__init__(cudart)
        free, _ = self._memory()
        self._scratch_bytes = min(SCRATCH_BYTES, free // 8)
        self._scratch = int(self.call("cudaMalloc", self._scratch_bytes))
        self._events: list[Any] = []
        self._stream: int | None = None
        self._fill_seconds = statistics.median(self._between_events([self._fill(0)] * RUNS, 0)) / 1e3

    def times(self, work: Sequence[Enqueue], stream: int = 0) -> list[float]:
        """Milliseconds of each piece of work on the GPU, one after the other, after a warm-up of the same.

        All of it is queued while the GPU is still busy with something else, so that the speed of the host does not show; but for work
        that waits for the GPU itself.
        """
        start = time.perf_counter()
        for enqueue in work:
            enqueue()
        seconds = time.perf_counter() - start
        self.wait(stream)
        for _ in range(1 + int(2 * seconds / self._fill_seconds)):
            self._fill(stream)()
        return self._between_events(work, stream)

    def stream(self) -> int:
        """One that is not the default stream, in which TensorRT would wait after each layer."""
        if self._stream is None:
            self._stream = int(self.call("cudaStreamCreate"))
        return self._stream

    def wait(self, stream: int = 0) -> None:
        self.call("cudaStreamSynchronize", stream)

    def card(self) -> Card:
        return Card(
            name=self.call("cudaGetDeviceProperties", self.index).name.decode(),
            compute_capability=self.compute_capability(),
            num_multiprocessors=self.attribute("MultiProcessorCount"),
            clock_hz=self.attribute("ClockRate") * 1e3,
            bytes_per_second=self.copy_bytes_per_second(),
        )

    def copy_bytes_per_second(self) -> float:
        """Read and written, of the median copy within the GPU's memory."""
        free, _ = self._memory()
        size = min(COPY_BYTES, free // 4)
        source, target = (int(self.call("cudaMalloc", size)) for _ in range(2))
        kind = self.cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        try:
            self.call("cudaMemset", source, 1, size)
            times = self.times([lambda: self.call("cudaMemcpyAsync", target, source, size, kind, 0)] * RUNS)
        finally:
            self.call("cudaFree", source)
            self.call("cudaFree", target)
        return 2 * size / statistics.median(times) * 1e3

    def _memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        status, free, total = self.cudart.cudaMemGetInfo()
        assert status == self.cudart.cudaError_t.cudaSuccess, status
        return int(free), int(total)

    def _fill(self, stream: int) -> Enqueue:
        return lambda: self.call("cudaMemsetAsync", self._scratch, 0, self._scratch_bytes, stream)

    def _between_events(self, work: Sequence[Enqueue], stream: int) -> list[float]:
        while len(self._events) <= len(work):
            self._events.append(self.call("cudaEventCreate"))
        events = self._events[: len(work) + 1]
        self.call("cudaEventRecord", events[0], stream)
        for enqueue, event in zip(work, events[1:], strict=True):
            enqueue()
            self.call("cudaEventRecord", event, stream)
        self.call("cudaEventSynchronize", events[-1])
        return [float(self.call("cudaEventElapsedTime", start, end)) for start, end in pairwise(events)]


def driver() -> str:
    """What nvidia-smi says of the card and its driver."""
    if shutil.which("nvidia-smi") is None:
        return "driver unknown: there is no nvidia-smi"
    query = "driver_version,clocks.max.sm,clocks.max.memory,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0"]
    values = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().split(", ")
    return ", ".join(f"{name} {value}" for name, value in zip(query.split(","), values, strict=False))
