"""A model and its teacher -> nothing, or why one cannot learn from the other."""

from trtbert.checkpoint.hf_config import problem_of
from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.method import Job
from trtbert.errors import InputError, TrainingError


def check_same_task(student: Checkpoint, teacher: Checkpoint) -> None:
    """InputError where the numbers of tokens or of labels do not mean the same in both, or the logits do not."""
    if student.tokenizer.fast.get_vocab() != teacher.tokenizer.fast.get_vocab():
        raise InputError(
            "Student and teacher have different tokenizers, so that their tokens cannot be compared. Use models that share one."
        )
    if student.labels != teacher.labels and student.task in ("text-classification", "token-classification", "text-ranking"):
        raise InputError(
            f"Student and teacher have different labels ({len(student.labels)}: {list(student.labels)[:4]}; {len(teacher.labels)}: "
            f"{list(teacher.labels)[:4]}). Use a teacher that was trained on the same task."
        )
    problems = [problem_of(checkpoint.model.config) for checkpoint in (student, teacher)]
    if student.task == "text-classification" and problems[0] != problems[1]:
        raise InputError(
            f"The student's problem_type is {problems[0]} and the teacher's {problems[1]}, so their logits do not mean the same. Use a "
            "teacher that was trained on the same task."
        )


_MARGIN = 0.1
"""Of what lies between chance and all right: a ratio to chance would ask a teacher of two classes for more than hard tasks allow."""


def check_better_than_chance(job: Job, teacher: Checkpoint) -> None:
    """A pretrained model that was taken for a finetuned one teaches noise: it shows in its score. TrainingError where it does.

    Chance is that of one class of many; of the other tasks it counts as 0, though a ranking in any order scores more.
    """
    if job.evaluate is None:
        return
    score, num_labels = job.evaluate(teacher.model), len(teacher.labels)
    chance = 100.0 / num_labels if teacher.task == "text-classification" and num_labels > 1 else 0.0
    if not score > chance + _MARGIN * (100.0 - chance):
        raise TrainingError(
            f"The teacher scores {score:.2f} on the evaluation data, which is not better than chance ({chance:.2f}). Was a pretrained "
            "model given instead of a finetuned one? Finetune it first, or name the right one with --teacher."
        )
