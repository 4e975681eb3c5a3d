"""Record what a model computes inside: hidden states, queries, keys and values of each layer.

Legend: B examples, S sequence, D hidden, N heads, H head size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from trtbert.compress.layers import encoder_layers, layer_input, layer_output


@dataclass(eq=False)
class Captured:
    """Of the latest forward pass, with gradients where the pass has them."""

    hidden_BSD: list[torch.Tensor] = field(default_factory=list)
    """What goes into the first layer (the embeddings), then what each layer gives."""
    query_BSD: list[torch.Tensor] = field(default_factory=list)
    """Of each layer, all heads side by side."""
    key_BSD: list[torch.Tensor] = field(default_factory=list)
    value_BSD: list[torch.Tensor] = field(default_factory=list)

    def clear(self) -> None:
        for values in (self.hidden_BSD, self.query_BSD, self.key_BSD, self.value_BSD):
            values.clear()


@contextmanager
def captured(model: Any) -> Iterator[Captured]:
    """Inside, each forward pass of the model replaces what was recorded. A layer that is used several times is recorded at each use."""
    record, layers = Captured(), encoder_layers(model)

    def start(_module: Any, _inputs: Any) -> None:
        record.clear()

    def keep_input(_module: Any, inputs: tuple[torch.Tensor, ...], options: dict[str, torch.Tensor]) -> None:
        if not record.hidden_BSD:
            record.hidden_BSD.append(layer_input(inputs, options))

    def keep(kept: list[torch.Tensor]) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            kept.append(layer_output(output))

        return hook

    handles = [model.register_forward_pre_hook(start), layers[0].module.register_forward_pre_hook(keep_input, with_kwargs=True)]
    for layer in layers:
        handles.append(layer.query.register_forward_hook(keep(record.query_BSD)))
        handles.append(layer.key.register_forward_hook(keep(record.key_BSD)))
        handles.append(layer.value.register_forward_hook(keep(record.value_BSD)))
        handles.append(layer.module.register_forward_hook(keep(record.hidden_BSD)))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def scores(query_BSD: torch.Tensor, key_BSD: torch.Tensor, head_size: int) -> torch.Tensor:
    """[B,N,S,S]: the scaled products of queries and keys, before mask and softmax."""
    query_BNSH, key_BNSH = (x.view(*x.shape[:2], -1, head_size).transpose(1, 2) for x in (query_BSD, key_BSD))
    products: torch.Tensor = query_BNSH @ key_BNSH.transpose(-1, -2)
    scaled: torch.Tensor = products / head_size**0.5
    return scaled
