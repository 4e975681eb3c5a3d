"""Texts and labelled examples -> padded batches of tensors, for training and for measuring.

Legend: B examples, S sequence, L labels.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch

from trtbert.checkpoint.hf_config import is_regression
from trtbert.checkpoint.read import Checkpoint, input_names
from trtbert.data import Example, Text
from trtbert.errors import InputError
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS

NO_LABEL = -100
"""Of a token that has none: transformers' own number."""


@dataclass(frozen=True, eq=False)
class Item:
    """One example as token ids."""

    ids: tuple[list[int], ...]
    """Of one sequence; of two for a pair of sentences that are embedded each by itself."""
    types: tuple[list[int], ...]
    label: Any = None
    """text-classification: an id, a list of L 0s and 1s, or a number. token-classification: an id or NO_LABEL for each token.
    question-answering: (first, last) token. sentence-similarity: a similarity or the name of a class. text-ranking: a relevance."""

    @property
    def length(self) -> int:
        return max(map(len, self.ids))


@dataclass(frozen=True, eq=False)
class Batch:
    """`inputs` are what the model takes, [B,S] each (or [2B,S] for pairs: all first texts, then all second ones)."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None = None
    items: tuple[Item, ...] = field(default=())

    @property
    def mask(self) -> torch.Tensor:
        """[B,S]"""
        return self.inputs[ATTENTION_MASK]

    def __len__(self) -> int:
        return len(self.items)


def encode_texts(checkpoint: Checkpoint, texts: Sequence[Text], *, max_length: int | None = None) -> list[Item]:
    """Items without labels; texts are cut to `max_length` tokens, or the model's own limit."""
    return [_item(encoding) for encoding in _encodings(checkpoint, texts, max_length)]


def encode_examples(checkpoint: Checkpoint, examples: Sequence[Example], *, max_length: int | None = None) -> list[Item]:
    """Items with the labels of the checkpoint's task; an example that the model cannot learn from is left out.

    Raises InputError for a label that the model's head has no place for.
    """
    if checkpoint.task == "sentence-similarity" and not isinstance(examples[0].text, str):
        return _pairs(checkpoint, examples, max_length)
    encodings = _encodings(checkpoint, [example.text for example in examples], max_length)
    label = _LABELS[checkpoint.task]
    items = [_item(encoding, label(checkpoint, example, encoding)) for example, encoding in zip(examples, encodings, strict=True)]
    return [item for item in items if item.label is not None]


def collate(checkpoint: Checkpoint, items: Sequence[Item]) -> Batch:
    """Pad on the right, as the predictor does."""
    fast, names = checkpoint.tokenizer.fast, input_names(checkpoint.model)
    rows = [(item.ids[part], item.types[part]) for part in range(len(items[0].ids)) for item in items]
    length = max(len(ids) for ids, _ in rows)
    padding = {INPUT_IDS: fast.pad_token_id or 0, TOKEN_TYPE_IDS: fast.pad_token_type_id, ATTENTION_MASK: 0}
    columns = {
        INPUT_IDS: [ids for ids, _ in rows],
        TOKEN_TYPE_IDS: [types for _, types in rows],
        ATTENTION_MASK: [[1] * len(ids) for ids, _ in rows],
    }
    inputs = {name: torch.tensor([row + [padding[name]] * (length - len(row)) for row in columns[name]]) for name in names}
    return Batch(inputs, _labels(items, length), tuple(items))


def batches(checkpoint: Checkpoint, items: Sequence[Item], batch_size: int) -> Iterator[Batch]:
    """Every item once, the longest first, so that a batch has little padding."""
    ordered = sorted(items, key=lambda item: -item.length)
    for start in range(0, len(ordered), batch_size):
        yield collate(checkpoint, ordered[start : start + batch_size])


def _encodings(checkpoint: Checkpoint, texts: Sequence[Text], max_length: int | None) -> list[Any]:
    backend = checkpoint.tokenizer.fast.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(min(max_length or checkpoint.max_length, checkpoint.max_length))
    try:
        return list(backend.encode_batch(list(texts)))
    finally:
        backend.no_truncation()


def _item(encoding: Any, label: Any = None) -> Item:
    return Item((encoding.ids,), (encoding.type_ids,), label)


def _pairs(checkpoint: Checkpoint, examples: Sequence[Example], max_length: int | None) -> list[Item]:
    firsts, seconds = (_encodings(checkpoint, [example.text[side] for example in examples], max_length) for side in (0, 1))
    return [
        Item((first.ids, second.ids), (first.type_ids, second.type_ids), float(example.label))
        for example, first, second in zip(examples, firsts, seconds, strict=True)
    ]


def _class_label(checkpoint: Checkpoint, example: Example, _encoding: Any) -> Any:
    config, ids = checkpoint.model.config, {label: index for index, label in enumerate(checkpoint.labels)}
    if is_regression(config):
        return float(example.label)
    if config.problem_type == "multi_label_classification":
        return [float(label in example.label) for label in ids]
    if len(example.label) != 1:
        raise InputError(
            f"The text {str(example.text)[:60]!r} has {len(example.label)} labels, and the model gives one a text. Give one, or set "
            'problem_type to "multi_label_classification" in config.json.'
        )
    return ids[example.label[0]]


def _tag_labels(checkpoint: Checkpoint, example: Example, encoding: Any) -> list[int] | None:
    """The first token of a word has the word's tag; its other tokens have none. None where no word has a token, as one of U+200B alone."""
    ids = {label: index for index, label in enumerate(checkpoint.labels)}
    starts = {start: index for index, start in enumerate(accumulate((len(token) + 1 for token in example.tokens[:-1]), initial=0))}
    labels, seen = [NO_LABEL] * len(encoding.ids), set[int]()
    for position, ((first, last), is_special) in enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True)):
        word = next((starts[place] for place in range(first, last) if place in starts), None)
        if word is not None and word not in seen and not is_special:
            seen.add(word)
            labels[position] = ids[example.label[word]]
    return labels if seen else None


def _answer_label(_checkpoint: Checkpoint, example: Example, encoding: Any) -> tuple[int, int] | None:
    """The tokens of the first answer; (0, 0), the first token, for none; None where the context does not hold it, or is cut off before."""
    if not example.label:
        return 0, 0
    places = [found.start() for found in re.finditer(re.escape(example.label[0]), example.text[1])]
    if not places:
        return None
    start = min(places, key=lambda place: abs(place - example.start))
    end = start + len(example.label[0])
    in_context = [index for index, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
    first = next((index for index in in_context if encoding.offsets[index][1] > start), None)
    last = next((index for index in in_context if encoding.offsets[index][1] >= end), None)
    return None if first is None or last is None else (first, last)


_LABELS: dict[str, Any] = {
    "text-classification": _class_label,
    "token-classification": _tag_labels,
    "question-answering": _answer_label,
    "sentence-similarity": lambda _checkpoint, example, _encoding: example.label[0],
    "text-ranking": lambda _checkpoint, example, _encoding: float(example.label),
}


def _labels(items: Sequence[Item], length: int) -> torch.Tensor | None:
    labels = [item.label for item in items]
    if labels[0] is None:
        return None
    if isinstance(labels[0], str):  # classes of an embedder: what counts is whether two are the same
        numbers = {name: index for index, name in enumerate(sorted(set(labels)))}
        return torch.tensor([numbers[name] for name in labels])
    if isinstance(labels[0], list) and isinstance(labels[0][0], int):
        return torch.tensor([row + [NO_LABEL] * (length - len(row)) for row in labels])
    return torch.tensor(labels)
