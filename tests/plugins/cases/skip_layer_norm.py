"""One case of FusedSkipLayerNorm: random inputs through the kernel and through the reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.plugins.arrays import Array, Random, array
from tests.plugins.cases.scales import exact, normal_or_int8, scale
from tests.plugins.kernels import FLOAT_TYPES, Kernels
from tests.plugins.numerics import assert_exact, assert_exact_int8
from tests.plugins.terms import layer_norm_terms
from trtbert.ops import fused_skip_layer_norm

X_SCALE, SKIP_SCALE, Y_SCALE = scale(0.031), scale(0.017), scale(0.023)


@dataclass(frozen=True, kw_only=True)
class SkipCase:
    dtype: str = "fp16"
    is_int8_in: bool = False
    is_int8_out: bool = False
    rows: int = 3
    width: int = 128
    has_bias: bool = True
    epsilon: float = 1e-12
    mean: float = 0.0
    std: float = 1.0
    is_unaligned: bool = False


def inputs(case: SkipCase) -> tuple[list[Array], dict[str, Any]]:
    """x, skip, gamma, beta, bias (where there is one), and the scales."""
    random, dtype = Random(case.width + case.rows, is_unaligned=case.is_unaligned), FLOAT_TYPES[case.dtype]
    x_scale, skip_scale = (X_SCALE, SKIP_SCALE) if case.is_int8_in else (0.0, 0.0)
    shape = (case.rows, case.width)
    x = normal_or_int8(random, shape, dtype, x_scale, mean=case.mean, std=case.std)
    skip = normal_or_int8(random, shape, dtype, skip_scale, std=case.std)
    vectors = [random.normal((case.width,), dtype) for _ in range(3 if case.has_bias else 2)]
    return [x, skip, *vectors], {"x_scale": x_scale, "skip_scale": skip_scale}


def check(kernels: Kernels, case: SkipCase) -> None:
    arrays, scales = inputs(case)
    check_inputs(kernels, arrays, scales, epsilon=case.epsilon, y_scale=Y_SCALE if case.is_int8_out else 0.0)


def check_inputs(kernels: Kernels, arrays: list[Array], scales: dict[str, Any], *, epsilon: float, y_scale: float = 0.0) -> None:
    epsilon = scale(epsilon)
    got = kernels.skip_layer_norm(*arrays, epsilon=epsilon, y_scale=y_scale, **scales)
    expected = fused_skip_layer_norm(*arrays, epsilon=epsilon, **scales)
    x, skip, gamma, beta, *bias = arrays
    summands = [exact(x, scales["x_scale"]), *bias, exact(skip, scales["skip_scale"])]
    terms = layer_norm_terms(summands, gamma, beta, epsilon)
    if y_scale:
        assert_exact_int8(got, expected, y_scale, terms)
    else:
        assert got.dtype == gamma.dtype
        assert_exact(got, expected, terms)


def constant(value: float, case: SkipCase) -> list[Array]:
    """Rows that are `value` everywhere."""
    arrays, _ = inputs(case)
    x = array(np.full((case.rows, case.width), value), FLOAT_TYPES[case.dtype])
    return [x, array(np.zeros_like(x), x.dtype), *arrays[2:4]]
