"""Method `budget`: the budget is kept, the search finds the best masks, and scaling never makes a sub-layer's output worse."""

import itertools
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.batches import collate, encode_examples, encode_texts
from trtbert.compress.budget import BudgetOptions, Costs, mac_costs, prune_to_budget, rearrange, search
from trtbert.compress.gates import gated
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.method import Job
from trtbert.compress.rescale import rescale, solve
from trtbert.compress.slicing import slice_model
from trtbert.errors import InputError

LABELLED = classified(20)


def logits(checkpoint: Checkpoint, model: torch.nn.Module) -> torch.Tensor:
    batch = collate(checkpoint, encode_texts(checkpoint, ["The museum opens at nine.", "Heavy rain"]))
    with torch.no_grad():
        result: torch.Tensor = model(**batch.inputs).logits
    return result


@pytest.mark.parametrize("target", [0.4, 0.6, 0.9])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_the_budget_is_kept(architecture: str, target: float, tmp_path: Path) -> None:
    """Not over it, and no further below than a head or a group of neurons."""
    checkpoint = tiny(tmp_path / "model", architecture, num_hidden_layers=3)
    options = BudgetOptions(target_macs=target, length=20, multiple_of=8)
    before = count_macs(checkpoint.model, length=20)
    with quiet():
        result = prune_to_budget(Job(checkpoint=checkpoint, labelled=LABELLED), options)
        write_checkpoint(result.checkpoint, tmp_path / "pruned")
        read = read_checkpoint(tmp_path / "pruned")
    share = count_macs(result.checkpoint.model, length=20) / before
    piece = (20 * 4 * 16 * 48 + 2 * 20 * 20 * 16) / before
    assert target - piece < share <= target and share == pytest.approx(result.facts["share"], abs=1e-4)
    assert all(width % 8 == 0 for width in result.facts["widths"])
    torch.testing.assert_close(logits(read, read.model), logits(read, result.checkpoint.model), rtol=0, atol=0)


def test_costs_add_up(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    costs = mac_costs(checkpoint.model, encoder_layers(checkpoint.model), 10)
    assert costs.total([3, 3], [80, 80]) == count_macs(checkpoint.model, length=10)
    with quiet():
        model = slice_model(checkpoint.model, checkpoint.task, heads=[[0], [1, 2]], neurons=[list(range(8)), list(range(40))])
    assert costs.total([1, 2], [8, 40]) == count_macs(model, length=10)


def test_the_search_is_the_best_there_is() -> None:
    """Against all masks: two layers of two heads and two groups of two neurons."""
    torch.manual_seed(0)
    for _ in range(20):
        heads, neurons = [torch.rand(2) for _ in range(2)], [torch.rand(4) for _ in range(2)]
        costs = Costs(heads=[3.0, 3.0], neurons=[1.0, 1.0], fixed=0.0)
        found = search(heads, neurons, costs, 14.0, 2)

        def loss(masks: tuple[list[torch.Tensor], list[torch.Tensor]], scores: list[torch.Tensor]) -> float:
            return sum(float((score * (1 - mask)).sum()) for score, mask in zip(scores, [*masks[0], *masks[1]], strict=True))

        best = min(
            loss((list(h), list(n)), [*heads, *neurons])
            for h in itertools.product(_masks(2, 1), repeat=2)
            for n in itertools.product(_groups(neurons), repeat=2)
            if costs.total([int(m.sum()) for m in h], [int(m.sum()) for m in n]) <= 14.0 and _are_groups(n, neurons)
        )
        assert loss(found, [*heads, *neurons]) == pytest.approx(best)


def _masks(size: int, least: int) -> list[torch.Tensor]:
    masks = [torch.tensor(bits, dtype=torch.float32) for bits in itertools.product((0, 1), repeat=size)]
    return [mask for mask in masks if mask.sum() >= least]


def _groups(neurons: list[torch.Tensor]) -> list[torch.Tensor]:
    return [mask for mask in _masks(4, 2) if mask.sum() % 2 == 0]


def _are_groups(masks: tuple[torch.Tensor, ...], scores: list[torch.Tensor]) -> bool:
    """The neurons that stay are the best ones."""
    return all(
        set(score.argsort(descending=True)[: int(m.sum())].tolist()) == set(m.nonzero().flatten().tolist())
        for m, score in zip(masks, scores, strict=True)
    )


def test_heads_that_do_the_same_do_not_go_together() -> None:
    """Each of two equal heads is cheap beside the third, but both together are dear."""
    gradients = torch.tensor([[1.0, 1.0, 0.0, 1.2], [1.0, 1.0, 0.0, -1.2], [-1.0, -1.0, 0.1, 1.2]])
    mask = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert rearrange(mask, gradients).tolist() in ([0, 1, 0, 1], [1, 0, 0, 1])
    assert rearrange(torch.ones(4), gradients).tolist() == [1, 1, 1, 1]


def test_scales_by_least_squares() -> None:
    """Where columns explain b exactly, the scales are found; damping draws to 1 by its weight."""
    torch.manual_seed(0)
    columns = torch.randn(200, 4, dtype=torch.float64)
    wanted = columns @ torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)
    scales = solve(columns.T @ columns, columns.T @ wanted, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(scales, torch.tensor([0.5, 2.0, 0.0, 1.0]), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_scaling_never_makes_it_worse(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, architecture)
    items = encode_examples(checkpoint, LABELLED)
    heads = [torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0])]
    neurons = [(torch.arange(80) % 2).float(), (torch.arange(80) % 4 > 0).float()]
    errors = rescale(checkpoint, items, heads, neurons, lambda *_: None)
    assert all(after <= before for before, after in zip(errors["error_before"], errors["error_after"], strict=True))
    assert sum(errors["error_after"]) < 0.9 * sum(errors["error_before"])


