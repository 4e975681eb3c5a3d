"""A job -> how large its answer will be, held to what a server gives to one request."""

from collections.abc import Mapping
from typing import Any

from trtbert.errors import InputError
from trtbert.package import ModelFacts
from trtbert.predictor.job import Job

_MAX_VALUES = 2**21
"""Most numbers in one answer, 40 MB of JSON."""
_MAX_WORDS = 4096
"""Most words that one request has filled in; for each the vocabulary is sorted."""


def check_answer_size(facts: ModelFacts, job: Job, num_texts: int, options: Mapping[str, Any]) -> None:
    """Raises InputError where few texts make an answer that would fill the memory, or keep the engine from other requests."""
    if facts.task == "fill-mask":
        mask = facts.tokenizer.mask_token_id
        num = sum(token == mask for encoding in job.encodings for token in encoding.ids) * options.get("top_k", 5)
        most, what = _MAX_WORDS, "words"
    else:
        width = facts.outputs[0].shape[-1]
        num_rows = sum(map(len, job.encodings)) if facts.task == "feature-extraction" else num_texts
        num, most, what = num_rows * (width if isinstance(width, int) else 1), _MAX_VALUES, "numbers"  # A reader's is the number of tokens.
    if num > most:
        raise InputError(f"The answer would hold {num} {what}, more than {most}; send fewer texts at once.")
