"""The powers of two: exact, enough, and none where none is needed."""

import numpy as np
import pytest

from trtbert.precision.scaling import attention_exponents, gemm_exponents, product_exponents

LIMIT = 65504 / 4


def test_numbers_in_range_are_left_alone() -> None:
    found = gemm_exponents(10.0, np.array([0.5, 3.0, 0.0]), np.array([50.0, LIMIT, 0.0]), limit=LIMIT)
    assert (found.x, found.weight.tolist(), found.result.tolist()) == (0, [0, 0, 0], [0, 0, 0])


@pytest.mark.parametrize("x_peak", [1e-3, 1.0, 1e4, 1e6, 1e20])
@pytest.mark.parametrize("weight_peak", [1e-9, 1e-4, 0.05, 10.0, 1e5, 1e12])
@pytest.mark.parametrize("share", [1.0, 1e-3])
def test_all_three_stay_inside_the_range(x_peak: float, weight_peak: float, share: float) -> None:
    result_peak = 64 * x_peak * weight_peak * share
    found = gemm_exponents(x_peak, np.array([weight_peak]), np.array([result_peak]), limit=LIMIT)
    assert found.x + found.weight[0] == found.result[0]
    assert x_peak * 2.0**-found.x <= LIMIT
    assert 2.0**-13 <= weight_peak * 2.0 ** -found.weight[0] <= 2.0**14
    assert result_peak * 2.0 ** -found.result[0] <= LIMIT


def test_a_scaled_input_is_undone_by_the_weights() -> None:
    found = gemm_exponents(1e5, np.array([0.1, 0.2]), np.array([5.0, 9.0]), limit=LIMIT)
    assert found.x == 7
    assert found.weight.tolist() == [-7, -7]
    assert found.result.tolist() == [0, 0]


def test_each_column_gets_its_own() -> None:
    found = gemm_exponents(1.0, np.array([0.1, 1e5, 0.0]), np.array([1.0, 1e6, 0.0]), limit=LIMIT)
    assert found.x == 0
    assert found.result[0] == 0
    assert 1e6 * 2.0 ** -found.result[1] <= 1024


def test_a_product_shares_what_is_missing() -> None:
    assert product_exponents(5.0, 7.0, 300.0, limit=LIMIT, given=(0, 0)) == (0, 0)
    a, b = product_exponents(1e4, 1e4, 1e9, limit=LIMIT, given=(0, 0))
    assert abs(a - b) <= 1
    assert 1e9 * 2.0 ** -(a + b) <= 1024
    assert product_exponents(5.0, 7.0, 300.0, limit=LIMIT, given=(3, 0)) == (3, 0)


def test_scores_are_scaled_only_where_they_could_overflow() -> None:
    peaks = np.full((3, 2, 64), 40.0)  # q.k is below 102,400, scaled 12,800
    assert not attention_exponents(peaks, 0.125, limit=LIMIT)
    found = attention_exponents(peaks * 10, 0.125, limit=LIMIT)
    assert found.v == 0
    scale = 0.125 * 2.0 ** (found.q + found.k)
    assert 64 * 400.0**2 * 2.0 ** -(found.q + found.k) * min(1.0, 2.0 ** np.floor(np.log2(scale))) <= LIMIT
