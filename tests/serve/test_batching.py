"""The queue: buckets, the token budget, whose turn it is, and what is given up."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from trtbert.config import Profile, Range
from trtbert.predictor import Job
from trtbert.predictor.batches import Shape, first_shape
from trtbert.serve.batching import Batch, Queue, QueueFullError, Ticket, bucket_end, num_together


class Encoding(list[int]):
    """As long as a text; nothing was cut off."""

    overflowing: tuple[Any, ...] = ()


def ticket(model: Any, *lengths: int) -> Ticket:
    return Ticket(model, Job([Encoding(range(length)) for length in lengths], lambda index, row: None))  # type: ignore[arg-type]


def put(queue: Queue, model: Any, *lengths: int) -> Ticket:
    made = ticket(model, *lengths)
    queue.put(made, lengths)
    return made


def lengths(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [len(item.encoding) for item in batch.items]


@dataclass(eq=False)
class Model:
    """With a token budget, and the profile of an engine."""

    max_tokens: int = 64
    profiles: Sequence[Profile] = ()
    batch_tokens: int = 24

    @property
    def encoder(self) -> "Model":
        return self

    def first_shape(self, num_texts: int, length: int) -> Shape:
        return first_shape(num_texts, length, self.profiles, max_tokens=self.max_tokens)


@pytest.fixture
def model() -> Model:
    return Model()


def test_a_bucket_pads_little() -> None:
    for length in range(1, 600):
        end = bucket_end(length)
        assert length <= end == bucket_end(end)
        assert end - length <= max(3, length / 8)


def test_few_numbers_of_texts_run_together() -> None:
    """So that the shapes a runtime prepares for are few; more than two thirds of what waits runs."""
    numbers = [num_together(num) for num in range(1, 200)]
    assert sorted(set(numbers)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192]
    assert all(2 / 3 * num < together <= num for num, together in enumerate(numbers, start=1))


def test_like_lengths_run_together_within_the_budget(model: Any) -> None:
    queue = Queue(1000)
    put(queue, model, 8, 30, 7, 6, 32)
    put(queue, model, *[5] * 8)
    batches = [queue.take() for _ in range(3)]
    assert [lengths(batch) for batch in batches] == [[8, 7, 6, 5, 5, 5, 5, 5], [30, 32], [5, 5, 5]]
    assert [batch.length for batch in batches if batch] == [8, 32, 8]
    assert queue.num_tokens == 0


def test_what_is_too_many_to_run_together_keeps_its_turn() -> None:
    queue, model = Queue(1000), Model(1000)
    put(queue, model, 8, 7, 30, 6, 5, 5)  # Five like the first: four run.
    batches = [queue.take() for _ in range(3)]
    assert [lengths(batch) for batch in batches] == [[8, 7, 6, 5], [5], [30]]
    assert queue.num_tokens == 0


def test_few_texts_run_with_their_neighbours() -> None:
    """Where their padding costs less than a batch of their own; many do not, and a budget is kept."""
    queue, model, small = Queue(10000), Model(1000), Model(60)
    for owner in (model, small):
        put(queue, owner, 20, 15, 23, 200, *[8] * 4)
    batches = [queue.take() for _ in range(7)]
    assert [lengths(batch) for batch in batches[:3]] == [[20, 15, 23], [200], [8] * 4]
    assert [lengths(batch) for batch in batches[3:]] == [[20, 15], [23], [200], [8] * 4]
    assert [batch.length for batch in batches if batch] == [24, 208, 8, 20, 24, 208, 8]
    assert queue.num_tokens == 0


def test_an_engine_of_one_shape_is_filled_up() -> None:
    """What costs the same runs together, as many as one run of the engine takes."""
    profile = Profile(batch_size=Range(min=8, opt=8, max=8), seq_len=Range(min=128, opt=128, max=128))
    queue, model = Queue(10000), Model(16384, [profile])
    put(queue, model, 4, 100, 30, 60, 5, 128, 17, 90, 44, 3, 71)
    batches = [queue.take(), queue.take()]
    assert [len(lengths(batch)) for batch in batches] == [8, 3] and queue.num_tokens == 0


def test_a_batch_is_one_run_of_the_engine() -> None:
    queue, model = Queue(10000), Model(16384, [Profile(batch_size=Range(min=1, opt=8, max=16))])
    put(queue, model, *[8] * 40)
    assert [len(lengths(queue.take())) for _ in range(3)] == [16, 16, 8]


def test_where_a_batch_costs_much_more_run_together() -> None:
    queue, model = Queue(10000), Model(16384, batch_tokens=512)
    put(queue, model, 8, 30, 60)
    assert lengths(queue.take()) == [8, 30, 60]


def test_a_text_longer_than_the_budget_runs_alone(model: Any) -> None:
    queue = Queue(1000)
    put(queue, model, 100, 100)
    assert lengths(queue.take()) == [100] and lengths(queue.take()) == [100]


def test_the_longest_wait_is_next(model: Any) -> None:
    queue = Queue(10000)
    put(queue, model, 60)
    for _ in range(100):
        put(queue, model, 8)
    assert lengths(queue.take()) == [60]


def test_a_model_that_a_reload_replaced_is_let_go() -> None:
    queue, model = Queue(1000), Model()
    put(queue, model, 8, 30)
    queue.take(), queue.take()
    kept = weakref.ref(model)
    del model
    gc.collect()
    assert kept() is None


def test_models_do_not_mix(model: Any) -> None:
    queue, other = Queue(1000), Model()
    put(queue, model, 8)
    put(queue, other, 8)
    first, second = queue.take(), queue.take()
    assert first and second and (first.model, second.model) == (model, other)


def test_a_full_queue_refuses_and_recovers(model: Any) -> None:
    queue = Queue(20)
    put(queue, model, 8, 8)
    with pytest.raises(QueueFullError):
        put(queue, model, 5)
    put(queue, model, 4)
    assert queue.is_full
    queue.take()
    assert not queue.is_full


def test_what_is_given_up_makes_room(model: Any) -> None:
    queue = Queue(1000)
    gone, stays = put(queue, model, 8, 40), put(queue, model, 8)
    assert queue.num_tokens == 56 and queue.num_to_run == 56
    queue.remove(gone)
    assert queue.num_tokens == 8 and queue.num_to_run == 8
    batch = queue.take()
    assert batch and [item.ticket for item in batch.items] == [stays]
    queue.close()
    assert queue.take() is None


def test_a_closed_queue_is_emptied_first(model: Any) -> None:
    queue = Queue(1000)
    put(queue, model, 8)
    queue.close()
    assert lengths(queue.take()) == [8] and queue.take() is None
