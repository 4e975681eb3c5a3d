"""A runnable model and labelled examples -> its figure in percent."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any

import numpy as np
from tokenizers import Encoding

from trtbert import metrics
from trtbert.config import Metric
from trtbert.data import Example
from trtbert.errors import ConfigError, InputError
from trtbert.predictor.answers import answers_job
from trtbert.predictor.embeddings import embeddings_job, ranking_job
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.labels import label_name, labels_job
from trtbert.runtime import Array
from trtbert.tasks import Task

_Predictor = Callable[[Encoder, Sequence[Example]], list[Any]]

_CHUNK = 2048
"""Examples that are tokenized and sorted together, as in the predictor: bounds the memory."""
_MAX_ANSWER_LEN = 30
"""Tokens of an answer: the published SQuAD figures allow as many; the predictor's 15 are too few for some gold answers."""
_METRICS: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": metrics.accuracy,
    "macro-f1": metrics.macro_f1,
    "seqeval-f1": metrics.seqeval_f1,
    "squad-f1": metrics.squad_f1,
    "squad-em": metrics.squad_em,
    "spearman": metrics.spearman,
    "ndcg@10": metrics.ndcg_at_10,
}


def evaluate(encoder: Encoder, examples: Sequence[Example], metric: str) -> float:
    """Answer every text through `encoder`, with the package's own tokenizer and batches, and compare with the gold answers.

    `examples` are those of the encoder's task, one or more. A word has the tag of its first token, or O where it was cut off.
    Raises ConfigError for a metric that is not one of the task's, InputError for examples that the model cannot answer.
    """
    gold, predicted = _gold_and_predicted(encoder, examples, metric)
    task = encoder.facts.task
    if task == "token-classification" and metric == "accuracy":
        gold, predicted = list(chain(*gold)), list(chain(*predicted))
    if task == "text-ranking":
        gold, predicted = _by_query(examples, gold), _by_query(examples, predicted)
    return _METRICS[metric](gold, predicted)


def are_right(encoder: Encoder, examples: Sequence[Example], metric: str) -> list[bool]:
    """Whether each example is answered right; for metrics that are the share of such: accuracy of texts, and squad-em."""
    answers = zip(*_gold_and_predicted(encoder, examples, metric), strict=True)
    return [_METRICS[metric]([gold], [predicted]) == 100.0 for gold, predicted in answers]


def _gold_and_predicted(encoder: Encoder, examples: Sequence[Example], metric: str) -> tuple[list[Any], list[Any]]:
    task = encoder.facts.task
    if metric not in (allowed := metrics.METRICS.get(task, ())):
        raise ConfigError(f"The metric {metric!r} is not one for {task}, which has {', '.join(allowed) or 'none'}.")
    if task == "text-classification" and _are_numbers(examples) != (metric == "spearman"):
        raise ConfigError(f"The metric {metric!r} is not one for these examples: numbers have spearman, and labels have the others.")
    return [example.label for example in examples], _predictions(encoder, examples, metric)


def metric_for(task: Task, examples: Sequence[Example]) -> Metric:
    """The usual metric of a task that has any: for embeddings the accuracy where the examples are single texts with a class, and for
    a model that gives numbers their rank correlation."""
    if task == "text-classification" and _are_numbers(examples):
        return "spearman"
    is_classes = task == "sentence-similarity" and isinstance(examples[0].text, str)
    return "accuracy" if is_classes else metrics.METRICS[task][0]


def _predictions(encoder: Encoder, examples: Sequence[Example], metric: str) -> list[Any]:
    """An answer to each example, of the form of its gold label."""
    predict = _choose_predictor(encoder.facts.task, examples, metric)
    if predict is _nearest_classes:
        return predict(encoder, examples)  # which needs all classes at once
    chunks = (examples[start : start + _CHUNK] for start in range(0, len(examples), _CHUNK))
    return [answer for chunk in chunks for answer in predict(encoder, chunk)]


def _choose_predictor(task: Task, examples: Sequence[Example], metric: str) -> _Predictor:
    """Whether a text may have several labels or none, and a question no answer, is seen from the examples."""
    if metric == "spearman" and task == "text-classification":
        return _numbers
    if task == "text-classification" and any(len(example.label) != 1 for example in examples):
        return _label_sets
    if task == "question-answering" and not all(example.label for example in examples):
        return partial(_answers, handle_impossible_answer=True)
    if task == "sentence-similarity" and metric == "accuracy":
        return _nearest_classes
    return _PREDICTORS[task]


def _are_numbers(examples: Sequence[Example]) -> bool:
    return not isinstance(examples[0].label, tuple)


def _numbers(encoder: Encoder, examples: Sequence[Example]) -> list[Any]:
    return [answer["score"] for answer in encoder.run(labels_job(encoder, [example.text for example in examples]))]


