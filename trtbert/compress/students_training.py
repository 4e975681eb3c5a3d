"""A student, its teacher and data -> the student trained, in one stage or in many that unfreeze it from the top down.

The stages are those of Mukherjee and Awadallah (2020): the states of the tokens, the logits, the labels.
Legend: B batch, S sequence, T kept tokens, A answers, L labels, D hidden size of the teacher, E = 2H states of the student.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from trtbert.checkpoint.read import Checkpoint
from trtbert.checkpoint.students.models import Student
from trtbert.compress.batches import NO_LABEL, Batch, Item, batches, collate
from trtbert.compress.method import Job
from trtbert.compress.objectives import embeddings, task_losses
from trtbert.compress.training import train
from trtbert.compress.transfer import labelled_items, transfer_items, with_choice

Loss = Literal["mse", "kl"]
Schedule = Literal["joint", "stagewise"]
StageLoss = Literal["representation", "logits", "labels", "labels and logits"]
Parts = dict[str, list[nn.Parameter]]


@dataclass(frozen=True)
class Stage:
    """One training run; all parameters that are in no group of `trained` are frozen."""

    loss: StageLoss
    trained: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Distiller:
    """What the losses of all stages are made of."""

    checkpoint: Checkpoint
    """With the student as its model."""
    teacher: Checkpoint
    loss: Loss
    temperature: float = 1.0
    soft_weight: float = 1.0
    freeze_embeddings: bool = False

    @property
    def student(self) -> Student:
        model: Student = self.checkpoint.model
        return model

    def representation(self, batch: Batch, projection: nn.Module) -> torch.Tensor:
        """Mean squared difference of the teacher's last states of the tokens and the student's, projected to their width."""
        kept_BS = batch.mask != 0
        expected_TD = self._of_teacher(batch, output_hidden_states=True).hidden_states[-1][kept_BS]
        states_TE = self.student.encoder()(**batch.inputs).last_hidden_state[kept_BS]
        return functional.mse_loss(projection(states_TE), expected_TD)

    def logits(self, batch: Batch) -> torch.Tensor:
        """mse: squared distance of the logits or embeddings. kl: T^2 KL(teacher || student) at temperature T. A mean over the answers."""
        theirs, ours = self._of_teacher(batch), self.student(**batch.inputs)
        expected_AL, actual_AL = (self._answers(c, outputs, batch) for c, outputs in ((self.teacher, theirs), (self.checkpoint, ours)))
        if self.loss == "mse":
            return (actual_AL - expected_AL).square().sum(-1).mean()
        t = self.temperature
        inputs, targets = (actual_AL / t).log_softmax(-1), (expected_AL / t).log_softmax(-1)
        return t * t * functional.kl_div(inputs, targets, reduction="batchmean", log_target=True)

    def labels(self, batch: Batch) -> torch.Tensor:
        """The loss of the task itself."""
        return task_losses(self.checkpoint, batch).mean()

    def pseudo_labelled(self, items: Sequence[Item], batch_size: int) -> list[Item]:
        """The items with the teacher's choice as their label."""
        labelled: list[Item] = []
        for batch in batches(self.teacher, items, batch_size):
            chosen = self._of_teacher(batch).logits.argmax(-1).tolist()
            labelled += [with_choice(item, choice) for item, choice in zip(batch.items, chosen, strict=True)]
        return labelled

    def _of_teacher(self, batch: Batch, **options: bool) -> Any:
        device = batch.mask.device
        inputs = {name: tensor.to(device) for name, tensor in collate(self.teacher, batch.items).inputs.items()}
        with torch.no_grad():
            return self.teacher.model(**inputs, **options)

    def _answers(self, checkpoint: Checkpoint, outputs: Any, batch: Batch) -> torch.Tensor:
        """[A,L]: of each text; of each word of tagged texts, where only its first token counts: the others have no label."""
        if checkpoint.task == "sentence-similarity":
            return embeddings(checkpoint.head, outputs.last_hidden_state, batch.mask)
        logits: torch.Tensor = outputs.logits
        if checkpoint.task != "token-classification":
            return logits
        assert batch.labels is not None
        return logits[batch.labels != NO_LABEL]


