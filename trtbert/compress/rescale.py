"""Scale the heads and neurons that stay so that each sub-layer's output is nearest to the unpruned model's (Kwon et al., 2022, 3.3).

Legend: T tokens, D hidden, G gates of a sub-layer (heads N, or neurons F), H head size.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.batches import Item, batches
from trtbert.compress.layers import Layer, encoder_layers, layer_input
from trtbert.errors import UnsupportedError

_BATCH_SIZE = 32
_DAMPING = 1e-2
"""Of the mean of the diagonal: towards scales of 1, which texts that were not seen can live with."""


def check_rescalable(model: Any) -> None:
    """UnsupportedError for a model whose layers are one: what fits one use of its weights does not fit the others."""
    if model.config.model_type == "albert":
        raise UnsupportedError("albert has one layer that it uses again and again, which cannot be scaled use by use; give --no-rescale.")


@torch.no_grad()
def rescale(
    checkpoint: Checkpoint,
    items: Sequence[Item],
    heads: Sequence[torch.Tensor],
    neurons: Sequence[torch.Tensor],
    on_step: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Multiply the weights behind the gates by the scales, in place; gives the relative squared error before and after each sub-layer's.

    Sub-layers come one after the other, each on the inputs that the pruned and scaled ones before it give. With scales of 1 as the point
    that damping draws to, the error on `items` never grows.
    """
    model = checkpoint.model
    whole = copy.deepcopy(model)
    layers, targets = encoder_layers(model), encoder_layers(whole)
    before, after = [], []
    for index, (layer, target) in enumerate(zip(layers, targets, strict=True)):
        for kind, mask in (("heads", heads[index]), ("neurons", neurons[index])):
            gram, moment, norm = _moments(checkpoint, whole, items, layer, target, kind)
            scales = solve(gram, moment, mask)
            before.append(_error(gram, moment, norm, mask))
            after.append(_error(gram, moment, norm, scales))
            _multiply(layer, kind, scales)
        on_step("scaling what stays", index + 1, len(layers))
    return {"error_before": [round(value, 6) for value in before], "error_after": [round(value, 6) for value in after]}


def solve(gram_GG: torch.Tensor, moment_G: torch.Tensor, mask_G: torch.Tensor) -> torch.Tensor:
    """The scales of those that stay, 0 for the others: argmin of |A m - b|^2 + d |m - 1|^2, where gram is A'A and moment A'b."""
    kept = mask_G.nonzero().flatten()
    gram = gram_GG[kept][:, kept].double()
    damping = _DAMPING * float(gram.diagonal().mean()) + 1e-12
    right = moment_G[kept].double() + damping
    scales = torch.zeros_like(mask_G)
    scales[kept] = torch.linalg.solve(gram + damping * torch.eye(len(kept), dtype=torch.float64), right).to(mask_G.dtype)
    return scales


def _error(gram_GG: torch.Tensor, moment_G: torch.Tensor, norm: float, scales_G: torch.Tensor) -> float:
    """|A m - b|^2 / |b|^2"""
    m = scales_G.double()
    return max(0.0, float(m @ gram_GG.double() @ m - 2 * (m @ moment_G.double()) + norm)) / max(norm, 1e-30)


def _moments(
    checkpoint: Checkpoint, whole: Any, items: Sequence[Item], layer: Layer, target: Layer, kind: str
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A'A, A'b and b'b over all tokens: A has a column for what each gate adds to the sub-layer's output, b is what they should add."""
    linear = layer.out if kind == "heads" else layer.down
    groups = layer.num_heads if kind == "heads" else layer.width
    weight_DX = linear.weight
    gram, moment, norm = torch.zeros(groups, groups, dtype=torch.float64), torch.zeros(groups, dtype=torch.float64), 0.0
    with _recorded(layer, kind) as ours, _recorded(target, kind) as theirs:
        for batch in batches(checkpoint, items, _BATCH_SIZE):
            checkpoint.model(**batch.inputs)
            whole(**batch.inputs)
            is_token = batch.mask != 0
            inputs_TX, residual_TD = ours["input"][is_token], ours["residual"][is_token]
            wanted_TD = (theirs["residual"] + theirs["output"])[is_token] - residual_TD - linear.bias
            gram_XX = inputs_TX.T @ inputs_TX * (weight_DX.T @ weight_DX)
            moment_X = (inputs_TX * (wanted_TD @ weight_DX)).sum(0)
            gram += gram_XX.view(groups, -1, groups, gram_XX.shape[-1] // groups).sum((1, 3)).double()
            moment += moment_X.view(groups, -1).sum(1).double()
            norm += float(wanted_TD.double().square().sum())
    return gram, moment, norm


@contextmanager
def _recorded(layer: Layer, kind: str) -> Iterator[dict[str, torch.Tensor]]:
    """What goes into the last linear module of the sub-layer before its gates, what comes out, and what is added to that."""
    record: dict[str, torch.Tensor] = {}
    linear, source = (layer.out, layer.module) if kind == "heads" else (layer.down, layer.up)

    def keep_residual(_module: Any, inputs: tuple[torch.Tensor, ...], options: dict[str, torch.Tensor]) -> None:
        record["residual"] = layer_input(inputs, options)

    def keep_input(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        record["input"] = inputs[0]

    def keep_output(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        record["output"] = output

    handles = [
        source.register_forward_pre_hook(keep_residual, with_kwargs=True),
        linear.register_forward_pre_hook(keep_input),
        linear.register_forward_hook(keep_output),
    ]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _multiply(layer: Layer, kind: str, scales: torch.Tensor) -> None:
    """Scales of what is gone are 0: its weights go with it."""
    if kind == "heads":
        layer.out.weight.mul_(scales.repeat_interleave(layer.head_size))
    else:
        layer.down.weight.mul_(scales)
