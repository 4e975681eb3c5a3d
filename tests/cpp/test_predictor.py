"""The answers of the C++ library are those of the Python package, for each task and its options."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtbert
from tests.cpp.driver import Driver
from tests.cpp.texts import strings
from tests.tiny_tokenizers import SENTENCES
from trtbert.tasks import Task

TEXTS = [*SENTENCES, *strings(200, seed=1)]
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))
LONG = " ".join(SENTENCES * 3)
QUESTIONS = [*((f"Who is {text[:30]}?", context) for text, context in PAIRS[:60]), ("Where does Peter work?", LONG), ("Who?", "")]

CASES: list[tuple[Task, Sequence[Any], dict[str, Any]]] = [
    ("sentence-similarity", [*TEXTS, LONG], {}),
    ("feature-extraction", TEXTS[:60], {}),
    ("text-ranking", PAIRS, {}),
    ("text-classification", [*TEXTS, LONG], {}),
    ("text-classification", PAIRS, {"top_k": 2}),
    ("text-classification", [*TEXTS[:20], *PAIRS[:20]], {"top_k": None}),
    ("fill-mask", [f"{text[:60]} [MASK]." for text in TEXTS[:50]], {}),
    ("fill-mask", ["[MASK] a [MASK]", "The museum, it's [MASK]!"], {"top_k": 3}),
    *(("token-classification", TEXTS, {"aggregation_strategy": name}) for name in ("none", "simple", "first", "average", "max")),
    ("token-classification", TEXTS[:50], {"ignore_labels": ["B-PER", "I-LOC"]}),
    ("question-answering", QUESTIONS, {}),
    ("question-answering", QUESTIONS, {"top_k": 4, "handle_impossible_answer": True}),
    ("question-answering", QUESTIONS[-3:], {"max_seq_len": 60, "doc_stride": 20, "top_k": 3, "align_to_words": False}),
    ("question-answering", QUESTIONS[:10], {"max_answer_len": 2}),
]


def assert_same(actual: Any, expected: Any) -> None:
    """Equal, floats to the last digits: sums are added up in another order."""
    expected = expected.tolist() if isinstance(expected, np.ndarray | np.floating) else expected
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    else:
        assert actual == (pytest.approx(expected, rel=1e-12) if isinstance(expected, float) else expected)


@pytest.mark.parametrize(("task", "texts", "options"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_answers(task: Task, texts: Sequence[Any], options: dict[str, Any], driver: Driver, packages: dict[Task, Path]) -> None:
    (answer,) = driver("predict", packages[task], lines=[{"inputs": texts, "options": options}])
    expected = trtbert.load(packages[task], threads=1).predict(texts, **options)
    assert len(answer["outputs"]) == len(texts) > 0
    assert_same(answer["outputs"], list(expected))


def test_a_pair_may_be_an_object(driver: Driver, packages: dict[Task, Path]) -> None:
    texts = [{"question": "Who?", "context": LONG}], [{"text": "a", "text_pair": "b"}], [{"text": "a", "text_pair": None}]
    tasks: tuple[Task, ...] = ("question-answering", "text-classification", "text-classification")
    for task, inputs in zip(tasks, texts, strict=True):
        (answer,) = driver("predict", packages[task], lines=[{"inputs": inputs}])
        assert_same(answer["outputs"], list(trtbert.load(packages[task], threads=1).predict(inputs)))


@pytest.mark.parametrize(
    ("task", "request_", "message"),
    [
        ("text-classification", {}, 'request: the field "inputs" is missing.'),
        ("text-classification", [], "request: it must be an object, got an array."),
        ("text-classification", {"inputs": "a"}, 'request.inputs: it must be an array, got "a".'),
        ("text-classification", {"inputs": [3]}, "request.inputs.0: it must be a string, a pair of strings"),
        ("text-classification", {"inputs": [["a", 3]]}, "request.inputs.0.1: it must be a string, got 3."),
        ("text-classification", {"inputs": ["a"], "options": {"top_k": 0}}, "top_k: it must be a whole number of 1 or more, got 0."),
        (
            "text-classification",
            {"inputs": ["a"], "options": {"top": 1}},
            "text-classification does not take the option top; it takes top_k.",
        ),
        ("sentence-similarity", {"inputs": ["a"], "options": {"top_k": 1}}, "does not take the option top_k; it takes none."),
        ("sentence-similarity", {"inputs": ["a", ["a", "b"]]}, "Text 1 must be one text for sentence-similarity, got a pair."),
        ("text-ranking", {"inputs": ["a"]}, "Text 0 must be a pair of texts for text-ranking, got one text."),
        ("fill-mask", {"inputs": ["no gap"]}, '"no gap" has no [MASK] in its first 130 tokens; put [MASK] where a word is to go.'),
        (
            "token-classification",
            {"inputs": ["a"], "options": {"aggregation_strategy": "all"}},
            "aggregation_strategy must be one of none, simple",
        ),
        (
            "question-answering",
            {"inputs": [["a", "b"]], "options": {"doc_stride": 400}},
            "leaves no room in windows of 130 tokens; choose at most",
        ),
    ],
)
def test_a_wrong_request_is_said(task: Task, request_: Any, message: str, driver: Driver, packages: dict[Task, Path]) -> None:
    (answer,) = driver("predict", packages[task], lines=[request_])
    assert message in answer["error"]


def test_the_sanitizers_find_nothing(sanitized_driver: Driver, packages: dict[Task, Path]) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    for task, texts, options in CASES[::3]:
        good = {"inputs": texts[:30], "options": options}
        (answer,) = sanitized_driver("predict", packages[task], lines=[good])
        assert len(answer["outputs"]) == len(texts[:30])
    done = sanitized_driver.run("predict", packages["text-ranking"], text=f'{{"inputs": [{deep}]}}\n{{"inputs": \n"\\ud800"\n'.encode())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b'"error"') == 3
