"""text-classification: a text or pair -> its best label, or its labels by score."""

from collections.abc import Sequence
from typing import Any, Literal

from trtbert.data import Text
from trtbert.errors import ConfigError
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.job import Job, Row
from trtbert.predictor.options import check_number
from trtbert.runtime import Array


def labels_job(encoder: Encoder, texts: Sequence[Text], *, top_k: int | Literal["best"] | None = "best") -> Job:
    """{"label", "score"} for each text; with a `top_k` a list of them, best first, with None of all labels."""
    if isinstance(top_k, str) and top_k != "best":
        raise ConfigError(f"top_k must be a whole number of 1 or more, or None for all labels, got {top_k!r}.")
    num_labels = check_number("top_k", top_k) if isinstance(top_k, int) else None

    def take(_index: int, row: Row) -> Any:
        ranked = _ranked(row["scores"], encoder.facts.labels)
        return ranked[0] if top_k == "best" else ranked[:num_labels]

    return Job(encoder.tokenize(texts), take)


def _ranked(scores_L: Array, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Highest score first; equal scores in the order of the labels."""
    order = sorted(range(len(scores_L)), key=lambda label: -scores_L[label])
    return [{"label": label_name(labels, label), "score": float(scores_L[label])} for label in order]


def label_name(labels: Sequence[str], label: int) -> str:
    return labels[label] if label < len(labels) else f"LABEL_{label}"
