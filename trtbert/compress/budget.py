"""Method `budget`: prune heads and neurons to a budget of MACs or of time, without training (Kwon et al., 2022).

Three steps: which go, by the diagonal of the Fisher information under the budget; which of a layer's heads go together, by the blocks of
the Fisher information; and by how much what stays is scaled, by least squares on each sub-layer's output.

Legend: T tokens, D hidden, N heads, F neurons.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, model_validator

from trtbert.compress.importance import gradients_of_heads, importance
from trtbert.compress.layers import Layer, encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.prune import measured_items
from trtbert.compress.rescale import rescale
from trtbert.compress.slicing import slice_model
from trtbert.errors import InputError

_TIMED_TOKENS = 512
_TIMED_RUNS = 9


class BudgetOptions(Options):
    target_macs: float | None = Field(default=None, gt=0, lt=1)
    """Share of the MACs to keep; this or target_latency"""
    target_latency: float | None = Field(default=None, gt=0, lt=1)
    """Share of the time of the layers to keep, as PyTorch takes it on this CPU"""
    length: int = Field(default=128, ge=1)
    """Tokens of a text that MACs are counted for"""
    multiple_of: int = Field(default=32, ge=1)
    """What the width that a layer's FFN keeps is a multiple of"""
    rescale: bool = True
    """Scale what stays by least squares"""
    num_texts: int = Field(default=512, ge=1)
    """Texts to measure on, drawn from the data"""
    seed: int = 0
    """Of that draw"""

    @model_validator(mode="after")
    def _has_one_target(self) -> "BudgetOptions":
        if (self.target_macs is None) == (self.target_latency is None):
            raise ValueError("give target_macs or target_latency, one of them")
        return self


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one head and one neuron of each layer, and of all that cannot go; in MACs or in seconds."""

    heads: list[float]
    neurons: list[float]
    fixed: float

    def total(self, heads: Sequence[int], neurons: Sequence[int]) -> float:
        """With so many heads and neurons in each layer."""
        parts = zip(heads, neurons, self.heads, self.neurons, strict=True)
        return self.fixed + sum(h * head + n * neuron for h, n, head, neuron in parts)


Masks = list[torch.Tensor]


def prune_to_budget(job: Job, options: BudgetOptions) -> Result:
    """Prune to the budget; InputError where there are no texts, or the budget is below what every layer must keep."""
    checkpoint = job.checkpoint
    layers = encoder_layers(checkpoint.model)
    items = measured_items(job, options.num_texts, options.seed)
    costs = time_costs(layers) if options.target_latency else mac_costs(checkpoint.model, layers, options.length)
    counts = [layer.num_heads for layer in layers], [layer.width for layer in layers]
    budget = (options.target_macs or options.target_latency or 0) * costs.total(*counts)
    least = costs.total([1] * len(layers), [min(options.multiple_of, width) for width in counts[1]])
    if budget < least:
        raise InputError(
            f"The target is {budget / costs.total(*counts):.3f} of the cost, but with one head and {options.multiple_of} neurons in each "
            f"layer {least / costs.total(*counts):.3f} remains. Raise it, or remove layers first."
        )
    of_heads, of_neurons = importance(
        checkpoint, items, seed=options.seed, on_step=lambda done, total: job.on_step("Fisher information", done, total)
    )
    heads, neurons = search(of_heads.squared, of_neurons.squared, costs, budget, options.multiple_of)
    heads = [rearrange(mask, block) for mask, block in zip(heads, gradients_of_heads(checkpoint, items, options.seed), strict=True)]
    errors = rescale(checkpoint, items, heads, neurons, job.on_step) if options.rescale else {}
    kept_heads, kept_neurons = ([mask.nonzero().flatten().tolist() for mask in masks] for masks in (heads, neurons))
    model = slice_model(checkpoint.model, checkpoint.task, heads=kept_heads, neurons=kept_neurons)
    sizes = [len(kept) for kept in kept_heads], [len(kept) for kept in kept_neurons]
    facts = {"heads": sizes[0], "widths": sizes[1], "share": round(costs.total(*sizes) / costs.total(*counts), 4), **errors}
    return Result(checkpoint=checkpoint.with_model(model), facts=facts)


def mac_costs(model: Any, layers: Sequence[Layer], length: int) -> Costs:
    """A head has its rows of q, k, v and out and its part of two products; a neuron a row and a column."""
    heads = [float(length * 4 * layer.head_size * layer.query.in_features + 2 * length**2 * layer.head_size) for layer in layers]
    neurons = [float(2 * length * layer.up.in_features) for layer in layers]
    parts = zip(layers, heads, neurons, strict=True)
    prunable = sum(layer.num_heads * head + layer.width * neuron for layer, head, neuron in parts)
    return Costs(heads=heads, neurons=neurons, fixed=count_macs(model, length=length) - prunable)


@torch.no_grad()
def time_costs(layers: Sequence[Layer]) -> Costs:
    """Seconds of the products of a layer with all and with half of its heads (neurons): the difference is the cost of what is between."""
    heads: list[float] = []
    neurons: list[float] = []
    fixed = 0.0
    for layer in layers:
        size = layer.query.in_features
        rows = layer.num_heads * layer.head_size
        for kind, width, pieces in ((heads, rows, layer.num_heads), (neurons, layer.width, layer.width)):
            products = 4 if kind is heads else 2
            whole, half = (_seconds(size, columns) * products for columns in (width, max(1, width // 2)))
            slope = max(0.0, whole - half) / (pieces - pieces * max(1, width // 2) / width) if pieces > 1 else 0.0
            kind.append(slope)
            fixed += max(0.0, whole - slope * pieces)
    return Costs(heads=heads, neurons=neurons, fixed=fixed)


def _seconds(rows: int, columns: int) -> float:
    """The median time of one product of that size."""
    x, weight = torch.randn(_TIMED_TOKENS, rows), torch.randn(rows, columns)
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        x @ weight
        times.append(time.perf_counter() - start)
    return sorted(times)[_TIMED_RUNS // 2]


def search(of_heads: Masks, of_neurons: Masks, costs: Costs, budget: float, multiple_of: int) -> tuple[Masks, Masks]:
    """Masks whose cost is within the budget and whose loss, the sum of the Fisher information of what goes, is the least.

    For each number of heads the most important ones stay, and the rest of the budget goes to groups of neurons, the most important
    first; every layer keeps a head and a group.
    """
    heads = _ranked_heads(of_heads)
    groups = _ranked_groups(of_neurons, multiple_of)
    best: tuple[float, int, int] | None = None
    head_loss = sum(score for score, *_ in heads)
    for num_heads in range(len(heads) + 1):
        if num_heads:
            head_loss -= heads[num_heads - 1][0]
        left = budget - costs.fixed - sum(costs.heads[layer] for _, layer, _ in heads[:num_heads])
        num_groups, loss = _fill(groups, costs, left)
        missing = num_heads < len(of_heads) or num_groups < len(of_neurons)
        if not missing and (best is None or head_loss + loss < best[0]):
            best = head_loss + loss, num_heads, num_groups
    assert best is not None  # the caller has seen that the least fits
    head_masks = [torch.zeros_like(score) for score in of_heads]
    neuron_masks = [torch.zeros_like(score) for score in of_neurons]
    for _, layer, head in heads[: best[1]]:
        head_masks[layer][head] = 1
    for _, layer, members in groups[: best[2]]:
        neuron_masks[layer][members] = 1
    return head_masks, neuron_masks


def _fill(groups: Sequence[tuple[float, int, torch.Tensor]], costs: Costs, budget: float) -> tuple[int, float]:
    """How many of the first groups fit, and the loss of the others."""
    count = 0
    for _, layer, members in groups:
        budget -= costs.neurons[layer] * len(members)
        if budget < 0:
            break
        count += 1
    return count, sum(score for score, *_ in groups[count:])


def _ranked_heads(scores: Masks) -> list[tuple[float, int, int]]:
    """(score, layer, head): the best of each layer first, for it stays whatever the budget, then all others by their scores."""
    rows = [(float(score), layer, head) for layer, row in enumerate(scores) for head, score in enumerate(row)]
    protected = {(layer, int(row.argmax())) for layer, row in enumerate(scores)}
    return sorted(rows, key=lambda row: ((row[1], row[2]) not in protected, -row[0]))


def _ranked_groups(scores: Masks, multiple_of: int) -> list[tuple[float, int, torch.Tensor]]:
    """(score, layer, members) of groups of neurons, likewise; what is over a multiple is in the group of the worst."""
    groups = []
    for layer, row in enumerate(scores):
        for number, members in enumerate(torch.split(row.argsort(descending=True), multiple_of)):
            groups.append((number > 0, float(row[members].sum()), layer, members))
    return [(score, layer, members) for _, score, layer, members in sorted(groups, key=lambda group: (group[0], -group[1], group[2]))]


def rearrange(mask: torch.Tensor, gradients_EN: torch.Tensor) -> torch.Tensor:
    """Swap heads that stay with heads that go while that lowers the loss of the layer's block: the mean square of the sum of the gradients
    of all that go, over examples E. The diagonal sees each by itself; two heads that do the same are dear only together."""
    gone = (mask == 0).float()
    block_NN = gradients_EN.T @ gradients_EN / len(gradients_EN)
    while True:
        loss = float(gone @ block_NN @ gone)
        best: tuple[float, torch.Tensor | None] = loss * (1 - 1e-6), None
        for out in gone.nonzero().flatten().tolist():
            for into in (gone == 0).nonzero().flatten().tolist():
                trial = gone.clone()
                trial[out], trial[into] = 0, 1
                if (value := float(trial @ block_NN @ trial)) < best[0]:
                    best = value, trial
        if best[1] is None:
            return 1 - gone
        gone = best[1]
