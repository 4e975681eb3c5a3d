"""The tasks by their Hugging Face names, and the tensors a compiled model of each task takes and gives.

Legend: B batch, S sequence (tokens), L labels, D embedding width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Literal

Task = Literal[
    "text-classification",
    "token-classification",
    "question-answering",
    "feature-extraction",
    "sentence-similarity",
    "fill-mask",
    "text-ranking",
]

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"
INPUTS = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
"""Every input is int32 [B,S]; `token_type_ids` exists only where the model reads it."""


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What is known of a task before any model is seen."""

    outputs: tuple[str, ...]
    shape: tuple[str, ...]
    auto_class: str
    """The `transformers` class that loads a checkpoint of this task."""
    head_suffix: str | None
    """How the checkpoint's architecture name ends, e.g. BertForMaskedLM; None for a bare encoder."""


TASKS: dict[Task, TaskFacts] = {
    "text-classification": TaskFacts(
        outputs=("scores",),
        shape=("batch", "labels"),
        auto_class="AutoModelForSequenceClassification",
        head_suffix="ForSequenceClassification",
    ),
    "token-classification": TaskFacts(
        outputs=("scores",),
        shape=("batch", "sequence", "labels"),
        auto_class="AutoModelForTokenClassification",
        head_suffix="ForTokenClassification",
    ),
    "question-answering": TaskFacts(
        outputs=("start_logits", "end_logits"),
        shape=("batch", "sequence"),
        auto_class="AutoModelForQuestionAnswering",
        head_suffix="ForQuestionAnswering",
    ),
    "feature-extraction": TaskFacts(
        outputs=("last_hidden_state",),
        shape=("batch", "sequence", "hidden"),
        auto_class="AutoModel",
        head_suffix=None,
    ),
    "sentence-similarity": TaskFacts(
        outputs=("sentence_embedding",),
        shape=("batch", "embedding"),
        auto_class="AutoModel",
        head_suffix=None,
    ),
    "fill-mask": TaskFacts(
        outputs=("scores",),
        shape=("batch", "sequence", "vocabulary"),
        auto_class="AutoModelForMaskedLM",
        head_suffix="ForMaskedLM",
    ),
    "text-ranking": TaskFacts(
        outputs=("scores",),
        shape=("batch", "labels"),
        auto_class="AutoModelForSequenceClassification",
        head_suffix="ForSequenceClassification",
    ),
}
