"""Texts of many requests that wait for the engine -> batches of about equal lengths within the engine's token budget."""

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from tokenizers import Encoding

from trtbert.predictor import Job
from trtbert.serve.models import Model

_numbers = count()


@dataclass(eq=False)
class Ticket:
    """One request in the queue: its job, what was kept of the outputs so far, and what still waits."""

    model: Model
    job: Job
    kept: list[Any] = field(init=False)
    num_left: int = field(init=False)
    """Encodings that have not run yet."""
    waiting_tokens: int = 0
    number: int = field(default_factory=lambda: next(_numbers))
    put_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.kept = [None] * len(self.job.encodings)
        self.num_left = len(self.job.encodings)


class Item(NamedTuple):
    """One encoding of a ticket."""

    ticket: Ticket
    place: int
    num_tokens: int

    @property
    def encoding(self) -> Encoding:
        return self.ticket.job.encodings[self.place]

    @property
    def bucket(self) -> int:
        return bucket_end(len(self.encoding))


class Batch(NamedTuple):
    """What runs together: texts of one model, of one bucket and of few in those beside it."""

    model: Model
    items: Sequence[Item]
    length: int
    """That all are padded to: the end of the longest one's bucket."""


class QueueFullError(Exception):
    """The tokens that wait already leave no room."""


def bucket_end(length: int) -> int:
    """The upper end of the bucket of `length`, a multiple of 4 tokens: a text gets at most 3 of padding, from 64 on at most an eighth."""
    step = max(4, 1 << max(0, length.bit_length() - 4))
    return -(-max(1, length) // step) * step


def num_together(num: int) -> int:
    """How many of `num` waiting texts run together: the next power of two below, or one and a half times that.

    With the buckets this leaves few shapes: a runtime prepares, and keeps, something for each; one new to it costs OpenVINO as much as
    a hundred tokens.
    """
    power = 1 << (num.bit_length() - 1)
    more = power + power // 2
    return more if num >= more else power


def count_tokens(encoding: Encoding) -> int:
    """All tokens of a text, with those that were cut off: they take memory while they wait."""
    return len(encoding) + sum(map(len, encoding.overflowing))


class Queue:
    """Filled by the event loop, emptied by the engine's thread. Each bucket is first in, first out; the one whose first text waits longest
    is next, so that no text starves."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._buckets: dict[tuple[Model, int], deque[Item]] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self.num_tokens = 0
        self.num_to_run = 0
        """Tokens too, without those that are cut off, each text up to the end of its bucket."""

    @property
    def is_full(self) -> bool:
        return self.num_tokens >= self._max_tokens

    def put(self, ticket: Ticket, num_tokens: Sequence[int]) -> None:
        """`num_tokens` of each encoding; QueueFullError when they do not fit in with those that wait."""
        with self._changed:
            if self.num_tokens + sum(num_tokens) > self._max_tokens:
                raise QueueFullError
            for place, num in enumerate(num_tokens):
                item = Item(ticket, place, num)
                self._buckets.setdefault((ticket.model, item.bucket), deque()).append(item)
                self._count(item, +1)
            self._changed.notify()

    def take(self) -> Batch | None:
        """The next batch, waiting for one; None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._buckets or self._is_closed)
            if not self._buckets:
                return None
            model, length = min(self._buckets, key=lambda key: self._buckets[key][0].ticket.number)
            lengths = self._run_together(model, length)
            num_left = _num_to_take(model, sum(len(self._buckets[model, end]) for end in lengths), max(lengths))
            items, longest = list[Item](), 0
            for end in lengths:
                waiting = self._buckets[model, end]
                chosen = [waiting.popleft() for _ in range(min(len(waiting), num_left))]
                if chosen:
                    longest = max(longest, end)
                if not waiting:
                    del self._buckets[model, end]
                items += chosen
                num_left -= len(chosen)
            for item in items:
                self._count(item, -1)
            return Batch(model, items, longest)

    def _run_together(self, model: Model, length: int) -> list[int]:
        """The bucket of `length`, and those beside it that cost less with it than as a batch of their own, if they fit in whole."""
        known = sorted(end for owner, end in self._buckets if owner is model)
        place = known.index(length)
        chosen, num, longest = [length], len(self._buckets[model, length]), length
        for end in (*reversed(known[:place]), *known[place + 1 :]):
            size = len(self._buckets[model, end])
            together = _cost(model, num + size, max(end, longest))
            if together < _cost(model, num, longest) + _cost(model, size, end):
                chosen.append(end)
                num, longest = num + size, max(end, longest)
        return chosen

    def remove(self, ticket: Ticket) -> None:
        """Take out what waits of a request that was given up."""
        with self._changed:
            if not ticket.waiting_tokens:
                return
            for key in [key for key in self._buckets if key[0] is ticket.model]:
                waiting, kept = self._buckets.pop(key), deque[Item]()
                for item in waiting:
                    if item.ticket is ticket:
                        self._count(item, -1)
                    else:
                        kept.append(item)
                if kept:
                    self._buckets[key] = kept

    def close(self) -> None:
        """No more batches once what waits has run."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _count(self, item: Item, sign: int) -> None:
        item.ticket.waiting_tokens += sign * item.num_tokens
        self.num_tokens += sign * item.num_tokens
        self.num_to_run += sign * item.bucket


def _cost(model: Model, num: int, length: int) -> float:
    """In tokens; infinite for what does not fit in one batch."""
    shape = model.encoder.first_shape(num, length)
    return model.encoder.batch_tokens + shape.num_rows * shape.length if shape.num_texts == num else math.inf


def _num_to_take(model: Model, num: int, length: int) -> int:
    """Of `num` texts; all where an engine would fill the batch up anyway."""
    shape = model.encoder.first_shape(num, length)
    return num_together(shape.num_texts) if shape.num_texts == shape.num_rows else shape.num_texts
