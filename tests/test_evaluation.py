"""Figures of packages: a runtime that answers by the token ids, which `transformers`' tokenizers give too, or real tiny models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers

from tests.models import LABELS, make_checkpoint
from tests.predictor.packages import make_package
from tests.tiny_tokenizers import SENTENCES
from trtbert import evaluation
from trtbert.data import Example, Text
from trtbert.errors import ConfigError, InputError
from trtbert.evaluation import are_right, evaluate
from trtbert.predictor import Predictor, load
from trtbert.predictor.encoder import Encoder
from trtbert.runtime import Array
from trtbert.tasks import Task

TAGS = LABELS["token-classification"]
TEXTS: list[Text] = [*SENTENCES[:6], *pairwise(SENTENCES[6:]), SENTENCES[6]]
NUM = len(TEXTS)
Feeds = Mapping[str, Array]
Made = tuple[Predictor, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    known: dict[Any, Made] = {}

    def make(task: Task, architecture: str = "bert", num_labels: int | None = None, **options: Any) -> Made:
        key = (task, architecture, num_labels, *options.items())
        if key not in known:
            folder = tmp_path_factory.mktemp("package")
            labels = {"num_labels": num_labels, "id2label": {i: f"L{i}" for i in range(num_labels)}} if num_labels else {}
            checkpoint = make_checkpoint(folder / "checkpoint", architecture, task=task, **labels)
            known[key] = load(make_package(folder / "pkg", checkpoint, task, **options)), checkpoint
        return known[key]

    return make


@dataclass(frozen=True)
class ByIds:
    """A runtime whose answers everyone can work out from the token ids."""

    answer: Callable[[Feeds], dict[str, Array]]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return self.answer(feeds)


def encoder_of(predictor: Predictor, answer: Callable[[Feeds], dict[str, Array]] | None = None) -> Encoder:
    package = predictor.package
    return Encoder(
        package.manifest.model,
        ByIds(answer) if answer else predictor.runtime,  # type: ignore[arg-type]
        tokenizer=package.tokenizer_path,
    )


def sums(feeds: Feeds) -> Array:
    """The sum of each row's ids, without its padding."""
    return np.asarray((feeds["input_ids"] * feeds["attention_mask"]).sum(1))


def sum_of(checkpoint: Path, text: Text) -> int:
    """The same of a text or pair, with `transformers`' tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    return sum(tokenizer(*([text] if isinstance(text, str) else text))["input_ids"])


def test_text_classification(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, checkpoint = made("text-classification", num_labels=40)
    encoder = encoder_of(predictor, lambda feeds: {"scores": np.eye(40, dtype=np.float32)[sums(feeds) % 40]})
    best = [sum_of(checkpoint, text) % 40 for text in TEXTS]
    assert len(set(best)) > 3
    examples = [Example(text, (f"L{label}",)) for text, label in zip(TEXTS, best, strict=True)]
    assert evaluate(encoder, examples, "accuracy") == 100
    assert evaluate(encoder, examples, "macro-f1") == pytest.approx(100)
    examples[5] = replace(examples[5], label=("L40",))
    monkeypatch.setattr(evaluation, "_CHUNK", 5)  # answers stay in the order of the examples
    assert evaluate(encoder, examples, "accuracy") == pytest.approx(100 * (NUM - 1) / NUM)
    assert evaluate(encoder, examples, "macro-f1") < 100


def test_several_labels_a_text(made: Callable[..., Made]) -> None:
    predictor, checkpoint = made("text-classification", num_labels=12, activation="sigmoid")
    bits = np.arange(12)
    encoder = encoder_of(predictor, lambda feeds: {"scores": np.where(sums(feeds)[:, None] >> bits & 1, 0.5, 0.4999)})
    found = [tuple(sorted(f"L{bit}" for bit in bits if sum_of(checkpoint, text) >> bit & 1)) for text in TEXTS]
    assert len({len(labels) for labels in found}) > 1
    examples = [Example(text, labels) for text, labels in zip(TEXTS, found, strict=True)]
    assert evaluate(encoder, examples, "accuracy") == 100
    assert evaluate(encoder, examples, "macro-f1") == 100
    examples[0] = replace(examples[0], label=("A", *found[0]))
    assert evaluate(encoder, examples, "accuracy") == pytest.approx(100 * (NUM - 1) / NUM)
    lowest = next(bit for bit in bits if sum_of(checkpoint, TEXTS[0]) >> bit & 1)
    assert evaluate(encoder, [Example(TEXTS[0], (f"L{lowest}",))], "accuracy") == 100, "one label each: the first of the best counts"


def test_several_labels_for_a_model_of_one(made: Callable[..., Made]) -> None:
    predictor, _ = made("text-classification")
    for label in ((), ("negative", "neutral")):
        with pytest.raises(InputError, match="no label or several, but this model gives each text one label"):
            evaluate(encoder_of(predictor), [Example("a", ("neutral",)), Example("b", label)], "accuracy")


WORDS = [sentence.split() for sentence in SENTENCES] + [["Zoë", "ate", "a", "crêpe🥞", "東京", "-", "don't"], []]


def tags_by_id(feeds: Feeds) -> dict[str, Array]:
    return {"scores": np.eye(5, dtype=np.float32)[feeds["input_ids"] % 5]}


def word_tags(tokenizer: Any, words: list[str], *, max_length: int = 999, has_spaces: bool = False) -> tuple[str, ...]:
    """The tag of each word's first token; the words are tokenized one by one."""
    tags, place = [], 1
    for index, word in enumerate(words):
        ids = tokenizer(f" {word}" if has_spaces and index else word, add_special_tokens=False)["input_ids"]
        tags.append(TAGS[ids[0] % 5] if place < max_length - 1 else "O")
        place += len(ids)
    return tuple(tags)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
