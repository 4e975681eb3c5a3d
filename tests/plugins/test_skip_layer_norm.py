"""FusedSkipLayerNorm, executed: types x widths x rows, awkward inputs, and what it refuses."""

import itertools

import numpy as np
import pytest

from tests.plugins.cases.skip_layer_norm import SkipCase, check, check_inputs, constant, inputs
from tests.plugins.kernels import FLOAT_TYPES, KernelError, Kernels

WIDTHS = (1, 31, 32, 33, 128, 384, 768, 1023, 1024, 4096, 5000)
ROWS = (0, 1, 7, 128)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("is_int8_out", [False, True])
@pytest.mark.parametrize("is_int8_in", [False, True])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_types_and_shapes(kernels: Kernels, dtype: str, is_int8_in: bool, is_int8_out: bool, width: int) -> None:
    for rows, has_bias in itertools.product(ROWS, (False, True)):
        check(kernels, SkipCase(dtype=dtype, is_int8_in=is_int8_in, is_int8_out=is_int8_out, rows=rows, width=width, has_bias=has_bias))


@pytest.mark.parametrize(("mean", "std"), [(1000.0, 1.0), (0.0, 12000.0), (0.0, 1e-3)])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("width", [33, 768, 1024, 5000])
def test_large_and_small_values(kernels: Kernels, width: int, dtype: str, mean: float, std: float) -> None:
    check(kernels, SkipCase(dtype=dtype, width=width, mean=mean, std=std, has_bias=False))


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1.0])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_epsilon(kernels: Kernels, dtype: str, epsilon: float) -> None:
    for std in (1.0, 2.0**-9):
        check(kernels, SkipCase(dtype=dtype, epsilon=epsilon, std=std, has_bias=False))


@pytest.mark.parametrize("value", [0.0, 1.0, 1000.0, -65504.0])
@pytest.mark.parametrize("width", [1, 33, 768, 1023, 5000])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_a_constant_row_is_beta(kernels: Kernels, dtype: str, width: int, value: float) -> None:
    arrays = constant(value, SkipCase(dtype=dtype, width=width))
    got = kernels.skip_layer_norm(*arrays, epsilon=1e-12)
    assert (got == arrays[3]).all()


@pytest.mark.parametrize("width", [128, 768, 4096])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_unaligned_tensors(kernels: Kernels, dtype: str, width: int) -> None:
    for is_int8_in, is_int8_out in itertools.product((False, True), repeat=2):
        check(kernels, SkipCase(dtype=dtype, is_int8_in=is_int8_in, is_int8_out=is_int8_out, width=width, is_unaligned=True))


@pytest.mark.parametrize("off", range(5))
def test_one_unaligned_tensor(kernels: Kernels, off: int) -> None:
    aligned, scales = inputs(SkipCase())
    unaligned, _ = inputs(SkipCase(is_unaligned=True))
    check_inputs(kernels, [*aligned[:off], unaligned[off], *aligned[off + 1 :]], scales, epsilon=1e-12)


@pytest.mark.parametrize("width", [33, 768, 5000])
def test_a_nan_stays_in_its_row(kernels: Kernels, width: int) -> None:
    arrays, _ = inputs(SkipCase(width=width, rows=6))
    arrays[0][2, width // 2] = np.nan
    got = kernels.skip_layer_norm(*arrays, epsilon=1e-12).astype(np.float32)
    assert np.isnan(got).any(axis=1).tolist() == [False, False, True, False, False, False] and np.isnan(got[2]).all()


@pytest.mark.parametrize(
    "wrong", [{"rows": -1}, {"width": 0}, {"x_scale": 0.1}, {"skip_scale": 0.1}, {"rows": 1 << 60}], ids=lambda wrong: next(iter(wrong))
)
def test_refused(kernels: Kernels, wrong: dict[str, float]) -> None:
    (x, skip, gamma, beta, _), _ = inputs(SkipCase())
    values = {"x": x, "skip": skip, "gamma": gamma, "beta": beta, "y": np.empty_like(x), "rows": 3, "width": 128, "epsilon": 1e-12}
    with pytest.raises(KernelError) as error:
        kernels.start("fused_skip_layer_norm", gamma.dtype, values | wrong)
    assert error.value.code == 1
