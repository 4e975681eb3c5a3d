"""A model and its teacher -> nothing, or why one cannot learn from the other."""

from trtbert.checkpoint.read import Checkpoint
from trtbert.errors import InputError


def check_same_task(student: Checkpoint, teacher: Checkpoint) -> None:
    """InputError where the numbers of tokens or of labels do not mean the same in both."""
    if student.tokenizer.fast.get_vocab() != teacher.tokenizer.fast.get_vocab():
        raise InputError(
            "Student and teacher have different tokenizers, so that their tokens cannot be compared. Use models that share one."
        )
    if student.labels != teacher.labels and student.task in ("text-classification", "token-classification", "text-ranking"):
        raise InputError(
            f"Student and teacher have different labels ({len(student.labels)}: {list(student.labels)[:4]}; {len(teacher.labels)}: "
            f"{list(teacher.labels)[:4]}). Use a teacher that was trained on the same task."
        )
