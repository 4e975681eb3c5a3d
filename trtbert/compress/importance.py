"""How much the loss of a model depends on each head and on each FFN neuron (Michel, Levy and Neubig, 2019).

Legend: B examples of a batch, E all examples, S tokens, O outputs, N heads, F neurons, D embedding.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from trtbert.checkpoint.read import RAW_OUTPUTS, Checkpoint
from trtbert.compress.batches import Batch, Item, batches
from trtbert.compress.gates import Gate, gated
from trtbert.compress.layers import Layer, encoder_layers
from trtbert.compress.objectives import embeddings, task_losses

BATCH_SIZE = 32
Tensors = list[torch.Tensor]
"""One for each layer."""
OnStep = Callable[[int, int], None]


def importance(
    checkpoint: Checkpoint,
    items: Sequence[Item],
    *,
    heads: Tensors | None = None,
    neurons: Tensors | None = None,
    seed: int = 0,
    on_step: OnStep = lambda _done, _total: None,
) -> tuple[Tensors, Tensors]:
    """Of heads, [N] for each layer, and of neurons, [F]: I = E |dL/d gate|, with the absolute value inside the mean over examples.

    The derivative is taken where the gates have the values of the masks, 1 for what is there and 0 for what is gone (none: all is there).
    Dropout is off. Without labels see `_projections`.
    """
    layers = encoder_layers(checkpoint.model)
    masks = (heads or [torch.ones(layer.num_heads) for layer in layers], neurons or [torch.ones(layer.width) for layer in layers])
    totals = [[torch.zeros_like(mask) for mask in kind] for kind in masks]
    for found in _each_batch(checkpoint, items, layers, masks, seed, on_step):
        for kind, gradients in zip(totals, found, strict=True):
            for total, gradient_BG in zip(kind, gradients, strict=True):
                total += gradient_BG.abs().sum(0) / len(items)
    return totals[0], totals[1]


def gradients(
    checkpoint: Checkpoint, items: Sequence[Item], *, seed: int = 0, on_step: OnStep = lambda _done, _total: None
) -> tuple[Tensors, Tensors]:
    """dL/d gate of heads, [E,N] for each layer, and of neurons, [E,F], where all are there: a row for each example.

    The mean of the rows' outer products is the empirical Fisher information of a layer's gates.
    """
    layers = encoder_layers(checkpoint.model)
    masks = [torch.ones(layer.num_heads) for layer in layers], [torch.ones(layer.width) for layer in layers]
    found = list(_each_batch(checkpoint, items, layers, masks, seed, on_step))
    of_heads, of_neurons = ([torch.cat(rows) for rows in zip(*kind, strict=True)] for kind in zip(*found, strict=True))
    return of_heads, of_neurons


def _each_batch(
    checkpoint: Checkpoint, items: Sequence[Item], layers: Sequence[Layer], masks: tuple[Tensors, Tensors], seed: int, on_step: OnStep
) -> Iterator[tuple[Tensors, Tensors]]:
    """dL/d gate of heads, [B,N], and of neurons, [B,F]."""
    done, was_training = 0, checkpoint.model.training
    checkpoint.model.eval()
    for batch in batches(checkpoint, items, BATCH_SIZE):
        yield _gradients(checkpoint, layers, batch, masks, seed)
        done += len(batch)
        on_step(done, len(items))
    checkpoint.model.train(was_training)


def _gradients(
    checkpoint: Checkpoint, layers: Sequence[Layer], batch: Batch, masks: tuple[Tensors, Tensors], seed: int
) -> tuple[Tensors, Tensors]:
    """Each example has gates of its own, so that one backward pass of the sum of the losses gives the derivatives of each."""
    size = len(next(iter(batch.inputs.values())))
    gates = [[mask.expand(size, -1).clone().requires_grad_() for mask in kind] for kind in masks]
    heads: list[Gate] = [*gates[0]]
    neurons: list[Gate] = [*gates[1]]
    with torch.enable_grad(), gated(layers, heads=heads, neurons=neurons):
        losses = task_losses(checkpoint, batch) if _has_loss_of_each(checkpoint, batch) else _projections(checkpoint, batch, seed)
    flat = torch.autograd.grad(losses.sum(), [gate for kind in gates for gate in kind])
    folded = [gradient.view(-1, len(batch), gradient.shape[-1]).sum(0) for gradient in flat]  # of both texts of a pair
    return folded[: len(layers)], folded[len(layers) :]


def _has_loss_of_each(checkpoint: Checkpoint, batch: Batch) -> bool:
    """The loss of texts with a class is among the texts of a batch: it would make the importance depend on what is batched together."""
    is_contrastive = checkpoint.task == "sentence-similarity" and len(batch.items[0].ids) == 1
    return batch.labels is not None and not is_contrastive


def _projections(checkpoint: Checkpoint, batch: Batch, seed: int) -> torch.Tensor:
    """[B]: each text's output along a random direction, the same for a text whatever its batch.

    Of a model without labels the distance to its own output has no gradient where nothing is pruned yet; how far a gate moves the
    output in any direction has.
    """
    outputs = checkpoint.model(**batch.inputs)
    if checkpoint.task == "question-answering":
        logits_BSO = torch.stack([outputs[name] for name in RAW_OUTPUTS[checkpoint.task]], -1)
        vectors = [row_SO[mask_S.bool()].flatten() for row_SO, mask_S in zip(logits_BSO, batch.mask, strict=True)]
        return torch.stack([row @ _direction(item, len(row), seed) for row, item in zip(vectors, batch.items, strict=True)])
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
