"""FusedBiasGelu, executed: types x widths x rows, tails, infinities, and what it refuses."""

import itertools

import numpy as np
import pytest

from tests.plugins.arrays import array
from tests.plugins.cases.bias_gelu import GeluCase, check, check_inputs
from tests.plugins.kernels import FLOAT_TYPES, KernelError, Kernels

WIDTHS = (1, 31, 32, 33, 128, 384, 768, 1023, 1024, 4096, 5000)
ROWS = (0, 1, 7)
FORMS = ("none", "tanh")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("is_int8_out", [False, True])
@pytest.mark.parametrize("is_int8_in", [False, True])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_types_and_shapes(kernels: Kernels, dtype: str, is_int8_in: bool, is_int8_out: bool, approximate: str, width: int) -> None:
    # 128 rows where the reference, which calls math.erf for each element, is quick.
    for rows in (*ROWS, *((128,) if width <= 384 else ())):
        case = GeluCase(dtype=dtype, approximate=approximate, is_int8_in=is_int8_in, is_int8_out=is_int8_out, rows=rows, width=width)
        check(kernels, case)


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_wide_and_many(kernels: Kernels, dtype: str, approximate: str) -> None:
    check(kernels, GeluCase(dtype=dtype, approximate=approximate, rows=128, width=1024))


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_unaligned_tensors(kernels: Kernels, dtype: str, approximate: str) -> None:
    for is_int8_in, is_int8_out in itertools.product((False, True), repeat=2):
        check(kernels, GeluCase(dtype=dtype, approximate=approximate, is_int8_in=is_int8_in, is_int8_out=is_int8_out, is_unaligned=True))


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_the_whole_range(kernels: Kernels, dtype: str, approximate: str) -> None:
    """From where all is tail to where nothing is, and large numbers."""
    x = np.concatenate([np.linspace(-20.0, 20.0, 4001), [0.0, -0.0, 65504.0, -65504.0, 1e-7, -1e-7]])[None]
    none = array(np.zeros(x.shape[1]), FLOAT_TYPES[dtype])
    check_inputs(kernels, array(x, FLOAT_TYPES[dtype]), none, approximate)


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_infinities_and_nan(kernels: Kernels, dtype: str, approximate: str) -> None:
    x = array([[np.inf, -np.inf, np.nan, 1.0]], FLOAT_TYPES[dtype])
    got = kernels.bias_gelu(x, array(np.zeros(4), x.dtype), approximate=approximate).astype(np.float32)
    assert np.isposinf(got[0, 0]) and got[0, 1] == 0.0 and np.isnan(got[0, 2]) and np.isfinite(got[0, 3])


@pytest.mark.parametrize("wrong", [{"rows": -1}, {"width": 0}, {"width": 1 << 60}], ids=str)
def test_refused(kernels: Kernels, wrong: dict[str, int]) -> None:
    x, bias = np.zeros((3, 8), np.float16), np.zeros(8, np.float16)
    values = {"x": x, "bias": bias, "y": np.empty_like(x), "rows": 3, "width": 8, "is_tanh": False}
    with pytest.raises(KernelError) as error:
        kernels.start("fused_bias_gelu", bias.dtype, values | wrong)
    assert error.value.code == 1
