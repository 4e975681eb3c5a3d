"""Several tasks on one model: labelled texts of other tasks train the same layers, each task with a head of its own (Liu et al., 2019).

A batch mixes the tasks as they come, so each has a share of the steps that is proportional to its examples.
Legend: B examples, L labels of one task, D hidden size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trtbert.checkpoint.auxiliary import AuxiliaryHead
from trtbert.checkpoint.hf_config import problem_of
from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.batches import Batch, Item, collate, encode_examples, encode_texts
from trtbert.compress.method import Job
from trtbert.compress.training import History, train
from trtbert.data import read_examples, read_labels
from trtbert.errors import InputError, UnsupportedError

_OWN = 0
"""The number of the checkpoint's own task; the others follow in their order."""


@dataclass(frozen=True, eq=False)
class Tasks:
    """The checkpoint's own task and the others, with their examples; an item's label is (task, class)."""

    checkpoint: Checkpoint
    heads: Mapping[str, AuxiliaryHead]
    items: Sequence[Item]

    def trained(self) -> nn.ModuleDict:
        """The model and the other heads."""
        linears = nn.ModuleList(head.linear for head in self.heads.values())
        return nn.ModuleDict({"model": self.checkpoint.model, "heads": linears})

    def result(self) -> Checkpoint:
        return replace(self.checkpoint, auxiliary=dict(self.heads))

    def label_losses(self, batch: Batch) -> torch.Tensor:
        """[B]: the cross-entropy of each example under the head of its own task."""
        logits, (tasks_B, classes_B) = self.logits(batch), _labels(batch)
        losses_B = torch.zeros(len(batch), device=classes_B.device)
        for task, logits_BL in enumerate(logits):
            rows_B = tasks_B == task
            losses_B[rows_B] = functional.cross_entropy(logits_BL[rows_B], classes_B[rows_B], reduction="none")
        return losses_B

    def teaching_losses(self, teacher: "Tasks", batch: Batch) -> torch.Tensor:
        """[B]: the squared distance of each example's logits to the teacher's, under the head of its own task."""
        with torch.no_grad():
            expected = teacher.logits(batch)
        tasks_B, _ = _labels(batch)
        distances = [(ours - theirs).square().sum(-1) for ours, theirs in zip(self.logits(batch), expected, strict=True)]
        return torch.stack(distances, 1).gather(1, tasks_B[:, None])[:, 0]

    def logits(self, batch: Batch) -> list[torch.Tensor]:
        """[B,L] of each task, of the texts as this model reads them."""
        inputs = {name: tensor.to(batch.mask.device) for name, tensor in collate(self.checkpoint, batch.items).inputs.items()}
        with _classifier_inputs(self.checkpoint.model) as seen:
            own_BL = self.checkpoint.model(**inputs).logits
        return [own_BL, *(head.linear(seen[-1]) for head in self.heads.values())]


def read_tasks(job: Job, files: Sequence[Path], heads: Mapping[str, AuxiliaryHead]) -> Tasks:
    """The job's own examples, and each file as a task of the name of the file.

    `heads` are those that are there; a task without one gets a new one, drawn at random. Raises UnsupportedError for a model that does not
    put each text into one class, InputError for files of the same name, or with labels that their head has no place for.
    """
    checkpoint, max_length = job.checkpoint, job.training.max_length
    if checkpoint.task != "text-classification" or problem_of(checkpoint.model.config) != "single_label_classification":
        raise UnsupportedError("Other tasks can be learnt beside a text-classification with one class a text only; leave --auxiliary out.")
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        raise InputError(f"A task is named by its file, and these names cannot be told apart: {', '.join(names)}. Rename the files.")
    own = encode_examples(checkpoint, job.labelled, max_length=max_length)
    found, items = dict[str, AuxiliaryHead](), [replace(item, label=(_OWN, item.label)) for item in own]
    for number, (name, file) in enumerate(zip(names, files, strict=True), 1):
        labels = heads[name].labels if name in heads else read_labels(file, "text-classification")
        examples = read_examples(file, "text-classification", labels=labels)
        if any(len(example.label) != 1 for example in examples):
            raise InputError(f"A text of {file} has no label or several, and a task that is learnt beside another gives one a text.")
        found[name] = heads.get(name) or AuxiliaryHead(labels, nn.Linear(classifier(checkpoint.model).in_features, len(labels)))
        ids = {label: index for index, label in enumerate(labels)}
        encoded = encode_texts(checkpoint, [example.text for example in examples], max_length=max_length)
        items += [replace(item, label=(number, ids[example.label[0]])) for item, example in zip(encoded, examples, strict=True)]
    return Tasks(checkpoint, found, items)


def train_tasks(job: Job, tasks: Tasks, loss: Callable[[Batch], torch.Tensor], *, frozen: Sequence[nn.Module] = ()) -> History:
    """Train the model and the heads of all tasks; what is evaluated is the model's own task."""
    evaluate, model = job.evaluate, tasks.checkpoint.model
    return train(
        tasks.trained(),
        lambda batch, _step: loss(batch),
        tasks.items,
        job.training,
        collate=lambda items: collate(tasks.checkpoint, items),
        frozen=frozen,
        evaluate=None if evaluate is None else lambda: evaluate(model),
        state=None if job.state is None else job.state / "tasks",
        on_step=lambda done, total, _loss: job.on_step(f"training {len(tasks.heads) + 1} tasks", done, total),
    )


def classifier(model: Any) -> nn.Linear:
    """The last layer of a classifier of texts, whatever the family calls it."""
    last = model.classifier
    linear = last if isinstance(last, nn.Linear) else last.out_proj
    assert isinstance(linear, nn.Linear)
    return linear


@contextmanager
def _classifier_inputs(model: Any) -> Iterator[list[torch.Tensor]]:
    """Inside, what the last layer is given, [B,D] of each pass."""
    seen: list[torch.Tensor] = []
    handle = classifier(model).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _labels(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    assert batch.labels is not None
    return batch.labels[:, 0], batch.labels[:, 1]