def test_token_classification(made: Callable[..., Made], architecture: str) -> None:
    predictor, checkpoint = made("token-classification", architecture)
    tokenizer, encoder = transformers.AutoTokenizer.from_pretrained(checkpoint), encoder_of(predictor, tags_by_id)
    has_spaces = architecture == "roberta"
    examples = [Example(" ".join(words), word_tags(tokenizer, words, has_spaces=has_spaces), tuple(words)) for words in WORDS]
    assert {tag for example in examples for tag in example.label} == set(TAGS)
    assert evaluate(encoder, examples, "accuracy") == 100
    assert evaluate(encoder, examples, "seqeval-f1") == 100
    wrong = tuple("B-PER" if tag == "O" else "O" for tag in examples[3].label)
    examples[3] = replace(examples[3], label=wrong)
    num_words = sum(map(len, WORDS))
    assert evaluate(encoder, examples, "accuracy") == pytest.approx(100 * (num_words - len(wrong)) / num_words)
    assert 50 < evaluate(encoder, examples, "seqeval-f1") < 100


def test_words_that_are_cut_off(made: Callable[..., Made]) -> None:
    predictor, checkpoint = made("token-classification", max_length=16)
    tokenizer, words = transformers.AutoTokenizer.from_pretrained(checkpoint), WORDS[1] + WORDS[2]
    tags, whole = word_tags(tokenizer, words, max_length=16), word_tags(tokenizer, words)
    assert tags[0] == whole[0] and tags != whole
    assert evaluate(encoder_of(predictor, tags_by_id), [Example(" ".join(words), tags, tuple(words))], "accuracy") == 100


FORWARDS, BACKWARDS = (" ".join(letters) for letters in ("bcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcb"))


def last_twenty_tokens(feeds: Feeds) -> dict[str, Array]:
    """The answer is the last 20 tokens of the context; to a question of one token there is none."""
    ids_BS, rows = feeds["input_ids"], np.arange(len(feeds["input_ids"]))
    last = feeds["attention_mask"].sum(1) - 1
    is_impossible = ids_BS[:, 2] == ids_BS[rows, last]  # The first separator.
    start_BS, end_BS = np.zeros(ids_BS.shape, np.float32), np.zeros(ids_BS.shape, np.float32)
    start_BS[rows, last - 20], end_BS[rows, last - 1] = 50, 50
    start_BS[is_impossible, 0], end_BS[is_impossible, 0] = 60, 60
    return {"start_logits": start_BS, "end_logits": end_BS}


def test_question_answering(made: Callable[..., Made]) -> None:
    predictor, _ = made("question-answering")
    encoder = encoder_of(predictor, last_twenty_tokens)
    right = [Example(("q q", FORWARDS), ("b c", FORWARDS[-39:])), Example(("q q q", BACKWARDS), (BACKWARDS[-39:].upper(),))]
    assert evaluate(encoder, right, "squad-em") == evaluate(encoder, right, "squad-f1") == 100
    partly = [right[0], replace(right[1], label=(BACKWARDS[-19:],))]
    assert evaluate(encoder, partly, "squad-em") == 50
    assert sum(are_right(encoder, partly, "squad-em")) * 2 == len(partly) and all(are_right(encoder, right, "squad-em"))
    assert evaluate(encoder, partly, "squad-f1") == pytest.approx(50 * (1 + 2 * 10 / (10 + 20)))


