"""token-classification: a text -> its tokens or entities with their places, as characters, in the text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tokenizers import Encoding, Tokenizer

from trtbert.data import Text
from trtbert.errors import ConfigError
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.job import Job, Row
from trtbert.predictor.labels import label_name
from trtbert.runtime import Array

Aggregation = Literal["none", "simple", "first", "average", "max"]


@dataclass(frozen=True)
class _Piece:
    """A token or a word: its scores, one a label, and its place in the text, as characters."""

    word: str
    scores: Array
    start: int
    end: int
    index: int
    is_subword: bool


def entities_job(
    encoder: Encoder, texts: Sequence[Text], *, aggregation_strategy: Aggregation = "simple", ignore_labels: Sequence[str] = ("O",)
) -> Job:
    """The entities of each text, with the strategies of `transformers`' token-classification pipeline.

    none: {"entity", "score", "index", "word", "start", "end"} for each token; simple: neighbouring tokens of one label as
    {"entity_group", "score", "word", "start", "end"}; first, average, max: the same from whole words, whose scores are those of their
    first token, the mean of their tokens, or those of their surest token.
    """
    if aggregation_strategy not in ("none", "simple", *_WORD_SCORES):
        raise ConfigError(f"aggregation_strategy must be one of none, simple, first, average, max, got {aggregation_strategy!r}.")
    encodings = encoder.tokenize(texts)

    def take(index: int, row: Row) -> list[dict[str, Any]]:
        pieces = _pieces(encoder.tokenizer, "".join(texts[index]), encodings[index], row["scores"])
        if aggregation_strategy in _WORD_SCORES:
            pieces = _words(encoder.tokenizer, pieces, _WORD_SCORES[aggregation_strategy])
        found = [_token(piece, encoder.facts.labels) for piece in pieces]
        if aggregation_strategy != "none":
            found = [_entity(encoder.tokenizer, group) for group in _groups(found)]
        return [entity for entity in found if entity.get("entity", entity.get("entity_group")) not in ignore_labels]

    return Job(encodings, take)


def _pieces(tokenizer: Tokenizer, text: str, encoding: Encoding, scores_SL: Array) -> list[_Piece]:
    has_prefix = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))
    unknown = _unknown_ids(tokenizer)
    pieces = []
    for index, (token, (start, end)) in enumerate(zip(encoding.tokens, encoding.offsets, strict=True)):
        if encoding.special_tokens_mask[index]:
            continue
        is_subword = len(token) != end - start if has_prefix else start > 0 and " " not in text[start - 1 : start + 1]
        if encoding.ids[index] in unknown:
            token, is_subword = text[start:end], False
        pieces.append(_Piece(token, scores_SL[index], start, end, index, is_subword))
    return pieces


def _unknown_ids(tokenizer: Tokenizer) -> set[int | None]:
    """The id of the unknown token; a Unigram model does not tell it, so there it is looked up by its usual names."""
    names = [name] if (name := getattr(tokenizer.model, "unk_token", None)) else ["<unk>", "[UNK]"]
    return {tokenizer.token_to_id(name) for name in names}


_WORD_SCORES: dict[str, Callable[[list[_Piece]], Array]] = {
    "first": lambda pieces: pieces[0].scores,
    "average": lambda pieces: np.mean([piece.scores for piece in pieces], axis=0),
    "max": lambda pieces: max(pieces, key=lambda piece: piece.scores.max()).scores,
}


def _words(tokenizer: Tokenizer, pieces: list[_Piece], word_scores: Callable[[list[_Piece]], Array]) -> list[_Piece]:
    words: list[list[_Piece]] = []
    for piece in pieces:
        if piece.is_subword and words:
            words[-1].append(piece)
        else:
            words.append([piece])
    return [
        _Piece(_join(tokenizer, [p.word for p in word]), word_scores(word), word[0].start, word[-1].end, word[0].index, False)
        for word in words
    ]


def _token(piece: _Piece, labels: Sequence[str]) -> dict[str, Any]:
    best = int(piece.scores.argmax())
    place = {"index": piece.index, "word": piece.word, "start": piece.start, "end": piece.end}
    return {"entity": label_name(labels, best), "score": float(piece.scores[best]), **place}


def _groups(tokens: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Neighbours with the same label; B- begins a new group."""
    groups: list[list[dict[str, Any]]] = []
    for token in tokens:
        begins, name = _begins_and_name(token["entity"])
        if groups and not begins and name == _begins_and_name(groups[-1][-1]["entity"])[1]:
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _begins_and_name(label: str) -> tuple[bool, str]:
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _entity(tokenizer: Tokenizer, group: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "entity_group": group[0]["entity"].split("-", 1)[-1],
        "score": float(np.mean([token["score"] for token in group])),
        "word": _join(tokenizer, [token["word"] for token in group]),
        "start": group[0]["start"],
        "end": group[-1]["end"],
    }


def _join(tokenizer: Tokenizer, words: list[str]) -> str:
    return tokenizer.decoder.decode(words) if tokenizer.decoder is not None else " ".join(words)
