"""Texts -> more texts in which a masked language model puts other words (TinyBERT: Jiao et al., 2020, algorithm 1).

Words of one piece are masked, and one of the model's first guesses takes their place. Words of several pieces stay: the paper takes
neighbours in GloVe for them, and a second table of vectors is not worth its size here.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.augment import Words
from trtbert.compress.batches import Item, batches, encode_texts
from trtbert.compress.word_classes import is_function_word
from trtbert.data import Text
from trtbert.errors import UnsupportedError

REPLACE_RATE = 0.4
"""Words that become another, of those for which the model has guesses."""
NUM_GUESSES = 15
_BATCH_SIZE = 32
_SPACE_MARKS = ("Ġ", "▁")
"""What tokenizers that mark spaces begin the first piece of a word with."""


def augment_with_model(texts: Sequence[Text], checkpoint: Checkpoint, *, num_tries: int, seed: int) -> list[Text]:
    """New texts, each once and none that is in `texts`; `num_tries` are made of each text. Both texts of a pair are changed.

    `checkpoint` is one of task fill-mask, UnsupportedError for another. It runs once for each word of one piece.
    """
    if checkpoint.task != "fill-mask" or checkpoint.tokenizer.fast.mask_token_id is None:
        raise UnsupportedError(
            f"Words are guessed by a masked language model with a mask token, and {checkpoint.folder} is one for {checkpoint.task}. "
            "Give a pretrained model with its head, such as bert-base-uncased."
        )
    generator = random.Random(seed)
    known, found = set(texts), list[Text]()
    for text in texts:
        sides = [(text, guesses(checkpoint, text))] if isinstance(text, str) else [(part, guesses(checkpoint, part)) for part in text]
        for _ in range(num_tries):
            parts = [_changed(part, guessed, generator) for part, guessed in sides]
            made: Text = parts[0] if isinstance(text, str) else (parts[0], parts[1])
            if made not in known:
                known.add(made)
                found.append(made)
    return found


@torch.no_grad()
def guesses(checkpoint: Checkpoint, text: str) -> dict[int, list[str]]:
    """By the number of a word, up to NUM_GUESSES others that the model would put there, the likeliest first."""
    item = encode_texts(checkpoint, [text])[0]
    places = dict(_single_pieces(checkpoint, text, item))
    mask_id = checkpoint.tokenizer.fast.mask_token_id
    # The position is carried as the label, since batches are ordered by length.
    masked = [_masked(item, position, mask_id) for position in places.values()]
    logits_WV = [
        checkpoint.model(**batch.inputs).logits[torch.arange(len(batch)), [member.label for member in batch.items]]
        for batch in batches(checkpoint, masked, _BATCH_SIZE)
    ]
    if not logits_WV:
        return {}
    best_WK = torch.cat(logits_WV).topk(min(2 * NUM_GUESSES, logits_WV[0].shape[-1])).indices.tolist()
    return {word: _others(checkpoint, item.ids[0][position], best) for (word, position), best in zip(places.items(), best_WK, strict=True)}


def _changed(text: str, guessed: dict[int, list[str]], generator: random.Random) -> str:
    whole = Words.of(text)
    words = [
        generator.choice(others) if generator.random() < REPLACE_RATE and (others := guessed.get(index)) else word
        for index, word in enumerate(whole.words)
    ]
    return whole.joined(words)


def _masked(item: Item, position: int, mask_id: int) -> Item:
    ids = [*item.ids[0][:position], mask_id, *item.ids[0][position + 1 :]]
    return replace(item, ids=(ids,), label=position)


def _single_pieces(checkpoint: Checkpoint, text: str, item: Item) -> Iterator[tuple[int, int]]:
    """(number of the word, position of its one piece), without function words."""
    encoding = checkpoint.tokenizer.fast.backend_tokenizer.encode(text)
    spans = {}
    for position, ((first, last), whole_id, id_) in enumerate(zip(encoding.offsets, encoding.ids, item.ids[0], strict=False)):
        piece = text[first:last]
        if whole_id == id_:  # not so where the text was cut and the end has come instead
            spans[first + len(piece) - len(piece.lstrip()), last] = position
    whole, end = Words.of(text), 0
    for index, word in enumerate(whole.words):
        start = end + len(whole.between[index])
        end = start + len(word)
        if (start, end) in spans and not is_function_word(word):
            yield index, spans[start, end]


def _others(checkpoint: Checkpoint, original: int, ids: Sequence[int]) -> list[str]:
    """The words among the pieces that begin as the original does: no specials, no continuations, no punctuation."""
    fast = checkpoint.tokenizer.fast
    mark, special = _mark(fast.convert_ids_to_tokens(original)), set(fast.all_special_ids)
    pieces = [index for index in ids if index not in special | {original} and _mark(fast.convert_ids_to_tokens(index)) == mark]
    words = [fast.decode([index]).strip() for index in pieces]
    return [word for word in words if word.isalnum()][:NUM_GUESSES]


def _mark(piece: str) -> str:
    return piece[:1] if piece.startswith(_SPACE_MARKS) else ""
