"""FusedPackedQkvAttention, executed: against its reference, and against the padded kernel."""

from typing import Any

import numpy as np
import pytest

from tests.plugins.arrays import array
from tests.plugins.cases.attention import AttentionCase, check_packed, inputs
from tests.plugins.kernels import KernelError, Kernels
from tests.plugins.test_attention import GROUPS, HEAD_SIZES, PRODUCTS

BATCHES = ((1,), (17, 64, 1), (0, 33, 0, 0, 70, 2, 0), (200,), (5,) * 20)


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_batches(kernels: Kernels, dtype: str, is_int8: bool, lengths: tuple[int, ...]) -> None:
    for is_int8_out in (False, True):
        check_packed(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, is_int8_out=is_int8_out, num_heads=3), lengths)


@pytest.mark.parametrize("head_size", HEAD_SIZES)
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_head_sizes(kernels: Kernels, dtype: str, is_int8: bool, head_size: int) -> None:
    check_packed(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, head_size=head_size), (40, 3))


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), GROUPS)
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_shared_keys_and_values(kernels: Kernels, dtype: str, is_int8: bool, num_heads: int, num_kv_heads: int) -> None:
    check_packed(kernels, AttentionCase(dtype=dtype, is_int8=is_int8, num_heads=num_heads, num_kv_heads=num_kv_heads), (33, 0, 70, 1))


@pytest.mark.parametrize("head_size", [16, 64, 128])
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_packed_is_padded_without_the_padding(kernels: Kernels, dtype: str, is_int8: bool, head_size: int) -> None:
    case = AttentionCase(dtype=dtype, is_int8=is_int8, masks=("none", "right", "right"), length=70, head_size=head_size)
    qkv, mask, _ = inputs(case)
    mask[2, 1:] = 0
    is_kept = mask != 0
    padded = kernels.qkv_attention(qkv, mask, **case.attributes)
    cu_seqlens = array([0, *np.cumsum(is_kept.sum(1))], np.int32)
    packed = kernels.packed_qkv_attention(array(qkv[is_kept], qkv.dtype), cu_seqlens, **case.attributes)
    assert packed.tobytes() == padded[is_kept].tobytes()


def test_nothing_to_do(kernels: Kernels) -> None:
    for cu_seqlens in ([0], [0, 0, 0]):
        got = kernels.packed_qkv_attention(
            np.empty((0, 48), np.float16), np.array(cu_seqlens, np.int32), num_heads=1, head_size=16, scale=1.0
        )
        assert got.shape == (0, 16)


def test_an_end_beyond_the_tokens_is_the_last_token(kernels: Kernels) -> None:
    """An engine's cu_seqlens come from a user: nothing outside qkv is read."""
    case = AttentionCase(length=20)
    qkv = inputs(case)[0][0]
    expected = kernels.packed_qkv_attention(qkv, array([0, 12, 20], np.int32), **case.attributes)
    got = kernels.packed_qkv_attention(qkv, array([0, 12, 99], np.int32), **case.attributes)
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("wrong", [{"mask": 1}, {"bias": 1}, {"tokens": -1}, {"tokens": 1 << 31}, {"batch": -1}], ids=str)
def test_refused(kernels: Kernels, wrong: dict[str, Any]) -> None:
    case = AttentionCase(length=20)
    qkv = inputs(case)[0][0]
    values = {"qkv": qkv, "cu_seqlens": np.array([0, 20], np.int32), "y": np.empty_like(qkv[:, :128]), "batch": 1, "tokens": 20}
    given = {name: array([value], np.int32) if name in ("mask", "bias") else value for name, value in wrong.items()}
    with pytest.raises(KernelError) as error:
        kernels.start("fused_qkv_attention", qkv.dtype, values | case.attributes | given)
    assert error.value.code == 1