def _best_labels(encoder: Encoder, examples: Sequence[Example]) -> list[Any]:
    return [(answer["label"],) for answer in encoder.run(labels_job(encoder, [example.text for example in examples]))]


def _label_sets(encoder: Encoder, examples: Sequence[Example]) -> list[Any]:
    """The labels with a score of one half or more, for examples with any number of labels."""
    if encoder.facts.activation != "sigmoid":
        raise InputError("Some examples have no label or several, but this model gives each text one label. Give each example one.")
    ranked = encoder.run(labels_job(encoder, [example.text for example in examples], top_k=None))
    return [tuple(sorted(answer["label"] for answer in answers if answer["score"] >= 0.5)) for answers in ranked]


def _tags(encoder: Encoder, examples: Sequence[Example]) -> list[Any]:
    encodings = encoder.tokenize([example.text for example in examples])
    tags = [["O"] * len(example.tokens) for example in examples]
    for index, row in encoder.rows(encodings):
        for word, token in _first_tokens(examples[index].tokens, encodings[index]).items():
            tags[index][word] = label_name(encoder.facts.labels, int(row["scores"][token].argmax()))
    return tags


def _first_tokens(words: Sequence[str], encoding: Encoding) -> dict[int, int]:
    """The first token of each word of a text that is the words joined by single spaces; none for a word that was cut off.

    The space before a word is the word's: tokens of byte-level and SentencePiece tokenizers begin with it, or are it alone.
    """
    starts = list(accumulate((len(word) + 1 for word in words[:-1]), initial=0))
    first: dict[int, int] = {}
    for token, (start, _) in enumerate(encoding.offsets):
        if not encoding.special_tokens_mask[token]:
            first.setdefault(bisect_right(starts, start + 1) - 1, token)
    return first


def _answers(encoder: Encoder, examples: Sequence[Example], *, handle_impossible_answer: bool = False) -> list[Any]:
    pairs = [(example.text[0], example.text[1]) for example in examples]
    job = answers_job(encoder, pairs, max_answer_len=_MAX_ANSWER_LEN, handle_impossible_answer=handle_impossible_answer)
    found = encoder.run(job)
    return [answer["answer"] for answer in found]


def _similarities(encoder: Encoder, examples: Sequence[Example]) -> list[Any]:
    """The cosine of each pair's embeddings."""
    if any(isinstance(example.text, str) for example in examples):
        raise InputError("Some examples are single texts with a class and some are pairs of texts. Give a file of one kind.")
    first_ND, second_ND = (_directions(encoder, [example.text[side] for example in examples]) for side in (0, 1))
    return list((first_ND * second_ND).sum(1))


def _nearest_classes(encoder: Encoder, examples: Sequence[Example]) -> list[Any]:
    """The class whose mean embedding is nearest to the text's, the text itself left out of the mean of its own class."""
    if not all(isinstance(example.text, str) for example in examples):
        raise InputError("Some examples are pairs of texts and some are single texts with a class. Give a file of one kind.")
    vectors_ND = _directions(encoder, [str(example.text) for example in examples])
    classes, class_N = np.unique([example.label[0] for example in examples], return_inverse=True)
    sums_CD = np.zeros((len(classes), vectors_ND.shape[1]))
    np.add.at(sums_CD, class_N, vectors_ND)
    scores_NC = vectors_ND @ (sums_CD / np.maximum(np.linalg.norm(sums_CD, axis=1, keepdims=True), 1e-12)).T
    own_ND = sums_CD[class_N] - vectors_ND
    scores_NC[np.arange(len(class_N)), class_N] = (vectors_ND * own_ND).sum(1) / np.maximum(np.linalg.norm(own_ND, axis=1), 1e-12)
    return [(str(classes[index]),) for index in scores_NC.argmax(1)]


def _directions(encoder: Encoder, texts: Sequence[str]) -> Array:
    vectors_ND = np.stack(encoder.run(embeddings_job(encoder, texts))).astype(np.float64)
    return np.asarray(vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12))


def _relevances(encoder: Encoder, examples: Sequence[Example]) -> list[Any]:
    scores = encoder.run(ranking_job(encoder, [example.text for example in examples]))
    if any(np.ndim(score) for score in scores):
        raise InputError(f"Ranking needs one score a pair, but this model gives {len(scores[0])}. Compile it for text-classification.")
    return scores


_PREDICTORS: dict[Task, _Predictor] = {
    "text-classification": _best_labels,
    "token-classification": _tags,
    "question-answering": _answers,
    "sentence-similarity": _similarities,
    "text-ranking": _relevances,
}


def _by_query(examples: Sequence[Example], values: Sequence[float]) -> list[list[float]]:
    """The values of each query's documents."""
    queries: dict[str, list[float]] = {}
    for example, value in zip(examples, values, strict=True):
        queries.setdefault(example.text[0], []).append(value)
    return list(queries.values())
