"""Costs of heads and neurons: MACs add up to those of the sliced model, times become rising lines between what was measured."""

from pathlib import Path

import pytest

from tests.compress.models import tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.compress.costs import mac_costs, table, time_costs
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.slicing import slice_model


def test_costs_add_up(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    costs = mac_costs(checkpoint.model, 10)
    assert costs.total([3, 3], [80, 80]) == count_macs(checkpoint.model, length=10)
    with quiet():
        model = slice_model(checkpoint.model, checkpoint.task, heads=[[0], [1, 2]], neurons=[list(range(8)), list(range(40))])
    assert costs.total([1, 2], [8, 40]) == count_macs(model, length=10)


def test_albert_counts_its_layer_at_every_use(tmp_path: Path) -> None:
    model = tiny(tmp_path, "albert").model
    costs = mac_costs(model, 10)
    assert costs.total([3], [80]) == count_macs(model, length=10)
    assert costs.heads[0][1] == 2 * (10 * 4 * 48 * 16 + 2 * 10 * 10 * 16) and costs.neurons[0][1] == 2 * 2 * 10 * 48


def test_times_lie_on_lines_between_measured_ones() -> None:
    assert list(table({1: 2.0, 3: 4.0, 5: 10.0})) == [2, 2, 3, 4, 7, 10]
    assert list(table({1: 2.0, 2: 1.5, 4: 3.0})) == [1.5, 1.5, 1.5, 2.25, 3], "noise that makes less work slower is left out"


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "albert"])
def test_every_layer_is_timed(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, architecture)
    num_layers = len(encoder_layers(checkpoint.model))
    with quiet():
        costs = time_costs(checkpoint, 32)
    assert [len(row) for row in costs.heads] == [4] * num_layers and [len(row) for row in costs.neurons] == [81] * num_layers
    assert costs.fixed >= 0 and all(0 < row[0] <= row[-1] for row in [*costs.heads, *costs.neurons])
