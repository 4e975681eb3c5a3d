"""LayerNorm is more accurate than the kernel that it replaces, also where rows have a large mean."""

import pytest

from plugins.tools.kernel_accuracy.comparison import MEANS, WIDTHS, compare
from tests.plugins.kernels import Kernels


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_layer_norm_is_more_accurate_than_the_replaced_kernel(kernels: Kernels, dtype: str, width: int, mean: float) -> None:
    found = compare(kernels, dtype, width, mean)
    assert found.ours < found.replaced / 1.5
    if mean >= 10.0:
        assert found.ours < found.replaced / 50.0


@pytest.mark.parametrize("width", WIDTHS)
def test_fp16_does_not_lose_accuracy_to_the_mean(kernels: Kernels, width: int) -> None:
    errors = [compare(kernels, "fp16", width, mean).ours for mean in MEANS]
    assert max(errors) < 2.0**-8  # the spacing of FP16 between 4 and 8
