"""sentence-similarity, feature-extraction and text-ranking: texts -> vectors, token vectors, or scores."""

from collections.abc import Sequence

from trtbert.data import Text
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.job import Job, Row
from trtbert.runtime import Array


def embeddings_job(encoder: Encoder, texts: Sequence[Text]) -> Job:
    """The embedding [D] of each text."""
    return _job(encoder, texts, "sentence_embedding")


def features_job(encoder: Encoder, texts: Sequence[Text]) -> Job:
    """The last hidden state [S,D] of each text: special tokens included, no padding."""
    return _job(encoder, texts, "last_hidden_state")


def ranking_job(encoder: Encoder, texts: Sequence[Text]) -> Job:
    """How well the second text of each pair answers the first: a number, or [L] for a model with several labels."""
    job = _job(encoder, texts, "scores")
    return Job(job.encodings, job.take, lambda rows: [row[0] if row.shape == (1,) else row for row in rows])


def _job(encoder: Encoder, texts: Sequence[Text], output: str) -> Job:
    def take(_index: int, row: Row) -> Array:
        return row[output].copy()

    return Job(encoder.tokenize(texts), take)
