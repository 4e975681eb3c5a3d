"""Students that are no transformer: small recurrent models which read a teacher's tokens."""

from typing import Any

from trtbert.checkpoint.students.config import StudentConfig
from trtbert.checkpoint.students.models import StudentForSequenceClassification, StudentForTokenClassification, StudentModel
from trtbert.errors import UnsupportedError
from trtbert.tasks import Task

__all__ = ["StudentConfig", "student_class"]

_CLASSES: dict[Task, type[Any]] = {
    "text-classification": StudentForSequenceClassification,
    "token-classification": StudentForTokenClassification,
    "sentence-similarity": StudentModel,
    "feature-extraction": StudentModel,
}


def student_class(task: Task) -> type[Any]:
    """The model class of `task`; UnsupportedError where there is none."""
    if task not in _CLASSES:
        raise UnsupportedError(
            f"A student of model type {StudentConfig.model_type!r} has no head for {task}; it has for {', '.join(_CLASSES)}."
        )
    return _CLASSES[task]
