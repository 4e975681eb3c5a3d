"""question-answering: a question and a context -> the spans of the context that answer it, long contexts in overlapping windows."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from trtbert.errors import ConfigError, InputError
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.job import Job, Row
from trtbert.predictor.options import check_number
from trtbert.runtime import Array

Example = tuple[str, str]
"""A question and its context."""

_MASKED = -10000.0
"""The logit of a token that cannot be in an answer, as `transformers` has it."""
_NOTHING_FOUND = {"score": 0.0, "start": 0, "end": 0, "answer": ""}


@dataclass(frozen=True)
class _Options:
    top_k: int
    max_answer_len: int
    align_to_words: bool

    @property
    def num_candidates(self) -> int:
        """More than are asked for: several may be one answer once they are aligned to words."""
        return self.top_k * 2 + 10 if self.align_to_words else self.top_k


@dataclass(frozen=True)
class _Window:
    """The question with a part of the context, as the model reads them, and that part alone.

    Places in the text come from the part: a byte-level tokenizer trims the offsets each time it post-processes an encoding.
    """

    encoding: Encoding
    part: Encoding


@dataclass(frozen=True)
class _Spans:
    """The best spans of one window: tokens of its part of the context, their scores, and the score of no answer."""

    starts: Array
    ends: Array
    scores: Array
    null_score: float


def examples_from(inputs: Any, question: Any, context: Any) -> Any:
    """`inputs`, or {"question", "context"} of the keywords: two texts, two lists of one length, or several questions on one context."""
    if question is None and context is None:
        return inputs
    if inputs is not None or question is None or context is None:
        raise InputError("Give question= and context= together, or one list of {'question', 'context'}.")
    if isinstance(question, str):
        return {"question": question, "context": context}
    contexts = [context] * len(question) if isinstance(context, str) else context
    if len(contexts) != len(question):
        raise InputError(f"question and context must have one length, got {len(question)} and {len(contexts)}.")
    return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]


def answers_job(
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    top_k: int = 1,
    max_answer_len: int = 15,
    handle_impossible_answer: bool = False,
    doc_stride: int | None = None,
    max_seq_len: int | None = None,
    align_to_words: bool = True,
    max_windows: int | None = None,
) -> Job:
    """{"score", "start", "end", "answer"} for each example, start and end as characters of the context; with top_k > 1 a list of them.

    A context longer than `max_seq_len` tokens (384, or the model's maximum) goes through in windows that overlap by `doc_stride`
    tokens (128, or half a window); more than `max_windows` for all examples together are an InputError.
    The scores are those of `transformers` 4: start and end probabilities multiplied, per window.
    """
    options = _Options(check_number("top_k", top_k), check_number("max_answer_len", max_answer_len), align_to_words)
    length, stride = _window_sizes(encoder, max_seq_len, doc_stride)
    windows: list[list[_Window]] = []
    for example in examples:
        most = None if max_windows is None else max_windows - sum(map(len, windows))
        windows.append(list(_windows(encoder.tokenizer, example, length, stride, most)))
    flat = [window.encoding for group in windows for window in group]

    def take(index: int, row: Row) -> _Spans:
        return _best_spans(row["start_logits"], row["end_logits"], flat[index], options)

    def finish(kept: list[Any]) -> list[Any]:
        spans = iter(kept)
        results = []
        for (_, context), group in zip(examples, windows, strict=True):
            candidates = list(zip(group, spans, strict=False))
            answers = _answers(context, candidates, align_to_words)
            if handle_impossible_answer:
                answers.append(_NOTHING_FOUND | {"score": min(spans.null_score for _, spans in candidates)})
            answers = sorted(answers, key=lambda answer: -answer["score"])[:top_k]
            results.append(answers if top_k > 1 else (answers or [dict(_NOTHING_FOUND)])[0])
        return results

    return Job(flat, take, finish)


def _window_sizes(encoder: Encoder, max_seq_len: int | None, doc_stride: int | None) -> tuple[int, int]:
    length = min(encoder.max_length, 384 if max_seq_len is None else check_number("max_seq_len", max_seq_len))
    stride = min(length // 2, 128) if doc_stride is None else check_number("doc_stride", doc_stride, at_least=0)
    room = length - encoder.tokenizer.num_special_tokens_to_add(is_pair=True) - 2  # A token of the question, and one of the context.
    if stride > room:
        if doc_stride is not None or room < 0:
            raise ConfigError(f"doc_stride {stride} leaves no room in windows of {length} tokens; choose at most {max(room, 0)}.")
        stride = room
    return length, stride


def _windows(tokenizer: Tokenizer, example: Example, length: int, stride: int, most: int | None) -> Iterator[_Window]:
    """The question with each part of the context; a question that leaves no room for more than `stride` tokens is cut."""
    question, context = (_tokenize_alone(tokenizer, text) for text in example)
    room = length - tokenizer.num_special_tokens_to_add(is_pair=True)
    question.truncate(room - stride - 1)
    room -= len(question)
    num = 1 + max(0, math.ceil((len(context) - room) / (room - stride)))
    if most is not None and num > most:  # Said before they are made: with a long question each holds one new token.
        raise InputError(
            f"A context of {len(context)} tokens takes {num} windows, and of those that are allowed at once {most} are left. "
            "Shorten it, or the question."
        )
    context.truncate(room, stride=stride)
    for part in [context, *context.overflowing]:
        yield _Window(tokenizer.post_process(question, part), part)


def _tokenize_alone(tokenizer: Tokenizer, text: str) -> Encoding:
    """The tokens of one text without special tokens."""
    return tokenizer.encode(text, add_special_tokens=False)


def _best_spans(start_S: Array, end_S: Array, window: Encoding, options: _Options) -> _Spans:
    """`window` is the encoding that the model read: the context is its second sequence."""
    is_context = np.array(window.sequence_ids, dtype=object) == 1
    is_cls = (np.array(window.ids) == window.ids[0]) & np.array(window.special_tokens_mask, bool)
    start, end = (_softmax(np.where(is_context | is_cls, logits, _MASKED)) for logits in (start_S, end_S))
    null_score = float(start[0] * end[0])
    scores_SS = np.tril(np.triu(np.outer(np.where(is_context, start, 0), np.where(is_context, end, 0))), options.max_answer_len - 1)
    flat = scores_SS.ravel()
    num = min(options.num_candidates, flat.size)
    best = np.argpartition(-flat, num - 1)[:num]
    best = best[np.argsort(-flat[best], kind="stable")]
    best = best[flat[best] > 0]
    starts, ends = np.unravel_index(best, scores_SS.shape)
    first = int(is_context.argmax())
    return _Spans(starts - first, ends - first, flat[best], null_score)


def _softmax(logits_S: Array) -> npt.NDArray[np.float64]:
    exponents = np.exp(logits_S.astype(np.float64) - logits_S.max())
    return np.asarray(exponents / exponents.sum(), np.float64)


def _answers(context: str, windows: Iterable[tuple[_Window, _Spans]], align_to_words: bool) -> list[dict[str, Any]]:
    """One answer for each text that was found, whatever its case; the scores of its spans are added."""
    answers: dict[str, dict[str, Any]] = {}
    for window, spans in windows:
        for first, last, score in zip(spans.starts.tolist(), spans.ends.tolist(), spans.scores.tolist(), strict=True):
            start, end = _characters(window.part, first, last, align_to_words)
            text = context[start:end]
            if not text:  # A token of white space alone.
                continue
            known = answers.setdefault(text.lower(), {"score": 0.0, "start": start, "end": end, "answer": text})
            known["score"] += score
    return list(answers.values())


def _characters(part: Encoding, first: int, last: int, align_to_words: bool) -> tuple[int, int]:
    """Characters of the context from token `first` to token `last`, out to the whole words where the tokenizer knows words."""
    words = (part.token_to_word(first), part.token_to_word(last)) if align_to_words else (None, None)
    places = [None if word is None else part.word_to_chars(word) for word in words]
    start, end = places[0] or part.offsets[first], places[1] or part.offsets[last]
    return start[0], end[1]
