"""Multiply the heads' contexts and the FFN's activations by gates, without a change to the model.

Legend: B batch, S sequence, N heads, H head size, F neurons of an FFN.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from trtbert.compress.layers import Layer

Gate = torch.Tensor | None
"""[N] or [F] for all examples, [B,N] or [B,F] for each; None leaves the layer as it is."""


@contextmanager
def gated(layers: Sequence[Layer], *, heads: Sequence[Gate] | None = None, neurons: Sequence[Gate] | None = None) -> Iterator[None]:
    """Inside, layer i computes with heads[i] and neurons[i]; a gate of 1 changes nothing, of 0 removes the head or the neuron.

    Gates may have gradients. In a shared layer a gate counts at every use.
    """
    handles = []
    try:
        for layer, gate in zip(layers, heads or [], strict=False):
            if gate is not None:
                handles.append(layer.out.register_forward_pre_hook(_multiplier(gate.repeat_interleave(layer.head_size, -1))))
        for layer, gate in zip(layers, neurons or [], strict=False):
            if gate is not None:
                handles.append(layer.down.register_forward_pre_hook(_multiplier(gate)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _multiplier(gate: torch.Tensor) -> Any:
    factor = gate[:, None] if gate.ndim == 2 else gate

    def multiply(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0] * factor, *inputs[1:])

    return multiply
