"""A bare encoder and the labels of a task -> the tensors of a classifier that is still to be trained."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trtbert.checkpoint import hf_config
from trtbert.checkpoint.torch_model import class_of
from trtbert.errors import InputError
from trtbert.tasks import Task

_HEADS: tuple[Task, ...] = ("text-classification", "token-classification", "question-answering", "text-ranking")


def with_new_head(
    config: Any, task: Task, state: Mapping[str, torch.Tensor], labels: Sequence[str], *, seed: int
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The config with `labels`, and the tensors with a head drawn as transformers draws it; a head that fits already is kept.

    Raises InputError for a task that has no head, or a classifier with no label.
    """
    if task not in _HEADS:
        raise InputError(f"{task} has no head to be trained; choose one of {', '.join(_HEADS)}.")
    config = copy.deepcopy(config)
    if task in hf_config.CLASSIFIERS:
        if not labels:
            raise InputError("A new classifier needs labels, and the data names none.")
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    model_class = class_of(config, task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = model_class(config)
    prefix = f"{fresh.base_model_prefix}."
    known = {name if name.startswith(prefix) or name in fresh.state_dict() else prefix + name: tensor for name, tensor in state.items()}
    head = {
        name: tensor
        for name, tensor in fresh.state_dict().items()
        if not name.startswith(prefix) and (name not in known or known[name].shape != tensor.shape)
    }
    return config, known | head
