"""The padded batches, of several shapes, that every stage of a compilation is verified on."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trtbert.data import Text
from trtbert.package import Manifest, ModelFacts
from trtbert.predictor.tokens import Feeds, load_tokenizer, make_feeds, tokenize
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS

MAX_TOKENS = 512
"""Longer inputs cost minutes and show nothing that these do not."""


def texts() -> list[str]:
    """Texts of several registers and lengths, shortest first."""
    lines = resources.files("trtbert").joinpath("verification_texts.txt").read_text(encoding="utf-8").splitlines()
    return sorted(filter(None, lines), key=len)


def verification_batches(tokenizer: Path, facts: ModelFacts) -> list[Feeds]:
    """Batches of 1 to 8 texts or pairs: short, mixed, as long as model and MAX_TOKENS allow, left-padded, with holes, with an empty row."""
    length = min(facts.max_length, MAX_TOKENS)
    loaded, lines = load_tokenizer(tokenizer, max_length=length), texts()

    def batch(chosen: Sequence[Text]) -> Feeds:
        return make_feeds(tokenize(loaded, chosen), facts)

    mixed = batch(lines[4:12])
    return [
        batch(lines[:1]),
        batch(lines[:4]),
        mixed,
        batch(list(zip(lines[:3], lines[6:9], strict=True))),
        batch([" ".join(lines * 8)]),
        _left_padded(batch(lines[8:11])),
        _with_holes(batch(lines[3:6])),
        _with_empty_row(batch(lines[1:3])),
    ]


def _left_padded(feeds: Feeds) -> Feeds:
    """Every row's tokens moved to its right end."""
    num_padding = (feeds[ATTENTION_MASK] == 0).sum(1)
    return {name: np.stack([np.roll(row, n) for row, n in zip(array, num_padding, strict=True)]) for name, array in feeds.items()}


def _with_holes(feeds: Feeds) -> Feeds:
    """Every third token masked, the first one kept."""
    mask: npt.NDArray[np.int32] = feeds[ATTENTION_MASK].copy()
    mask[:, 2::3] = 0
    return feeds | {ATTENTION_MASK: mask}


def _with_empty_row(feeds: Feeds) -> Feeds:
    """The first row masked everywhere."""
    mask: npt.NDArray[np.int32] = feeds[ATTENTION_MASK].copy()
    mask[0] = 0
    return feeds | {ATTENTION_MASK: mask}


def starts_with_padding(feeds: Feeds) -> bool:
    """Whether the first position of a text that has tokens is none."""
    mask: npt.NDArray[np.int32] = feeds[ATTENTION_MASK]
    return bool(((mask[:, 0] == 0) & (mask != 0).any(1)).any())


def fits(feeds: Feeds, manifest: Manifest) -> bool:
    """Whether a profile of the engine takes the batch, and packing does not change it; an engine without profiles takes all shapes."""
    if manifest.packing is not None and not manifest.packing.takes_left_padding and starts_with_padding(feeds):
        return False
    batch, length = feeds[ATTENTION_MASK].shape
    return not manifest.profiles or any(
        p.batch_size.min <= batch <= p.batch_size.max and (p.seq_len is None or p.seq_len.min <= length <= p.seq_len.max)
        for p in manifest.profiles
    )


def num_texts(batches: Sequence[Feeds]) -> int:
    return sum(len(feeds[INPUT_IDS]) for feeds in batches)
