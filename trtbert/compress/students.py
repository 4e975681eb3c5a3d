"""Method `student`: a transformer -> a small recurrent model that has learned its answers, and reads the same tokens."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from trtbert.checkpoint.auxiliary import AuxiliaryHead
from trtbert.checkpoint.hf_config import problem_of
from trtbert.checkpoint.read import Checkpoint
from trtbert.checkpoint.students import StudentConfig, student_class
from trtbert.checkpoint.students.config import Kind
from trtbert.checkpoint.students.embeddings import character_table
from trtbert.checkpoint.students.models import Student
from trtbert.compress.auxiliary import classifier, read_tasks, train_tasks
from trtbert.compress.method import Job, Result
from trtbert.compress.new_texts import AugmentOptions, new_texts
from trtbert.compress.students_training import Distiller, Loss, Schedule, run_stages
from trtbert.compress.teachers import check_better_than_chance, check_same_task
from trtbert.errors import InputError, UnsupportedError
from trtbert.tasks import Task

_TASKS: dict[Kind, tuple[Task, ...]] = {
    "cnn-bilstm": ("text-classification", "token-classification"),
    "bilstm": ("text-classification", "token-classification", "sentence-similarity"),
    "attentive-bilstm": ("text-classification", "token-classification"),
}
_SIZES: dict[Kind, tuple[int, int, int]] = {
    "cnn-bilstm": (100, 100, 2),
    "bilstm": (300, 150, 1),
    "attentive-bilstm": (300, 150, 3),
}
"""(embedding, hidden, layers) where the options name no other."""
_FC_SIZE = 200
"""Of the layer before the classifier of a bilstm (Tang et al., 2019)."""
_PIECE_LENGTH = 16
"""Characters: longer pieces are rare, and cut."""


class StudentOptions(AugmentOptions):
    """The student's architecture, and how it learns."""

    kind: Kind = "bilstm"
    """cnn-bilstm reads the characters of each piece as well; attentive-bilstm pools a text by attention"""
    embedding: Literal["svd", "random"] = "svd"
    """What the embeddings of the pieces begin as: the teacher's, compressed by SVD, or random numbers"""
    embedding_size: int | None = Field(default=None, ge=1, le=4096)
    """Rank of the SVD and width of the embeddings; default: 300, of a cnn-bilstm 100, and not more than the teacher has"""
    freeze_embeddings: bool = False
    """Whether the embeddings of the pieces stay as they begin"""
    hidden_size: int | None = Field(default=None, ge=1, le=4096)
    """Of the LSTM in one direction; default: 150, of a cnn-bilstm 100"""
    num_layers: int | None = Field(default=None, ge=1, le=16)
    """LSTMs on top of each other; default: 1, of a cnn-bilstm 2, of an attentive-bilstm 3"""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the numbers that are dropped in training between the layers"""
    schedule: Schedule = "joint"
    """joint: all at once. stagewise: states of the tokens, then logits, then labels, each unfreezing the layers from the top down"""
    loss: Loss = "mse"
    """What the student's logits are compared with the teacher's by; in a joint schedule kl also takes labels, or the teacher's choice"""
    temperature: float = Field(default=1.0, gt=0)
    """Of the distributions that kl compares"""
    soft_weight: float = Field(default=1.0, ge=0)
    """Of kl beside the labels, in a joint schedule"""
    auxiliary: tuple[Path, ...] = ()
    """Labelled texts of other tasks, a file each, that the teacher was trained on too; the student learns all together"""


def student(job: Job, options: StudentOptions) -> Result:
    """Build a student of the checkpoint and train it on the answers of `job.teacher`, or of the checkpoint where there is none.

    Raises UnsupportedError for a task that the kind has no head for, InputError for a teacher that does not fit and where there is no
    text, TrainingError for a loss that is not finite.
    """
    teacher = job.teacher or job.checkpoint
    check(job.checkpoint, teacher, options)
    check_better_than_chance(job, teacher)
    teacher.model.eval().requires_grad_(False)
    if teacher is not job.checkpoint:
        job.checkpoint.model.to("meta")  # what it weighs is not needed, and no method keeps more than two models
    model = build(job.checkpoint, teacher, options, seed=job.training.seed)
    if options.auxiliary:
        return _student_of_tasks(job, model, teacher, options)
    if texts := new_texts(job, options):
        takes_labelled = options.schedule == "joint" and options.loss == "kl"  # and those then need not come again without labels
        job = replace(job, texts=[*(job.texts if takes_labelled else job.texts or [example.text for example in job.labelled]), *texts])
    distiller = Distiller(
        checkpoint=replace(job.checkpoint, model=model, auxiliary={}),
        teacher=teacher,
        loss=options.loss,
        temperature=options.temperature,
        soft_weight=options.soft_weight,
        freeze_embeddings=options.freeze_embeddings,
    )
    stages = run_stages(job, distiller, options.schedule)
    return Result(checkpoint=distiller.checkpoint, facts={"student": _sizes(model), "stages": stages})


