"""What clients of a model send and get, by its task: the names of `trtbert serve`, in Triton's shapes with a batch axis.

A copy of this module lies in the model repository, in a Python that has numpy and no pydantic: nothing else is imported here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtbert.errors import InputError
from trtbert.tasks import TASKS, Task

ENGINE_SUFFIX = "_engine"
"""Of the name of the model that runs the engine."""
_ARRAYS = ("sentence-similarity", "text-ranking")
"""Tasks whose answers are the numbers of the graph; the others give texts."""


@dataclass(frozen=True)
class Field:
    """One tensor of the API; `size` values for each text."""

    name: str
    datatype: str
    size: int = 1
    is_optional: bool = False


def inputs_of(task: Task) -> tuple[Field, ...]:
    """BYTES of shape [n,1] each; a classifier also reads pairs."""
    if task == "question-answering":
        return Field("question", "STRING"), Field("context", "STRING")
    if task in ("text-ranking", "text-classification"):
        return Field("text", "STRING"), Field("text_pair", "STRING", is_optional=task == "text-classification")
    return (Field("text", "STRING"),)


def outputs_of(task: Task, width: int) -> tuple[Field, ...]:
    """`width` is the last dimension of the graph's output."""
    if task == "text-classification":
        return Field("label", "STRING"), Field("score", "FP32")
    if task in _ARRAYS:
        return (Field(TASKS[task].outputs[0], "FP32", width),)
    return (Field("answer", "STRING"),)


def texts_from(columns: Mapping[str, Any]) -> Sequence[Any]:
    """The texts, or pairs, of the inputs that came, arrays of bytes [n,1]. InputError for what is not UTF-8 or of unequal length."""
    texts = [_decoded(name, column) for name, column in columns.items()]
    if len({len(column) for column in texts}) > 1:
        raise InputError(f"The inputs {', '.join(columns)} must hold equally many texts.")
    return list(zip(*texts, strict=True)) if len(texts) > 1 else texts[0]


def arrays_from(task: Task, answers: Sequence[Any]) -> dict[str, Any]:
    """The answers as the arrays of `outputs_of`."""
    if task == "text-classification":
        scores = np.array([answer["score"] for answer in answers], np.float32)
        return {"label": _column([answer["label"] for answer in answers]), "score": scores[:, None]}
    if task in _ARRAYS:
        return {TASKS[task].outputs[0]: np.stack(answers).reshape(len(answers), -1).astype(np.float32)}
    plain = (answer.tolist() if hasattr(answer, "tolist") else answer for answer in answers)
    return {"answer": _column([json.dumps(answer, ensure_ascii=False) for answer in plain])}


def _decoded(name: str, column: Any) -> list[str]:
    texts = []
    for index, text in enumerate(column.reshape(-1)):
        try:
            texts.append(text.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(f"{name}: text {index} is not UTF-8.") from error
    return texts


def _column(texts: Sequence[str]) -> Any:
    """An array of bytes [n,1]."""
    return np.array([text.encode() for text in texts], np.object_)[:, None]
