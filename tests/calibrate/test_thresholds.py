"""Thresholds: against plain loops over the same formula, and what they must do on data of known shape."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from trtbert.calibrate.thresholds import METHODS, Histogram, entropy, entropy_divergences, minmax, mse, percentile, squared_errors
from trtbert.errors import ConfigError

Floats = npt.NDArray[np.float64]


def histogram_of(values: Floats, num_bins: int = 2048) -> Histogram:
    """The arrays are read-only, so that a method that writes into its input raises."""
    magnitudes = np.abs(values)
    maximum = float(magnitudes.max())
    counts = np.histogram(magnitudes, num_bins, (0.0, maximum))[0].astype(np.int64)
    counts.flags.writeable = False
    return Histogram(counts, maximum / num_bins, maximum)


def histogram_with(counts: dict[int, int], num_bins: int, maximum: float | None = None) -> Histogram:
    """Bins of width 1, of which only `counts` are not empty; the maximum is the upper edge of the last of them if not given."""
    array = np.zeros(num_bins, np.int64)
    array[list(counts)] = list(counts.values())
    array.flags.writeable = False
    return Histogram(array, 1.0, max(counts) + 1.0 if maximum is None else maximum)


def laplace(num_values: int = 200_000) -> Floats:
    return np.random.default_rng(0).laplace(size=num_values)


def laplace_with_outliers(reach: float = 50.0, share: float = 1e-3) -> Floats:
    generator = np.random.default_rng(1)
    values = laplace()
    values[: int(values.size * share)] = generator.uniform(10.0, reach, int(values.size * share))
    return values


def gelu() -> Floats:
    x = 2 * np.random.default_rng(2).normal(size=100_000)
    cdf: Floats = (1 + np.array([math.erf(value / math.sqrt(2)) for value in x])) / 2
    return x * cdf


def mostly_zero() -> Floats:
    generator = np.random.default_rng(3)
    return np.where(generator.random(200_000) < 0.9, 0.0, generator.normal(size=200_000))


def uniform() -> Floats:
    return np.random.default_rng(4).uniform(-3.0, 3.0, 200_000)


def gaussian() -> Floats:
    return np.random.default_rng(5).normal(size=200_000)


def one_huge_value() -> Floats:
    return np.append(gaussian(), 200.0)


SHAPES: dict[str, Callable[[], Floats]] = {
    "laplace": laplace,
    "outliers": laplace_with_outliers,
    "gelu": gelu,
    "mostly zero": mostly_zero,
    "uniform": uniform,
    "gaussian": gaussian,
    "one huge value": one_huge_value,
    "few values": lambda: np.random.default_rng(6).normal(size=300),
    "one value": lambda: np.array([5.0]),
    "two values": lambda: np.repeat([0.0, 3.0, 10.0], [50, 95, 5]),
}


def naive_divergence(counts: list[int], end: int) -> float:
    """KL(P || Q) of one candidate, in plain loops; `counts` is what is left of the spike of zeros."""
    outliers = sum(counts[end:])
    p = [float(count) for count in counts[:end]]
    p[-1] += outliers
    if outliers and p[-1] > sum(p) / 2:
        return math.inf
    q = [0.0] * end
    for level in range(128):
        bins = [b for b in range(end * level // 128, min(end, end * (level + 1) // 128 + 1)) if b * 128 // end == level]
        occupied = [b for b in bins if counts[b] > 0]
        for b in occupied:
            q[b] = sum(counts[other] for other in bins) / len(occupied)
    p_total, q_total = sum(p), sum(q)
    terms = [(share / p_total, q[b] / q_total if q[b] > 0 else 1e-9) for b, share in enumerate(p) if share > 0]
    return math.fsum(p_b * math.log(p_b / q_b) for p_b, q_b in terms)


def naive_divergences(histogram: Histogram) -> list[float]:
    counts = histogram.counts.tolist()
    counts[0] = min(counts[0], counts[1])
    return [naive_divergence(counts, end) for end in range(128, len(counts) + 1)]


@pytest.mark.parametrize("num_bins", [128, 129, 255, 256, 300, 512])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_divergence_is_that_of_plain_loops(shape: str, num_bins: int) -> None:
    histogram = histogram_of(SHAPES[shape](), num_bins)
    expected = naive_divergences(histogram)
    assert len(expected) == num_bins - 127
    np.testing.assert_allclose(entropy_divergences(histogram), expected, rtol=1e-9, atol=1e-12)


def test_every_divergence_of_2048_bins() -> None:
    histogram = histogram_of(laplace_with_outliers())
    expected = naive_divergences(histogram)
    np.testing.assert_allclose(entropy_divergences(histogram), expected, rtol=1e-9, atol=1e-12)
    assert entropy(histogram) == (128 + expected.index(min(expected)) + 0.5) * histogram.bin_width


def test_a_divergence_worked_out_by_hand() -> None:
    histogram = histogram_with({0: 1, 1: 1, 128: 2, 129: 4}, num_bins=130)
    # i = 128: P = 1 1 0 ... 6 of 8 is more than half in the last bin. i = 129: level 0 is bins 0 and 1, P = 1 1 0 ... 6.
    # i = 130: levels 0 and 64 have two bins, P = Q.
    assert entropy_divergences(histogram).tolist() == [math.inf, math.inf, 0.0]
    histogram = histogram_with({0: 3, 1: 3, 128: 1, 129: 1}, num_bins=130)
    # i = 128: P = 3 3 0 ... 2 of 8, Q = 3 3 0 ... 0 of 6. i = 129: P the same with bin 128, Q = 3 3 0 ... 1 of 7.
    shares = [3 / 8, 3 / 8, 2 / 8]
    by_hand = [
        sum(p * math.log(p / q) for p, q in zip(shares, [3 / 6, 3 / 6, 1e-9], strict=True)),
        sum(p * math.log(p / q) for p, q in zip(shares, [3 / 7, 3 / 7, 1 / 7], strict=True)),
        0.0,
    ]
    assert entropy_divergences(histogram) == pytest.approx(by_hand, abs=1e-15)
    assert entropy(histogram) == 130.0


@pytest.mark.parametrize("reach", [50.0, 100.0, 1000.0])
def test_entropy_clips_outliers(reach: float) -> None:
    values = laplace_with_outliers(reach)
    threshold = entropy(histogram_of(values))
    assert 6.0 < threshold < 0.6 * np.abs(values).max()


def test_entropy_clips_one_huge_value_beyond_empty_bins() -> None:
    values = one_huge_value()
    histogram = histogram_of(values)
    assert not histogram.counts[127:-1].any()  # So that no candidate but the last ends in an occupied bin.
    assert np.abs(values[:-1]).max() < entropy(histogram) < 0.1 * 200.0


def test_entropy_keeps_what_is_uniform() -> None:
    assert entropy(histogram_of(uniform())) >= 0.95 * 3.0
    even = histogram_with(dict.fromkeys(range(2048), 100), num_bins=2048)
    assert entropy(even) == 2048.0


def test_zeros_in_plenty_do_not_move_the_threshold() -> None:
    values = gaussian()
    with_zeros = np.append(values, np.zeros(10 * values.size))
    expected = entropy(histogram_of(values))
    assert expected > 0.6 * np.abs(values).max()
    assert entropy(histogram_of(with_zeros)) == pytest.approx(expected, rel=0.02)
    assert mse(histogram_of(with_zeros)) == pytest.approx(mse(histogram_of(values)), rel=0.02)


def test_entropy_does_not_clip_at_the_smallest_value() -> None:
    """There P and Q are one bin each and KL is 0, though nearly everything is clipped."""
    assert entropy(histogram_of(SHAPES["two values"]())) == 10.0
    spike = 10.0 + 3e-3 * np.random.default_rng(7).normal(size=100_000)
    assert entropy(histogram_of(np.append(np.linspace(1.0, 9.0, 5), spike))) > 9.98


def test_the_threshold_is_in_the_middle_of_the_bin_after_the_best_candidate() -> None:
    histogram = histogram_of(laplace_with_outliers())
    best = 128 + int(entropy_divergences(histogram).argmin())
    assert 128 < best < 2048
    assert entropy(histogram) == (best + 0.5) * histogram.bin_width


@pytest.mark.parametrize("num_bins", [1, 2, 127, 128])
def test_entropy_of_too_few_bins_is_the_maximum(num_bins: int) -> None:
    values = laplace_with_outliers()
    assert entropy_divergences(histogram_of(values, num_bins)).size == max(0, num_bins - 127)
    assert entropy(histogram_of(values, num_bins)) == np.abs(values).max()


def test_bins_beyond_the_maximum_are_never_a_threshold() -> None:
    histogram = histogram_with(dict.fromkeys(range(600), 1000), num_bins=2048, maximum=599.25)
    assert entropy(histogram) == minmax(histogram) == percentile(histogram, 100) == 599.25
    assert 0.99 * 599.25 < percentile(histogram) < 599.25
    assert 0.99 * 599.25 < mse(histogram) <= 599.25


@pytest.mark.parametrize("method", METHODS)
def test_everything_in_bin_0_gives_no_more_than_the_maximum(method: str) -> None:
    histogram = histogram_with({0: 7}, num_bins=2048, maximum=0.5)
    assert METHODS[method](histogram) == pytest.approx(0.5, rel=1e-3)
    assert METHODS[method](histogram) <= 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("counts", [[], [0] * 2048, [9] + [0] * 2047])
def test_nothing_or_zeros_only_give_0(method: str, counts: list[int]) -> None:
    assert METHODS[method](Histogram(np.array(counts, np.int64), 0.0, 0.0)) == 0.0
    assert METHODS[method](Histogram(np.array(counts, np.int64), 1.0, 0.0)) == 0.0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_what_holds_for_every_method(method: str, shape: str) -> None:
    histogram = histogram_of(SHAPES[shape]())
    before = histogram.counts.tobytes()
    threshold = METHODS[method](histogram)
    assert type(threshold) is float
    assert 0.0 < threshold <= histogram.maximum
    assert histogram.counts.tobytes() == before
    scaled = Histogram(histogram.counts, histogram.bin_width * 8, histogram.maximum * 8)
    assert METHODS[method](scaled) == threshold * 8
    assert METHODS[method](Histogram(histogram.counts * 4, histogram.bin_width, histogram.maximum)) == threshold


def test_there_are_four_methods() -> None:
    assert list(METHODS.items()) == [("entropy", entropy), ("percentile", percentile), ("mse", mse), ("minmax", minmax)]


def test_minmax_is_the_maximum_itself() -> None:
    assert minmax(histogram_of(np.array([0.1, -0.7, 0.3]))) == 0.7


def test_percentile_is_linear_inside_a_bin() -> None:
    histogram = histogram_with({0: 50, 1: 40, 5: 10}, num_bins=8, maximum=5.5)
    assert percentile(histogram, 25) == 0.5
    assert percentile(histogram, 50) == 1.0
    assert percentile(histogram, 80) == pytest.approx(1.75)
    assert percentile(histogram, 90) == 2.0  # The upper edge of bin 1, and not any point of the gap above.
    assert percentile(histogram, 95) == pytest.approx(5.25)  # Bin 5 ends at the maximum.
    assert percentile(histogram, 100) == 5.5


@pytest.mark.parametrize("percent", [50.0, 99.0, 99.9, 99.99])
def test_percentile_is_that_of_the_values_but_for_a_bin(percent: float) -> None:
    values = laplace()
    histogram = histogram_of(values)
    expected = np.percentile(np.abs(values), percent, method="inverted_cdf")
    assert percentile(histogram, percent) == pytest.approx(expected, abs=histogram.bin_width)


@pytest.mark.parametrize("num_bins", [1, 3, 127, 2048])
def test_percentile_100_is_the_maximum_exactly(num_bins: int) -> None:
    for shape in SHAPES.values():
        histogram = histogram_of(shape(), num_bins)
        assert percentile(histogram, 100) == histogram.maximum


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1, math.nan])
def test_a_percentile_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ConfigError, match=r"percentile of .* does not exist; choose more than 0 and at most 100"):
        percentile(histogram_of(gaussian()), percent)


def naive_squared_error(histogram: Histogram, amax: float, num_levels: int) -> float:
    scale = amax / num_levels
    error = 0.0
    for index, count in enumerate(histogram.counts.tolist()):
        centre = 0.0 if index == 0 else min((index + 0.5) * histogram.bin_width, histogram.maximum)
        error += count * (centre - min(round(centre / scale), num_levels) * scale) ** 2
    return error


@pytest.mark.parametrize("num_levels", [7, 127])
@pytest.mark.parametrize("shape", SHAPES)
def test_mse_is_the_best_of_a_finer_search(shape: str, num_levels: int) -> None:
    histogram = histogram_of(SHAPES[shape](), 256)
    found = mse(histogram, num_levels)
    tried = np.linspace(0.05, 1.0, 400) * histogram.maximum
    errors = [naive_squared_error(histogram, amax, num_levels) for amax in tried]
    np.testing.assert_allclose(squared_errors(histogram, tried, num_levels), errors, rtol=1e-9, atol=1e-12)
    assert naive_squared_error(histogram, found, num_levels) <= 1.02 * min(errors) + 1e-12


def test_mse_clips_more_with_fewer_levels() -> None:
    histogram = histogram_of(laplace())
    thresholds = [mse(histogram, num_levels) for num_levels in (7, 31, 127)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < 0.5 * histogram.maximum
    # Of a Laplace distribution at 4 bits: 5.03 b, Banner et al. 2019, arXiv 1810.05723, with 16 levels where 7 + 7 + 1 are here.
    assert thresholds[0] == pytest.approx(5.03, rel=0.05)


def test_mse_keeps_what_is_uniform() -> None:
    assert mse(histogram_of(uniform())) >= 0.95 * 3.0
