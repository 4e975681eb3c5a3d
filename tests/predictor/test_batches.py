"""Batches hold every text once, stay inside the engine's profiles, and give their results in the order of the texts."""

import random

import pytest

from trtbert.config import Profile, Range
from trtbert.predictor.batches import longest_length, plan_batches


def profile(batch: tuple[int, int], seq: tuple[int, int] | None) -> Profile:
    return Profile(
        batch_size=Range(min=batch[0], opt=batch[0], max=batch[1]),
        seq_len=None if seq is None else Range(min=seq[0], opt=seq[1], max=seq[1]),
    )


LATENCY, THROUGHPUT = profile((1, 1), (1, 512)), profile((4, 16), (8, 128))


@pytest.mark.parametrize("profiles", [(), (profile((1, 64), None),), (LATENCY,), (LATENCY, THROUGHPUT), (profile((8, 8), (512, 512)),)])
@pytest.mark.parametrize("num_texts", [0, 1, 3, 200])
def test_every_text_once_and_within_a_profile(profiles: tuple[Profile, ...], num_texts: int) -> None:
    rng = random.Random(num_texts)
    lengths = [rng.randint(1, 512) for _ in range(num_texts)]
    batches = plan_batches(lengths, profiles, max_tokens=1024)
    assert sorted(index for batch in batches for index in batch.indices) == list(range(num_texts))
    for batch in batches:
        assert max(lengths[index] for index in batch.indices) <= batch.length
        assert len(batch.indices) <= batch.num_rows
        assert not profiles or any(
            p.batch_size.min <= batch.num_rows <= p.batch_size.max and (p.seq_len is None or p.seq_len.min <= batch.length <= p.seq_len.max)
            for p in profiles
        )


def test_texts_of_like_length_run_together() -> None:
    batches = plan_batches([3, 500, 4, 510, 5], (), max_tokens=1024)
    assert [(batch.indices, batch.length) for batch in batches] == [((3, 1), 510), ((4, 2, 0), 5)]


def test_padding_counts() -> None:
    assert [len(batch.indices) for batch in plan_batches([10] * 25, (), max_tokens=100)] == [10, 10, 5]
    assert [len(batch.indices) for batch in plan_batches([10] * 2, (), max_tokens=5)] == [1, 1]


def test_a_batch_is_padded_to_the_length_that_is_asked_for() -> None:
    batches = plan_batches([10] * 25, (), max_tokens=100, min_length=20)
    assert [(len(batch.indices), batch.length) for batch in batches] == [(5, 20)] * 5
    assert [batch.length for batch in plan_batches([30], (), min_length=20)] == [30]


def test_one_text_takes_the_profile_that_needs_no_filling() -> None:
    assert [(batch.length, batch.num_rows) for batch in plan_batches([5], (LATENCY, THROUGHPUT))] == [(5, 1)]
    assert [(batch.length, batch.num_rows) for batch in plan_batches([5] * 17, (LATENCY, THROUGHPUT))] == [(8, 16), (5, 1)]


def test_the_longest_text_is_that_of_model_and_profiles() -> None:
    assert longest_length((), 512) == 512
    assert longest_length((THROUGHPUT,), 512) == 128
    assert longest_length((LATENCY, THROUGHPUT), 256) == 256
    assert longest_length((profile((1, 2), None), THROUGHPUT), 256) == 256
