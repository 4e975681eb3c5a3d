"""A checkpoint -> a runtime like that of a package, run by torch: the same inputs, outputs and facts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trtbert.checkpoint import hf_config
from trtbert.checkpoint.heads import Activation, Step, run_head
from trtbert.checkpoint.read import Checkpoint, RawModel, input_names
from trtbert.checkpoint.tokenizer import write_tokenizer
from trtbert.package import ModelFacts, TensorFacts
from trtbert.runtime import Tensor
from trtbert.tasks import ATTENTION_MASK, TASKS

Array = npt.NDArray[Any]


class TorchRuntime:
    """Runs a model of the checkpoint's task, by default its own, as it is at the moment of a call."""

    def __init__(self, checkpoint: Checkpoint, model: Any = None) -> None:
        self._checkpoint = checkpoint
        self._model = model if model is not None else checkpoint.model
        self._raw = RawModel(self._model, checkpoint.task)
        self.inputs = tuple(Tensor(name, np.dtype(np.int32), (None, None)) for name in input_names(self._model))
        self.outputs = tuple(Tensor(name, np.dtype(np.float32), (None,)) for name in TASKS[checkpoint.task].outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of the task for int32 [B,S] feeds; the model must be in evaluation mode."""
        device = next(self._model.parameters()).device
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)).to(device) for name, value in feeds.items()}
        with torch.inference_mode():
            outputs = [output.float().cpu().numpy() for output in self._raw(**tensors)]
        head = _head(self._checkpoint, self._model, outputs[0].shape[-1])
        names = TASKS[self._checkpoint.task].outputs
        return {name: run_head(head, output, feeds[ATTENTION_MASK]) for name, output in zip(names, outputs, strict=True)}


def describe(checkpoint: Checkpoint, folder: Path) -> ModelFacts:
    """The facts of a package of this checkpoint; its tokenizer.json is written into `folder`."""
    model, task = checkpoint.model, checkpoint.task
    tokenizer = write_tokenizer(checkpoint.tokenizer, folder, num_rows=model.get_input_embeddings().num_embeddings)
    width, options = _width(checkpoint), model.config.to_dict()
    shape, size = TASKS[task].shape, width
    for step in checkpoint.head:
        size = step.output_size(size)
    return ModelFacts(
        architecture=model.config.model_type,
        task=task,
        labels=hf_config.labels_of(options, width) if task in hf_config.CLASSIFIERS else (),
        activation=hf_config.activation_of(task, options, width),
        max_length=checkpoint.max_length,
        num_layers=hf_config.num_layers(options),
        tokenizer=tokenizer,
        inputs=tuple(TensorFacts(name=name, dtype="int32", shape=("batch", "sequence")) for name in input_names(model)),
        outputs=tuple(
            TensorFacts(name=name, dtype="float32", shape=shape if shape[-1] == "sequence" else (*shape[:-1], size))
            for name in TASKS[task].outputs
        ),
    )


def _head(checkpoint: Checkpoint, model: Any, width: int) -> tuple[Step, ...]:
    activation = hf_config.activation_of(checkpoint.task, model.config.to_dict(), width)
    return checkpoint.head if activation == "none" else (*checkpoint.head, Activation(activation))


def _width(checkpoint: Checkpoint) -> int:
    device = next(checkpoint.model.parameters()).device
    example = {name: torch.ones((1, 3), dtype=torch.int32, device=device) for name in input_names(checkpoint.model)}
    if "token_type_ids" in example:
        example["token_type_ids"].zero_()
    with torch.inference_mode():
        return int(RawModel(checkpoint.model, checkpoint.task)(**example)[0].shape[-1])
