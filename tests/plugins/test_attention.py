"""FusedQkvAttention on padded batches, executed: types x lengths x heads x masks x biases."""

import numpy as np
import pytest

from tests.plugins.arrays import array
from tests.plugins.cases.attention import MASKS, AttentionCase, check, inputs
from tests.plugins.kernels import FLOAT_TYPES, Kernels

PRODUCTS = [(dtype, is_int8) for is_int8 in (False, True) for dtype in FLOAT_TYPES]
"""The type of the tensors, and whether they are multiplied in INT8."""
SHORT = (1, 15, 16, 17, 64, 128, 200)
LONG = (512, 1000)
HEAD_SIZES = tuple(range(8, 129, 8))
GROUPS = [(3, 1), (4, 2), (6, 2), (2, 2)]
"""Heads of queries, and of keys and values."""


@pytest.mark.parametrize("length", SHORT)
@pytest.mark.parametrize("bias_batch", [0, 1, len(MASKS)])
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_lengths_and_masks(kernels: Kernels, dtype: str, is_int8: bool, bias_batch: int, length: int) -> None:
    """Every mask, the one that keeps nothing included, is a row of one batch."""
    check(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, masks=tuple(MASKS), length=length, bias_batch=bias_batch, num_heads=1))


@pytest.mark.parametrize("length", LONG)
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_long_sequences(kernels: Kernels, dtype: str, is_int8: bool, length: int) -> None:
    check(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, masks=("none",), length=length, num_heads=1, head_size=32))
    check(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, masks=("blocks",), length=length, bias_batch=1, num_heads=1))


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_head_sizes(kernels: Kernels, dtype: str, is_int8: bool, head_size: int) -> None:
    for length in (17, 70):
        check(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, length=length, bias_batch=1, head_size=head_size))


@pytest.mark.parametrize("num_heads", [1, 3, 12])
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_numbers_of_heads(kernels: Kernels, dtype: str, is_int8: bool, num_heads: int) -> None:
    check(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, num_heads=num_heads, bias_batch=2, head_size=24))


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), GROUPS)
@pytest.mark.parametrize("head_size", [24, 64, 128])
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_shared_keys_and_values(kernels: Kernels, dtype: str, is_int8: bool, head_size: int, num_heads: int, num_kv_heads: int) -> None:
    """Also bit for bit as if they were repeated for every head of queries."""
    heads = {"num_heads": num_heads, "num_kv_heads": num_kv_heads, "head_size": head_size}
    case = AttentionCase(dtype=dtype, is_int8=is_int8, masks=("none", "holes", "all"), bias_batch=1, **heads)
    check(kernels, case)
    qkv, mask, bias = inputs(case)
    q, *shared = (qkv[..., columns] for columns in case.columns)
    by_head = (part.reshape(*part.shape[:2], num_kv_heads, head_size) for part in shared)
    repeated = [np.repeat(part, num_heads // num_kv_heads, axis=2).reshape(q.shape) for part in by_head]
    whole = array(np.concatenate([q, *repeated], -1), qkv.dtype)
    got = kernels.qkv_attention(qkv, mask, bias, **case.attributes)
    assert got.tobytes() == kernels.qkv_attention(whole, mask, bias, **case.attributes | {"num_kv_heads": 0}).tobytes()


@pytest.mark.parametrize("head_size", [16, 40, 64, 128])
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_int8_output(kernels: Kernels, dtype: str, is_int8: bool, head_size: int) -> None:
    case = AttentionCase(dtype=dtype, is_int8=is_int8, is_int8_out=True, masks=("none", "right", "all"), head_size=head_size, bias_batch=1)
    check(kernels, case)


@pytest.mark.parametrize("std", [0.0, 3.0, 30.0])
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_small_and_large_scores(kernels: Kernels, dtype: str, is_int8: bool, std: float) -> None:
    """Of all 0, where every key counts the same, and of thousands, where one key takes all."""
    if not (is_int8 and std > 3.0):  # INT8 of these scales ends at 4
        check(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, length=200, std=std))
