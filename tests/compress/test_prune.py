"""Methods `heads` and `ffn`: how much goes, from where, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.compress import prune
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs, count_parameters
from trtbert.compress.method import Job
from trtbert.compress.prune import FfnOptions, HeadsOptions, mask_heads, mask_neurons, prune_ffn, prune_heads
from trtbert.config import TrainingConfig
from trtbert.data import Example
from trtbert.errors import InputError

LABELLED = classified(20)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra", "mpnet"])
def test_heads(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, architecture, num_hidden_layers=3)
    with quiet():
        result = prune_heads(Job(checkpoint=checkpoint, labelled=LABELLED), HeadsOptions(sparsity=0.4, steps=2))
    counts = [layer.num_heads for layer in encoder_layers(result.checkpoint.model)]
    assert sum(counts) == 9 - round(0.4 * 9) and min(counts) >= 1 and result.facts == {"heads": counts, "of": [3, 3, 3]}


def test_neurons_stay_in_multiples(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    with quiet():
        result = prune_ffn(Job(checkpoint=checkpoint, labelled=LABELLED), FfnOptions(sparsity=0.5, multiple_of=8))
    widths = [layer.width for layer in encoder_layers(result.checkpoint.model)]
    assert sum(widths) == 120 and all(width % 8 == 0 and width >= 8 for width in widths) and not result.notes


def test_a_share_that_multiples_do_not_reach_is_said(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with quiet():
        result = prune_ffn(Job(checkpoint=checkpoint, texts=["red cat", "blue"]), FfnOptions(sparsity=0.9, multiple_of=32))
    assert [layer.width for layer in encoder_layers(result.checkpoint.model)] == [32, 32]
    assert result.notes == ("60.0% of the neurons went, which is as near to 90.0% as multiples of 32 come",)


def test_the_least_important_heads_go_first() -> None:
    scores = [torch.tensor([0.3, 0.1, 0.9]), torch.tensor([0.2, 0.8, 0.7])]
    masks = mask_heads(scores, [torch.ones(3), torch.ones(3)], 3, 1)
    assert [mask.tolist() for mask in masks] == [[0, 0, 1], [0, 1, 1]]
    protected = mask_heads(scores, [torch.ones(3), torch.ones(3)], 3, 2)
    assert [mask.tolist() for mask in protected] == [[1, 0, 1], [0, 1, 1]]


def test_what_is_gone_stays_so() -> None:
    """A head of a high score that went before does not come back."""
    masks = mask_heads([torch.tensor([0.9, 0.1, 0.5])], [torch.tensor([0.0, 1.0, 1.0])], 2, 1)
    assert masks[0].tolist() == [0, 0, 1]
    neurons = mask_neurons([torch.tensor([0.9, 0.1, 0.5, 0.4])], [torch.tensor([0.0, 1.0, 1.0, 1.0])], 2, 1)
    assert neurons[0].tolist() == [0, 0, 1, 1]


def test_a_width_that_is_no_multiple_becomes_one() -> None:
    masks = mask_neurons([torch.arange(10.0)], [torch.ones(10)], 2, 4)
    assert masks[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    both = mask_neurons([torch.arange(10.0), torch.arange(10.0) + 20], [torch.ones(10), torch.ones(10)], 2, 4)
    assert [int(mask.sum()) for mask in both] == [8, 8], "also of the layer that is all more important"


def test_masks_of_the_right_heads_keep_more_than_those_of_the_others(tmp_path: Path) -> None:
    """Heads whose output is scaled down by a thousand are those that go."""
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    small = [0, 2, 1]
    with torch.no_grad():
        for layer, head in zip(encoder_layers(checkpoint.model), small, strict=True):
            layer.out.weight[:, head * 16 : (head + 1) * 16] *= 1e-3
    with quiet():
        result = prune_heads(Job(checkpoint=checkpoint, labelled=LABELLED), HeadsOptions(sparsity=1 / 3, steps=3))
    assert result.checkpoint.model.config.pruned_heads == {layer: [head] for layer, head in enumerate(small)}


def test_what_is_gone_has_no_say_in_the_norm_of_its_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first layer's heads the one that went has the largest derivative afterwards; the two others matter most in the model."""
    found = iter([[[0.1, 5.0, 5.0], [1.0, 1.0, 1.0]], [[99.0, 5.0, 5.0], [0.2, 1.0, 1.0]]])
    monkeypatch.setattr(prune, "importance", lambda *_, **__: ([torch.tensor(scores) for scores in next(found)], []))
    result = prune_heads(Job(checkpoint=tiny(tmp_path), labelled=LABELLED), HeadsOptions(sparsity=1 / 3, steps=2))
    assert result.checkpoint.model.config.pruned_heads == {0: [0], 1: [0]}


