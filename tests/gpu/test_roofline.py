"""The arithmetic of the roofline."""

from typing import Any

import pytest

from tests.gpu import benchmarks

roofline = benchmarks.load("roofline")
T4: dict[str, Any] = {
    "name": "Tesla T4",
    "compute_capability": 75,
    "num_multiprocessors": 40,
    "clock_hz": 1.59e9,
    "bytes_per_second": 250e9,
}


@pytest.mark.parametrize(
    ("name", "capability", "multiprocessors", "clock", "dtype", "tera"),
    [
        ("Tesla V100-SXM2", 70, 80, 1.53e9, "fp16", 125),
        ("Tesla T4", 75, 40, 1.59e9, "fp16", 65),
        ("Tesla T4", 75, 40, 1.59e9, "int8", 130),
        ("Tesla T4", 75, 40, 1.59e9, "fp32", 8.1),
        ("NVIDIA A100", 80, 108, 1.41e9, "bf16", 312),
        ("NVIDIA A40", 86, 84, 1.74e9, "fp16", 149.7),
        ("NVIDIA L4", 89, 58, 2.04e9, "int8", 242),
        ("NVIDIA GeForce RTX 4090", 89, 128, 2.52e9, "fp16", 165.2),
        ("NVIDIA H100 SXM", 90, 132, 1.83e9, "fp16", 989),
    ],
)
def test_the_peaks_are_those_of_the_data_sheets(
    name: str, capability: int, multiprocessors: int, clock: float, dtype: str, tera: float
) -> None:
    card = roofline.Card(
        name=name, compute_capability=capability, num_multiprocessors=multiprocessors, clock_hz=clock, bytes_per_second=1e12
    )
    assert card.ops_per_second(dtype) == pytest.approx(tera * 1e12, rel=0.02)


def test_a_card_that_is_in_no_table_has_no_peak() -> None:
    card = roofline.Card(**T4 | {"compute_capability": 130})
    assert card.ops_per_second("fp16") is None and roofline.Card(**T4).ops_per_second("bf16") is None
    verdict = roofline.judge(roofline.Work(num_bytes=1000, num_ops=10**9, dtype="fp16"), card, 1e-6)
    assert verdict.bound == "memory"


def test_the_nearer_roof_decides() -> None:
    card = roofline.Card(**T4)
    memory = roofline.judge(roofline.Work(num_bytes=250_000_000), card, 2e-3)
    assert (memory.bound, memory.share, memory.bytes_per_second) == ("memory", pytest.approx(0.5), pytest.approx(125e9))
    peak = card.ops_per_second("fp16")
    compute = roofline.judge(roofline.Work(num_bytes=1000, num_ops=int(peak / 1000), dtype="fp16"), card, 4e-3)
    assert (compute.bound, compute.share, compute.ops_per_second) == ("compute", pytest.approx(0.25), pytest.approx(peak / 4))


def test_bytes_and_operations() -> None:
    assert roofline.bias_gelu(10, 8, 2, 2).num_bytes == 10 * 8 * 2 * 2 + 8 * 2
    assert roofline.bias_gelu(10, 8, 2, 1).num_bytes == 10 * 8 * 3 + 8 * 2
    assert roofline.skip_layer_norm(10, 8, 2, 1).num_bytes == 10 * 8 * 5 + 3 * 8 * 2
    embedding = roofline.embed_layer_norm(2, 5, 8, 2, 2, num_words=7)
    assert embedding.num_bytes == (7 + 5 + 2) * 8 * 2 + 2 * 8 * 2 + (2 * 10 + 5) * 4 + 10 * 8 * 2
    padded = roofline.attention([3, 5], 2, 8, 2, 2, dtype="fp16", num_rows=10)
    assert padded.num_bytes == 3 * 8 * 16 * 2 + 10 * 16 * 2 + 10 * 4
    assert padded.num_ops == 4 * (9 + 25) * 16 and padded.dtype == "fp16"
    packed = roofline.attention([3, 5], 2, 8, 2, 2, dtype="fp16")
    assert packed.num_bytes == 4 * 8 * 16 * 2 + 3 * 4 and packed.num_ops == padded.num_ops