def _student_of_tasks(job: Job, model: Student, teacher: Checkpoint, options: StudentOptions) -> Result:
    """The logits of all tasks at once, each under its own head (Liu et al., 2019)."""
    if options.loss != "mse" or options.schedule != "joint" or options.augment:
        raise InputError(
            "Several tasks are learnt jointly by the loss mse from labelled texts; leave --loss, --schedule and --augment out."
        )
    if not job.labelled:
        raise InputError("Several tasks are learnt from the texts of labelled examples: give those of the model's own with --data.")
    taught = read_tasks(replace(job, checkpoint=teacher), options.auxiliary, teacher.auxiliary)
    if missing := sorted(set(taught.heads) - set(teacher.auxiliary)):
        raise InputError(
            f"The teacher has no head for {', '.join(missing)}; it has for {', '.join(sorted(teacher.auxiliary)) or 'no other task'}. "
            "Train it on the same files first: trtbert compress MODEL -o TEACHER --method finetune --auxiliary FILE ..."
        )
    width = classifier(model).in_features
    heads = {name: AuxiliaryHead(head.labels, nn.Linear(width, len(head.labels))) for name, head in taught.heads.items()}
    tasks = read_tasks(replace(job, checkpoint=job.checkpoint.with_model(model)), options.auxiliary, heads)
    models = [teacher.model, *(head.linear for head in taught.heads.values())]
    history = train_tasks(job, tasks, lambda batch: tasks.teaching_losses(taught, batch).mean(), frozen=models)
    stage = {
        "loss": "logits",
        "tasks": [teacher.task, *taught.heads],
        "steps": len(history.losses),
        "last_loss": round(history.losses[-1], 6),
    }
    return Result(checkpoint=tasks.result(), facts={"student": _sizes(model), "stages": [stage]})


def _sizes(model: Student) -> dict[str, Any]:
    config = model.config
    return {
        "kind": config.kind,
        "embedding_size": config.embedding_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
    }


def check(checkpoint: Checkpoint, teacher: Checkpoint, options: StudentOptions) -> None:
    """Whether such a student can learn from the teacher; see `student`."""
    task, config = checkpoint.task, teacher.model.config
    if task not in _TASKS[options.kind]:
        raise UnsupportedError(f"The student {options.kind} has no head for {task}; it has for {', '.join(_TASKS[options.kind])}.")
    if isinstance(config, StudentConfig):
        raise InputError("The teacher is a student itself, of which no states can be learned. Give the transformer with --teacher.")
    if teacher.task != task:
        raise InputError(f"The teacher is one for {teacher.task}, and the model one for {task}. Give a teacher that was trained for it.")
    check_same_task(checkpoint, teacher)
    answers = task if task == "sentence-similarity" else problem_of(config)
    if options.loss == "kl" and answers != "single_label_classification":
        raise InputError(f"The loss kl compares the probabilities of classes, and the teacher gives none ({answers}). Use --loss mse.")


def build(checkpoint: Checkpoint, teacher: Checkpoint, options: StudentOptions, *, seed: int) -> Student:
    """A student that knows nothing yet, but for the embeddings of the pieces."""
    kind, of_teacher = options.kind, teacher.model.config
    embedding, hidden, layers = _SIZES[kind]
    table_VD = teacher.model.get_input_embeddings().weight.detach()
    is_classifier_of_texts = checkpoint.task == "text-classification"
    values: dict[str, Any] = {
        "kind": kind,
        "vocab_size": len(table_VD),
        "embedding_size": options.embedding_size or min(embedding, table_VD.shape[1]),
        "hidden_size": options.hidden_size or hidden,
        "num_hidden_layers": options.num_layers or layers,
        "fc_size": _FC_SIZE if kind == "bilstm" and is_classifier_of_texts else 0,
        "output_size": of_teacher.hidden_size if checkpoint.task == "sentence-similarity" else 0,
        "dropout": options.dropout,
        "max_position_embeddings": checkpoint.max_length,
        "pad_token_id": of_teacher.pad_token_id,
        "id2label": of_teacher.id2label,
        "label2id": of_teacher.label2id,
        "problem_type": of_teacher.problem_type,
    }
    chars_VC = None
    if kind == "cnn-bilstm":
        chars_VC, count = character_table(_pieces(checkpoint, len(table_VD)), _PIECE_LENGTH)
        values |= {"num_characters": count, "piece_length": _PIECE_LENGTH}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Student = student_class(checkpoint.task)(StudentConfig(**values))
    embeddings = model.encoder().embeddings
    with torch.no_grad():
        if options.embedding == "svd":
            embeddings.word_embeddings.weight.copy_(compressed(table_VD, values["embedding_size"]))
        if chars_VC is not None and embeddings.characters is not None:
            embeddings.characters.table_VC.copy_(chars_VC)
    model.train(False)
    return model


def compressed(table_VD: torch.Tensor, rank: int) -> torch.Tensor:
    """[V,R]: the rows of a table in the R directions that hold most of it, U S of its SVD.

    What is lost, as the sum of squares, is the sum of the squares of the other singular values. InputError where R is more than D.
    """
    most = min(table_VD.shape)
    if rank > most:
        raise InputError(
            f"The embeddings of the teacher have {most} directions, so SVD cannot give {rank} of them. "
            f"Set --embedding-size to {most} or less, or use --embedding random."
        )
    _, _, directions_DD = torch.linalg.svd(table_VD.float(), full_matrices=False)
    kept_DR: torch.Tensor = directions_DD[:rank].T
    return table_VD.float() @ kept_DR


def _pieces(checkpoint: Checkpoint, count: int) -> list[str]:
    """The text of each id; of those that the tokenizer never gives, nothing."""
    pieces = [""] * count
    for piece, index in checkpoint.tokenizer.fast.get_vocab().items():
        if index < count:
            pieces[index] = piece
    return pieces
