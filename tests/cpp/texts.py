"""Texts that a tokenizer can stumble over: every script, marks, controls, emoji, unassigned characters, long words, special tokens."""

import random
from collections.abc import Callable

from tests.tiny_tokenizers import SENTENCES

_WORDS = " ".join(SENTENCES).split()
_ODD = "\ud7ff\ue000\ufffd\uffff\U0010ffff\u200d\u00ad\u2028\u3000\u0130ßﬁÅ\u1e9b\u0323\u0344\u0f77\u0334\x00\x0b\x85\u180e\ufeff"
"""Beside the surrogates, at the ends of Unicode, of no width, and what changes its length when it is lowered or decomposed."""
_TOKENS = ("[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]", "[mask]", " [MASK] ", "[SEP", "##ing", "[[SEP]]", "[NEW]", "newword", "NewWord")
_RANGES = (
    (0x20, 0x7F),
    (0, 0x20),
    (0x4E00, 0xA000),
    (0xA0, 0x250),
    (0x300, 0x370),
    (0xAC00, 0xD7A4),
    (0x600, 0x1100),
    (0x1100, 0x1200),
    (0x1F300, 0x1FA00),
    (0x10000, 0x20000),
    (0xE000, 0xF900),
    (0x20000, 0x30000),
)


def strings(number: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    pieces: list[Callable[[], str]] = [
        lambda: generator.choice(_WORDS),
        lambda: generator.choice(_WORDS) * generator.randrange(1, 40),
        lambda: generator.choice(_TOKENS),
        lambda: generator.choice(_ODD),
        lambda: " " * generator.randrange(1, 4),
        lambda: chr(generator.choice((generator.randrange(0xD800), generator.randrange(0xE000, 0x110000)))),
        *(lambda bounds=bounds: chr(generator.randrange(*bounds)) for bounds in _RANGES),  # type: ignore[misc]
    ]
    counts = (generator.randrange(14) for _ in range(number))
    return ["".join(generator.choice(pieces)() + generator.choice(("", " ", "")) for _ in range(count)) for count in counts]