def run_stages(job: Job, distiller: Distiller, schedule: Schedule) -> list[dict[str, Any]]:
    """Train the student, and say what each stage trained by which loss."""
    student = distiller.student
    data = _data(job, distiller, schedule)
    parts = groups(student, has_embeddings=not distiller.freeze_embeddings)
    stages = plan(tuple(parts), schedule, distiller.loss, has_labels="labels" in data, has_projection=bool(student.config.output_size))
    facts = []
    for number, stage in enumerate(stages, 1):
        losses = run_stage(job, distiller, parts, stage, data[stage.loss], name=f"stage {number} of {len(stages)}")
        facts.append({"loss": stage.loss, "trained": list(stage.trained), "steps": len(losses), "last_loss": round(losses[-1], 6)})
    student.requires_grad_(True)
    return facts


def run_stage(job: Job, distiller: Distiller, parts: Parts, stage: Stage, items: Sequence[Item], *, name: str) -> list[float]:
    """One training run, of the `parts` that the stage trains; gives the losses of its steps."""
    student, evaluate = distiller.student, job.evaluate
    student.requires_grad_(False)
    for part in stage.trained:
        for parameter in parts[part]:
            parameter.requires_grad_(True)
    is_representation = stage.loss == "representation"
    projection = _projection(distiller, job.training.seed)
    losses: dict[StageLoss, Callable[[Batch], torch.Tensor]] = {
        "representation": lambda batch: distiller.representation(batch, projection),
        "logits": distiller.logits,
        "labels": distiller.labels,
        "labels and logits": lambda batch: distiller.labels(batch) + distiller.soft_weight * distiller.logits(batch),
    }
    history = train(
        nn.ModuleList([student, projection]) if is_representation else student,
        lambda batch, _step: losses[stage.loss](batch),
        items,
        job.training,
        collate=lambda members: collate(distiller.checkpoint, members),
        frozen=[distiller.teacher.model],
        evaluate=None if evaluate is None or is_representation else lambda: evaluate(student),
        state=None if job.state is None else job.state / name.replace(" ", "-"),
        on_step=lambda done, total, _loss: job.on_step(f"{name}, {stage.loss}", done, total),
    )
    return history.losses


def groups(student: Student, *, has_embeddings: bool = True) -> Parts:
    """The parameters that are trained together, from the top down: head, layer N-1 ... 0, embeddings.

    `has_embeddings` False leaves the table of the pieces out, which then is never trained.
    """
    encoder = student.encoder()
    table = encoder.embeddings.word_embeddings.weight
    below = {f"layer {index}": encoder.layers[index] for index in reversed(range(len(encoder.layers)))}
    found = {name: list(part.parameters()) for name, part in below.items()}
    found["embeddings"] = [p for p in encoder.embeddings.parameters() if has_embeddings or p is not table]
    known = {id(table), *(id(p) for parameters in found.values() for p in parameters)}
    found = {"head": [p for p in student.parameters() if id(p) not in known]} | found
    return {name: parameters for name, parameters in found.items() if parameters}


def plan(names: tuple[str, ...], schedule: Schedule, loss: Loss, *, has_labels: bool, has_projection: bool = False) -> tuple[Stage, ...]:
    """The stages for the parts `names`, which go from the top down.

    joint: one. stagewise: the states of the tokens with all below the head (and the head where it is what projects the states); then the
    logits with the head alone, and one part more in each stage until all are trained; then the same with the labels, if there are any.
    """
    if schedule == "joint":
        return (Stage("logits" if loss == "mse" else "labels and logits", names),)
    unfrozen = [names[: count + 1] for count in range(len(names))]
    losses: tuple[StageLoss, ...] = ("logits", "labels") if has_labels else ("logits",)
    first = Stage("representation", names if has_projection else names[1:])
    return (first, *(Stage(name, trained) for name in losses for trained in unfrozen))


def _data(job: Job, distiller: Distiller, schedule: Schedule) -> dict[str, list[Item]]:
    """The items of each loss; labels only where there are any."""
    checkpoint = distiller.checkpoint
    labelled, texts = labelled_items(checkpoint, job), transfer_items(checkpoint, job)
    data = {"representation": texts, "logits": texts} | ({"labels": labelled} if labelled else {})
    if schedule == "joint" and distiller.loss == "kl":
        chosen = distiller.pseudo_labelled(texts, job.training.batch_size) if job.texts else []
        data["labels and logits"] = [*labelled, *chosen]
    return data


def _projection(distiller: Distiller, seed: int) -> nn.Module:
    """From the student's states to the width of the teacher's, for training alone; a student of an embedder has its own."""
    config = distiller.student.config
    if config.output_size:
        return nn.Identity()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(2 * config.hidden_size, distiller.teacher.model.config.hidden_size)
