"""FusedQkvAttention on awkward inputs: NaN in padding, infinite biases, large values, masks of other numbers, and what it refuses."""

from typing import Any

import numpy as np
import pytest

from tests.plugins.arrays import Array, array
from tests.plugins.cases.attention import INT8_SCALES, MASKS, AttentionCase, check_inputs, inputs
from tests.plugins.kernels import FLOAT_TYPES, KernelError, Kernels
from tests.plugins.test_attention import PRODUCTS


def parts(qkv: Array, case: AttentionCase) -> Array:
    """A view of qkv as [B,S,3,N,H]."""
    return qkv.reshape(*qkv.shape[:2], 3, case.num_heads, case.head_size)


@pytest.mark.parametrize("mask", [name for name in MASKS if name not in ("none", "all")])
@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_padding_is_never_read(kernels: Kernels, dtype: str, is_int8: bool, mask: str) -> None:
    """NaN in every token that is masked changes no bit of the others' results."""
    case = AttentionCase(dtype=dtype, is_int8=is_int8, masks=(mask,), length=70, bias_batch=1)
    qkv, mask_BS, bias = inputs(case)
    assert bias is not None
    expected = kernels.qkv_attention(qkv, mask_BS, bias, **case.attributes)
    is_kept = mask_BS[0] != 0
    qkv[:, ~is_kept] = np.nan
    bias[..., ~is_kept] = np.nan
    got = kernels.qkv_attention(qkv, mask_BS, bias, **case.attributes)
    assert got[:, is_kept].tobytes() == expected[:, is_kept].tobytes()


@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_minus_infinity_in_the_bias(kernels: Kernels, dtype: str, is_int8: bool) -> None:
    """A causal mask, and a query for which no key is left: its context is 0, as if all were masked."""
    case = AttentionCase(dtype=dtype, is_int8=is_int8, masks=("none", "right"), length=70, bias_batch=1)
    qkv, mask, bias = inputs(case)
    assert bias is not None
    bias[..., np.triu(np.ones((70, 70), bool), 1)] = -np.inf
    check_inputs(kernels, qkv, mask, bias, **case.attributes)
    bias[:, :, 5, :] = -np.inf
    got = kernels.qkv_attention(qkv, mask, bias, **case.attributes)
    assert (got[:, 5] == 0).all() and np.isfinite(got.astype(np.float32)).all()


@pytest.mark.parametrize("value", [-1e4, 1e4, -65504.0])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_large_biases(kernels: Kernels, dtype: str, value: float) -> None:
    """Half of the keys have one: none of the others counts, or only they do."""
    case = AttentionCase(dtype=dtype, length=70, bias_batch=1)
    qkv, mask, bias = inputs(case)
    assert bias is not None
    bias[..., ::2] = value
    check_inputs(kernels, qkv, mask, bias, **case.attributes)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_large_values(kernels: Kernels, dtype: str) -> None:
    """Of V near the largest of FP16: means of them are no larger."""
    case = AttentionCase(dtype=dtype, length=70)
    qkv, mask, _ = inputs(case)
    v = parts(qkv, case)[:, :, 2]
    v[...] = np.where(v > 0, 60000.0, -60000.0)
    check_inputs(kernels, qkv, mask, **case.attributes)


@pytest.mark.parametrize(("dtype", "is_int8"), PRODUCTS)
def test_equal_values(kernels: Kernels, dtype: str, is_int8: bool) -> None:
    """Weights of a row sum to 1: the mean of equal values is that value, but in INT8, where every weight is rounded."""
    case = AttentionCase(dtype=dtype, is_int8=is_int8, length=70)
    qkv, mask, _ = inputs(case)
    parts(qkv, case)[:, :, 2] = 2.0
    if is_int8:
        check_inputs(kernels, qkv, mask, **case.attributes)
    else:
        got = kernels.qkv_attention(qkv, mask, **case.attributes).astype(np.float64)
        assert np.allclose(got, 2.0, rtol=1e-6 if dtype == "fp32" else 0.0, atol=0.0)


def test_any_other_number_in_the_mask_is_1(kernels: Kernels) -> None:
    case = AttentionCase()
    qkv, mask, _ = inputs(case)
    expected = kernels.qkv_attention(qkv, mask, **case.attributes)
    for other in (-1, 2, np.iinfo(np.int32).min):
        assert kernels.qkv_attention(qkv, array(mask * other, np.int32), **case.attributes).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("batch", "length"), [(0, 16), (2, 0)])
def test_nothing_to_do(kernels: Kernels, batch: int, length: int) -> None:
    qkv, mask = np.empty((batch, length, 3 * 16), np.float16), np.empty((batch, length), np.int32)
    assert kernels.qkv_attention(qkv, mask, num_heads=1, head_size=16, scale=1.0).shape == (batch, length, 16)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"head_size": size} for size in (0, 4, 12, 136)),
        *({"num_heads": number} for number in (0, -1, 65536)),
        *({"num_kv_heads": number} for number in (0, -1, 3, 4)),
        {"batch": -1},
        {"length": -1},
        {"length": 1 << 31},
        {"batch": 1 << 60, "length": 1 << 20},
        {"mask": None},
        {"bias_batch": 3},
        *({name: 0.0} for name in INT8_SCALES),
    ],
    ids=str,
)
def test_refused(kernels: Kernels, wrong: dict[str, Any]) -> None:
    case = AttentionCase(is_int8=True, bias_batch=1)
    assert refusal(kernels, case, wrong) == 1


@pytest.mark.parametrize("name", ["qkv", "y"])
def test_tensors_off_16_bytes_are_refused(kernels: Kernels, name: str) -> None:
    memory = np.zeros(100_000, np.float16)
    start = -memory.ctypes.data % 16 // 2 + 1
    assert refusal(kernels, AttentionCase(), {name: memory[start:]}) == 1


@pytest.mark.parametrize(("dtype", "is_int8", "needed"), [("bf16", False, 80), ("fp16", True, 75), ("bf16", True, 75), ("fp32", True, 75)])
def test_old_gpus(kernels: Kernels, dtype: str, is_int8: bool, needed: int) -> None:
    case = AttentionCase(dtype=dtype, is_int8=is_int8)
    try:
        kernels.set_compute_capability(needed - 1)
        assert refusal(kernels, case, {}) == 801
        kernels.set_compute_capability(needed)
        kernels.qkv_attention(*inputs(case)[:2], **case.attributes)
    finally:
        kernels.set_compute_capability(90)


def refusal(kernels: Kernels, case: AttentionCase, wrong: dict[str, Any]) -> int:
    """The error for a case some of whose parameters are wrong."""
    qkv, mask, bias = inputs(case)
    y = np.empty((*qkv.shape[:2], case.num_heads * case.head_size), qkv.dtype)
    sizes = {"batch": qkv.shape[0], "length": qkv.shape[1], "bias_batch": case.bias_batch}
    values = {"qkv": qkv, "mask": mask, "bias": bias, "y": y} | sizes | case.attributes
    with pytest.raises(KernelError) as error:
        kernels.start("fused_qkv_attention", qkv.dtype, values | wrong)
    return error.value.code
