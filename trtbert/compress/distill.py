"""Method `distill`: train a student to compute what a teacher computes.

Legend: B examples, S sequence, L labels, D and E hidden sizes of student and teacher.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress import losses
from trtbert.compress.batches import NO_LABEL, Batch, Item, collate, encode_examples, encode_texts
from trtbert.compress.capture import Captured, captured, scores
from trtbert.compress.layers import Layer, used_layers
from trtbert.compress.method import Job, Result
from trtbert.compress.new_texts import AugmentOptions, new_texts
from trtbert.compress.objectives import embeddings, task_losses
from trtbert.compress.teachers import check_better_than_chance, check_same_task
from trtbert.compress.training import History, train
from trtbert.compress.word_masking import with_masked_words
from trtbert.config import TrainingConfig
from trtbert.errors import InputError, UnsupportedError

LossName = Literal["hinton", "mse", "distilbert", "tinybert", "patient", "minilm", "hidden"]
MapName = Literal["uniform", "last"]


class DistillOptions(AugmentOptions):
    loss: LossName = "hinton"
    """What is learnt: the teacher's logits (hinton, or mse), and also hidden states (distilbert: cosine; patient: distances), scores and
    hidden states first (tinybert), relations of queries, keys and values first (minilm), or the embedding alone (hidden)"""
    alpha: float = Field(default=1.0, ge=0, le=1)
    """Weight of the teacher's answers; the labels have 1 - alpha"""
    temperature: float = Field(default=1.0, gt=0)
    """Of the softmax of both models' logits"""
    layer_map: MapName = "uniform"
    """Which layers of the teacher those of the student learn from: evenly spaced up to the last, or the last ones"""
    beta: float = Field(default=1.0, ge=0)
    """Weight of what is learnt inside the model, beside the logits"""
    intermediate_epochs: float = Field(default=2.0, gt=0)
    """Of tinybert and minilm: epochs of what is learnt inside, before the logits"""
    relation_heads: int = Field(default=12, ge=1)
    """Of minilm: what queries, keys and values are split into"""
    token: Literal["cls", "mean"] = "mean"
    """Of patient: the vector of a layer that is compared"""


def distill(job: Job, options: DistillOptions) -> Result:
    """Train `job.checkpoint` on labelled examples, on texts, or on both; the teacher is read, and never changed.

    What a student needs only to learn, such as projections to the teacher's size, is not in the result. Raises InputError for models
    that do not fit together or where there are no texts, TrainingError for a teacher that is not better than chance.
    """
    student, teacher = job.checkpoint, job.teacher
    if teacher is None:
        raise InputError("distill needs a teacher: give its folder with --teacher.")
    _check_pair(student, teacher, options)
    items = _items(job, options)
    check_better_than_chance(job, teacher)
    teacher.model.eval().requires_grad_(False)
    facts: dict[str, Any] = {"items": len(items)}
    with ExitStack() as stack:
        pair = _Pair.of(student, teacher, options, stack)
        if options.loss in _INSIDE:
            stage = job.training.model_copy(update={"epochs": options.intermediate_epochs})
            history = _train(job, pair, items, _INSIDE[options.loss], stage, "intermediate")
            facts |= {"intermediate_steps": len(history.losses), "intermediate_loss": round(history.losses[-1], 6)}
        history = _train(job, pair, items, _final(options), job.training, "prediction")
    facts |= {"steps": len(history.losses), "last_loss": round(history.losses[-1], 6), "scores": history.scores}
    return Result(checkpoint=student, facts=facts)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both models with what is recorded in them, and the layers that belong together."""

    student: Checkpoint
    teacher: Checkpoint
    options: DistillOptions
    inside_student: Captured
    inside_teacher: Captured
    layers: list[tuple[int, int]]
    """(student's, teacher's), from 0."""
    head_sizes: tuple[int, int]
    trained: nn.ModuleDict
    """The student, and the projections from its hidden size to the teacher's."""

    @classmethod
    def of(cls, student: Checkpoint, teacher: Checkpoint, options: DistillOptions, stack: ExitStack) -> "_Pair":
        modules = nn.ModuleDict({"student": student.model})
        if options.loss in ("hinton", "mse", "hidden"):
            return cls(student, teacher, options, Captured(), Captured(), [], (1, 1), modules)
        ours, theirs = used_layers(student.model), used_layers(teacher.model)
        layers = map_layers(len(ours), len(theirs), options.layer_map)
        sizes = student.model.config.hidden_size, teacher.model.config.hidden_size
        if sizes[0] != sizes[1]:
            modules["projection"] = nn.Linear(*sizes, bias=False)
            modules["embedding_projection"] = nn.Linear(*sizes, bias=False)
        records = [stack.enter_context(captured(checkpoint.model)) for checkpoint in (student, teacher)]
        return cls(student, teacher, options, records[0], records[1], layers, (_size(ours), _size(theirs)), modules)

    def projected(self, hidden_BSD: torch.Tensor, name: str = "projection") -> torch.Tensor:
        result: torch.Tensor = self.trained[name](hidden_BSD) if name in self.trained else hidden_BSD
        return result

    def run(self, batch: Batch) -> tuple[Any, Any]:
        """The outputs of both, and with them what is recorded inside."""
        with torch.no_grad():
            taught = self.teacher.model(**batch.inputs)
        return self.student.model(**batch.inputs), taught


