"""How much the loss of a model depends on each head and on each FFN neuron (Michel, Levy and Neubig, 2019).

Legend: B examples, N heads, F neurons, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trtbert.checkpoint.read import RAW_OUTPUTS, Checkpoint
from trtbert.compress.batches import Batch, Item, batches
from trtbert.compress.gates import Gate, gated
from trtbert.compress.layers import Layer, encoder_layers
from trtbert.compress.objectives import embeddings, task_losses

BATCH_SIZE = 32
Masks = Sequence[torch.Tensor]
"""For each layer 1 for a head (or neuron) that is there and 0 for one that is masked."""


@dataclass(frozen=True, eq=False)
class Importance:
    """For each layer, the mean over the examples of |dL/d gate| and of its square, which is the diagonal of the Fisher information."""

    absolute: list[torch.Tensor]
    squared: list[torch.Tensor]


def importance(
    checkpoint: Checkpoint,
    items: Sequence[Item],
    *,
    heads: Masks | None = None,
    neurons: Masks | None = None,
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Importance, Importance]:
    """Of heads and of neurons, with the masks (none: all are there) as the gates where the derivative is taken.

    I = E |dL/d gate| with the absolute value inside the expectation over examples: each example has gates of its own, so that one
    backward pass of the sum of the losses gives the derivatives of each. Dropout is off. Without labels see `_projection`.
    """
    layers = encoder_layers(checkpoint.model)
    masks = (heads or [torch.ones(layer.num_heads) for layer in layers], neurons or [torch.ones(layer.width) for layer in layers])
    totals = [[torch.zeros(2, len(mask)) for mask in kind] for kind in masks]
    done = 0
    was_training = checkpoint.model.training
    checkpoint.model.eval()
    for batch in batches(checkpoint, items, BATCH_SIZE):
        for kind, gradients in zip(totals, _gradients(checkpoint, layers, batch, masks, seed), strict=True):
            for total, gradient_BG in zip(kind, gradients, strict=True):
                total += torch.stack([gradient_BG.abs().sum(0), gradient_BG.square().sum(0)])
        done += len(batch)
        on_step(done, len(items))
    checkpoint.model.train(was_training)
    of_heads, of_neurons = (
        Importance([total[0] / len(items) for total in kind], [total[1] / len(items) for total in kind]) for kind in totals
    )
    return of_heads, of_neurons


def gradients_of_heads(checkpoint: Checkpoint, items: Sequence[Item], seed: int) -> list[torch.Tensor]:
    """For each layer dL/d gate of its heads, a row for each example: [E,N]."""
    layers = encoder_layers(checkpoint.model)
    masks = [torch.ones(layer.num_heads) for layer in layers], [torch.ones(layer.width) for layer in layers]
    found = [_gradients(checkpoint, layers, batch, masks, seed)[0] for batch in batches(checkpoint, items, BATCH_SIZE)]
    return [torch.cat(rows) for rows in zip(*found, strict=True)]


def _gradients(
    checkpoint: Checkpoint, layers: Sequence[Layer], batch: Batch, masks: tuple[Masks, Masks], seed: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """dL/d gate of each example: [B,N] and [B,F] for each layer."""
    size = len(next(iter(batch.inputs.values())))
    gates = [[mask.expand(size, -1).clone().requires_grad_() for mask in kind] for kind in masks]
    heads: list[Gate] = [*gates[0]]
    neurons: list[Gate] = [*gates[1]]
    with torch.enable_grad(), gated(layers, heads=heads, neurons=neurons):
        loss = task_losses(checkpoint, batch) if batch.labels is not None else _projection(checkpoint, batch, seed)
    flat = torch.autograd.grad(loss.sum(), [gate for kind in gates for gate in kind])
    folded = [gradient.view(-1, len(batch), gradient.shape[-1]).sum(0) for gradient in flat]  # of both texts of a pair
    return folded[: len(layers)], folded[len(layers) :]


def _projection(checkpoint: Checkpoint, batch: Batch, seed: int) -> torch.Tensor:
    """[B]: each text's output along a random direction, the same for a text whatever its batch.

    Of a model without labels the distance to its own output has no gradient where nothing is pruned yet; how far a gate moves the
    output in any direction has.
    """
    outputs = checkpoint.model(**batch.inputs)
    raw = outputs[RAW_OUTPUTS[checkpoint.task][0]]
    if checkpoint.head:
        vectors_BD = embeddings(checkpoint.head, raw, batch.mask)
    elif raw.ndim == 3:
        vectors_BD = (raw * batch.mask[:, :, None]).sum(1) / batch.mask.sum(1, keepdim=True)
    else:
        vectors_BD = raw
    directions = [_direction(item, vectors_BD.shape[-1], seed) for item in batch.items]
    return (vectors_BD * torch.stack(directions)).sum(-1)


def _direction(item: Item, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + sum((i + 1) * token for i, token in enumerate(item.ids[0]))) % 2**63)
    return torch.randn(size, generator=generator)
