"""fill-mask: a text with mask tokens -> the likeliest tokens in their places."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Encoding

from trtbert.data import Text
from trtbert.errors import InputError, UnsupportedError
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.job import Job, Row
from trtbert.predictor.options import check_number
from trtbert.runtime import Array


def masks_job(encoder: Encoder, texts: Sequence[Text], *, top_k: int = 5) -> Job:
    """`top_k` of {"score", "token", "token_str", "sequence"}, best first; for a text with several masks, such a list for each mask."""
    check_number("top_k", top_k)
    mask_id = encoder.facts.tokenizer.mask_token_id
    if mask_id is None:
        raise UnsupportedError("The tokenizer of this package has no mask token, so masks cannot be filled. Compile it for another task.")
    encodings = encoder.tokenize(texts)
    places = [[place for place, token in enumerate(encoding.ids) if token == mask_id] for encoding in encodings]
    if [] in places:
        mask = encoder.tokenizer.id_to_token(mask_id)
        text = texts[places.index([])]
        raise InputError(f"{str(text)[:80]!r} has no {mask} in its first {encoder.max_length} tokens; put {mask} where a word is to go.")

    def take(index: int, row: Row) -> list[Any]:
        is_only = len(places[index]) == 1  # Else the other masks must stay readable.
        filled = [_fill(encoder, encodings[index], place, row["scores"][place], top_k, is_only) for place in places[index]]
        return filled[0] if is_only else filled

    return Job(encodings, take)


def _fill(encoder: Encoder, encoding: Encoding, place: int, scores_V: Array, top_k: int, is_only: bool) -> list[dict[str, Any]]:
    tokenizer, facts = encoder.tokenizer, encoder.facts.tokenizer
    best = np.argsort(-scores_V, kind="stable")[:top_k]
    results = []
    for token in best.tolist():
        ids = [token if i == place else other for i, other in enumerate(encoding.ids)]
        results.append(
            {
                "score": float(scores_V[token]),
                "token": token,
                "token_str": tokenizer.decode([token], skip_special_tokens=False),
                "sequence": tokenizer.decode([i for i in ids if i != facts.pad_token_id], skip_special_tokens=is_only),
            }
        )
    return results
