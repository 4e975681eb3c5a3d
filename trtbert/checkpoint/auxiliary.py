"""Heads of other tasks on the same layers as a classifier's own (multi-task learning), kept in a file beside its weights.

They are there to teach: no package holds them.
Legend: L labels of one task, D hidden size.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from trtbert.errors import InputError

AUXILIARY_HEADS = "auxiliary_heads.safetensors"


@dataclass(frozen=True, eq=False)
class AuxiliaryHead:
    """The last layer of a task, in the place of the classifier's own."""

    labels: tuple[str, ...]
    linear: nn.Linear
    """D -> L."""


def read_auxiliary(folder: Path) -> dict[str, AuxiliaryHead]:
    """By the name of the task; empty where there is no such file. InputError for one that cannot be used."""
    path = folder / AUXILIARY_HEADS
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            labels = {name: tuple(map(str, found)) for name, found in json.loads(file.metadata()["labels"]).items()}
        tensors = safetensors.torch.load_file(path)
        return {name: AuxiliaryHead(found, _linear(tensors, name, len(found))) for name, found in labels.items()}
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Make the model again, or remove the file: its own task does not need it."
        ) from error


def _linear(tensors: Mapping[str, torch.Tensor], name: str, num_labels: int) -> nn.Linear:
    weight_LD, bias_L = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    linear = nn.Linear(weight_LD.shape[1], num_labels)
    linear.load_state_dict({"weight": weight_LD, "bias": bias_L})
    return linear


def write_auxiliary(heads: Mapping[str, AuxiliaryHead], folder: Path) -> None:
    """Nothing where there are none."""
    if heads:
        tensors = {
            f"{name}.{part}": tensor.contiguous() for name, head in heads.items() for part, tensor in head.linear.state_dict().items()
        }
        labels = {name: head.labels for name, head in heads.items()}
        safetensors.torch.save_file(tensors, folder / AUXILIARY_HEADS, metadata={"labels": json.dumps(labels)})
