"""Counters of all workers in shared memory -> the text that Prometheus reads.

A worker writes its own row only and from one thread, so no lock is needed; a replaced worker goes on with the row of the dead one,
so that no counter goes back.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

Labels = tuple[str, ...]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STATUSES = ("200", "400", "401", "404", "405", "413", "415", "429", "499", "500", "503")
"""499: the client went away before its answer."""


@dataclass(frozen=True)
class _Family:
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()


_FAMILIES: dict[str, _Family] = {
    "trtbert_requests_total": _Family("counter", "Requests by endpoint and HTTP status.", ("endpoint", "status")),
    "trtbert_request_seconds": _Family("histogram", "Time from the head of a request to its answer.", ("endpoint",)),
    "trtbert_requests_open": _Family("gauge", "Requests without an answer yet."),
    "trtbert_queue_tokens": _Family("gauge", "Tokens that wait for the engine."),
    "trtbert_wait_seconds": _Family("histogram", "Time that a text waits for the engine.", ("model",)),
    "trtbert_batches_total": _Family("counter", "Batches that the engine ran.", ("model",)),
    "trtbert_texts_total": _Family("counter", "Texts that the engine ran.", ("model",)),
    "trtbert_tokens_total": _Family("counter", "Tokens that the engine ran, without padding.", ("model",)),
    "trtbert_padding_tokens_total": _Family("counter", "Padding that the engine ran.", ("model",)),
    "trtbert_engine_seconds_total": _Family("counter", "Time that the engine was busy.", ("model",)),
    "trtbert_reloads_total": _Family("counter", "Reloads by SIGHUP.", ("result",)),
    "trtbert_worker_starts_total": _Family("counter", "Starts of worker processes: more than workers means that some died."),
    "trtbert_workers_ready": _Family("gauge", "Worker processes that answer."),
}


class Metrics:
    """Made before the workers are forked; each writes to its row, and any of them shows the sums."""

    def __init__(self, endpoints: Sequence[str], models: Sequence[str], num_workers: int) -> None:
        values = {"endpoint": endpoints, "status": STATUSES, "model": models, "result": ("done", "failed")}
        self._slots: dict[tuple[str, Labels], int] = {}
        size = 0
        for name, family in _FAMILIES.items():
            for labels in product(*(values[label] for label in family.labels)):
                self._slots[name, labels] = size
                size += len(_SECONDS) + 2 if family.kind == "histogram" else 1  # Buckets, the one above them, the sum.
        self._size = size
        self._num_workers = num_workers
        self._numbers: memoryview[float] = memoryview(mmap.mmap(-1, 8 * size * num_workers)).cast("d")

    def row(self, worker: int) -> "Row":
        first = worker * self._size
        return Row(self._slots, self._numbers[first : first + self._size])

    def text(self) -> str:
        """In the text format 0.0.4; a series that nothing happened to is left out, except gauges."""
        numbers = self._numbers.tolist()
        sums = [sum(numbers[slot :: self._size]) for slot in range(self._size)]
        return "".join(f"{line}\n" for name, family in _FAMILIES.items() for line in self._lines(name, family, sums))

    def _lines(self, name: str, family: _Family, sums: Sequence[float]) -> Iterator[str]:
        yield f"# HELP {name} {family.help}"
        yield f"# TYPE {name} {family.kind}"
        for (slot_name, values), slot in self._slots.items():
            if slot_name != name:
                continue
            labels = dict(zip(family.labels, values, strict=True))
            if family.kind == "histogram":
                yield from _histogram_lines(name, labels, sums[slot : slot + len(_SECONDS) + 2])
            elif family.kind == "gauge" or sums[slot]:
                yield f"{name}{_shown(labels)} {sums[slot]:.12g}"


class Row:
    """The numbers of one worker."""

    def __init__(self, slots: Mapping[tuple[str, Labels], int], numbers: "memoryview[float]") -> None:
        self._slots = slots
        self._numbers = numbers

    def add(self, name: str, *labels: str, value: float = 1) -> None:
        self._numbers[self._slots[name, labels]] += value

    def set(self, name: str, value: float) -> None:
        self._numbers[self._slots[name, ()]] = value

    def get(self, name: str) -> float:
        return float(self._numbers[self._slots[name, ()]])

    def observe(self, name: str, label: str, seconds: float) -> None:
        slot = self._slots[name, (label,)]
        self._numbers[slot + sum(seconds > bound for bound in _SECONDS)] += 1
        self._numbers[slot + len(_SECONDS) + 1] += seconds


def _histogram_lines(name: str, labels: Mapping[str, str], numbers: Sequence[float]) -> Iterator[str]:
    *counts, total = numbers
    if not any(counts):
        return
    cumulative = 0.0
    for bound, num in zip((*map(str, _SECONDS), "+Inf"), counts, strict=True):
        cumulative += num
        yield f"{name}_bucket{_shown({**labels, 'le': bound})} {cumulative:.12g}"
    yield f"{name}_sum{_shown(labels)} {total:.12g}"
    yield f"{name}_count{_shown(labels)} {cumulative:.12g}"


def _shown(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
