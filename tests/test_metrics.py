"""Every metric equals what its definition gives by hand."""

import math

import pytest

from trtbert.errors import InputError
from trtbert.metrics import METRICS, accuracy, macro_f1, ndcg_at_10, seqeval_f1, spearman, squad_em, squad_f1
from trtbert.tasks import TASKS


def test_the_default_of_each_task() -> None:
    assert {task: names[0] for task, names in METRICS.items()} == {
        "text-classification": "accuracy",
        "token-classification": "seqeval-f1",
        "question-answering": "squad-f1",
        "sentence-similarity": "spearman",
        "text-ranking": "ndcg@10",
    }
    assert TASKS.keys() - METRICS.keys() == {"feature-extraction", "fill-mask"}


def test_accuracy() -> None:
    assert accuracy(["a", "b", "b", "c"], ["a", "b", "c", "c"]) == 75
    assert accuracy([("a", "b"), (), ("c",)], [("a",), (), ("c",)]) == pytest.approx(200 / 3), "all labels of a text, or none"
    assert accuracy([], []) == 0


def test_macro_f1() -> None:
    gold, predicted = [("a",), ("a",), ("b",), ("c",)], [("a",), ("b",), ("b",), ("b",)]
    assert macro_f1(gold, predicted) == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    assert macro_f1(gold, gold) == 100
    assert macro_f1([("a",)], [("b",)]) == 0


def test_macro_f1_of_several_labels() -> None:
    assert macro_f1([("a", "b"), ("b",), ()], [("a",), ("b",), ("c",)]) == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)
    assert macro_f1([(), ()], [(), ()]) == 100


def test_macro_f1_of_nearly_as_many_labels_as_texts() -> None:
    gold = [(f"c{index % 25}",) for index in range(30)]
    assert macro_f1(gold, gold) == 100


def test_seqeval_f1() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER"], []]
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["O", "O"], []]
    assert seqeval_f1(gold, predicted) == pytest.approx(40), "1 right of 2 predicted and 3 gold"
    assert seqeval_f1(gold, gold) == 100


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("B-PER I-PER", "B-PER O", 0),  # a part of an entity is none
        ("B-PER B-PER", "B-PER I-PER", 0),
        ("B-PER O", "I-PER O", 100),  # conlleval takes I- after O for a beginning
        ("O O", "O B-PER", 0),
        ("O B-PER", "O O", 0),
        ("O O", "O O", 100),
    ],
)
def test_seqeval_f1_of_one_text(gold: str, predicted: str, expected: float) -> None:
    assert seqeval_f1([gold.split()], [tuple(predicted.split())]) == expected


@pytest.mark.parametrize("tag", ["NOUN", "LABEL_0", "PER", "U-PER", ""])
def test_seqeval_f1_of_other_tags(tag: str) -> None:
    with pytest.raises(
        InputError, match=rf"counts entities tagged B-\.\.\., I-\.\.\. and O, but there is the tag '{tag}'; choose accuracy"
    ):
        seqeval_f1([["O"]], [[tag]])


@pytest.mark.parametrize(
    ("gold", "predicted", "f1", "em"),
    [
        (["The Rhine"], "rhine!", 100, 100),
        (["Rhine"], "a  long, Rhine", 200 / 3, 0),
        (["the Danube", "long river"], "long Rhine", 50, 0),  # the nearest gold answer
        (["x x y"], "x y y", 200 / 3, 0),  # a word counts as often as both have it
        (["Rhine"], "Danube", 0, 0),
        (["Rhine"], "", 0, 0),
        ([], "", 100, 100),
        ([], "The", 100, 100),
        ([], "Rhine", 0, 0),
        (["..."], "", 100, 100),  # a gold answer of nothing is none
    ],
)
def test_squad(gold: list[str], predicted: str, f1: float, em: float) -> None:
    assert squad_f1([gold], [predicted]) == pytest.approx(f1)
    assert squad_em([gold], [predicted]) == em
    assert squad_f1([gold, ["x"]], [predicted, "y"]) == pytest.approx(f1 / 2), "the mean over questions"
    assert squad_em([gold, ["x"]], [predicted, "x"]) == (em + 100) / 2


def test_spearman() -> None:
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(100 * 8 / math.sqrt(95)), "ties share their rank"
    assert spearman([1, 2, 3], [0.1, 0.2, 30]) == pytest.approx(100)
    assert spearman([1, 2], [2, 1]) == pytest.approx(-100)


@pytest.mark.parametrize(("gold", "predicted"), [([1, 2, 3], [5, 5, 5]), ([1, 1], [1, 2]), ([1], [1])])
def test_spearman_of_a_constant(gold: list[float], predicted: list[float]) -> None:
    assert spearman(gold, predicted) == 0


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ([3, 2, 0], [3, 2, 1], 1),
        ([3, 2, 0], [1, 2, 3], (2 / math.log2(3) + 3 / 2) / (3 + 2 / math.log2(3))),
        ([1, 0], [7, 7], (1 + 1 / math.log2(3)) / 2),  # equal scores share their places
        ([0] * 10 + [1], [2] * 10 + [1], 0),  # the eleventh
        ([0, 0], [1, 2], 0),
        ([1], [0], 1),
        ([0], [1], 0),
    ],
)
def test_ndcg_at_10(gold: list[float], predicted: list[float], expected: float) -> None:
    assert ndcg_at_10([gold], [predicted]) == pytest.approx(100 * expected)
    assert ndcg_at_10([gold, [0, 1]], [predicted, [1, 2]]) == pytest.approx(50 * (expected + 1)), "the mean over queries"
