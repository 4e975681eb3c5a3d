"""Attention successors: what they compute, by plain transformers as the reference, and what is read back from a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress.models import tiny
from tests.models import make_checkpoint, make_model
from trtbert.checkpoint.banded_attention import banded_attention
from trtbert.checkpoint.grouped_attention import grouped_attention
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import read_checkpoint, write_checkpoint
from trtbert.checkpoint.successors import num_pairs, why_unfused, window_of
from trtbert.compress.attention import banded_model, grouped_model
from trtbert.compress.layers import encoder_layers
from trtbert.errors import InputError, UnsupportedError

FAMILIES = ("albert", "bert", "distilbert", "electra", "roberta")
TASK = "feature-extraction"


def inputs(length: int, *, padded: int = 0) -> dict[str, torch.Tensor]:
    """Three texts; the last one has `padded` tokens of padding, the second half of it on the left."""
    generator = torch.Generator().manual_seed(length)
    mask = torch.ones(3, length, dtype=torch.long)
    mask[2, length - padded :] = 0
    if padded:
        mask[1, : padded // 2] = 0
    return {"input_ids": torch.randint(5, 40, (3, length), generator=generator), "attention_mask": mask}


@torch.no_grad()
def hidden(model: Any, feeds: dict[str, torch.Tensor]) -> torch.Tensor:
    """In float64, where two ways of one formula agree to 1e-12."""
    result: torch.Tensor = model.double()(**feeds)[0]
    return result


def model_of(architecture: str, **options: Any) -> Any:
    return make_model(architecture, num_attention_heads=4, **options)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_grouped_attention_is_the_whole_one_with_keys_and_values_repeated(architecture: str, num_kv_heads: int) -> None:
    whole = model_of(architecture)
    with quiet():
        grouped = grouped_model(whole, TASK, num_kv_heads)
    with torch.no_grad():
        for layer, shared in zip(encoder_layers(whole), encoder_layers(grouped), strict=True):
            assert shared.key.out_features == shared.value.out_features == num_kv_heads * shared.head_size
            for linear, small in ((layer.key, shared.key), (layer.value, shared.value)):
                for tensor, part in ((linear.weight, small.weight), (linear.bias, small.bias)):
                    heads = part.view(num_kv_heads, shared.head_size, -1).repeat_interleave(4 // num_kv_heads, 0)
                    tensor.copy_(heads.view(tensor.shape))
    feeds = inputs(9, padded=4)
    is_token = feeds["attention_mask"].bool()
    torch.testing.assert_close(hidden(grouped, feeds)[is_token], hidden(whole, feeds)[is_token], rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 5, 9, 10, 11])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_window_as_long_as_the_text_is_whole_attention(architecture: str, length: int) -> None:
    whole = model_of(architecture)
    feeds = inputs(length, padded=min(4, length - 1))
    is_token = feeds["attention_mask"].bool()
    for window in (length, length + 3):
        with quiet():
            banded = banded_model(whole, TASK, window)
        torch.testing.assert_close(hidden(banded, feeds)[is_token], hidden(whole, feeds)[is_token], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("architecture", "longest"), [("bert", 130), ("roberta", 128)])
def test_a_window_that_no_text_is_longer_than_leaves_attention_as_it_is(architecture: str, longest: int) -> None:
    whole = model_of(architecture, max_position_embeddings=130)
    with quiet():
        same, banded = banded_model(whole, TASK, longest), banded_model(whole, TASK, longest - 1)
    assert (window_of(same.config), why_unfused(same.config), num_pairs(same.config, 10)) == (None, None, 100)
    assert window_of(banded.config) == longest - 1 and why_unfused(banded.config) is not None
    assert same.config._attn_implementation == "sdpa" and banded.config._attn_implementation == "trtbert_banded_window"


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 9, 23])
@pytest.mark.parametrize("window", [1, 3, 4])
def test_bands_are_whole_attention_under_a_mask(window: int, length: int) -> None:
    """transformers takes a mask of all pairs [B,1,S,S] as it is."""
    whole = model_of("bert")
    with quiet():
        banded = banded_model(whole, TASK, window)
    feeds = inputs(length, padded=length // 3)
    positions = torch.arange(length)
    sees_SS = (positions[:, None] - positions[None]).abs() <= window
    sees_SS[:, 0] = sees_SS[0] = True
    pairs = sees_SS[None, None] & feeds["attention_mask"].bool()[:, None, None]
    # A token whose keys are all masked has no meaning: that of the left-padded text, far from what it has to see.
    is_token = feeds["attention_mask"].bool() & pairs[:, 0].any(-1)
    expected = hidden(whole, feeds | {"attention_mask": pairs})
    torch.testing.assert_close(hidden(banded, feeds)[is_token], expected[is_token], rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("kind", ["grouped", "banded"])
def test_padding_is_not_attended_to(architecture: str, kind: str) -> None:
    with quiet():
        model = (grouped_model if kind == "grouped" else banded_model)(model_of(architecture), TASK, 2)
    feeds = inputs(17, padded=6)
    alone = {name: tensor[2:, :11] for name, tensor in feeds.items()}
    torch.testing.assert_close(hidden(model, feeds)[2:, :11], hidden(model, alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("attention", [grouped_attention, banded_attention])
def test_probabilities_are_dropped_in_training_alone(attention: Any) -> None:
    """With a rate of 1 nothing is left of them."""
    module, x_BNSH = torch.nn.Module(), torch.randn(1, 2, 9, 4)
    module.config = type("Config", (), {"banded_window": 2})()  # type: ignore[assignment]
    kept, dropped = (attention(module.train(mode), x_BNSH, x_BNSH, x_BNSH, None, scaling=0.5, dropout=1.0)[0] for mode in (False, True))
    assert kept.all() and not dropped.any()


def test_bands_hold_no_tensor_of_all_pairs() -> None:
    """The memory of the scores grows with the window, not with the length."""
    seen = list[int]()

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), options: Any = None) -> Any:
            result = function(*args, **(options or {}))
            seen.extend(tensor.numel() for tensor in ([result] if isinstance(result, torch.Tensor) else []))
            return result

    module = torch.nn.Module()
    module.config = type("Config", (), {"banded_window": 4})()  # type: ignore[assignment]
    x_BNSH = torch.randn(1, 1, 512, 4)
    with Sizes():
        banded_attention(module, x_BNSH, x_BNSH, x_BNSH, torch.ones(1, 512, dtype=torch.bool), scaling=0.5)
    assert 512 * 12 < max(seen) <= 512 * 13


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("kind", ["grouped", "banded"])
def test_a_folder_says_what_its_attention_is(architecture: str, kind: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "whole", architecture, task=TASK, num_attention_heads=4)
    with quiet():
        model = (grouped_model if kind == "grouped" else banded_model)(checkpoint.model, TASK, 2)
        write_checkpoint(checkpoint.with_model(model), tmp_path / "successor")
        read = read_checkpoint(tmp_path / "successor")
    config = json.loads((tmp_path / "successor" / "config.json").read_text())
    assert config["num_key_value_heads" if kind == "grouped" else "banded_window"] == 2
    assert "trtbert" not in (tmp_path / "successor" / "config.json").read_text().replace("trtbert_version", "")
    feeds = inputs(9, padded=3)
    torch.testing.assert_close(hidden(read.model, feeds), hidden(model, feeds), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 2}, r"key.weight is \(12, 48\) and .*query.weight is \(48, 48\), where num_key_value_heads 2 asks for"),
        ({"num_key_value_heads": None}, r"key.weight is \(12, 48\), where hidden_size 48 and num_attention_heads 4 ask for"),
        ({"num_key_value_heads": 0}, "num_key_value_heads in config.json must be a whole number from 1, got 0"),
        ({"num_key_value_heads": "1"}, "num_key_value_heads in config.json must be a whole number from 1, got '1'"),
        ({"banded_window": 8}, "has both num_key_value_heads and banded_window, and an attention can have one of them"),
    ],
)
def test_a_config_that_does_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "whole", task=TASK, num_attention_heads=4)
    with quiet():
        write_checkpoint(checkpoint.with_model(grouped_model(checkpoint.model, TASK, 1)), tmp_path / "wrong")
    path = tmp_path / "wrong" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with quiet(), pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "wrong")


def test_mpnet_has_a_bias_of_its_own(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, "mpnet") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"banded_window": 8}))
    with (
        quiet(),
        pytest.raises(UnsupportedError, match="mpnet adds a position bias to its scores, which banded_window leaves no place for"),
    ):
        read_checkpoint(tmp_path)
