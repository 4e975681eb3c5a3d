"""Method `finetune`: train a model on labelled examples of its task."""

from collections.abc import Callable
from pathlib import Path

from trtbert.checkpoint.hf_config import is_regression
from trtbert.compress.auxiliary import read_tasks, train_tasks
from trtbert.compress.batches import Item, collate, encode_examples
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.objectives import task_losses
from trtbert.compress.training import History, train
from trtbert.errors import InputError
from trtbert.tasks import Task

_TRAINABLE: tuple[Task, ...] = ("text-classification", "token-classification", "question-answering", "sentence-similarity", "text-ranking")


class FinetuneOptions(Options):
    auxiliary: tuple[Path, ...] = ()
    """Labelled texts of other tasks, a file each, that train the same layers; their heads are kept in the model, to teach students"""


def finetune(job: Job, options: FinetuneOptions) -> Result:
    """Train on `job.labelled`; the epoch that scores best on the evaluation data wins, the last one where there is none.

    Raises InputError where there are no labels, TrainingError for a loss that is not finite.
    """
    checkpoint = job.checkpoint
    if checkpoint.task not in _TRAINABLE:
        raise InputError(
            f"{checkpoint.task} has no labels to be trained on; choose a task of {', '.join(_TRAINABLE)}, or distil a teacher."
        )
    if not job.labelled:
        raise InputError("finetune needs labelled examples: give a .csv, .tsv, .jsonl or .conll file with --data.")
    if options.auxiliary:
        return _finetune_tasks(job, options)
    items = encode_examples(checkpoint, job.labelled, max_length=job.training.max_length)
    history = train_on_labels(job, items, name="finetune", what="training")
    notes = [f"{count} of {len(job.labelled)} examples could not be used"] if (count := len(job.labelled) - len(items)) else []
    return Result(
        checkpoint=checkpoint,
        notes=tuple(notes),
        facts={"steps": len(history.losses), "last_loss": round(history.losses[-1], 6), "scores": history.scores},
    )


def _finetune_tasks(job: Job, options: FinetuneOptions) -> Result:
    tasks = read_tasks(job, options.auxiliary, job.checkpoint.auxiliary)
    history = train_tasks(job, tasks, lambda batch: tasks.label_losses(batch).mean())
    facts = {"steps": len(history.losses), "last_loss": round(history.losses[-1], 6), "scores": history.scores}
    return Result(checkpoint=tasks.result(), facts=facts)


def train_on_labels(
    job: Job, items: list[Item], *, name: str, what: str, after_step: Callable[[int], None] = lambda _step: None
) -> History:
    """Train the job's model by the loss of its task; `name` is that of its state, `what` is told while it goes on."""
    checkpoint, evaluate = job.checkpoint, job.evaluate
    if checkpoint.task == "text-classification" and is_regression(checkpoint.model.config):
        checkpoint.model.config.problem_type = "regression"  # without it the one label's sigmoid is answered, and not the number learnt
    return train(
        checkpoint.model,
        lambda batch, _step: task_losses(checkpoint, batch).mean(),
        items,
        job.training,
        collate=lambda members: collate(checkpoint, members),
        evaluate=None if evaluate is None else lambda: evaluate(checkpoint.model),
        after_step=after_step,
        state=None if job.state is None else job.state / name,
        on_step=lambda done, total, _loss: job.on_step(what, done, total),
    )
