"""A model -> the same with another attention in every layer, as it is before it is trained.

Legend: D hidden, N heads, G groups, heads of keys and values, H head size.
"""

import copy
from typing import Any

import torch

from trtbert.checkpoint.successors import BANDED, GROUPED, check_successor, successor_key
from trtbert.checkpoint.torch_model import load_model
from trtbert.compress.layers import Layer, encoder_layers
from trtbert.compress.slicing import copied_state
from trtbert.errors import InputError, UnsupportedError
from trtbert.tasks import Task


def grouped_model(model: Any, task: Task, num_kv_heads: int) -> Any:
    """Keys and values of `num_kv_heads` heads, each the mean of those that it replaces (Ainslie et al., 2023).

    InputError where some heads would be left over.
    """
    config, state = _changed_config(model, GROUPED, num_kv_heads), copied_state(model)
    for index, layer in enumerate(encoder_layers(model)):
        if layer.num_heads % num_kv_heads:
            raise InputError(
                f"The {layer.num_heads} heads of layer {index} do not divide into {num_kv_heads} groups; give a --num-kv-heads that "
                "divides the heads of every layer, as 1 does."
            )
        for part in layer.names.qkv[1:]:
            for tensor in ("weight", "bias"):
                name = f"{layer.name}.{layer.names.attention}.{part}.{tensor}"
                state[name] = _pooled(state[name], layer, num_kv_heads)
    return load_model(config, task, state)


def banded_model(model: Any, task: Task, window: int) -> Any:
    """A token sees `window` tokens on each side, and the first; the weights are those of the whole attention."""
    return load_model(_changed_config(model, BANDED, window), task, copied_state(model))


def _changed_config(model: Any, key: str, value: int) -> Any:
    config = copy.deepcopy(model.config)
    if (found := successor_key(config)) is not None:
        raise UnsupportedError(
            f"The attention of this model was replaced before ({found} {getattr(config, found)}); give the model before that."
        )
    check_successor(config, key)
    setattr(config, key, value)
    return config


def _pooled(tensor: torch.Tensor, layer: Layer, num_groups: int) -> torch.Tensor:
    """[N*H,...] -> [G*H,...]"""
    heads_GNH = tensor.reshape(num_groups, layer.num_heads // num_groups, layer.head_size, *tensor.shape[1:])
    return heads_GNH.mean(1).reshape(-1, *tensor.shape[1:])
