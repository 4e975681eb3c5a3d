"""Two runnable models and texts -> how much of the first one's answers the second one gives, in percent; no labels are needed.

What counts is what a user reads: the best label of each text or token, the answer's start and end, the direction of a vector, the order
of scores.
"""

from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding

from trtbert.metrics import spearman
from trtbert.predictor.encoder import Encoder
from trtbert.runtime import Array
from trtbert.tasks import Task

_VECTOR_TASKS: frozenset[Task] = frozenset({"sentence-similarity", "feature-extraction"})


class Fidelity:
    """The texts, and what the float model answers to them."""

    def __init__(self, encoder: Encoder, encodings: Sequence[Encoding]) -> None:
        self.encodings = encodings
        self._expected = self._answers(encoder)

    def percent(self, encoder: Encoder) -> float:
        """100 for a model that answers the same: the share of equal labels, or 100 times the mean cosine or the rank correlation."""
        actual, expected = self._answers(encoder), self._expected
        if encoder.facts.task in _VECTOR_TASKS:
            return 100.0 * float(np.mean(np.concatenate([_cosines(a, e) for a, e in zip(actual, expected, strict=True)])))
        if _has_one_score(encoder):
            return spearman([float(e[0]) for e in expected], [float(a[0]) for a in actual])
        return 100.0 * float(np.mean(np.concatenate([np.ravel(a == e) for a, e in zip(actual, expected, strict=True)])))

    def _answers(self, encoder: Encoder) -> list[Array]:
        answers: list[Array] = [np.zeros(0)] * len(self.encodings)
        keeps_numbers = encoder.facts.task in _VECTOR_TASKS or _has_one_score(encoder)
        for index, row in encoder.rows(self.encodings):
            arrays = [array.copy() if keeps_numbers else _choice(array, encoder) for array in row.values()]
            answers[index] = np.concatenate([np.atleast_1d(array) for array in arrays])
        return answers


def _has_one_score(encoder: Encoder) -> bool:
    """A reranker, or a regression."""
    return encoder.facts.task in ("text-classification", "text-ranking") and encoder.facts.outputs[0].shape[-1] == 1


def _choice(array: Array, encoder: Encoder) -> Array:
    """The best label of a text or of each token, the best token of an answer; of a model with several labels a text, all of them."""
    if encoder.facts.task == "text-classification" and encoder.facts.activation == "sigmoid":
        return np.asarray(array >= 0.5)
    return np.asarray(array.argmax(-1))


def _cosines(actual: Array, expected: Array) -> Array:
    """Of rows [...,D]; 1 where both are 0, and 0 where one is."""
    lengths = np.linalg.norm(actual, axis=-1), np.linalg.norm(expected, axis=-1)
    norms = lengths[0] * lengths[1]
    without = np.where(lengths[0] == lengths[1], np.ones_like(norms), np.zeros_like(norms))
    return np.atleast_1d(np.divide((actual * expected).sum(-1), norms, out=without, where=norms > 0))
