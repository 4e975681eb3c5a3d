"""Answers equal those of `transformers.pipeline` on the same checkpoint, for every task and kind of tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers

from tests.models import LABELS, make_checkpoint
from tests.numerics import assert_close
from tests.predictor.packages import make_package
from trtbert.errors import ConfigError, InputError, UnsupportedError
from trtbert.predictor import Predictor, load
from trtbert.tasks import TASKS, Task

TEXTS = [
    "Angela Merkel flew from Berlin to New York.",
    "",
    "Zoë Müller ate a crêpe, naïvely 🥞 in São Paulo — twice!",
    "short",
    "東京から大阪まで. Ivan went to Zürich-Oerlikon; then he slept for " + "very " * 20 + "long.",
]
PAIRS = [("where is it", TEXTS[0]), ("", "word"), (TEXTS[2], ""), ("a", "b c d e f g h")]
Made = tuple[Predictor, Any, Path]
"""A package, `transformers`' own pipeline (None where it has none) and the checkpoint of both."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Task], Made]:
    known: dict[tuple[str, Task], Made] = {}

    def make(architecture: str, task: Task) -> Made:
        if (architecture, task) not in known:
            folder = tmp_path_factory.mktemp(f"{architecture}-{task}")
            checkpoint = make_checkpoint(folder / "checkpoint", architecture, task=task)
            predictor = load(make_package(folder / "pkg", checkpoint, task))
            has_pipeline = task in ("text-classification", "token-classification", "fill-mask", "feature-extraction")
            known[architecture, task] = predictor, transformers.pipeline(task, str(checkpoint)) if has_pipeline else None, checkpoint
        return known[architecture, task]

    return make


def assert_same(actual: Any, expected: Any) -> None:
    """Equal in every key and order; scores to 1e-5."""
    if isinstance(expected, list):
        assert isinstance(actual, list)
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            assert_same(a, e)
        return
    assert {k: v for k, v in actual.items() if k != "score"} == {k: v for k, v in expected.items() if k != "score"}
    assert type(actual["score"]) is float
    assert actual["score"] == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("options", [{}, {"top_k": None}, {"top_k": 2}, {"top_k": 1}, {"top_k": 9}])
def test_text_classification(made: Callable[..., Made], architecture: str, options: dict[str, Any]) -> None:
    predictor, pipeline, _ = made(architecture, "text-classification")
    assert predictor.manifest.model.labels == LABELS["text-classification"]
    assert_same(predictor.predict(TEXTS, **options), pipeline(TEXTS, **options))
    assert_same(predictor.predict(TEXTS[0], **options), pipeline(TEXTS[0], **options))


def test_text_classification_of_pairs(made: Callable[..., Made]) -> None:
    predictor, pipeline, _ = made("bert", "text-classification")
    tuples = [pair for pair in PAIRS if pair[1]]  # transformers 5 takes an empty second text for no second text.
    dicts = [{"text": a, "text_pair": b} for a, b in tuples]
    expected = pipeline(dicts)
    assert len({answer["score"] for answer in expected}) == len(dicts) > 2
    assert_same(predictor.predict(dicts), expected)
    assert_same(predictor.predict(tuples), expected)
    assert_same(predictor.predict(dicts[0]), expected[0])
    assert_same(predictor.predict([TEXTS[0], tuples[0], {"text": TEXTS[3]}]), [*pipeline(TEXTS[:1]), expected[0], *pipeline(TEXTS[3:4])])


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_token_classification(made: Callable[..., Made], architecture: str, strategy: str) -> None:
    predictor, pipeline, _ = made(architecture, "token-classification")
    for options in ({}, {"ignore_labels": []}, {"ignore_labels": ["PER", "I-LOC"]}):
        answers = pipeline(TEXTS, aggregation_strategy=strategy, **options)
        expected = [[entity | {"score": float(entity["score"])} for entity in entities] for entities in answers]
        assert_same(predictor.predict(TEXTS, aggregation_strategy=strategy, **options), expected)
        assert_same(predictor.predict(TEXTS[0], aggregation_strategy=strategy, **options), expected[0])
        assert expected[0] or options != {"ignore_labels": []}


