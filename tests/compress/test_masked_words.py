"""Words that a masked language model puts in the place of others."""

import random
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from tests.compress.models import tiny
from trtbert.compress.augment import Words
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.masked_words import NUM_GUESSES, _changed, augment_with_model, guesses
from trtbert.errors import UnsupportedError

TEXT = "The rain at 100 per zygote and the rain at sea."
"""Of which "zygote" is no piece, and "the", "at" and "and" are function words."""
PIECES = {"bert": {"rain", "per", "sea"}, "distilbert": {"rain", "per", "sea"}, "roberta": {"100"}, "xlm-roberta": {"rain", "per"}}
"""Words that are one piece of a family's tiny tokenizer."""


@pytest.mark.parametrize("architecture", PIECES)
def test_what_is_guessed(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, architecture, task="fill-mask")
    words = Words.of(TEXT).words
    with torch.no_grad():  # the words of the text are the likeliest ones everywhere
        checkpoint.model.get_output_embeddings().bias[encode_texts(checkpoint, [TEXT])[0].ids[0]] += 100
    guessed = guesses(checkpoint, TEXT)
    assert {words[index] for index in guessed} == PIECES[architecture]
    for index, others in guessed.items():
        assert len(others) <= NUM_GUESSES and len(set(others)) == len(others) and words[index] not in others
        assert all(other.isalnum() for other in others), "no continuations and no punctuation"
    assert any(guessed.values())


def test_the_guess_is_that_of_the_masked_text(tmp_path: Path) -> None:
    """One word masked by hand: its likeliest word is the first guess."""
    checkpoint = tiny(tmp_path, task="fill-mask")
    fast = checkpoint.tokenizer.fast
    batch = collate(checkpoint, encode_texts(checkpoint, [TEXT.replace("sea", fast.mask_token)]))
    position = batch.inputs["input_ids"][0].tolist().index(fast.mask_token_id)
    with torch.no_grad():
        order = checkpoint.model(**batch.inputs).logits[0, position].argsort(descending=True).tolist()
    pieces = [fast.convert_ids_to_tokens(index) for index in order]
    likeliest = next(piece for piece in pieces if piece.isalnum() and piece != "sea")
    assert guesses(checkpoint, TEXT)[Words.of(TEXT).words.index("sea")][0] == likeliest


def test_how_many_words_become_others() -> None:
    num_words = 20_000
    words = _changed(" ".join(["rain"] * num_words), {index: ["sea"] for index in range(num_words)}, random.Random(0)).split()
    assert chisquare([words.count("sea"), words.count("rain")], [0.4 * num_words, 0.6 * num_words]).pvalue > 1e-3


def test_new_texts(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="fill-mask")
    made = augment_with_model([TEXT, "rain sea rain"], checkpoint, num_tries=8, seed=0)
    assert made == augment_with_model([TEXT, "rain sea rain"], checkpoint, num_tries=8, seed=0)
    assert len(made) == len(set(made)) and TEXT not in made
    sentences = [Words.of(text).words for text in made if "zygote" in text]
    assert sentences and all(words[0] == "The" and words[2] == "at" for words in sentences), "function words stay"
    pairs = augment_with_model([("rain sea", "the rain")], checkpoint, num_tries=8, seed=0)
    assert pairs and all(isinstance(pair, tuple) and pair[1].startswith("the ") for pair in pairs)
    assert augment_with_model(["zygote", "the"], checkpoint, num_tries=3, seed=0) == []


def test_a_text_that_is_cut(tmp_path: Path) -> None:
    """What does not fit into the model stays as it is."""
    checkpoint = tiny(tmp_path, task="fill-mask")
    text = " ".join(["rain"] * 200)
    assert max(guesses(checkpoint, text)) == checkpoint.max_length - 3, "the first and the last place are those of special tokens"


def test_a_model_that_guesses_no_words(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"Words are guessed by a masked language model .* is one for text-classification"):
        augment_with_model([TEXT], tiny(tmp_path), num_tries=1, seed=0)
