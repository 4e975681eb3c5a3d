"""Answers equal a plain loop over all spans of all windows, with windows and words from `transformers`' tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.models import make_checkpoint
from tests.predictor.packages import make_package
from tests.tiny_tokenizers import SENTENCES
from trtbert.errors import ConfigError, InputError
from trtbert.predictor import Predictor, load

EXAMPLES = [
    {"question": "What was cold?", "context": SENTENCES[2]},
    {"question": "Where did Zoë eat?", "context": "Zoë ate naïvely 🥞 in São Paulo — then in Zürich."},
    {"question": "Who works in Berlin?", "context": " ".join(SENTENCES)},
    {"question": " ".join(SENTENCES[:3]), "context": " ".join(reversed(SENTENCES))},
    {"question": "", "context": "x"},
]
LENGTH = 64


@pytest.fixture(scope="module", params=["bert", "roberta", "xlm-roberta"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint = make_checkpoint(folder / "checkpoint", request.param, task="question-answering")
    return load(make_package(folder / "pkg", checkpoint, "question-answering", max_length=LENGTH)), checkpoint


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


def reference(
    checkpoint: Path, example: dict[str, str], *, top_k: int, max_answer_len: int = 15, stride: int = 32
) -> tuple[list[dict[str, Any]], float]:
    """The answers, best first, and the score of no answer; as `transformers` 4 has it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(checkpoint).eval()
    windows = tokenizer(
        example["question"], example["context"], truncation="only_second", max_length=LENGTH, stride=stride, return_overflowing_tokens=True
    )
    answers: dict[str, dict[str, Any]] = {}
    null_scores = []
    for window in windows.encodings:
        feeds = {"input_ids": torch.tensor([window.ids]), "attention_mask": torch.ones(1, len(window.ids), dtype=torch.int64)}
        if "token_type_ids" in tokenizer.model_input_names:
            feeds["token_type_ids"] = torch.tensor([window.type_ids])
        with torch.inference_mode():
            output = model(**feeds)
        is_allowed = np.array([sequence == 1 or place == 0 for place, sequence in enumerate(window.sequence_ids)])
        logits = (output.start_logits[0].double().numpy(), output.end_logits[0].double().numpy())
        start, end = (softmax(np.where(is_allowed, logits_S, -1e4)) for logits_S in logits)
        null_scores.append(start[0] * end[0])
        places = [place for place, sequence in enumerate(window.sequence_ids) if sequence == 1]
        spans = [(start[s] * end[e], s, e) for s in places for e in places if s <= e < s + max_answer_len]
        for score, s, e in sorted(spans, reverse=True)[: 2 * top_k + 10]:
            first, last = window.word_to_chars(window.token_to_word(s), 1)[0], window.word_to_chars(window.token_to_word(e), 1)[1]
            text = example["context"][first:last]
            answers.setdefault(text.lower(), {"score": 0.0, "start": first, "end": last, "answer": text})["score"] += score
    return sorted(answers.values(), key=lambda answer: -answer["score"])[:top_k], min(null_scores)


def assert_same(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [a["answer"] for a in actual] == [e["answer"] for e in expected]
    for a, e in zip(actual, expected, strict=True):
        assert (a["start"], a["end"]) == (e["start"], e["end"])
        assert a["score"] == pytest.approx(e["score"], rel=1e-4)


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_k": 3}, {"top_k": 2, "max_answer_len": 4}], ids=str)
def test_answers(made: tuple[Predictor, Path], options: dict[str, Any]) -> None:
    predictor, checkpoint = made
    num_windows = 0
    examples = [example for example in EXAMPLES if len(example["question"]) < 60]
    for example, actual in zip(examples, predictor.predict(examples, **options), strict=True):
        expected, _ = reference(checkpoint, example, **options)
        assert_same([actual] if options["top_k"] == 1 else actual, expected)
        num_windows += len(predictor.encoder.tokenizer.encode(example["context"])) // LENGTH
    assert num_windows > 3


def test_the_score_of_no_answer(made: tuple[Predictor, Path]) -> None:
    predictor, checkpoint = made
    answers = predictor.predict(EXAMPLES[0], top_k=2000, handle_impossible_answer=True)
    _, null_score = reference(checkpoint, EXAMPLES[0], top_k=50)
    assert [a["score"] for a in answers if a["answer"] == ""] == [pytest.approx(null_score, rel=1e-4)]


def test_more_windows_than_are_allowed(made: tuple[Predictor, Path]) -> None:
    predictor, _ = made
    example = next(example for example in EXAMPLES if len(example["question"]) < 60)
    long = {**example, "context": " ".join([example["context"]] * 20)}
    num = len(predictor.job([long]).encodings)
    assert num > 2
    assert predictor.predict(long, max_windows=num) == predictor.predict(long)
    for inputs, most in (([long], num - 1), ([long, long], 2 * num - 1)):
        with pytest.raises(InputError, match=f"takes {num} windows, and of those that are allowed at once {num - 1} are left"):
            predictor.predict(inputs, max_windows=most)


def test_a_narrower_stride_makes_other_windows(made: tuple[Predictor, Path]) -> None:
    predictor, checkpoint = made
    expected, _ = reference(checkpoint, EXAMPLES[2], top_k=3, stride=5)
    assert_same(predictor.predict(EXAMPLES[2], top_k=3, doc_stride=5), expected)


def test_offsets_are_those_of_the_answer(made: tuple[Predictor, Path]) -> None:
    for example, answers in zip(EXAMPLES, made[0].predict(EXAMPLES, top_k=20), strict=True):
        assert answers
        for answer in answers:
            assert example["context"][answer["start"] : answer["end"]] == answer["answer"] != ""
    inside = made[0].predict(EXAMPLES[2], top_k=20, align_to_words=False)
    assert all(EXAMPLES[2]["context"][a["start"] : a["end"]] == a["answer"] for a in inside)


def test_an_empty_context_has_no_answer(made: tuple[Predictor, Path]) -> None:
    assert made[0].predict([("who?", ""), ("who?", " ")]) == [{"score": 0.0, "start": 0, "end": 0, "answer": ""}] * 2
    assert made[0].predict([("who?", "")], top_k=2) == [[]]


def test_the_ways_to_ask(made: tuple[Predictor, Path]) -> None:
    predictor, _ = made
    expected = predictor.predict(EXAMPLES)
    assert isinstance(expected[0], dict)
    questions, contexts = ([example[key] for example in EXAMPLES] for key in ("question", "context"))
    assert predictor.predict(list(zip(questions, contexts, strict=True))) == expected
    assert predictor.predict(question=questions, context=contexts) == expected
    one = predictor.predict(question=questions[0], context=contexts[0])
    assert one["answer"] == expected[0]["answer"]
    assert [a["answer"] for a in predictor.predict(question=["What was cold?"] * 2, context=contexts[0])] == [one["answer"]] * 2


def test_wrong_ways_to_ask(made: tuple[Predictor, Path]) -> None:
    predictor, _ = made
    with pytest.raises(
        InputError, match=r"Text 0 must be a pair \(question, context\) of strings, got a dict with the keys \['question'\]"
    ):
        predictor.predict([{"question": "who?"}])
    with pytest.raises(InputError, match="must have one length, got 2 and 1"):
        predictor.predict(question=["a", "b"], context=["c"])
    with pytest.raises(InputError, match="together"):
        predictor.predict(question="who?")
    with pytest.raises(ConfigError, match="doc_stride 62 leaves no room in windows of 64"):
        predictor.predict(EXAMPLES, doc_stride=62)
