"""Method `finetune`: train a model on labelled examples of its task."""

from trtbert.compress.batches import collate, encode_examples
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.objectives import task_losses
from trtbert.compress.training import train
from trtbert.errors import InputError
from trtbert.tasks import Task

_TRAINABLE: tuple[Task, ...] = ("text-classification", "token-classification", "question-answering", "sentence-similarity", "text-ranking")


class FinetuneOptions(Options):
    """All there is to choose are the options of training."""


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
    items = encode_examples(checkpoint, job.labelled, max_length=job.training.max_length)
    evaluate = job.evaluate
    history = train(
        checkpoint.model,
        lambda batch, _step: task_losses(checkpoint, batch).mean(),
        items,
        job.training,
        collate=lambda members: collate(checkpoint, members),
        evaluate=None if evaluate is None else lambda: evaluate(checkpoint.model),
        state=None if job.state is None else job.state / "finetune",
        on_step=lambda done, total, _loss: job.on_step("training", done, total),
    )
    notes = [f"{count} of {len(job.labelled)} examples could not be used"] if (count := len(job.labelled) - len(items)) else []
    return Result(
        checkpoint=checkpoint,
        notes=tuple(notes),
        facts={"steps": len(history.losses), "last_loss": round(history.losses[-1], 6), "scores": history.scores},
    )
