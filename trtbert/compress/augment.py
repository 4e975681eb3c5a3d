"""Texts -> more texts like them, which a teacher then answers: the rules of Tang et al. (2019)."""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from trtbert.compress.word_classes import word_class
from trtbert.data import Text

MASK_RATE = 0.1
"""Words that become the mask token."""
REPLACE_RATE = 0.1
"""Words that become another word of their class."""
NGRAM_RATE = 0.25
"""Texts of which only some words in a row are kept."""
LONGEST_NGRAM = 5
_SIDES = ((0,), (1,), (0, 1))
"""Of a pair: the first text alone is changed, the second alone, both; one after the other."""
_WORD = re.compile(r"(\w+(?:['’-]\w+)*)")


@dataclass(frozen=True)
class Words:
    """A text taken apart; joined again it is the same text."""

    between: tuple[str, ...]
    """What stands before each word, and at last what follows them."""
    words: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Words":
        parts = _WORD.split(text)
        return cls(tuple(parts[::2]), tuple(parts[1::2]))

    def joined(self, words: Sequence[str]) -> str:
        """The text with other words in the places of its own."""
        return "".join(part for pair in zip(self.between, words, strict=False) for part in pair) + self.between[-1]

    def ngram(self, start: int, stop: int, words: Sequence[str]) -> str:
        """Of `joined` only the words from `start` up to `stop`, and what is between them."""
        return words[start] + "".join(self.between[index] + words[index] for index in range(start + 1, stop))


def augment(texts: Sequence[Text], *, num_tries: int, mask: str, seed: int) -> list[Text]:
    """New texts, each once and none that is in `texts`: `num_tries` are made of each text, so there are at most that many.

    Each word is the mask token with probability MASK_RATE, or another word of its class with REPLACE_RATE, drawn as often as it occurs
    in `texts`; then with NGRAM_RATE only 1 to LONGEST_NGRAM words in a row are kept. Of a pair, the first text is changed, the second,
    or both, in turn.
    """
    generator, vocabulary = random.Random(seed), Vocabulary(texts)
    known, found = set(texts), list[Text]()
    for text in texts:
        for index in range(num_tries):
            made = _changed(text, index, vocabulary, mask, generator)
            if made not in known:
                known.add(made)
                found.append(made)
    return found


class Vocabulary:
    """The words of texts by their class, and how often each occurs."""

    def __init__(self, texts: Iterable[Text]) -> None:
        counts: dict[str, Counter[str]] = {}
        for word in _words_of(texts):
            counts.setdefault(word_class(word), Counter())[word] += 1
        self._words = {name: list(counter) for name, counter in counts.items()}
        self._totals = {name: list(accumulate(counter.values())) for name, counter in counts.items()}

    def draw(self, word: str, generator: random.Random) -> str:
        """A word of the same class, which may be the word itself."""
        name = word_class(word)
        return generator.choices(self._words[name], cum_weights=self._totals[name])[0]


def change_words(words: Iterable[str], vocabulary: Vocabulary, mask: str, generator: random.Random) -> list[str]:
    """One draw for each word decides whether it is masked, replaced or kept."""

    def changed(word: str) -> str:
        draw = generator.random()
        if draw < MASK_RATE:
            return mask
        return vocabulary.draw(word, generator) if draw < MASK_RATE + REPLACE_RATE else word

    return [changed(word) for word in words]


def _changed(text: Text, index: int, vocabulary: Vocabulary, mask: str, generator: random.Random) -> Text:
    if isinstance(text, str):
        return changed_text(text, vocabulary, mask, generator)
    sides = _SIDES[index % len(_SIDES)]
    # Always from the text as it came: the second one must not stand beside what an earlier try made of the first.
    first, second = (changed_text(part, vocabulary, mask, generator) if side in sides else part for side, part in enumerate(text))
    return first, second


def changed_text(text: str, vocabulary: Vocabulary, mask: str, generator: random.Random) -> str:
    """Words changed, and then perhaps only some of them kept."""
    whole = Words.of(text)
    words = change_words(whole.words, vocabulary, mask, generator)
    if not words or generator.random() >= NGRAM_RATE:
        return whole.joined(words)
    length = min(generator.randint(1, LONGEST_NGRAM), len(words))
    start = generator.randrange(len(words) - length + 1)
    return whole.ngram(start, start + length, words)


def _words_of(texts: Iterable[Text]) -> Iterator[str]:
    for text in texts:
        for part in [text] if isinstance(text, str) else text:
            yield from Words.of(part).words
