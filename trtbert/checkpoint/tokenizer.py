"""The tokenizer of a folder -> tokenizer.json and what else a package needs, and the facts a caller must know."""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trtbert.checkpoint.json_file import read_json, read_object
from trtbert.errors import InputError
from trtbert.package import TokenizerFacts

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_VOCABULARIES = (TOKENIZER, "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")
VOCABULARY_FILES = (*_VOCABULARIES, "merges.txt", "added_tokens.json")
"""What a tokenizer that is written anew replaces."""
_PAD_TOKENS = ("[PAD]", "<pad>")
_ODD_TEXT = "\u16a0 \U00010380"
"""Letters of scripts that hardly any vocabulary holds: they need the unknown token."""
_NO_LIMIT = 1_000_000
"""transformers writes a huge number where a tokenizer has no limit."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A tokenizer as it was read."""

    folder: Path
    fast: Any
    """transformers' tokenizer, in its fast form."""
    own_tokens: frozenset[str] | None
    """What tokenizer.json itself holds; None where there was none."""
    is_changed: bool = False
    """Whether it is no longer what the folder holds."""

    @property
    def max_length(self) -> int | None:
        length = self.fast.model_max_length
        if not isinstance(length, int | float) or math.isnan(length):
            raise InputError(
                f"model_max_length in the tokenizer_config.json of {self.folder} must be a number of tokens, got {length!r}. Correct it."
            )
        return int(length) if length < _NO_LIMIT else None


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _VOCABULARIES)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer in `folder`, converting a slow one; InputError where there is none or it cannot be read."""
    if odd := sorted(path.name for path in folder.glob("*") if path.exists() and not (path.is_file() or path.is_dir())):
        raise InputError(f"{folder} holds what is no plain file: {', '.join(odd)}. Remove it, or give another folder.")
    if (folder / _CONFIG).is_file():
        read_object(folder / _CONFIG)  # transformers takes it for an empty one where it is no object
    fast = _load(folder)
    try:
        _plain_backend(fast).encode(_ODD_TEXT)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise InputError(
            f"The tokenizer in {folder} cannot read an unknown word: {error}. Copy the whole vocabulary, or name its token as unk_token in "
            f"{_CONFIG}."
        ) from error
    path = folder / TOKENIZER
    own = frozenset(tokenizers.Tokenizer.from_file(str(path)).get_vocab()) if path.is_file() else None
    return Tokenizer(folder=folder, fast=fast, own_tokens=own)


def write_tokenizer(tokenizer: Tokenizer, output: Path, *, num_rows: int) -> TokenizerFacts:
    """Write tokenizer.json, tokenizer_config.json and config.json into `output`.

    Raises InputError where the tokenizer gives ids that a word embedding of `num_rows` rows does not have.
    """
    content = json.loads(_plain_backend(tokenizer.fast).to_str())
    outside = {token: index for token, index in tokenizer.fast.get_vocab().items() if index >= num_rows}
    _check_vocabulary(tokenizer, outside, num_rows)
    check_ids(tokenizer, num_rows)
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in outside]
    facts = _facts(tokenizer, len(tokenizer.fast.get_vocab()) - len(outside))
    output.mkdir(parents=True, exist_ok=True)
    (output / TOKENIZER).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    for name in (_CONFIG, "config.json"):
        if (tokenizer.folder / name).is_file():
            _copy_without_code(tokenizer.folder / name, output / name)
    return facts


def _check_vocabulary(tokenizer: Tokenizer, outside: dict[str, int], num_rows: int) -> None:
    # transformers adds tokens of its own to some families' tokenizers (camembert's <s>NOTUSED): those are dropped, not refused.
    added = set(tokenizer.fast.get_added_vocab()) - (tokenizer.own_tokens or frozenset())
    if outside.keys() - (added if tokenizer.own_tokens else set()):
        raise InputError(
            f"The tokenizer in {tokenizer.folder} does not belong to this model: it gives ids up to {max(outside.values())}, but the word "
            f"embedding has only {num_rows} rows. Use the tokenizer that the model was trained with."
        )


def check_ids(tokenizer: Tokenizer, num_rows: int) -> None:
    """InputError where an unknown word, the tokens around a text or its padding have ids that are no row of the word embedding."""
    fast = tokenizer.fast
    ids = _plain_backend(fast).encode(_ODD_TEXT).ids + [fast.pad_token_id] * (fast.pad_token_id is not None)
    if (largest := max(ids, default=0)) >= num_rows:
        raise InputError(
            f"The tokenizer in {tokenizer.folder} gives {fast.convert_ids_to_tokens(largest)!r} the id {largest}, but the word "
            f"embedding has only {num_rows} rows. Name a token of the vocabulary in its place in {_CONFIG}, or use the model's tokenizer."
        )


def _plain_backend(fast: Any) -> tokenizers.Tokenizer:
    """What a transformers tokenizer runs, which then neither cuts nor pads."""
    backend: tokenizers.Tokenizer = fast.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def _load(folder: Path) -> Any:
    if not has_tokenizer(folder):
        raise InputError(
            f"{folder} holds no tokenizer: one of {', '.join(_VOCABULARIES)} is needed. Copy it there, or name its folder with --tokenizer."
        )
    try:
        tokenizer = _load_fast(folder)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The tokenizer in {folder} cannot be read: {reason[:300]}. Save it again with tokenizer.save_pretrained, so that there is a "
            f"{TOKENIZER}; tokenizers that need their own Python code are not supported."
        ) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(f"The tokenizer in {folder} ({type(tokenizer).__name__}) has no fast form, so no {TOKENIZER} can be written.")
    return tokenizer


def _load_fast(folder: Path) -> Any:
    """As transformers reads it; tokenizer.json by itself where it is of another kind than the family's, or alone."""
    path = folder / TOKENIZER
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception:
        if not path.is_file():
            raise
        logger.info("transformers cannot build the tokenizer in %s; %s is taken by itself", folder, TOKENIZER)
        return PreTrainedTokenizerFast(tokenizer_file=str(path))  # type: ignore[no-untyped-call]


def _facts(tokenizer: Tokenizer, vocab_size: int) -> TokenizerFacts:
    fast = tokenizer.fast
    return TokenizerFacts(
        file=TOKENIZER,
        pad_token_id=_pad_token_id(tokenizer),
        pad_token_type_id=fast.pad_token_type_id,
        padding_side=fast.padding_side,
        mask_token_id=fast.mask_token_id,
        vocab_size=vocab_size,
    )


def _pad_token_id(tokenizer: Tokenizer) -> int:
    vocabulary = tokenizer.fast.get_vocab()
    known = (tokenizer.fast.pad_token_id, *(vocabulary.get(token) for token in _PAD_TOKENS))
    pad = next((index for index in known if index is not None), None)
    if pad is None:
        raise InputError(
            f'The tokenizer in {tokenizer.folder} has no padding token. Name one in tokenizer_config.json, such as "pad_token": "[PAD]".'
        )
    return int(pad)


def _copy_without_code(path: Path, output: Path) -> None:
    config = read_json(path)
    if isinstance(config, dict) and config.pop("auto_map", None) is not None:
        logger.warning("%s names Python code of its own (auto_map); it is never run and was left out", path.name)
    output.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
