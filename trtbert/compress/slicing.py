"""Cut heads, neurons and layers out of a model: its tensors and config -> a smaller model of the same kind.

The smaller model is built as it is when its checkpoint is read, from the shapes of the tensors, so what is saved is what was measured.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trtbert.checkpoint.families import FAMILIES
from trtbert.checkpoint.torch_model import load_model
from trtbert.compress.layers import Layer, activation, encoder_layers
from trtbert.errors import InputError, UnsupportedError
from trtbert.tasks import Task

State = dict[str, torch.Tensor]
Kept = Sequence[Sequence[int]]
"""For each layer the indices of what stays, ascending, as the model has it now."""


def slice_model(model: Any, task: Task, *, heads: Kept | None = None, neurons: Kept | None = None) -> Any:
    """A model with the kept heads and neurons of each layer; it computes what the whole one does with gates of 0 for the others.

    A neuron whose row of weights is zero is a constant, act(bias), and a head whose rows of V are zero the constant bias of V: what
    they add to the next bias is kept. InputError where a layer would lose everything.
    """
    state, config = copied_state(model), copy.deepcopy(model.config)
    layers = encoder_layers(model)
    if heads is not None:
        check_heads_can_go(model)
    with torch.no_grad():
        for index, layer in enumerate(layers):
            if heads is not None:
                _slice_heads(state, config, index, layer, heads[index])
            if neurons is not None:
                _slice_neurons(state, layer, neurons[index], activation(model))
    _set_width(config, [state[f"{layer.name}.{layer.names.up}.weight"].shape[0] for layer in layers])
    return load_model(config, task, state)


def keep_layers(model: Any, task: Task, kept: Sequence[int]) -> Any:
    """A model of these layers alone, in this order."""
    config = copy.deepcopy(model.config)
    num_layers = config.num_hidden_layers
    if not kept or sorted(set(kept)) != list(kept) or not 0 <= kept[0] <= kept[-1] < num_layers:
        raise InputError(f"Layers to keep must ascend from 0 to {num_layers - 1}, one or more of them, got {list(kept)}.")
    if config.model_type == "albert":
        config.num_hidden_layers = len(kept)
        return load_model(config, task, copied_state(model))
    if config.model_type == "modernbert":
        raise UnsupportedError("In modernbert the number of a layer decides whether it sees the whole text; its layers cannot be removed.")
    numbers = {old: new for new, old in enumerate(kept)}
    removed = _removed_heads(config)
    config.pruned_heads = {numbers[layer]: heads for layer, heads in removed.items() if layer in numbers}
    config.num_hidden_layers = len(kept)
    if config.model_type in FAMILIES:  # The layers of others have one width.
        layers = encoder_layers(model)
        _set_width(config, [layers[index].width for index in kept])
    return load_model(config, task, _renumbered(copied_state(model), numbers))


_NUMBER = re.compile(r"(?P<before>(?:^|\.)layer\.)(?P<number>\d+)(?P<after>\.)")


def copied_state(model: Any) -> State:
    """What is loaded takes the tensors as they are: without copies, training one model would change the other."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _renumbered(state: Mapping[str, torch.Tensor], numbers: Mapping[int, int]) -> State:
    result: State = {}
    for name, tensor in state.items():
        match = _NUMBER.search(name)
        if match is None:
            result[name] = tensor
        elif int(match["number"]) in numbers:
            result[_NUMBER.sub(rf"\g<before>{numbers[int(match['number'])]}\g<after>", name, count=1)] = tensor
    return result


def check_heads_can_go(model: Any) -> None:
    """UnsupportedError where queries share heads of keys and values."""
    for index, layer in enumerate(encoder_layers(model)):
        if layer.key.out_features != layer.query.out_features:
            raise UnsupportedError(
                f"The queries of layer {index} share heads of keys and values, so its heads cannot be removed; remove heads first, and "
                "share those that are left."
            )


def _slice_heads(state: State, config: Any, index: int, layer: Layer, kept: Sequence[int]) -> None:
    _check(kept, layer.num_heads, f"heads of layer {index}")
    size = layer.head_size
    rows = torch.cat([torch.arange(head * size, (head + 1) * size) for head in kept])
    attention, out = f"{layer.name}.{layer.names.attention}", f"{layer.name}.{layer.names.out}"
    value = f"{attention}.{layer.names.qkv[2]}"
    gone = [head for head in range(layer.num_heads) if head not in set(kept)]
    weight, bias = state[f"{value}.weight"], state[f"{value}.bias"]
    constant = [head for head in gone if not weight[head * size : (head + 1) * size].any()]
    for head in constant:
        part = slice(head * size, (head + 1) * size)
        state[f"{out}.bias"] = state[f"{out}.bias"] + state[f"{out}.weight"][:, part] @ bias[part]
    for name in layer.names.qkv:
        for tensor in (f"{attention}.{name}.weight", f"{attention}.{name}.bias"):
            state[tensor] = state[tensor][rows]
    state[f"{out}.weight"] = state[f"{out}.weight"][:, rows]
    removed = _removed_heads(config)
    original = [head for head in range(config.num_attention_heads) if head not in removed.get(index, ())]
    removed[index] = sorted({*removed.get(index, ()), *(original[head] for head in gone)})
    config.pruned_heads = {layer_index: heads for layer_index, heads in sorted(removed.items()) if heads}


def _slice_neurons(state: State, layer: Layer, kept: Sequence[int], act: Any) -> None:
    _check(kept, layer.width, f"neurons of {layer.name}")
    up, down = f"{layer.name}.{layer.names.up}", f"{layer.name}.{layer.names.down}"
    rows = torch.tensor(list(kept))
    gone = torch.ones(layer.width, dtype=torch.bool).index_fill(0, rows, False)
    constant = gone & ~state[f"{up}.weight"].any(1)
    state[f"{down}.bias"] = state[f"{down}.bias"] + state[f"{down}.weight"][:, constant] @ act(state[f"{up}.bias"][constant])
    state[f"{up}.weight"], state[f"{up}.bias"] = state[f"{up}.weight"][rows], state[f"{up}.bias"][rows]
    state[f"{down}.weight"] = state[f"{down}.weight"][:, rows]


def _check(kept: Sequence[int], count: int, what: str) -> None:
    if not kept or sorted(set(kept)) != list(kept) or not 0 <= kept[0] <= kept[-1] < count:
        raise InputError(f"Of the {what} one or more of 0 to {count - 1} must be kept, in ascending order, got {list(kept)[:10]}.")


def _removed_heads(config: Any) -> dict[int, list[int]]:
    """By layer, the heads of the original model that are gone."""
    return {int(layer): sorted(heads) for layer, heads in (getattr(config, "pruned_heads", None) or {}).items()}


def _set_width(config: Any, widths: Sequence[int]) -> None:
    """Where all layers have one width it is the config's."""
    if len(set(widths)) == 1:
        setattr(config, "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size", widths[0])
