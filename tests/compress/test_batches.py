"""Texts and labels as tensors: what belongs to which token, padding, and labels that do not fit."""

from pathlib import Path

import pytest
import torch

from tests.compress.models import classified, tagged, tiny
from trtbert.compress.batches import NO_LABEL, batches, collate, encode_examples, encode_texts
from trtbert.data import Example
from trtbert.errors import InputError


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_the_first_token_of_a_word_has_its_tag(architecture: str, tmp_path: Path) -> None:
    """Words of one to many pieces: as many labelled tokens as words, each at the piece that starts the word."""
    checkpoint = tiny(tmp_path, architecture, "token-classification")
    tokens = ("Extraordinarily", "Berlin", "a", "uncharacteristically", "Novak", "7")
    tags = ("O", "B-LOC", "O", "O", "B-PER", "O")
    (item,) = encode_examples(checkpoint, [Example(" ".join(tokens), tags, tokens)])
    labelled = [(position, label) for position, label in enumerate(item.label) if label != NO_LABEL]
    assert [checkpoint.labels[label] for _, label in labelled] == list(tags)
    assert len(item.ids[0]) > len(tokens) + 2, "no word was split"
    pieces = checkpoint.tokenizer.fast.convert_ids_to_tokens(item.ids[0])
    starts = [pieces[position].lstrip("Ġ▁#").lower() for position, _ in labelled]
    assert all(word.lower().startswith(start) for word, start in zip(tokens, starts, strict=True) if start)


def test_a_word_that_is_cut_off_has_no_tag(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="token-classification")
    (item,) = encode_examples(checkpoint, tagged(4)[3:], max_length=5)
    assert item.length == 5 and sum(label != NO_LABEL for label in item.label) < len(tagged(4)[3].tokens)


def test_a_sentence_of_which_no_word_has_a_token(tmp_path: Path) -> None:
    """A zero-width space is nothing to the tokenizer, so that there is no tag to learn."""
    checkpoint = tiny(tmp_path, task="token-classification")
    found = encode_examples(checkpoint, [Example("\u200b", ("O",), ("\u200b",)), *tagged(1)])
    assert len(found) == 1 and max(found[0].label) > NO_LABEL


def test_an_answer_is_its_first_and_last_token(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="question-answering")
    context = "A young engineer named Peter Novak works for Acme in Berlin."
    examples = [Example(("Who?", context), ("Peter Novak",)), Example(("Who?", context), ()), Example(("Who?", context), ("nobody",))]
    first, none = encode_examples(checkpoint, examples)
    start, end = first.label
    assert checkpoint.tokenizer.fast.decode(first.ids[0][start : end + 1]).lower() == "peter novak"
    assert none.label == (0, 0)


def test_an_answer_is_where_the_file_says(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="question-answering")
    context = "red cat and red museum"
    firsts, seconds = encode_examples(checkpoint, [Example(("Who?", context), ("red",), start=start) for start in (0, 11)])
    assert (
        firsts.label[0]
        < seconds.label[0]
        == firsts.label[0] + len(checkpoint.tokenizer.fast.encode("red cat and", add_special_tokens=False))
    )
    assert firsts.ids[0][firsts.label[0]] == seconds.ids[0][seconds.label[0]]


def test_padding_is_on_the_right_and_masked(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    items = encode_texts(checkpoint, ["red", "the quick brown fox jumps"])
    batch = collate(checkpoint, items)
    assert batch.mask.sum(1).tolist() == [item.length for item in items]
    assert batch.inputs["input_ids"][0, items[0].length :].tolist() == [0] * (items[1].length - items[0].length)
    assert batch.labels is None and len(batch) == 2


def test_pairs_of_sentences_are_embedded_apart(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="sentence-similarity")
    items = encode_examples(checkpoint, [Example(("red", "green cat"), 0.25), Example(("blue", "the red"), 1.0)])
    batch = collate(checkpoint, items)
    assert batch.inputs["input_ids"].shape[0] == 4 and batch.labels is not None and batch.labels.tolist() == [0.25, 1.0]


def test_every_item_is_in_one_batch(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    items = encode_examples(checkpoint, classified(21))
    found = list(batches(checkpoint, items, 8))
    assert [len(batch) for batch in found] == [8, 8, 5]
    assert sorted(item.ids[0] for batch in found for item in batch.items) == sorted(item.ids[0] for item in items)
    assert torch.cat([batch.mask.sum(1) for batch in found]).diff().max() <= 0


def test_several_labels_for_a_model_of_one(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with pytest.raises(InputError, match=r"'red' has 2 labels, and the model gives one a text.*multi_label_classification"):
        encode_examples(checkpoint, [Example("red", ("negative", "positive"))])


def test_several_labels_and_numbers(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    checkpoint.model.config.problem_type = "multi_label_classification"
    assert encode_examples(checkpoint, [Example("red", ("negative", "positive"))])[0].label == [1.0, 0.0, 1.0]
