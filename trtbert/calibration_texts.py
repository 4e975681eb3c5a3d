"""The user's file, or the texts that come with trtbert -> tokenized texts to calibrate on, and some that are held back."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from trtbert.data import Text, read_texts
from trtbert.errors import InputError
from trtbert.package import ModelFacts
from trtbert.predictor.batches import plan_batches
from trtbert.predictor.tokens import Feeds, load_tokenizer, make_feeds, tokenize
from trtbert.tasks import Task

BUILT_IN = "built-in"
MIN_TEXTS = 16
"""Different texts: fewer say nothing of what the tensors hold."""
_FEW_TEXTS = 100
_MAX_TOKENS = 512
"""Of one batch, padding included, and of one text: what is watched of a batch is held in memory."""
_HELD_BACK_SHARE, _MAX_HELD_BACK = 8, 64
"""One text of eight is held back, at most 64."""
_CHARACTERS_OF_A_TOKEN = 16
_MAX_UNKNOWN, _MANY_UNKNOWN = 0.5, 0.1
_MANY_PIECES = 3
"""Of a word: WordPiece cuts its own language into one or two, and another script into letters."""
_PAIR_TASKS: frozenset[Task] = frozenset({"question-answering", "text-ranking"})
_MIXED_TASKS: frozenset[Task] = frozenset({"text-classification"})
"""Tasks that read single texts and pairs."""


@dataclass(frozen=True, kw_only=True)
class CalibrationTexts:
    """Tokenized texts, cut to what the model takes."""

    source: str
    """The file, or "built-in"."""
    encodings: tuple[Encoding, ...]
    held_back: tuple[Encoding, ...]
    facts: ModelFacts
    notes: tuple[str, ...]
    sha256: str
    """Of the texts."""

    def batches(self) -> Iterator[Feeds]:
        """Of texts of about the same length, made as they are asked for."""
        return _batches(self.encodings, self.facts)

    def held_back_batches(self) -> list[Feeds]:
        return list(_batches(self.held_back, self.facts))


def read_calibration_texts(path: Path | None, tokenizer: Path, facts: ModelFacts, *, column: str | None, size: int) -> CalibrationTexts:
    """Draw `size` texts (always the same ones) from a file of any length; None: the texts that come with trtbert.

    Raises InputError for a file that cannot be read, fewer than 16 different texts, and texts whose words the tokenizer does not know.
    """
    source = BUILT_IN if path is None else str(path)
    drawn, num_read = draw(_built_in() if path is None else read_texts(path, column=column), size)
    texts = list(dict.fromkeys(as_the_task_reads(drawn, facts.task)))
    if len(texts) < MIN_TEXTS:
        raise InputError(
            f"{source} holds {len(texts)} different text{'s' * (len(texts) != 1)}, and calibration needs at least {MIN_TEXTS}, better some "
            "hundreds like those that the model will see. Add texts, or leave --calibration-data out to use those that come with trtbert."
        )
    length = min(facts.max_length, _MAX_TOKENS)
    loaded = load_tokenizer(tokenizer, max_length=length)
    encodings = tokenize(loaded, [_cut(text, length) for text in texts])
    notes = [*_notes_on_size(source, len(texts), num_read, size), *_notes_on_words(source, encodings, loaded, length)]
    random.Random(0).shuffle(encodings)
    num_held_back = min(max(4, len(encodings) // _HELD_BACK_SHARE), _MAX_HELD_BACK)
    return CalibrationTexts(
        source=source,
        encodings=tuple(encodings[num_held_back:]),
        held_back=tuple(encodings[:num_held_back]),
        facts=facts,
        notes=tuple(notes),
        sha256=hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
    )


def _built_in() -> Iterator[Text]:
    with resources.files("trtbert").joinpath("calibration_data/texts.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield (row["text"], row["text_pair"]) if "text_pair" in row else row["text"]


def draw(texts: Iterable[Text], size: int) -> tuple[list[Text], int]:
    """`size` texts, each with the same chance (Vitter's algorithm R), and how many there were."""
    rng, drawn, num_read = random.Random(0), list[Text](), 0
    for num_read, text in enumerate(texts, start=1):
        if len(drawn) < size:
            drawn.append(text)
        elif (index := rng.randrange(num_read)) < size:
            drawn[index] = text
    return drawn, num_read


def as_the_task_reads(texts: Sequence[Text], task: Task) -> list[Text]:
    """Pairs taken apart where the task reads single texts; single texts made pairs, each with the next, where it reads pairs."""
    if task in _MIXED_TASKS:
        return list(texts)
    if task not in _PAIR_TASKS:
        return [part for text in texts for part in ([text] if isinstance(text, str) else text)]
    singles = [text for text in texts if isinstance(text, str)]
    return [*(text for text in texts if not isinstance(text, str)), *pairwise([*singles, *singles[:1]])]


def _notes_on_size(source: str, num_texts: int, num_read: int, size: int) -> Iterator[str]:
    if source == BUILT_IN:
        yield "calibrated on texts that come with trtbert; --calibration-data with texts like those the model will see is better"
    elif num_texts < _FEW_TEXTS:
        yield f"calibrated on {num_texts} texts only; some hundreds are better"
    elif num_read > size:
        yield f"calibrated and checked on {num_texts} texts drawn from the {num_read} of {source}; --calibration-size draws more"


def _notes_on_words(source: str, encodings: Sequence[Encoding], tokenizer: Tokenizer, length: int) -> Iterator[str]:
    num_cut = sum(bool(encoding.overflowing) for encoding in encodings)
    if num_cut:
        yield f"{num_cut} of {len(encodings)} calibration texts are longer than {length} tokens and were cut"
    unknown, num_words, num_unknown = _unknown_id(tokenizer), 0, 0
    for encoding in encodings:
        places = list(zip(encoding.sequence_ids, encoding.word_ids, encoding.ids, strict=True))
        num_words += len({(side, word) for side, word, _ in places if word is not None})
        num_unknown += len({(side, word) for side, word, token in places if word is not None and token == unknown})
    share = num_unknown / max(num_words, 1)
    if share > _MAX_UNKNOWN:
        raise InputError(
            f"The model's tokenizer does not know {share:.0%} of the words in {source}: are the texts in another language or script than "
            "the model's? Calibrate on texts like those the model will see."
        )
    if share > _MANY_UNKNOWN:
        yield f"the tokenizer does not know {share:.0%} of the words in {source}: are they in the model's language?"
    num_tokens = sum(len(encoding) - sum(encoding.special_tokens_mask) for encoding in encodings)
    if _model_of(tokenizer)["type"] == "WordPiece" and num_tokens > _MANY_PIECES * num_words:
        yield (
            f"the tokenizer cuts a word of {source} into {num_tokens / num_words:.1f} pieces on average: are the texts in the model's "
            "language and script?"
        )


def _cut(text: Text, length: int) -> Text:
    """No more characters than `length` tokens can have: the tokenizer would keep what it cuts off."""
    limit = _CHARACTERS_OF_A_TOKEN * length
    return text[:limit] if isinstance(text, str) else (text[0][:limit], text[1][:limit])


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    model = _model_of(tokenizer)
    token = model.get("unk_token")
    return model.get("unk_id") if token is None else tokenizer.token_to_id(token)


def _model_of(tokenizer: Tokenizer) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def _batches(encodings: Sequence[Encoding], facts: ModelFacts) -> Iterator[Feeds]:
    for batch in plan_batches([len(encoding) for encoding in encodings], (), max_tokens=_MAX_TOKENS):
        yield make_feeds([encodings[index] for index in batch.indices], facts)
