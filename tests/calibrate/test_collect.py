"""What is collected of a tensor is what numpy finds in all its rows at once, whatever the batches and their padding.

Legend: B batch, S sequence, K columns, R rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.calibrate.graphs import Graph, all_rows
from trtbert.calibrate.collect import NUM_BINS, NUM_ROWS, Feeds, Statistics, Tensor, collect
from trtbert.calibrate.thresholds import METHODS
from trtbert.errors import UnsupportedError

Array = npt.NDArray[Any]
WIDTHS = (1, 7, 33)


def of_table(table_VK: Array, batches: Sequence[Feeds], columns: tuple[int, int] | None = None) -> Statistics:
    graph = Graph(table_VK)
    model = graph.model(graph.node("y", "Identity", graph.x))
    return collect(model, [Tensor("found", "x", columns)], lambda: batches)["found"]


def split(table_VK: Array, size: int = 1) -> list[Feeds]:
    """Texts of one token, `size` of them in a batch, in the order of the table."""
    ids = np.arange(len(table_VK), dtype=np.int32)[:, None]
    return [{"input_ids": part, "attention_mask": np.ones_like(part)} for part in np.split(ids, range(size, len(ids), size))]


def laplace(num_rows: int, width: int) -> Array:
    return np.random.default_rng(width).laplace(size=(num_rows, width)).astype(np.float32)


def assert_same_histogram(found: Statistics, expected: Statistics) -> None:
    assert found.histogram.bin_width == expected.histogram.bin_width
    assert found.histogram.counts.tolist() == expected.histogram.counts.tolist()
    assert found.histogram.maximum == expected.histogram.maximum


@pytest.mark.parametrize("width", WIDTHS)
def test_counts_are_those_of_numpy(width: int) -> None:
    table_VK = laplace(301, width)
    histogram = of_table(table_VK, [all_rows(301, 7)]).histogram
    assert NUM_BINS // 2 <= len(histogram.counts) <= NUM_BINS
    edges = np.arange(len(histogram.counts) + 1) * histogram.bin_width
    assert histogram.counts.tolist() == np.histogram(np.abs(table_VK.astype(np.float64)), edges)[0].tolist()
    assert histogram.counts.sum() == table_VK.size
    assert histogram.maximum == np.abs(table_VK).max()


@pytest.mark.parametrize("value", [1.0, 0.75, 3.0, 65504.0])
def test_a_maximum_on_an_edge_of_the_bins_is_counted(value: float) -> None:
    table_VK = np.full((5, 3), value)
    histogram = of_table(table_VK, [all_rows(5)]).histogram
    assert histogram.counts.sum() == 15
    for method in METHODS.values():
        assert method(histogram) == pytest.approx(value, rel=2e-3)


def test_no_number_of_a_16_bit_checkpoint_is_lost() -> None:
    table_VK = laplace(100, 33).astype(np.float16)
    assert of_table(table_VK, [all_rows(100)]).histogram.counts.sum() == table_VK.size


@pytest.mark.parametrize("growth", [1.01, 1.7, 10.0])
def test_batches_in_any_order_give_the_same_histogram(growth: float) -> None:
    table_VK = laplace(24, 7) * growth ** np.arange(24)[:, None]
    rising = split(table_VK)
    expected = of_table(table_VK, [all_rows(24)])
    assert expected.histogram.counts.sum() == table_VK.size
    orders = (rising, rising[::-1], [rising[i] for i in np.random.default_rng(0).permutation(24)])
    for order in orders:
        assert_same_histogram(of_table(table_VK, order), expected)


@pytest.mark.parametrize("place", [0, 5, 12])
def test_a_batch_of_zeros_anywhere_leaves_the_bins_as_they_are(place: int) -> None:
    table_VK = np.insert(0.01 * laplace(12, 7), place, 0.0, axis=0)
    expected = of_table(table_VK, [all_rows(13)])
    assert len(expected.histogram.counts) >= NUM_BINS // 2
    assert_same_histogram(of_table(table_VK, split(table_VK)), expected)


@pytest.mark.parametrize("reach", [1e-30, 1e-6, 1e30])
def test_tiny_and_huge_numbers_use_the_bins_as_others_do(reach: float) -> None:
    table_VK = laplace(40, 7) * reach
    histogram = of_table(table_VK, split(table_VK, 9)).histogram
    assert NUM_BINS // 2 <= len(histogram.counts) <= NUM_BINS
    assert histogram.counts.sum() == table_VK.size
    assert histogram.maximum == np.abs(table_VK.astype(np.float32)).max()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_same_texts_padded_to_twice_the_length_give_the_same_thresholds(side: str) -> None:
    table_VK = laplace(200, 33)
    whole = [all_rows(180, 12)]
    padding = ((0, 0), (15, 0) if side == "left" else (0, 15))
    ids_BS = np.pad(whole[0]["input_ids"], padding, constant_values=199)
    mask_BS = np.pad(whole[0]["attention_mask"], padding)
    table_VK[199] = 1e6
    padded = of_table(table_VK, [{"input_ids": ids_BS, "attention_mask": mask_BS}])
    expected = of_table(table_VK, whole)
    assert expected.histogram.counts.sum() == 180 * 33
    assert {name: method(padded.histogram) for name, method in METHODS.items()} == {
        name: method(expected.histogram) for name, method in METHODS.items()
    }
    assert padded.low_K.tolist() == expected.low_K.tolist() and padded.rows_RK.tolist() == expected.rows_RK.tolist()


def test_a_batch_of_nothing_but_padding_changes_nothing() -> None:
    table_VK = laplace(10, 7)
    batches = split(table_VK, 5)
    empty = batches[0] | {"attention_mask": np.zeros_like(batches[0]["attention_mask"])}
    assert_same_histogram(of_table(table_VK, [empty, *batches]), of_table(table_VK, batches))


def test_ranges_are_those_of_the_columns() -> None:
    table_VK = laplace(50, 33) + np.arange(33)
    found = of_table(table_VK, split(table_VK, 7))
    assert found.low_K.tolist() == table_VK.min(0).astype(np.float32).tolist()
    assert found.high_K.tolist() == table_VK.max(0).astype(np.float32).tolist()
    assert [found.low, found.high] == [float(np.float32(table_VK.min())), float(np.float32(table_VK.max()))]


def test_some_columns_are_watched_alone() -> None:
    table_VK = laplace(50, 33)
    found = of_table(table_VK, split(table_VK, 7), columns=(11, 22))
    assert found.low_K.shape == (11,) and found.rows_RK.shape == (50, 11)
    assert_same_histogram(found, of_table(table_VK[:, 11:22], split(table_VK, 7)))


def test_few_rows_are_all_kept() -> None:
    table_VK = laplace(31, 7)
    found = of_table(table_VK, split(table_VK, 4)).rows_RK
    assert found.shape == (31, 7)
    assert np.sort(found, axis=0).tolist() == np.sort(table_VK, axis=0).tolist()


def test_of_many_rows_some_are_kept_from_every_batch() -> None:
    table_VK = np.arange(2000.0)[:, None] + np.zeros(3)
    rows_RK = of_table(table_VK, split(table_VK, 100)).rows_RK
    assert rows_RK.shape == (NUM_ROWS, 3)
    assert len(set(rows_RK[:, 0].tolist())) == NUM_ROWS, "a row was drawn twice"
    assert set(rows_RK[:, 0].tolist()) <= set(range(2000))
    of_batch = np.bincount((rows_RK[:, 0] // 100).astype(int), minlength=20)
    assert of_batch.min() >= 3 and of_batch.max() <= 26  # 12.8 expected, 3.4 deviation


def test_factors_multiply_the_columns_first() -> None:
    table_VK, factors_K = laplace(50, 7), np.linspace(0.1, 9.0, 7).astype(np.float32)
    graph = Graph(table_VK)
    model = graph.model(graph.node("y", "Identity", graph.x))
    tensors = [Tensor("times", "x"), Tensor("plain", "x")]
    found = collect(model, tensors, lambda: [all_rows(50)], factors={"times": factors_K})
    expected = of_table(table_VK * factors_K, [all_rows(50)])
    assert_same_histogram(found["times"], expected)
    assert found["times"].rows_RK.tolist() == expected.rows_RK.tolist()
    assert_same_histogram(found["plain"], of_table(table_VK, [all_rows(50)]))


def test_a_tensor_of_zeros_has_no_threshold() -> None:
    found = of_table(np.zeros((9, 7)), split(np.zeros((9, 7)), 2))
    assert found.histogram.counts.sum() == 63 and found.histogram.maximum == 0.0
    assert {method(found.histogram) for method in METHODS.values()} == {0.0}


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinity_is_refused_by_the_name_of_its_tensor(value: float) -> None:
    table_VK = laplace(9, 7)
    table_VK[4, 2] = value
    with pytest.raises(UnsupportedError, match=r"The tensor 'x' holds infinity or NaN on a calibration text.*--precision fp32"):
        of_table(table_VK, [all_rows(9)])
    feeds = all_rows(9)
    feeds["attention_mask"][0, 4] = 0
    assert of_table(table_VK, [feeds]).histogram.counts.sum() == 8 * 7


def test_a_table_of_positions_is_read_whole_and_not_by_the_mask() -> None:
    positions = laplace(11, 5)
    graph = Graph(laplace(9, 5))
    table = graph.node("positions", "Relu", graph.constant("position_table", positions[None]))
    model = graph.model(graph.node("y", "Identity", graph.x), table)
    feeds = all_rows(9, 3)
    feeds["attention_mask"][:, 1:] = 0
    found = collect(model, [Tensor("positions", "positions")], lambda: [feeds])["positions"]
    assert found.histogram.counts.sum() == 55
    assert found.high_K.tolist() == np.maximum(positions, 0).max(0).tolist()


def test_it_is_told_how_many_texts_were_run() -> None:
    told: list[int] = []
    graph = Graph(laplace(10, 7))
    model = graph.model(graph.node("y", "Identity", graph.x))
    collect(model, [Tensor("x", "x")], lambda: split(np.zeros(10), 4), on_progress=told.append)
    assert told == [4, 4, 2]
