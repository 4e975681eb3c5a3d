"""Files of texts, or the texts that come with trtbert -> the texts that a script measures on, and their feeds."""

import json
import random
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from feeds import Feeds
from tokenizers import Encoding

import trtbert
from trtbert.calibration_texts import read_calibration_texts
from trtbert.data import read_examples, read_texts
from trtbert.package import ModelFacts, open_package
from trtbert.predictor import load, load_tokenizer, make_feeds, tokenize
from trtbert.predictor.batches import plan_batches
from trtbert.tasks import INPUT_IDS

Item = TypeVar("Item")
BUILT_IN = Path(trtbert.__file__).parent / "calibration_data" / "texts.jsonl"


def read_singles(path: Path | None) -> list[str]:
    """The different texts of a file of any kind that trtbert reads, pairs taken apart; None: those that come with trtbert."""
    texts = (part for text in read_texts(path or BUILT_IN) for part in ([text] if isinstance(text, str) else text))
    return list(dict.fromkeys(texts))


def draw(texts: Sequence[Item], num: int) -> list[Item]:
    """`num` of the texts, always the same ones; all of them where there are fewer."""
    return random.Random(0).sample(texts, min(num, len(texts)))


def draw_or_repeat(texts: Sequence[str], num: int) -> list[str]:
    """`num` texts in random order; where there are fewer, all of them again and again."""
    return list(islice(cycle(draw(texts, num)), num))


def with_halves(texts: Sequence[str], num: int) -> list[str]:
    """`num` different texts: where there are fewer, also halves of them, of the longest first. Raises ValueError if that is too few."""
    drawn = draw(texts, num)
    halves = (half for text in sorted(drawn, key=len, reverse=True) for half in _halves(text) if half)
    enough = list(dict.fromkeys([*drawn, *halves]))
    if len(enough) < num:
        raise ValueError(f"There are {len(texts)} different texts, {len(enough)} with their halves, and {num} are needed.")
    return enough[:num]


def _halves(text: str) -> tuple[str, str]:
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def write_texts(path: Path, texts: Iterable[str]) -> Path:
    """A .jsonl file of strings."""
    path.write_text("".join(f"{json.dumps(text)}\n" for text in texts), encoding="utf-8")
    return path


def calibration_feeds(package: Path, texts: Path | None, size: int) -> list[Feeds]:
    """The texts that a package was calibrated on, those held back too, for other tools to be calibrated on."""
    opened = open_package(package)
    facts = opened.manifest.model
    read = read_calibration_texts(texts, opened.tokenizer_path, facts, column=None, size=size)
    return one_by_one([*read.encodings, *read.held_back], facts)


def unseen_feeds(package: Path, texts: Path | None, num: int, seen: Sequence[Feeds]) -> list[Feeds]:
    """At most `num` texts of a file (None: those that come with trtbert) that are not among the feeds `seen`; ValueError for none."""
    opened = open_package(package)
    facts, seen_ids = opened.manifest.model, {feed[INPUT_IDS].tobytes() for feed in seen}
    tokenizer = load_tokenizer(opened.tokenizer_path, max_length=facts.max_length)
    singles = read_singles(texts)
    feeds = one_by_one(tokenize(tokenizer, draw(singles, len(singles))), facts)
    unseen = [feed for feed in feeds if feed[INPUT_IDS].tobytes() not in seen_ids]
    if not unseen:
        raise ValueError(f"All texts of {texts or BUILT_IN} are calibrated on; give others to compare the answers on.")
    return unseen[:num]


def labelled_feeds(package: Path, path: Path) -> list[tuple[Feeds, tuple[str, ...]]]:
    """A feed for each text of a labelled file, and its class."""
    opened = open_package(package)
    examples = read_examples(path, "sentence-similarity")
    tokenizer = load_tokenizer(opened.tokenizer_path, max_length=opened.manifest.model.max_length)
    feeds = one_by_one(tokenize(tokenizer, [str(example.text) for example in examples]), opened.manifest.model)
    return list(zip(feeds, [example.label for example in examples], strict=True))


def mixed_batches(package: Path, texts: Sequence[str], size: int) -> tuple[list[Feeds], list[Feeds]]:
    """The texts in batches of `size` as they come, each padded to its longest, and in the batches by length that `predict` makes."""
    encoder = load(package).encoder
    facts, encodings = encoder.facts, encoder.tokenize(texts)
    chunks = (encodings[start : start + size] for start in range(0, len(encodings), size))
    plan = plan_batches([len(encoding) for encoding in encodings], (), max_tokens=encoder.max_tokens)
    planned = [make_feeds([encodings[index] for index in batch.indices], facts, length=batch.length) for batch in plan]
    return [make_feeds(chunk, facts) for chunk in chunks], planned


def one_by_one(encodings: Iterable[Encoding], facts: ModelFacts) -> list[Feeds]:
    """A feed of int64 for each text, without padding: what a plain export takes."""
    return [{name: array.astype(np.int64) for name, array in make_feeds([encoding], facts).items()} for encoding in encodings]