def test_questions_without_an_answer(made: Callable[..., Made]) -> None:
    predictor, _ = made("question-answering")
    encoder = encoder_of(predictor, last_twenty_tokens)
    none = Example(("q", BACKWARDS), ())
    examples = [Example(("q q", FORWARDS), (FORWARDS[-39:],)), none]
    assert evaluate(encoder, examples, "squad-em") == evaluate(encoder, examples, "squad-f1") == 100
    assert evaluate(encoder, [*examples, replace(none, text=("q q", BACKWARDS))], "squad-f1") == pytest.approx(200 / 3)
    assert evaluate(encoder, [replace(none, label=(BACKWARDS[-39:],))], "squad-em") == 100, "where all have an answer, one is given"


def test_sentence_similarity(made: Callable[..., Made]) -> None:
    predictor, checkpoint = made("sentence-similarity")
    pairs = list(pairwise(SENTENCES))
    vectors = sentence_transformers.SentenceTransformer(str(checkpoint), device="cpu").encode(list(SENTENCES))
    cosines = [float(a @ b) for a, b in pairwise(vectors)]
    examples = [Example(pair, cosine) for pair, cosine in zip(pairs, cosines, strict=True)]
    assert evaluate(encoder_of(predictor), examples, "spearman") == pytest.approx(100)
    assert evaluate(encoder_of(predictor), [replace(e, label=-e.label) for e in examples], "spearman") == pytest.approx(-100)


def test_similarity_is_the_cosine(made: Callable[..., Made]) -> None:
    predictor, _ = made("sentence-similarity")
    texts, lengths = ["a", "b c", "d e f g h", "i j k l m n o"], [3, 4, 7, 9]  # in tokens; no two pairs differ by the same

    def embed(feeds: Feeds) -> dict[str, Array]:
        length_B = feeds["attention_mask"].sum(1)
        return {"sentence_embedding": np.stack([np.cos(length_B), np.sin(length_B)], 1).astype(np.float32) * length_B[:, None] ** 2}

    pairs = [(a, b) for a in range(4) for b in range(a)]
    examples = [Example((texts[a], texts[b]), float(np.cos(lengths[a] - lengths[b]))) for a, b in pairs]
    assert evaluate(encoder_of(predictor, embed), examples, "spearman") == pytest.approx(100)


def test_text_ranking(made: Callable[..., Made]) -> None:
    predictor, checkpoint = made("text-ranking")
    pairs = [(query, document) for document in SENTENCES[:4] for query in ("Where is it?", "Who is rude?")]
    scores = sentence_transformers.CrossEncoder(str(checkpoint), device="cpu", activation_fn=torch.nn.Identity()).predict(pairs)
    order = scores.argsort().argsort()
    examples = [Example(pair, float(place)) for pair, place in zip(pairs, order, strict=True)]
    assert evaluate(encoder_of(predictor), examples, "ndcg@10") == pytest.approx(100)
    worst = [replace(example, label=float(example.label == min(order[i % 2 :: 2]))) for i, example in enumerate(examples)]
    assert evaluate(encoder_of(predictor), worst, "ndcg@10") == pytest.approx(100 / np.log2(5)), "of each query, the last of four"
    alone = Example(("Alone?", "No."), 0.0)
    assert evaluate(encoder_of(predictor), [*examples, alone], "ndcg@10") == pytest.approx(200 / 3)


def test_ranking_with_several_scores(made: Callable[..., Made]) -> None:
    predictor, _ = made("text-ranking", num_labels=3)
    with pytest.raises(InputError, match=r"needs one score a pair, but this model gives 3\. Compile it for text-classification"):
        evaluate(encoder_of(predictor), [Example(("a", "b"), 1.0)], "ndcg@10")


@pytest.mark.parametrize(
    ("task", "metric", "message"),
    [
        ("text-classification", "squad-f1", r"'squad-f1' is not one for text-classification, which has accuracy, macro-f1, spearman\."),
        ("fill-mask", "accuracy", r"'accuracy' is not one for fill-mask, which has none\."),
    ],
)
def test_a_metric_of_another_task(made: Callable[..., Made], task: Task, metric: str, message: str) -> None:
    predictor, _ = made(task)
    with pytest.raises(ConfigError, match=message):
        evaluate(encoder_of(predictor), [Example("a", ("neutral",))], metric)
