"""One thread that runs batches from the queue, and hands each request its answers in the event loop."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trtbert.predictor import Job
from trtbert.serve.batching import Batch, Queue, QueueFullError, Ticket
from trtbert.serve.models import Model
from trtbert.serve.refusal import Refusal

log = logging.getLogger(__name__)

_FIRST_BATCHES = 10
"""That say little of the engine's speed: some runtimes prepare something for each new shape, for longer than it then runs."""


@dataclass(frozen=True)
class BatchFacts:
    """What the metrics are told of a batch."""

    model: str
    num_texts: int
    num_tokens: int
    num_padding: int
    seconds: float
    waited: Sequence[float]
    """Seconds that each of its texts waited."""


@dataclass
class _Outcome:
    """Requests that a batch finished, each with its answers or what went wrong."""

    answers: list[tuple[Ticket, list[Any]]] = field(default_factory=list)
    failures: dict[Ticket, Exception] = field(default_factory=dict)


class _Speed:
    """Tokens in a second: the mean of the first batches, then a running mean in which the last one counts as much as each of those did.

    Of batches beside which others waited: one that runs alone is small, and slow for its tokens.
    """

    def __init__(self) -> None:
        self._mean, self._num = 0.0, 0

    def note(self, num_tokens: int, seconds: float) -> None:
        self._num = min(self._num + 1, _FIRST_BATCHES)
        self._mean += (num_tokens / seconds - self._mean) / self._num

    @property
    def tokens_per_second(self) -> float:
        """Infinite until the first batches have run: nobody is refused for what nobody knows."""
        return math.inf if self._num < _FIRST_BATCHES else self._mean


class Engine:
    """Made, asked and told of results in the event loop; only `_work` runs in the thread."""

    def __init__(self, max_tokens: int, max_seconds: float, on_batch: Callable[[BatchFacts], None]) -> None:
        """At most `max_tokens` wait, and no more than run in `max_seconds`; `on_batch` is called after each batch."""
        self._queue = Queue(max_tokens)
        self._max_seconds = max_seconds
        self._on_batch = on_batch
        self._loop = asyncio.get_running_loop()
        self._futures: dict[Ticket, asyncio.Future[list[Any]]] = {}
        self._speed = _Speed()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting_tokens(self) -> int:
        return self._queue.num_tokens

    def check_room(self) -> None:
        """Raises Refusal 429 when nothing more can wait, or would for long: before a request costs anything."""
        if self._queue.is_full or self._wait() > self._max_seconds:
            raise self._overload()

    async def run(self, model: Model, job: Job, num_tokens: Sequence[int]) -> list[Any]:
        """The answers of a job; Refusal 429 when it does not fit in the queue. Cancelled, it takes out what has not run."""
        ticket = Ticket(model, job)
        future = self._futures[ticket] = self._loop.create_future()
        try:
            self._queue.put(ticket, num_tokens)
            answers: list[Any] = await future
        except QueueFullError:
            raise self._overload() from None
        finally:
            del self._futures[ticket]
            self._queue.remove(ticket)
        return answers

    async def close(self) -> None:
        """Wait for what is in the queue."""
        self._queue.close()
        await asyncio.to_thread(self._thread.join)

    def _overload(self) -> Refusal:
        return Refusal(429, "The server is overloaded; ask again later.", retry_after=min(60, max(1, math.ceil(self._wait()))))

    def _wait(self) -> float:
        """Seconds that what is in the queue takes."""
        return self._queue.num_to_run / self._speed.tokens_per_second

    def _work(self) -> None:
        while (batch := self._queue.take()) is not None:
            started, is_alone = time.monotonic(), self._queue.num_to_run == 0
            outcome = _run(batch)
            facts = _facts(batch, started)
            self._loop.call_soon_threadsafe(self._deliver, outcome, facts, is_alone)
            del batch, outcome  # Else what they hold lives until the next request.

    def _deliver(self, outcome: _Outcome, facts: BatchFacts, is_alone: bool) -> None:
        if not is_alone:
            self._speed.note(facts.num_tokens + facts.num_padding, facts.seconds)
        for ticket, answers in outcome.answers:
            future = self._futures.get(ticket)
            if future is not None and not future.done():
                future.set_result(answers)
        for ticket, error in outcome.failures.items():
            future = self._futures.get(ticket)
            if future is not None and not future.done():
                future.set_exception(error)
        self._on_batch(facts)


def _run(batch: Batch) -> _Outcome:
    outcome = _Outcome()
    try:
        for row, outputs in batch.model.encoder.rows([item.encoding for item in batch.items], min_length=batch.length):
            ticket, place, _ = batch.items[row]
            try:
                ticket.kept[place] = ticket.job.take(place, outputs)
                ticket.num_left -= 1
                if ticket.num_left == 0:
                    outcome.answers.append((ticket, ticket.job.finish(ticket.kept)))
            except Exception as error:  # One request's answers cannot be made: the others get theirs.
                outcome.failures[ticket] = error
    except Exception as error:  # The runtime failed: the server goes on, every request of the batch hears of it.
        outcome.failures.update((item.ticket, error) for item in batch.items)
    return outcome


def _facts(batch: Batch, started: float) -> BatchFacts:
    lengths = [len(item.encoding) for item in batch.items]
    planned = batch.model.encoder.plan(lengths, min_length=batch.length)
    return BatchFacts(
        model=batch.model.name,
        num_texts=len(lengths),
        num_tokens=sum(lengths),
        num_padding=sum(part.num_rows * part.length for part in planned) - sum(lengths),
        seconds=max(time.monotonic() - started, 1e-6),
        waited=[started - item.ticket.put_at for item in batch.items],
    )