def test_entities_are_the_default(made: Callable[..., Made]) -> None:
    predictor, *_ = made("bert", "token-classification")
    assert predictor.predict(TEXTS) == predictor.predict(TEXTS, aggregation_strategy="simple", ignore_labels=["O"])


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_fill_mask(made: Callable[..., Made], architecture: str) -> None:
    predictor, pipeline, _ = made(architecture, "fill-mask")
    mask = pipeline.tokenizer.mask_token
    texts = [f"the {mask} sat", f"{mask} and {mask} are far away from here", f"{mask}", f"Zoë ate {mask}, twice."]
    for options in ({}, {"top_k": 2}):
        assert_same(predictor.predict(texts, **options), pipeline(texts, **options))
    assert_same(predictor.predict(texts[0]), pipeline(texts[0]))
    with pytest.raises(InputError, match=r"'no place' has no .*(?i:mask)"):
        predictor.predict([texts[0], "no place"])


def test_feature_extraction(made: Callable[..., Made]) -> None:
    predictor, pipeline, _ = made("bert", "feature-extraction")
    results, expected = predictor.predict(TEXTS), pipeline(TEXTS)
    assert len({result.shape for result in results}) > 3
    for result, features in zip(results, expected, strict=True):
        assert result.dtype == np.float32
        assert_close(result, np.array(features[0]))
    assert_close(predictor.predict(TEXTS[0]), np.array(expected[0][0]))
    with pytest.raises(UnsupportedError, match=r"compiled for feature-extraction.*--task sentence-similarity"):
        predictor.encode(TEXTS)


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_sentence_similarity(made: Callable[..., Made], architecture: str) -> None:
    predictor, _, checkpoint = made(architecture, "sentence-similarity")
    expected = sentence_transformers.SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS)
    assert_close(predictor.encode(TEXTS), expected)
    assert_close(predictor.predict(TEXTS), expected)
    assert_close(predictor.encode(TEXTS[2]), expected[2])
    assert predictor.encode([]).shape == (0, 48)


def test_text_ranking(made: Callable[..., Made]) -> None:
    predictor, _, checkpoint = made("bert", "text-ranking")
    expected = sentence_transformers.CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Identity()).predict(PAIRS)
    assert_close(predictor.predict(PAIRS), expected)
    assert_close(predictor.predict([list(pair) for pair in PAIRS]), expected)
    assert predictor.predict(PAIRS[0]) == pytest.approx(float(expected[0]), abs=1e-5)
    with pytest.raises(InputError, match=r"Text 1 must be a pair \(text, text_pair\) of strings, got str"):
        predictor.predict([PAIRS[0], "alone"])


@pytest.mark.parametrize("task", list(TASKS))
def test_no_texts_give_no_answers(made: Callable[..., Made], task: Task) -> None:
    predictor, *_ = made("bert", task)
    assert len(predictor.predict([])) == 0
    assert len(predictor.predict(iter(()))) == 0


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ("text-ranking", "question-answering")])
@pytest.mark.parametrize("bad", [None, 7, b"bytes", ["a", 3], {"words": "x"}], ids=str)
def test_what_is_not_a_text_is_named(made: Callable[..., Made], task: Task, bad: Any) -> None:
    predictor, *_ = made("bert", task)
    with pytest.raises(InputError, match="Text 1 must be a string, got") as raised:
        predictor.predict(["fine", bad])
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("bad", [None, 7, b"bytes"])
def test_no_iterable_of_texts(made: Callable[..., Made], bad: Any) -> None:
    with pytest.raises(InputError, match=f"takes a text or an iterable of texts, got {type(bad).__name__}"):
        made("bert", "text-classification")[0].predict(bad)


def test_a_lone_surrogate_is_refused(made: Callable[..., Made]) -> None:
    with pytest.raises(InputError, match=r"'half \\ud800' is not valid Unicode"):
        made("bert", "text-classification")[0].predict(["fine", "half \ud800"])


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("text-classification", {"top_k": 0}),
        ("text-classification", {"top_k": "two"}),
        ("text-classification", {"topk": 2}),
        ("token-classification", {"aggregation_strategy": "median"}),
        ("fill-mask", {"top_k": True}),
        ("feature-extraction", {"top_k": 2}),
        ("question-answering", {"max_answer_len": 0}),
        ("question-answering", {"doc_stride": 1000}),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(made: Callable[..., Made], task: Task, options: dict[str, Any]) -> None:
    predictor, *_ = made("bert", task)
    texts = [("who", "he")] if task == "question-answering" else ["the [MASK]"]
    with pytest.raises(ConfigError, match=next(iter(options))) as raised:
        predictor.predict(texts, **options)
    assert raised.value.exit_code == 2
