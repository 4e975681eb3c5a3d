"""How much of one runnable model's answers another one gives, on answers that a test chooses: texts of 1, 2, 3 ... tokens.

Legend: B batch, S sequence, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_tokenizers import make_tokenizer
from trtbert.fidelity import Fidelity
from trtbert.package import ModelFacts, TensorFacts, TokenizerFacts
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.tokens import Feeds
from trtbert.runtime import Array
from trtbert.tasks import TASKS, Task

NUM = 6
TEXTS = [" ".join("a" * length) for length in (3, 1, 6, 2, 5, 4)]
"""Not in the order of their lengths, in which they run. Each has two special tokens more."""
WIDTHS: dict[Task, int] = {"text-ranking": 1}
Answer = Callable[[Feeds], dict[str, Array]]
Answers = Callable[[int], list[float]]
"""Of a text, by its number of words."""


@dataclass(frozen=True)
class Runs:
    """A runtime whose answers a test writes down."""

    answer: Answer

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return self.answer(feeds)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder, "bert", max_length=64)
    return folder / "tokenizer.json"


def encoder(tokenizer: Path, task: Task, answer: Answer, *, width: int = 4, activation: str = "none") -> Encoder:
    inputs = [TensorFacts(name=name, dtype="int32", shape=("batch", "sequence")) for name in ("input_ids", "attention_mask")]
    shape = ("batch", "sequence", width)[: len(TASKS[task].shape)] if "sequence" in TASKS[task].shape else ("batch", width)
    facts = ModelFacts(
        architecture="bert",
        task=task,
        activation=activation,  # type: ignore[arg-type]
        max_length=64,
        num_layers=2,
        tokenizer=TokenizerFacts(pad_token_id=0, vocab_size=320),
        inputs=tuple(inputs),
        outputs=tuple(TensorFacts(name=name, dtype="float32", shape=shape) for name in TASKS[task].outputs),
    )
    return Encoder(facts, Runs(answer), tokenizer=tokenizer)  # type: ignore[arg-type]


def by_text(task: Task, answers: Answers) -> Answer:
    """The same numbers for every text of so many words."""
    (name,) = TASKS[task].outputs

    def answer(feeds: Feeds) -> dict[str, Array]:
        return {name: np.array([answers(int(mask.sum()) - 2) for mask in feeds["attention_mask"]], np.float32)}

    return answer


def by_token(*places: int, names: tuple[str, ...] = ("scores",), width: int = 4) -> Answer:
    """Label 1 for the tokens at these places, counted over the texts in the order in which they run (longest first), else label 0."""

    def answer(feeds: Feeds) -> dict[str, Array]:
        numbers, label_BS = count(), np.zeros(feeds["attention_mask"].shape, np.intp)
        for place in np.argwhere(feeds["attention_mask"]):
            label_BS[tuple(place)] = next(numbers) in places
        return {name: np.eye(width, dtype=np.float32)[label_BS] for name in names}

    return answer


def spans(start: int, end: Callable[[int], int]) -> Answer:
    """The place of the start, and that of the end by the number of words."""

    def answer(feeds: Feeds) -> dict[str, Array]:
        start_BS, end_BS = (np.zeros(feeds["attention_mask"].shape, np.float32) for _ in range(2))
        for row, mask in enumerate(feeds["attention_mask"]):
            start_BS[row, start], end_BS[row, end(int(mask.sum()) - 2)] = 9, 9
            start_BS[row, mask == 0] = 99
        return {"start_logits": start_BS, "end_logits": end_BS}

    return answer


def percent(tokenizer: Path, task: Task, expected: Answer, actual: Answer, *, width: int = 4, activation: str = "none") -> float:
    first, second = (encoder(tokenizer, task, answer, width=width, activation=activation) for answer in (expected, actual))
    return Fidelity(first, first.tokenize(TEXTS)).percent(second)


def noise(feeds: Feeds, task: Task, width: int) -> dict[str, Array]:
    """Numbers of all kinds, by the ids alone, so that they are the same in any batch."""
    ids_BS = feeds["input_ids"] * feeds["attention_mask"]
    rows_BS = np.sin(ids_BS.cumsum(1)).astype(np.float32)
    rows_BSD = np.sin(rows_BS[:, :, None] * np.arange(1, width + 1)).astype(np.float32)
    by_rank = {2: rows_BS if task == "question-answering" else rows_BSD.sum(1), 3: rows_BSD}
    return {name: by_rank[len(TASKS[task].shape)] for name in TASKS[task].outputs}


@pytest.mark.parametrize("task", TASKS)
def test_the_same_model_answers_the_same(task: Task, tokenizer: Path) -> None:
    width = WIDTHS.get(task, 4)
    asked = list[int]()

    def answer(feeds: Feeds) -> dict[str, Array]:
        asked.append(len(feeds["input_ids"]))
        return noise(feeds, task, width)

    assert percent(tokenizer, task, answer, answer, width=width) == pytest.approx(100.0, abs=1e-5)
    assert sum(asked) == 2 * NUM


def test_labels(tokenizer: Path) -> None:
    expected = by_text("text-classification", lambda num: [0.1, 0.5, 0.4, 0.0])
    actual = by_text("text-classification", lambda num: [0.3, 0.4, 0.3, 0.0] if num != 5 else [0.3, 0.3, 0.4, 0.0])
    assert percent(tokenizer, "text-classification", expected, actual) == pytest.approx(100 * (NUM - 1) / NUM)


def test_several_labels_a_text_count_one_by_one(tokenizer: Path) -> None:
    """The best label stays the same: what counts is which are at one half or more."""
    expected = by_text("text-classification", lambda num: [0.9, 0.6, 0.1])
    actual = by_text("text-classification", lambda num: [0.95, 0.5, 0.2] if num != 5 else [0.9, 0.4, 0.6])
    options = {"width": 3, "activation": "sigmoid"}
    assert percent(tokenizer, "text-classification", expected, actual, **options) == pytest.approx(100 * (3 * NUM - 2) / (3 * NUM))


@pytest.mark.parametrize("task", ["token-classification", "fill-mask"])
def test_labels_of_tokens_count_one_by_one(task: Task, tokenizer: Path) -> None:
    num_tokens = sum(len(text.split()) + 2 for text in TEXTS)
    assert percent(tokenizer, task, by_token(0, 7), by_token(7, 9, 30)) == pytest.approx(100 * (num_tokens - 3) / num_tokens)


def test_starts_and_ends_of_answers(tokenizer: Path) -> None:
    expected = spans(1, lambda num: num + 1)
    assert percent(tokenizer, "question-answering", expected, spans(1, lambda num: min(num, 3) + 1)) == pytest.approx(75.0)
    assert percent(tokenizer, "question-answering", expected, spans(2, lambda num: num + 1)) == pytest.approx(50.0)


@pytest.mark.parametrize(("angle", "cosine"), [(0.0, 1.0), (np.pi / 3, 0.5), (np.pi, -1.0)])
def test_the_direction_of_embeddings_counts_and_not_their_length(angle: float, cosine: float, tokenizer: Path) -> None:
    expected = by_text("sentence-similarity", lambda num: [3.0, 0.0])
    actual = by_text("sentence-similarity", lambda num: [num * np.cos(angle), num * np.sin(angle)] if num > 3 else [1.0, 0.0])
    assert percent(tokenizer, "sentence-similarity", expected, actual, width=2) == pytest.approx(50 * (1 + cosine), abs=1e-4)


def test_vectors_of_tokens_count_one_by_one(tokenizer: Path) -> None:
    num_tokens, names = sum(len(text.split()) + 2 for text in TEXTS), ("last_hidden_state",)
    expected, actual = by_token(names=names), by_token(0, 1, 2, names=names)
    assert percent(tokenizer, "feature-extraction", expected, actual) == pytest.approx(100 * (num_tokens - 3) / num_tokens)


ZEROS, ONES = (by_text("sentence-similarity", lambda num, value=value: [value, 0.0]) for value in (0.0, 1.0))


def test_two_vectors_of_zeros_are_equal(tokenizer: Path) -> None:
    assert percent(tokenizer, "sentence-similarity", ZEROS, ZEROS, width=2) == 100.0


def test_a_vector_of_zeros_is_far_from_all_others(tokenizer: Path) -> None:
    assert percent(tokenizer, "sentence-similarity", ONES, ZEROS, width=2) == 0.0


@pytest.mark.parametrize("task", ["text-ranking", "text-classification"])
def test_of_single_scores_the_order_counts(task: Task, tokenizer: Path) -> None:
    expected = by_text(task, lambda num: [0.1 * num])
    assert percent(tokenizer, task, expected, by_text(task, lambda num: [np.exp(num)]), width=1) == pytest.approx(100.0)
    assert percent(tokenizer, task, expected, by_text(task, lambda num: [-0.2 * num]), width=1) == pytest.approx(-100.0)
    swapped = {1: 2, 2: 1}
    actual = by_text(task, lambda num: [swapped.get(num, num)])
    assert percent(tokenizer, task, expected, actual, width=1) == pytest.approx(100 * (1 - 6 * 2 / (NUM * (NUM**2 - 1))))


def test_answers_are_compared_with_those_to_the_same_text(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In other batches, too."""
    expected = by_text("text-classification", lambda num: [float(num == label) for label in range(1, NUM + 1)])
    first, second = (encoder(tokenizer, "text-classification", expected, width=NUM) for _ in range(2))
    fidelity = Fidelity(first, first.tokenize(TEXTS))
    monkeypatch.setattr(second, "max_tokens", 9)
    assert fidelity.percent(second) == 100.0
