"""Bytes and operations that a kernel cannot do without, and a card's speed -> the shortest time it can take, and how near it comes.

Legend: rows = batch x length. A tensor counts once, however often a kernel reads it; `size` is the bytes of an element.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TENSOR_OPS_PER_CLOCK = {
    70: {"fp16": 1024},
    75: {"fp16": 1024, "int8": 2048},
    80: {"fp16": 2048, "bf16": 2048, "int8": 4096},
    86: {"fp16": 1024, "bf16": 1024, "int8": 2048},
    89: {"fp16": 1024, "bf16": 1024, "int8": 2048},
    90: {"fp16": 4096, "bf16": 4096, "int8": 8192},
    100: {"fp16": 8192, "bf16": 8192, "int8": 16384},
    120: {"fp16": 1024, "bf16": 1024, "int8": 2048},
}
"""Dense, of one multiprocessor, an addition and a multiplication counted as two: NVIDIA's data sheets divided by clock and SMs."""
FLOAT_OPS_PER_CLOCK = {70: 128, 75: 128, 80: 128, 86: 256, 89: 256, 90: 256, 100: 256, 120: 256}
"""The same without tensor cores, of FP32."""
GEFORCE_SHARE = 0.5
"""GeForce cards since Turing add up FP16 and BF16 products in FP32 at half the rate."""


@dataclass(frozen=True, kw_only=True)
class Card:
    name: str
    compute_capability: int
    num_multiprocessors: int
    clock_hz: float
    """The highest that it says of itself: under load it may be lower."""
    bytes_per_second: float
    """Measured: a copy within its memory, read and written bytes."""

    def ops_per_second(self, dtype: str) -> float | None:
        """The most operations on `dtype`; None for a card that is not in the tables."""
        per_clock: float | None = FLOAT_OPS_PER_CLOCK.get(self.compute_capability)
        if dtype != "fp32":
            per_clock = TENSOR_OPS_PER_CLOCK.get(self.compute_capability, {}).get(dtype)
        if per_clock is None:
            return None
        is_halved = "GeForce" in self.name and self.compute_capability >= 75 and dtype in ("fp16", "bf16")
        return per_clock * self.num_multiprocessors * self.clock_hz * (GEFORCE_SHARE if is_halved else 1)


@dataclass(frozen=True, kw_only=True)
class Work:
    num_bytes: int
    """To read and to write, at the least."""
    num_ops: int = 0
    """Of matrix products; what is done for each element hides behind the memory."""
    dtype: str = "fp32"
    """Of the factors of those products."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    bytes_per_second: float
    ops_per_second: float
    bound: str
    """What the card runs out of first: memory or compute."""
    share: float
    """Of the shortest possible time in the measured one: 1 is the roof."""


def judge(work: Work, card: Card, seconds: float) -> Verdict:
    """How near `seconds` come to the roof of the card."""
    peak = card.ops_per_second(work.dtype)
    memory = work.num_bytes / card.bytes_per_second
    compute = work.num_ops / peak if peak else 0.0
    return Verdict(
        bytes_per_second=work.num_bytes / seconds,
        ops_per_second=work.num_ops / seconds,
        bound="memory" if memory >= compute else "compute",
        share=max(memory, compute) / seconds,
    )


def bias_gelu(rows: int, width: int, size: int, y_size: int) -> Work:
    """x in, y out, and the bias."""
    return Work(num_bytes=(rows * (size + y_size) + size) * width)


def skip_layer_norm(rows: int, width: int, size: int, y_size: int) -> Work:
    """x and skip in, y out; gamma, beta and the bias."""
    return Work(num_bytes=(rows * (2 * size + y_size) + 3 * size) * width)


def embed_layer_norm(batch: int, length: int, width: int, size: int, y_size: int, *, num_words: int) -> Work:
    """`num_words` different rows of the word table, a position for each place, two token types, y; gamma, beta, int32 ids."""
    rows = batch * length
    tables, ids = (num_words + length + 2 + 2) * width * size, (2 * rows + length) * 4
    return Work(num_bytes=tables + ids + rows * width * y_size)


def attention(
    lengths: Sequence[int], num_heads: int, head_size: int, size: int, y_size: int, *, dtype: str, num_rows: int | None = None
) -> Work:
    """Q, K and V of every token in; the mask in and y out, of `num_rows` rows with the padding, or of the tokens alone where packed."""
    width, tokens = num_heads * head_size, sum(lengths)
    mask = 4 * (len(lengths) + 1 if num_rows is None else num_rows)
    num_bytes = (3 * tokens * size + (num_rows or tokens) * y_size) * width + mask
    return Work(num_bytes=num_bytes, num_ops=sum(4 * length * length * width for length in lengths), dtype=dtype)
