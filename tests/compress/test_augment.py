"""Rules that make new texts: how often they fire, what they keep, pairs of texts."""

import random

import pytest
from scipy.stats import chisquare

from trtbert.compress.augment import Vocabulary, Words, augment, change_words, changed_text
from trtbert.compress.word_classes import is_function_word, word_class

NUM_WORDS = 20_000
MASK = "[MASK]"
TEXTS = ["The quick fox jumps over 3 lazy dogs.", "Was the soup cold, and the waiter rude?", "She walked home slowly.", "Never again"]
PAIRS = [("Is the red cat sleeping", "A cat is sleeping there now"), ("Two dogs play", "Some animals play in the garden")]


def is_likely(observed: list[int], expected: list[float]) -> bool:
    """Whether such counts come up in more than one of a thousand tries."""
    return bool(chisquare(observed, expected).pvalue > 1e-3)


def test_how_often_words_are_masked_and_replaced() -> None:
    """The word itself is not in the vocabulary, so that a replacement shows."""
    words = change_words(["singing"] * NUM_WORDS, Vocabulary(["walking talking"]), MASK, random.Random(0))
    masked, kept = words.count(MASK), words.count("singing")
    replaced = words.count("walking") + words.count("talking")
    assert masked + kept + replaced == NUM_WORDS
    assert is_likely([masked, replaced, kept], [0.1 * NUM_WORDS, 0.1 * NUM_WORDS, 0.8 * NUM_WORDS])


def test_how_often_only_some_words_are_kept_and_how_many() -> None:
    text, generator, num_texts = "a b c d e f g h", random.Random(1), 4000
    vocabulary = Vocabulary([text])
    lengths = [len(changed_text(text, vocabulary, "M", generator).split()) for _ in range(num_texts)]
    counts = [lengths.count(length) for length in (1, 2, 3, 4, 5, 8)]
    assert sum(counts) == num_texts, "one to five words, or all"
    assert is_likely(counts, [*[0.25 * num_texts / 5] * 5, 0.75 * num_texts])


def test_each_ngram_of_a_length_is_as_likely() -> None:
    text, generator = "xxx yyy zzz", random.Random(2)
    made = [changed_text(text, Vocabulary([text]), "M", generator) for _ in range(4000)]
    counts = [made.count(word) for word in text.split()]
    assert min(counts) > 0 and is_likely(counts, [sum(counts) / 3] * 3)


def test_a_word_is_replaced_by_one_of_its_class() -> None:
    vocabulary, generator = Vocabulary(TEXTS), random.Random(0)
    words = [word for text in TEXTS for word in Words.of(text).words]
    for word in words * 20:
        assert word_class(vocabulary.draw(word, generator)) == word_class(word)


def test_replacements_come_as_often_as_they_occur() -> None:
    vocabulary, generator = Vocabulary(["walking walking walking talking"]), random.Random(0)
    drawn = [vocabulary.draw("singing", generator) for _ in range(4000)]
    assert is_likely([drawn.count("walking"), drawn.count("talking")], [3000, 1000])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("the", "An", "their"), "determiner"),
        (("of", "without"), "preposition"),
        (("don’t", "don't", "Not"), "negation"),
        (("12", "2024"), "number"),
        (("b12", "3rd"), "mixed"),
        (("Lisbon", "Peter"), "name"),
        (("singing",), "-ing"),
        (("quickly",), "-ly"),
        (("cat", "king", "red"), "-"),
    ],
)
def test_classes_of_words(words: tuple[str, ...], name: str) -> None:
    assert {word_class(word) for word in words} == {name}
    assert all(is_function_word(word) == (name in ("determiner", "preposition", "negation")) for word in words)


@pytest.mark.parametrize("text", [*TEXTS, "", "  ", "?!", " twice  spaced\n", "well-known isn't, 'quoted'"])
def test_a_text_joined_again_is_the_same(text: str) -> None:
    words = Words.of(text)
    assert words.joined(words.words) == text


def test_new_texts_are_new_and_the_same_for_the_same_seed() -> None:
    made = augment(TEXTS, num_tries=10, mask=MASK, seed=3)
    assert len(made) == len(set(made)) and not set(made) & set(TEXTS)
    assert 20 <= len(made) <= 40
    assert made == augment(TEXTS, num_tries=10, mask=MASK, seed=3) != augment(TEXTS, num_tries=10, mask=MASK, seed=4)
    assert augment(TEXTS, num_tries=0, mask=MASK, seed=3) == [] == augment(["?!"], num_tries=9, mask=MASK, seed=3)


def test_one_side_of_a_pair_then_the_other_then_both() -> None:
    """Where a side is not to be changed it is the text as it came, not what was made of it before."""
    words = " ".join("bcdefghjklmnopqrstuvwxyz" * 4)
    pair = (f"{words} one", f"{words} two")
    made = [augment([pair], num_tries=tries, mask=MASK, seed=0) for tries in (1, 2, 3)]
    first, second, both = made[2]
    assert made[0] == [first] and made[1] == [first, second]
    assert first[0] != pair[0] and first[1] == pair[1]
    assert second[0] == pair[0] and second[1] != pair[1]
    assert both[0] != pair[0] and both[1] != pair[1]


def test_pairs_stay_pairs() -> None:
    made = augment(PAIRS, num_tries=6, mask=MASK, seed=0)
    assert made and all(isinstance(pair, tuple) and len(pair) == 2 for pair in made)
