"""Texts -> token ids with the package's tokenizer.json alone, and token ids -> the int32 inputs of a compiled model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from trtbert.data import Text
from trtbert.errors import InputError, PackageError
from trtbert.package import ModelFacts
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS

Feeds = dict[str, npt.NDArray[np.int32]]


def load_tokenizer(path: Path, *, max_length: int | None) -> Tokenizer:
    """Read a tokenizer.json; texts are cut to `max_length` tokens, or not at all with None. PackageError when it cannot be read."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # The tokenizers library raises plain Exception.
        raise PackageError(f"{path} is not a tokenizer.json that this version of tokenizers reads: {error}") from error
    direction = (tokenizer.truncation or {}).get("direction", "right")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_length is not None:
        tokenizer.enable_truncation(max_length, direction=direction)
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[Text]) -> list[Encoding]:
    """One encoding for each text or pair, unpadded; InputError names the first text that is not valid Unicode."""
    try:
        return tokenizer.encode_batch(list(texts))
    except TypeError as error:
        for text in texts:
            _check_unicode(text)
        raise InputError(f"The texts cannot be tokenized: {error}") from error


def _check_unicode(text: Text) -> None:
    try:
        "".join(text).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"The text {str(text)[:80]!a} is not valid Unicode: {error}. Decode it with errors='replace' first.") from error


def make_feeds(
    encodings: Sequence[Encoding],
    facts: ModelFacts,
    *,
    length: int | None = None,
    num_rows: int | None = None,
    padding_side: Literal["left", "right"] = "right",
) -> Feeds:
    """Pad encodings to int32 [batch, sequence] arrays, one for each input that the model has.

    The sequence is the longest of the encodings or `length`; with `num_rows` the batch is filled up with copies of its first row.
    Padding on the right gives every text the positions, so the result, that it has alone; on the left most families shift it.
    """
    tokenizer, shape = facts.tokenizer, (len(encodings), max([length or 0, *map(len, encodings)]))
    feeds = {
        INPUT_IDS: np.full(shape, tokenizer.pad_token_id, np.int32),
        ATTENTION_MASK: np.zeros(shape, np.int32),
        TOKEN_TYPE_IDS: np.full(shape, tokenizer.pad_token_type_id, np.int32),
    }
    for row, encoding in enumerate(encodings):
        tokens = slice(shape[1] - len(encoding), None) if padding_side == "left" else slice(len(encoding))
        feeds[INPUT_IDS][row, tokens] = encoding.ids
        feeds[ATTENTION_MASK][row, tokens] = 1
        feeds[TOKEN_TYPE_IDS][row, tokens] = encoding.type_ids
    rows = np.concatenate([np.arange(shape[0]), np.zeros(max(0, (num_rows or 0) - shape[0]), np.intp)])
    return {tensor.name: feeds[tensor.name][rows] for tensor in facts.inputs}