def test_nothing_gone_needs_no_scales(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    before = logits(checkpoint, checkpoint.model)
    errors = rescale(checkpoint, encode_examples(checkpoint, LABELLED), [torch.ones(3)] * 2, [torch.ones(80)] * 2, lambda *_: None)
    assert max(errors["error_before"]) < 1e-9
    torch.testing.assert_close(logits(checkpoint, checkpoint.model), before, rtol=1e-4, atol=1e-4)


def test_the_scaled_model_is_the_sliced_one(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    heads, neurons = [torch.tensor([1.0, 0.0, 1.0]), torch.ones(3)], [(torch.arange(80) % 2).float(), torch.ones(80)]
    rescale(checkpoint, encode_examples(checkpoint, LABELLED), heads, neurons, lambda *_: None)
    with gated(encoder_layers(checkpoint.model), heads=heads, neurons=neurons):
        expected = logits(checkpoint, checkpoint.model)
    kept = [[mask.nonzero().flatten().tolist() for mask in masks] for masks in (heads, neurons)]
    with quiet():
        sliced = slice_model(checkpoint.model, checkpoint.task, heads=kept[0], neurons=kept[1])
    torch.testing.assert_close(logits(checkpoint, sliced), expected, rtol=1e-5, atol=1e-5)


def test_a_budget_of_time(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_hidden_layers=3, hidden_size=96, intermediate_size=512)
    with quiet():
        result = prune_to_budget(Job(checkpoint=checkpoint, labelled=LABELLED), BudgetOptions(target_latency=0.95))
    assert result.facts["share"] <= 0.95


def test_budgets_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"with one head and 64 neurons in each layer 0\.\d+ remains. Raise it, or remove layers first"):
        prune_to_budget(Job(checkpoint=tiny(tmp_path), labelled=LABELLED), BudgetOptions(target_macs=0.05, multiple_of=64))
    for options in ({}, {"target_macs": 0.5, "target_latency": 0.5}, {"target_macs": 0.0}, {"target_macs": 1.0}):
        with pytest.raises(ValidationError):
            BudgetOptions(**options)
