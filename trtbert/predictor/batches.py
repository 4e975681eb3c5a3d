"""Lengths of texts -> batches of about equal lengths that the profiles of an engine take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trtbert.config import Profile

MAX_TOKENS_CPU = 1024
"""Most tokens of one batch, padding included. MiniLM on two cores: 600 short texts take 0.74 s, with 4096 tokens 1.02 s (caches)."""
MAX_TOKENS_GPU = 16384
"""The same for a GPU, which larger batches keep busy."""
BATCH_TOKENS_CPU = 24
"""What a batch costs besides its tokens, in tokens: weights are read and nodes are called once for all. Of MiniLM in INT8 on one core."""
BATCH_TOKENS_GPU = 512
"""The same for a GPU. On an H200 the launches alone take as long as 6,000 tokens of MiniLM; of larger models and smaller GPUs far less."""


@dataclass(frozen=True)
class Batch:
    """Which texts run together, the length in tokens they are padded to, and the rows to fill up to."""

    indices: tuple[int, ...]
    length: int
    num_rows: int


class Shape(NamedTuple):
    """Of one batch."""

    num_texts: int
    num_rows: int
    """With those that it is filled up with."""
    length: int


def plan_batches(
    lengths: Sequence[int], profiles: Sequence[Profile], *, max_tokens: int = MAX_TOKENS_CPU, min_length: int = 1
) -> list[Batch]:
    """Sort by length, longest first, and cut into batches of at most `max_tokens` padded tokens that fit a profile.

    A batch is padded to its longest text, or to `min_length`.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches = []
    while order:
        shape = first_shape(len(order), max(lengths[order[0]], min_length), profiles, max_tokens=max_tokens)
        indices, order = order[: shape.num_texts], order[shape.num_texts :]
        batches.append(Batch(tuple(indices), shape.length, shape.num_rows))
    return batches


def first_shape(num_texts: int, longest: int, profiles: Sequence[Profile], *, max_tokens: int = MAX_TOKENS_CPU) -> Shape:
    """Of the first batch of texts the longest of which has `longest` tokens."""
    profile = _choose_profile(longest, num_texts, profiles)
    length = max(longest, profile.seq_len.min if profile and profile.seq_len else 1)
    most = max(1, max_tokens // length)
    if profile is not None:
        most = min(profile.batch_size.max, max(most, profile.batch_size.min))
    num = min(num_texts, most)
    return Shape(num, max(num, profile.batch_size.min if profile else 1), length)


def longest_length(profiles: Sequence[Profile], max_length: int) -> int:
    """The longest text, in tokens, that the model and one of its profiles take."""
    return min(max_length, max((p.seq_len.max if p.seq_len else max_length for p in profiles), default=max_length))


def _choose_profile(length: int, num_texts: int, profiles: Sequence[Profile]) -> Profile | None:
    """Of the profiles that take the length, one that needs no filling up, with the largest batch; None for an engine without any."""
    fitting = [profile for profile in profiles if profile.seq_len is None or length <= profile.seq_len.max]
    return max(fitting, key=lambda p: (p.batch_size.min <= num_texts, p.batch_size.max), default=None)
