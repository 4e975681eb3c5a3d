"""FusedQkvAttention on padded batches, executed: types x lengths x heads x masks x biases."""

import pytest

from tests.plugins.cases.attention import MASKS, AttentionCase, check
from tests.plugins.kernels import FLOAT_TYPES, Kernels

PRODUCTS = [(dtype, is_int8) for is_int8 in (False, True) for dtype in FLOAT_TYPES]
"""The type of the tensors, and whether they are multiplied in INT8."""
SHORT = (1, 15, 16, 17, 64, 128, 200)
LONG = (512, 1000)
HEAD_SIZES = tuple(range(8, 129, 8))


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
