"""Another attention in every layer: how its weights begin, and what is refused."""

from pathlib import Path

import pytest
import torch

from tests.compress.models import tiny
from tests.models import make_model
from trtbert.checkpoint.quiet import quiet
from trtbert.compress.attention import banded_model, grouped_model
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.slicing import keep_layers, slice_model
from trtbert.errors import InputError, UnsupportedError

TASK = "feature-extraction"


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_keys_and_values_begin_as_the_mean_of_their_heads(architecture: str) -> None:
    whole = make_model(architecture, num_attention_heads=4)
    with quiet():
        grouped = grouped_model(whole, TASK, 2)
    for layer, shared in zip(encoder_layers(whole), encoder_layers(grouped), strict=True):
        for linear, small in ((layer.key, shared.key), (layer.value, shared.value)):
            size = layer.head_size
            for group in range(2):
                first, second = (slice((2 * group + head) * size, (2 * group + head + 1) * size) for head in range(2))
                rows = slice(group * size, (group + 1) * size)
                torch.testing.assert_close(small.weight[rows], (linear.weight[first] + linear.weight[second]) / 2)
                torch.testing.assert_close(small.bias[rows], (linear.bias[first] + linear.bias[second]) / 2)
        assert torch.equal(layer.query.weight, shared.query.weight) and torch.equal(layer.out.weight, shared.out.weight)


def test_unevenly_pruned_layers_can_share_one_head() -> None:
    with quiet():
        pruned = slice_model(make_model("bert", num_attention_heads=4), TASK, heads=[[0, 2, 3], [1, 2]])
        shared = grouped_model(pruned, TASK, 1)
    assert [layer.num_heads for layer in encoder_layers(shared)] == [3, 2]
    assert [layer.key.out_features for layer in encoder_layers(shared)] == [12, 12]
    with pytest.raises(
        InputError, match="The 3 heads of layer 0 do not divide into 2 groups; give a --num-kv-heads that divides the heads"
    ):
        grouped_model(pruned, TASK, 2)


def test_attention_is_replaced_once(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_attention_heads=4)
    with quiet():
        grouped = grouped_model(checkpoint.model, checkpoint.task, 2)
    with pytest.raises(UnsupportedError, match=r"was replaced before \(num_key_value_heads 2\); give the model before that"):
        banded_model(grouped, checkpoint.task, 4)
    with pytest.raises(UnsupportedError, match="its heads cannot be removed"):
        slice_model(grouped, checkpoint.task, heads=[[0, 1], [0, 1]])


@pytest.mark.parametrize("make", [grouped_model, banded_model])
def test_mpnet_keeps_its_attention(make: object) -> None:
    assert callable(make)
    with pytest.raises(UnsupportedError, match="mpnet adds a position bias to its scores"):
        make(make_model("mpnet"), TASK, 1)


def test_macs_are_of_what_is_computed() -> None:
    """Keys and values of half the heads; scores of three blocks and the first key for each query, and of the first query."""
    with quiet():
        whole = keep_layers(make_model("bert", num_attention_heads=4), TASK, [0, 1])  # without the pooler, as all that are loaded
        grouped, banded = grouped_model(whole, TASK, 2), banded_model(whole, TASK, 4)
    length, layers, width = 100, 2, 48
    assert count_macs(whole, length=length) - count_macs(grouped, length=length) == layers * length * width * width
    saved = count_macs(whole, length=length) - count_macs(banded, length=length)
    assert saved == layers * 2 * width * (length * length - length * (3 * 4 + 1) - length)
    with quiet():
        wide = banded_model(whole, TASK, 64)
    assert count_macs(wide, length=length) > count_macs(whole, length=length)
