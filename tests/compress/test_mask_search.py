"""The search finds the best masks within a budget, and rearranging never makes the loss of a layer's block grow."""

import itertools

import pytest
import torch

from trtbert.compress.costs import Costs
from trtbert.compress.mask_search import rearrange, search


def test_the_search_is_the_best_there_is() -> None:
    """Against all masks: two layers of two heads and two groups of two neurons."""
    torch.manual_seed(0)
    for _ in range(20):
        heads, neurons = [torch.rand(2) for _ in range(2)], [torch.rand(4) for _ in range(2)]
        costs = Costs(heads=[[0.0, 3.0, 6.0]] * 2, neurons=[[0.0, 1.0, 2.0, 3.0, 4.0]] * 2, fixed=0.0)
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
    """Each of two equal heads is cheaper than the third, but both together are dearer than one of them with the third."""
    gradients = torch.tensor([[1.0, 1.0, 1.3, 2.0], [1.0, 1.0, -1.3, 2.0], [-1.0, -1.0, 0.0, 4.0]])
    mask = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert rearrange(mask, gradients).tolist() in ([0, 1, 0, 1], [1, 0, 0, 1])
    assert rearrange(torch.ones(4), gradients).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("num_examples", [5, 200])
def test_rearranging_never_makes_it_worse(num_examples: int) -> None:
    """Also with fewer examples than gates, where the block has no full rank."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(num_examples, 24, generator=generator) @ torch.randn(24, 24, generator=generator)
    mask = (torch.arange(24) % 2).float()
    found = rearrange(mask, gradients)

    def loss(kept: torch.Tensor) -> float:
        return float((gradients.double() @ (1 - kept).double()).square().mean())

    assert int(found.sum()) == 12 and set(found.tolist()) == {0.0, 1.0}
    assert loss(found) < loss(mask)


def test_what_is_over_a_multiple_goes() -> None:
    """The two worst of ten, whatever the budget."""
    costs = Costs(heads=[[0.0, 1.0]], neurons=[[float(count) for count in range(11)]], fixed=0.0)
    heads, neurons = search([torch.ones(1)], [torch.arange(10.0, 0.0, -1.0)], costs, 11.0, 4)
    assert heads[0].tolist() == [1] and neurons[0].tolist() == [1] * 8 + [0] * 2


def test_a_step_of_time_is_counted_where_it_is() -> None:
    """The second head is free and the third is dear: two stay."""
    costs = Costs(heads=[[1.0, 1.0, 1.0, 4.0]], neurons=[[0.0, 1.0]], fixed=1.0)
    heads, _ = search([torch.tensor([1.0, 3.0, 2.0])], [torch.ones(1)], costs, 5.0, 1)
    assert heads[0].tolist() == [0, 1, 1]
