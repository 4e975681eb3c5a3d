"""A model -> smaller shapes of it, from the one that costs most to the one that costs least."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.costs import mac_costs
from trtbert.compress.depth import choose_layers
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.prune import mask_neurons
from trtbert.compress.slicing import check_heads_can_go, keep_layers


@dataclass(frozen=True)
class Rung:
    """Shares that stay of the layers, and that go of the heads and of the neurons of those."""

    layers: float
    heads: float
    ffn: float


LADDER = (
    Rung(1, 0.25, 0.25),
    Rung(1, 0.4, 0.5),
    Rung(2 / 3, 0, 0),
    Rung(2 / 3, 0.4, 0.5),
    Rung(1 / 2, 0, 0),
    Rung(1 / 2, 0.4, 0.5),
    Rung(1 / 3, 0, 0),
    Rung(1 / 3, 0.4, 0.5),
)
"""In no order that holds for all models: which of two costs more depends on depth and width."""
_MULTIPLES = (32, 16, 8, 4, 2, 1)
"""What the width that an FFN keeps is a multiple of, the first that fits."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a rung makes of one model."""

    layers: int
    heads: int
    """Of all layers together, as the neurons are."""
    neurons: int
    macs: int
    """Of a text of the length that was asked for."""
    share: float
    """Of the MACs of the whole model."""
    steps: tuple[dict[str, Any], ...]
    """Of a recipe: each a method with its options."""

    def is_within(self, other: "Shape") -> bool:
        """Whether it has no more of anything, and so cannot take longer."""
        return self.layers <= other.layers and self.heads <= other.heads and self.neurons <= other.neurons

    @property
    def sizes(self) -> dict[str, Any]:
        """For a reader."""
        return {"layers": self.layers, "heads": self.heads, "neurons": self.neurons, "macs": round(self.share, 3)}


def shapes(checkpoint: Checkpoint, length: int) -> list[Shape]:
    """The LADDER's shapes of this model, by falling MACs of a text of `length` tokens; those alike, and the model's own, are left out.

    A model of few layers, heads or neurons has fewer than the LADDER has rungs, or none. Raises UnsupportedError for a family without
    parts that can go, and for queries that share keys and values.
    """
    check_heads_can_go(checkpoint.model)
    found = {(shape.layers, shape.heads, shape.neurons): shape for shape in _each(checkpoint, length) if shape.steps}
    return sorted(found.values(), key=lambda shape: (shape.macs, shape.layers), reverse=True)


def _each(checkpoint: Checkpoint, length: int) -> Iterator[Shape]:
    whole = count_macs(checkpoint.model, length=length)
    total = checkpoint.model.config.num_hidden_layers
    for num_layers in sorted({_num_layers(rung, total) for rung in LADDER}):
        model, depth = checkpoint.model, []
        if num_layers < total:
            model = keep_layers(model, checkpoint.task, choose_layers(total, num_layers, "every-other"))
            depth = [{"method": "depth", "num_layers": num_layers}]
        widths = [layer.width for layer in encoder_layers(model)]
        counts = [layer.num_heads for layer in encoder_layers(model)]
        costs = mac_costs(model, length)
        for rung in LADDER:
            if _num_layers(rung, total) == num_layers:
                heads, of_heads = _without_heads(counts, rung.heads)
                neurons, of_neurons = _without_neurons(widths, rung.ffn)
                # layers differ in what they have, not in what a head or a neuron of them costs
                macs = round(costs.fixed + heads * costs.heads[0][1] + neurons * costs.neurons[0][1])
                steps = (*depth, *of_heads, *of_neurons)
                yield Shape(layers=num_layers, heads=heads, neurons=neurons, macs=macs, share=macs / whole, steps=steps)


def _num_layers(rung: Rung, total: int) -> int:
    return max(1, round(rung.layers * total))


def _without_heads(counts: list[int], share: float) -> tuple[int, list[dict[str, Any]]]:
    """Heads that stay where that share goes, or as many as can, and the step that does it."""
    total = sum(counts)
    num_removed = min(round(share * total), total - len(counts))
    return total - num_removed, [{"method": "heads", "sparsity": num_removed / total}] * (num_removed > 0)


def _without_neurons(widths: list[int], share: float) -> tuple[int, list[dict[str, Any]]]:
    """Neurons that stay where about that share goes, in the largest multiple that the narrowest layer has two of, and the step that
    does it."""
    total = sum(widths)
    num_removed = round(share * total)
    multiple = next((multiple for multiple in _MULTIPLES if 2 * multiple <= min(widths) and multiple <= 2 * num_removed), None)
    if multiple is None:
        return total, []
    ones = [torch.ones(width) for width in widths]
    left = int(sum(mask.sum() for mask in mask_neurons(ones, ones, num_removed, multiple)))  # how many go does not depend on which
    return left, [{"method": "ffn", "sparsity": share, "multiple_of": multiple}] * (left < total)