_Objective = Callable[[_Pair, Batch], torch.Tensor]


def map_layers(num_student: int, num_teacher: int, name: MapName) -> list[tuple[int, int]]:
    """(student's layer, teacher's layer), from 0: the last with the last, the others evenly spaced or right before it."""
    if num_student > num_teacher:
        raise InputError(f"The student has {num_student} layers, more than the teacher's {num_teacher}; take a smaller student.")
    if name == "last":
        return [(index, num_teacher - num_student + index) for index in range(num_student)]
    return [(index, num_teacher * (index + 1) // num_student - 1) for index in range(num_student)]


def _train(job: Job, pair: _Pair, items: Sequence[Item], objective: _Objective, training: TrainingConfig, stage: str) -> History:
    student = pair.student
    is_last = stage == "prediction"
    evaluate = job.evaluate
    return train(
        pair.trained,
        lambda batch, _step: objective(pair, batch),
        items,
        training,
        collate=lambda members: _collate(student, members),
        frozen=[pair.teacher.model],
        evaluate=(lambda: evaluate(student.model)) if is_last and evaluate is not None else None,
        state=None if job.state is None else job.state / stage,
        on_step=lambda done, total, _loss: job.on_step(f"distilling, {stage}", done, total),
    )


def _collate(checkpoint: Checkpoint, items: Sequence[Item]) -> Batch:
    """Where only some have labels the batch has none, and its items keep theirs; pairs of an embedder are then texts by themselves."""
    if all(item.label is not None for item in items):
        return collate(checkpoint, items)
    rows = [Item((ids,), (types,)) for item in items for ids, types in zip(item.ids, item.types, strict=True)]
    return replace(collate(checkpoint, rows), items=tuple(items))


def _final(options: DistillOptions) -> _Objective:
    is_masking = options.loss == "distilbert" and options.alpha < 1

    def objective(pair: _Pair, batch: Batch) -> torch.Tensor:
        if is_masking and pair.student.task == "fill-mask":
            batch = with_masked_words(pair.student, batch)
        outputs, taught = pair.run(batch)
        weight = (1 - options.alpha) * _labelled_share(batch)
        total = (1 - weight) * answers_loss(pair.student, outputs, taught, batch, options)
        if options.loss in _BESIDE and options.beta:
            total = total + options.beta * _BESIDE[options.loss](pair, batch)
        return total if weight == 0 else total + weight * _labels_loss(pair.student, outputs, batch)

    return objective


def _labelled_share(batch: Batch) -> float:
    return 1.0 if batch.labels is not None else sum(item.label is not None for item in batch.items) / len(batch.items)


def _labels_loss(checkpoint: Checkpoint, outputs: Any, batch: Batch) -> torch.Tensor:
    """The mean over the examples that have labels; where words were masked, over those."""
    if checkpoint.task == "fill-mask":
        assert batch.labels is not None
        losses_BS = nn.functional.cross_entropy(outputs.logits.transpose(1, 2), batch.labels, ignore_index=NO_LABEL, reduction="none")
        return losses_BS.sum() / (batch.labels != NO_LABEL).sum().clamp(min=1)
    if batch.labels is not None:
        return task_losses(checkpoint, batch).mean()
    device = batch.mask.device
    part = collate(checkpoint, [item for item in batch.items if item.label is not None])
    assert part.labels is not None
    moved = Batch({name: tensor.to(device) for name, tensor in part.inputs.items()}, part.labels.to(device), part.items)
    return task_losses(checkpoint, moved).mean()


def answers_loss(checkpoint: Checkpoint, outputs: Any, taught: Any, batch: Batch, options: DistillOptions) -> torch.Tensor:
    """How far the student's answers are from the teacher's: logits by the chosen loss, embeddings by squared distance."""
    if checkpoint.task == "question-answering":
        pairs = [(outputs[name], taught[name]) for name in ("start_logits", "end_logits")]
        if options.loss == "mse":
            return torch.stack([losses.logits_mse(ours[:, :, None], theirs[:, :, None], batch.mask) for ours, theirs in pairs]).mean()
        masked = [tuple(logits.masked_fill(batch.mask == 0, -torch.inf) for logits in pair) for pair in pairs]
        return torch.stack([losses.hinton(ours, theirs, options.temperature) for ours, theirs in masked]).mean()
    if checkpoint.task in ("sentence-similarity", "feature-extraction"):
        return _embedding_loss(checkpoint, outputs, taught, batch)
    mask = None
    if checkpoint.task in ("token-classification", "fill-mask"):
        mask = batch.mask if batch.labels is None or checkpoint.task == "fill-mask" else (batch.labels != NO_LABEL)
    if options.loss == "mse":
        return losses.logits_mse(outputs.logits, taught.logits, mask)
    if checkpoint.model.config.problem_type == "multi_label_classification":
        t = options.temperature
        return t * t * nn.functional.binary_cross_entropy_with_logits(outputs.logits / t, (taught.logits / t).sigmoid())
    if outputs.logits.shape[-1] == 1:  # a single number has no softmax
        return losses.logits_mse(outputs.logits, taught.logits, mask)
    if options.loss == "tinybert":
        return losses.soft_cross_entropy(outputs.logits / options.temperature, taught.logits / options.temperature, mask)
    return losses.hinton(outputs.logits, taught.logits, options.temperature, mask)


def _embedding_loss(checkpoint: Checkpoint, outputs: Any, taught: Any, batch: Batch) -> torch.Tensor:
    """Summed over the dimensions, as vectors of length 1 are."""
    ours, theirs = outputs.last_hidden_state, taught.last_hidden_state
    if checkpoint.head:
        vectors = [embeddings(checkpoint.head, hidden, batch.mask) for hidden in (ours, theirs)]
        return (vectors[0] - vectors[1]).square().sum(-1).mean()
    return losses.hidden_mse(ours, theirs, batch.mask)


def _tinybert(pair: _Pair, batch: Batch) -> torch.Tensor:
    """Embeddings, and of each layer the scores and what it gives."""
    pair.run(batch)
    ours, theirs = pair.inside_student, pair.inside_teacher
    total = losses.hidden_mse(pair.projected(ours.hidden_BSD[0], "embedding_projection"), theirs.hidden_BSD[0], batch.mask)
    for student, teacher in pair.layers:
        total = total + losses.hidden_mse(pair.projected(ours.hidden_BSD[student + 1]), theirs.hidden_BSD[teacher + 1], batch.mask)
        total = total + losses.attention_mse(
            scores(ours.query_BSD[student], ours.key_BSD[student], pair.head_sizes[0]),
            scores(theirs.query_BSD[teacher], theirs.key_BSD[teacher], pair.head_sizes[1]),
            batch.mask,
        )
    return total


def _minilm(pair: _Pair, batch: Batch) -> torch.Tensor:
    """Of the last layers alone, as MiniLMv2 has it."""
    pair.run(batch)
    ours, theirs, heads = pair.inside_student, pair.inside_teacher, pair.options.relation_heads
    kinds = ((ours.query_BSD, theirs.query_BSD), (ours.key_BSD, theirs.key_BSD), (ours.value_BSD, theirs.value_BSD))
    return torch.stack([losses.relation(student[-1], teacher[-1], batch.mask, heads) for student, teacher in kinds]).sum()


def _distilbert(pair: _Pair, batch: Batch) -> torch.Tensor:
    return losses.cosine(pair.projected(pair.inside_student.hidden_BSD[-1]), pair.inside_teacher.hidden_BSD[-1], batch.mask)


def _patient(pair: _Pair, batch: Batch) -> torch.Tensor:
    """The last layers are left out: the logits say what they hold."""

    def vector(hidden_BSD: torch.Tensor) -> torch.Tensor:
        if pair.options.token == "cls":
            return hidden_BSD[:, 0]
        return (hidden_BSD * batch.mask[:, :, None]).sum(1) / batch.mask.sum(1, keepdim=True)

    matched = pair.layers[:-1] or pair.layers
    ours = [vector(pair.projected(pair.inside_student.hidden_BSD[student + 1])) for student, _ in matched]
    return losses.patient(ours, [vector(pair.inside_teacher.hidden_BSD[teacher + 1]) for _, teacher in matched])


_INSIDE: dict[str, _Objective] = {"tinybert": _tinybert, "minilm": _minilm}
"""Learnt in a stage of its own, before the answers."""
_BESIDE: dict[str, _Objective] = {"distilbert": _distilbert, "patient": _patient}
"""Learnt together with the answers."""


def _items(job: Job, options: DistillOptions) -> list[Item]:
    length, texts = job.training.max_length, [*job.texts, *new_texts(job, options)]
    items = encode_examples(job.checkpoint, job.labelled, max_length=length) if job.labelled else []
    if job.checkpoint.task == "sentence-similarity":  # each text has its own embedding
        texts = [part for text in texts for part in ([text] if isinstance(text, str) else text)]
    items += encode_texts(job.checkpoint, texts, max_length=length) if texts else []
    if not job.labelled and not texts:
        raise InputError("distill needs texts to ask the teacher about: give labelled examples with --data, or texts with --texts.")
    return items


def _check_pair(student: Checkpoint, teacher: Checkpoint, options: DistillOptions) -> None:
    check_same_task(student, teacher)
    if options.loss == "hidden" and student.task not in ("sentence-similarity", "feature-extraction"):
        raise UnsupportedError(f"Loss hidden is of models that give embeddings, and this is one for {student.task}. Use loss hinton.")
    sizes = [checkpoint.model.config.hidden_size for checkpoint in (student, teacher)]
    if student.task in ("sentence-similarity", "feature-extraction") and sizes[0] != sizes[1]:
        raise UnsupportedError(f"The student's embeddings have {sizes[0]} numbers and the teacher's {sizes[1]}; they must have as many.")
    if options.loss in ("tinybert", "minilm", "patient", "distilbert"):
        _check_inside(student, teacher, options)


def _check_inside(student: Checkpoint, teacher: Checkpoint, options: DistillOptions) -> None:
    ours, theirs = used_layers(student.model), used_layers(teacher.model)
    if options.loss == "tinybert":
        for layer, other in map_layers(len(ours), len(theirs), options.layer_map):
            if ours[layer].num_heads != theirs[other].num_heads:
                raise UnsupportedError(
                    f"tinybert compares the scores of each head, but layer {layer} of the student has {ours[layer].num_heads} heads and "
                    f"layer {other} of the teacher {theirs[other].num_heads}. Use loss minilm, which compares relations instead."
                )
        if any(layer.key.out_features != layer.query.out_features for layer in (*ours, *theirs)):
            raise UnsupportedError("tinybert compares the scores of each head, and these heads share keys. Use loss hinton or patient.")
    if options.loss == "minilm":
        for name, last in (("student", ours[-1]), ("teacher", theirs[-1])):
            for kind, linear in (("queries", last.query), ("keys", last.key), ("values", last.value)):
                if (width := linear.out_features) % options.relation_heads:
                    raise InputError(
                        f"The {width} columns of the {name}'s last {kind} do not divide into {options.relation_heads} relation heads; "
                        "give a divisor with --relation-heads."
                    )


def _size(layers: Sequence[Layer]) -> int:
    return layers[0].head_size