@pytest.mark.parametrize("kind", ["heads", "neurons"])
def test_importance_is_measured_where_the_steps_before_have_come(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each layer the first quarter goes in the first of two steps; the second one measures what is left."""
    seen = list[list[float]]()

    def scored(*_args: object, **options: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        seen.append([float(mask.mean()) for mask in options[kind]])
        rising = [torch.arange(float(len(mask))) for mask in options[kind]]
        return rising, rising

    monkeypatch.setattr(prune, "importance", scored)
    job = Job(checkpoint=tiny(tmp_path, num_attention_heads=4), labelled=LABELLED)
    if kind == "heads":
        prune_heads(job, HeadsOptions(sparsity=0.5, steps=2))
    else:
        prune_ffn(job, FfnOptions(sparsity=0.5, steps=2, multiple_of=4))
    assert seen == [[1.0, 1.0], [0.75, 0.75]]


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.5, 2.0])
def test_nothing_or_everything_cannot_go(sparsity: float) -> None:
    with pytest.raises(ValidationError):
        HeadsOptions(sparsity=sparsity)
    with pytest.raises(ValidationError):
        FfnOptions(sparsity=sparsity)


def test_less_than_one_multiple_of_neurons(tmp_path: Path) -> None:
    with quiet(), pytest.raises(InputError, match=r"sparsity 0\.01 of 160 neurons is less than half of 8, so nothing would go"):
        prune_ffn(Job(checkpoint=tiny(tmp_path), labelled=LABELLED), FfnOptions(sparsity=0.01, multiple_of=8))


def test_what_cannot_be_reached(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with pytest.raises(InputError, match=r"sparsity 0.9 would remove 5 of 6 heads, but at most 4 can go where every layer keeps 1"):
        prune_heads(Job(checkpoint=checkpoint, labelled=LABELLED), HeadsOptions(sparsity=0.9))
    with pytest.raises(InputError, match=r"sparsity 0.05 of 6 heads is less than one head, so nothing would go. Raise it"):
        prune_heads(Job(checkpoint=checkpoint, labelled=LABELLED), HeadsOptions(sparsity=0.05))
    with pytest.raises(InputError, match="The narrowest FFN has 80 neurons, so that nothing can be removed in multiples of 64"):
        prune_ffn(Job(checkpoint=checkpoint, labelled=LABELLED), FfnOptions(multiple_of=64))
    with pytest.raises(InputError, match="Importance is measured on texts, and there are none"):
        prune_heads(Job(checkpoint=checkpoint), HeadsOptions())


def test_answers_that_were_all_cut_off(tmp_path: Path) -> None:
    job = Job(
        checkpoint=tiny(tmp_path, task="question-answering"),
        labelled=[Example(("red", "the cat the cat the cat blue"), ("blue",))],
        training=TrainingConfig(max_length=6),
    )
    with pytest.raises(
        InputError, match=r"None of the 1 examples drawn has an answer, or a word with a token, within 6 tokens. Raise max_length"
    ):
        prune_heads(job, HeadsOptions())


def test_costs_by_hand(tmp_path: Path) -> None:
    """Hidden 48, 3 heads of 16, FFN 80, 2 layers, 10 tokens; pooler 48 x 48 and classifier 48 x 3 see one token."""
    checkpoint = tiny(tmp_path)
    layer = 10 * (4 * 48 * 48 + 2 * 48 * 80) + 2 * 10 * 10 * 48
    assert count_macs(checkpoint.model, length=10) == 2 * layer + 48 * 48 + 48 * 3
    with quiet():
        sliced = prune_heads(Job(checkpoint=checkpoint, labelled=LABELLED), HeadsOptions(sparsity=0.34, steps=1)).checkpoint.model
    fewer = 2 * (10 * 4 * 48 * 16 + 2 * 10 * 10 * 16)
    assert count_macs(sliced, length=10) == count_macs(checkpoint.model, length=10) - fewer
    assert count_parameters(checkpoint.model) - count_parameters(sliced) == 2 * (4 * 48 * 16 + 3 * 16)


@pytest.mark.parametrize(("normalise", "expected"), [(True, [2, 3]), (False, [3, 2])])
def test_layers_are_compared_by_their_norm(normalise: bool, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least head of the first layer is greater than all of the second, but the least of its own layer by far."""
    found = [torch.tensor([100.0, 1000.0, 1000.0]), torch.tensor([1.0, 0.9, 1.0])]
    monkeypatch.setattr("trtbert.compress.prune.importance", lambda *_args, **_options: (found, []))
    options = HeadsOptions(sparsity=1 / 6, steps=1, normalise=normalise)
    assert prune_heads(Job(checkpoint=tiny(tmp_path), labelled=classified(4)), options).facts["heads"] == expected
