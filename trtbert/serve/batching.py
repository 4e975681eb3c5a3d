"""Texts of many requests that wait for the engine -> batches of about equal lengths within the engine's token budget."""

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

_BATCH_TOKENS = 24
"""What a batch costs besides its tokens, in tokens: weights are read and nodes are called once for all."""

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

    @property
    def is_full(self) -> bool:
        return self.num_tokens >= self._max_tokens

    def put(self, ticket: Ticket, num_tokens: Sequence[int]) -> None:
        """`num_tokens` of each encoding; QueueFullError when they do not fit in with those that wait."""
        with self._changed:
            if self.num_tokens + sum(num_tokens) > self._max_tokens:
                raise QueueFullError
            for index, (encoding, num) in enumerate(zip(ticket.job.encodings, num_tokens, strict=True)):
                self._buckets.setdefault((ticket.model, bucket_end(len(encoding))), deque()).append(Item(ticket, index, num))
            ticket.waiting_tokens = sum(num_tokens)
            self.num_tokens += ticket.waiting_tokens
            self._changed.notify()

    def take(self) -> Batch | None:
        """The next batch, waiting for one; None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._buckets or self._is_closed)
            if not self._buckets:
                return None
            model, length = min(self._buckets, key=lambda key: self._buckets[key][0].ticket.number)
            lengths = self._run_together(model, length)
            num_waiting = sum(len(self._buckets[model, end]) for end in lengths)
            num_left = num_together(min(num_waiting, model.encoder.max_tokens // max(lengths) or 1))
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
                item.ticket.waiting_tokens -= item.num_tokens
                self.num_tokens -= item.num_tokens
            return Batch(model, items, longest)

    def _run_together(self, model: Model, length: int) -> list[int]:
        """The bucket of `length`, and those beside it that cost less as padding than as a batch of their own, if they fit in whole."""
        known = sorted(end for owner, end in self._buckets if owner is model)
        place = known.index(length)
        chosen, num, longest = [length], len(self._buckets[model, length]), length
        for end in (*reversed(known[:place]), *known[place + 1 :]):
            size = len(self._buckets[model, end])
            padding = (end - longest) * num if end > longest else (longest - end) * size
            if padding < _BATCH_TOKENS and max(end, longest) * (num + size) <= model.encoder.max_tokens:
                chosen.append(end)
                num, longest = num + size, max(end, longest)
        return chosen

    def remove(self, ticket: Ticket) -> None:
        """Take out what waits of a request that was given up."""
        with self._changed:
            if not ticket.waiting_tokens:
                return
            for key in [key for key in self._buckets if key[0] is ticket.model]:
                kept = deque(item for item in self._buckets[key] if item.ticket is not ticket)
                if kept:
                    self._buckets[key] = kept
                else:
                    del self._buckets[key]
            self.num_tokens -= ticket.waiting_tokens
            ticket.waiting_tokens = 0

    def close(self) -> None:
        """No more batches once what waits has run."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
