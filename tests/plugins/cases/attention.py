"""One case of FusedQkvAttention, padded or packed: random inputs through the kernel and through the reference."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tests.plugins.arrays import Array, Random, array
from tests.plugins.cases.scales import away_from_ties, scale
from tests.plugins.kernels import FLOAT_TYPES, Kernels
from tests.plugins.numerics import TENSOR_LIMIT, Terms, assert_exact, assert_exact_int8, tensor_roundings
from tests.plugins.terms import attention_terms, int8_attention_terms
from trtbert.ops import fused_packed_qkv_attention, fused_qkv_attention, qkv_columns

MASKS: dict[str, Callable[[int], Array]] = {
    "none": lambda length: np.ones(length),
    "right": lambda length: np.arange(length) < (length + 1) // 2,
    "left": lambda length: np.arange(length) >= length // 2,
    "holes": lambda length: np.arange(length) % 3 != 1,
    "blocks": lambda length: np.arange(length) // 32 % 2 == 1,  # whole blocks of keys of the kernels, the first among them
    "one": lambda length: np.arange(length) == length - 1,
    "all": lambda length: np.zeros(length),
}
INT8_SCALES = {"q_scale": scale(0.031), "k_scale": scale(0.029), "v_scale": scale(0.033), "probability_scale": scale(1 / 127)}
Y_SCALE = scale(0.013)


@dataclass(frozen=True, kw_only=True)
class AttentionCase:
    dtype: str = "fp16"
    is_int8: bool = False
    is_int8_out: bool = False
    masks: tuple[str, ...] = ("right", "holes")
    """One for each row of the batch."""
    length: int = 40
    bias_batch: int = 0
    """0: none."""
    num_heads: int = 2
    num_kv_heads: int = 0
    """0: as many as num_heads."""
    head_size: int = 64
    std: float = 1.0

    @property
    def attributes(self) -> dict[str, Any]:
        heads = {"num_heads": self.num_heads, "num_kv_heads": self.num_kv_heads or self.num_heads, "head_size": self.head_size}
        return heads | {"scale": scale(self.head_size**-0.5)} | (INT8_SCALES if self.is_int8 else {})

    @property
    def columns(self) -> tuple[slice, slice, slice]:
        return qkv_columns(self.num_heads, self.head_size, self.num_kv_heads)

    @property
    def y_scale(self) -> float:
        return Y_SCALE if self.is_int8_out else 0.0


def inputs(case: AttentionCase) -> tuple[Array, Array, Array | None]:
    """qkv [B,S,(N+2*G)*H], mask [B,S] and bias [1|B,N,S,S]."""
    random, dtype, batch = Random(case.length + case.head_size), FLOAT_TYPES[case.dtype], len(case.masks)
    qkv = random.normal((batch, case.length, case.columns[-1].stop), dtype, std=case.std)
    if case.is_int8:
        parts = zip(case.columns, INT8_SCALES.values(), strict=False)
        qkv = array(np.concatenate([away_from_ties(qkv[..., columns], s) for columns, s in parts], -1), dtype)
    mask = array(np.stack([MASKS[name](case.length) for name in case.masks]), np.int32)
    bias = random.normal((case.bias_batch, case.num_heads, case.length, case.length), dtype) if case.bias_batch else None
    return qkv, mask, bias


def check(kernels: Kernels, case: AttentionCase) -> None:
    check_inputs(kernels, *inputs(case), y_scale=case.y_scale, **case.attributes)


def check_inputs(kernels: Kernels, qkv: Array, mask: Array, bias: Array | None = None, *, y_scale: float = 0.0, **attributes: Any) -> None:
    got = kernels.qkv_attention(qkv, mask, bias, y_scale=y_scale, **attributes)
    expected, terms = fused_qkv_attention(qkv, mask, bias, **attributes), _terms(qkv, mask, bias, **attributes)
    _assert_right(got, expected, terms, y_scale, qkv.dtype, is_int8="q_scale" in attributes)
    nobody = np.broadcast_to(~(mask != 0).any(-1, keepdims=True)[..., None], got.shape)
    assert (got[nobody] == 0).all(), "a row that attends to nothing is not 0"


def check_packed(kernels: Kernels, case: AttentionCase, lengths: tuple[int, ...]) -> None:
    qkv, _, _ = inputs(AttentionCase(**vars(case) | {"masks": ("none",), "length": sum(lengths)}))
    cu_seqlens = array(np.cumsum([0, *lengths]), np.int32)
    got = kernels.packed_qkv_attention(qkv[0], cu_seqlens, y_scale=case.y_scale, **case.attributes)
    expected = fused_packed_qkv_attention(qkv[0], cu_seqlens, **case.attributes)
    sequences = [qkv[:, start:end] for start, end in pairwise(cu_seqlens) if start < end]
    errors = [_terms(one, np.ones(one.shape[:2]), None, **case.attributes).errors[0] for one in sequences]
    terms = Terms(np.zeros(()), np.concatenate([*errors, np.zeros((0, got.shape[1]))]))
    _assert_right(got, expected, terms, case.y_scale, qkv.dtype, is_int8=case.is_int8)


def _terms(qkv: Array, mask: Array, bias: Array | None, **attributes: Any) -> Terms:
    terms_of = int8_attention_terms if "q_scale" in attributes else attention_terms
    return terms_of(qkv, mask, bias, **attributes)


def _assert_right(got: Array, expected: Array, terms: Terms, y_scale: float, dtype: Any, *, is_int8: bool) -> None:
    if y_scale:
        assert_exact_int8(got, expected, y_scale, terms)
        return
    assert got.dtype == dtype
    assert_exact(got, expected, terms)
    if got.dtype != np.float32 and not is_int8:
        found = tensor_roundings(got, expected)
        assert found <= TENSOR_LIMIT, f"off by {found:.2f} roundings of {got.dtype}; allowed are {TENSOR_LIMIT}"
