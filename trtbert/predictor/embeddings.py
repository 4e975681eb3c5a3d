"""sentence-similarity, feature-extraction and text-ranking: texts -> vectors, token vectors, or scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtbert.data import Text
from trtbert.predictor.encoder import Encoder
from trtbert.runtime import Array


def encode_texts(encoder: Encoder, texts: Sequence[Text]) -> list[Array]:
    """The embedding [D] of each text."""
    return _rows(encoder, texts, "sentence_embedding")


def extract_features(encoder: Encoder, texts: Sequence[Text]) -> list[Array]:
    """The last hidden state [S,D] of each text: special tokens included, no padding."""
    return _rows(encoder, texts, "last_hidden_state")


def rank_pairs(encoder: Encoder, texts: Sequence[Text]) -> list[Any]:
    """How well the second text of each pair answers the first: a number, or [L] for a model with several labels."""
    scores = _rows(encoder, texts, "scores")
    return [row[0] if row.shape == (1,) else row for row in scores]


def _rows(encoder: Encoder, texts: Sequence[Text], output: str) -> list[Array]:
    results: list[Array] = [np.empty(0)] * len(texts)
    for index, row in encoder.rows(encoder.tokenize(texts)):
        results[index] = row[output].copy()
    return results
