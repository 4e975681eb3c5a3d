"""Gradients of gates and costs -> masks of what stays within a budget (Kwon et al., 2022).

Legend: E examples, G gates of a sub-layer (heads or neurons).
"""

from bisect import bisect_right
from collections.abc import Sequence

import torch

from trtbert.compress.costs import Costs, Table

Tensors = list[torch.Tensor]
_Unit = tuple[float, int, torch.Tensor]
"""What stays or goes as one: the loss of its going, its layer, its members."""


def search(of_heads: Tensors, of_neurons: Tensors, costs: Costs, budget: float, multiple_of: int) -> tuple[Tensors, Tensors]:
    """Masks whose cost is within the budget and whose loss, the sum of the Fisher information of what goes, is the least.

    For each number of heads the most important ones stay, and the rest of the budget goes to groups of neurons, the most important
    first; every layer keeps a head and a group, which the caller has seen to fit.
    """
    heads, groups = _ranked(of_heads, 1), _ranked(of_neurons, multiple_of)
    head_costs, neuron_costs = _costs(heads, costs.heads), _costs(groups, costs.neurons)
    head_losses, neuron_losses = _losses(heads), _losses(groups)
    found = []
    for num_heads in range(len(of_heads), len(heads) + 1):
        num_groups = bisect_right(neuron_costs, budget - costs.fixed - head_costs[num_heads]) - 1
        if num_groups >= len(of_neurons):
            found.append((head_losses[num_heads] + neuron_losses[num_groups], num_heads, num_groups))
    _, num_heads, num_groups = min(found)
    return _masks(of_heads, heads[:num_heads]), _masks(of_neurons, groups[:num_groups])


def rearrange(mask_G: torch.Tensor, gradients_EG: torch.Tensor) -> torch.Tensor:
    """The mask with as many gates, after each that stays was tried in the place of each that goes, the least important first.

    The loss is that of the layer's block of the Fisher information, the mean square of the sum of the gradients of all that go, and never
    grows. The diagonal sees each gate by itself: two that do the same are dear only together.
    """
    block_GG = (gradients_EG.T @ gradients_EG).double()
    diagonal_G = block_GG.diagonal()
    is_gone = mask_G == 0
    shared_G = block_GG @ is_gone.double()
    for tried in sorted(mask_G.nonzero().flatten().tolist(), key=diagonal_G.tolist().__getitem__):
        is_gone[tried], shared_G = True, shared_G + block_GG[tried]
        gains_G = (2 * shared_G - diagonal_G).masked_fill(~is_gone, -torch.inf)  # of the loss, if this one stays instead
        back = tried if gains_G[tried] >= gains_G.max() else int(gains_G.argmax())
        is_gone[back], shared_G = False, shared_G - block_GG[back]
    return (~is_gone).to(mask_G.dtype)


def _ranked(scores: Tensors, multiple_of: int) -> list[_Unit]:
    """Groups of the gates of a layer, in the order in which they stay: the best group of each layer first, then all others by their scores.

    What is over a multiple in a layer are its worst gates, and goes.
    """
    units = []
    for layer, row in enumerate(scores):
        for number, members in enumerate(torch.split(row.argsort(descending=True), multiple_of)):
            if number == 0 or len(members) == multiple_of:
                units.append((number > 0, float(row[members].sum()), layer, members))
    return [(score, layer, members) for _, score, layer, members in sorted(units, key=lambda unit: (unit[0], -unit[1], unit[2]))]


def _costs(units: Sequence[_Unit], tables: Sequence[Table]) -> list[float]:
    """Of the first 0, 1, 2 ... units."""
    counts = [0] * len(tables)
    costs = [sum(table[0] for table in tables)]
    for _, layer, members in units:
        before, counts[layer] = tables[layer][counts[layer]], counts[layer] + len(members)
        costs.append(costs[-1] + tables[layer][counts[layer]] - before)
    return costs


def _losses(units: Sequence[_Unit]) -> list[float]:
    """Where the first 0, 1, 2 ... units stay."""
    losses = [0.0]
    for score, *_ in reversed(units):
        losses.append(losses[-1] + score)
    return losses[::-1]


def _masks(scores: Tensors, kept: Sequence[_Unit]) -> Tensors:
    masks = [torch.zeros_like(row) for row in scores]
    for _, layer, members in kept:
        masks[layer][members] = 1
    return masks
