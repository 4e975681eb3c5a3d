"""One case of FusedBiasGelu: random inputs through the kernel and through the reference."""

from dataclasses import dataclass

from tests.plugins.arrays import Array, Random
from tests.plugins.cases.scales import exact, normal_or_int8, scale
from tests.plugins.kernels import FLOAT_TYPES, Kernels
from tests.plugins.numerics import assert_exact, assert_exact_int8
from tests.plugins.terms import gelu_terms
from trtbert.ops import fused_bias_gelu

X_SCALE, Y_SCALE = scale(0.047), scale(0.023)


@dataclass(frozen=True, kw_only=True)
class GeluCase:
    dtype: str = "fp16"
    approximate: str = "none"
    is_int8_in: bool = False
    is_int8_out: bool = False
    rows: int = 3
    width: int = 128
    std: float = 3.0
    is_unaligned: bool = False


def check(kernels: Kernels, case: GeluCase) -> None:
    random, dtype = Random(case.width + case.rows, is_unaligned=case.is_unaligned), FLOAT_TYPES[case.dtype]
    x_scale = X_SCALE if case.is_int8_in else 0.0
    x = normal_or_int8(random, (case.rows, case.width), dtype, x_scale, std=case.std)
    check_inputs(kernels, x, random.normal((case.width,), dtype), case.approximate, x_scale, Y_SCALE if case.is_int8_out else 0.0)


def check_inputs(kernels: Kernels, x: Array, bias: Array, approximate: str, x_scale: float = 0.0, y_scale: float = 0.0) -> None:
    got = kernels.bias_gelu(x, bias, approximate=approximate, x_scale=x_scale, y_scale=y_scale)
    expected = fused_bias_gelu(x, bias, approximate=approximate, x_scale=x_scale)
    terms = gelu_terms(exact(x, x_scale), bias, approximate)
    if y_scale:
        assert_exact_int8(got, expected, y_scale, terms)
    else:
        assert got.dtype == bias.dtype
        assert_exact(got, expected, terms)
