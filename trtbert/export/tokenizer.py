"""The tokenizer of a folder -> tokenizer.json and what else a package needs, and the facts a caller must know."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trtbert.errors import InputError
from trtbert.export.json_file import read_json
from trtbert.package import TokenizerFacts

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
_VOCABULARIES = (TOKENIZER, "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")
_PAD_TOKENS = ("[PAD]", "<pad>")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The facts a package records, and two numbers that the export checks the model against."""

    facts: TokenizerFacts
    model_max_length: int | None
    largest_id: int


def write_tokenizer(folder: Path, output: Path) -> Tokenizer:
    """Convert the tokenizer in `folder` (also a slow one) into `output`, with tokenizer_config.json and config.json.

    Raises InputError where there is none or it cannot be read.
    """
    tokenizer = _load(folder)
    output.mkdir(parents=True, exist_ok=True)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    (output / TOKENIZER).write_text(backend.to_str(), encoding="utf-8")
    for name in ("tokenizer_config.json", "config.json"):
        if (folder / name).is_file():
            _copy_without_code(folder / name, output / name)
    return Tokenizer(
        facts=_facts(tokenizer, folder),
        model_max_length=tokenizer.model_max_length if tokenizer.model_max_length < 1_000_000 else None,
        largest_id=max(tokenizer.get_vocab().values()),
    )


def check_vocabulary(tokenizer: Tokenizer, num_rows: int) -> None:
    """InputError where the tokenizer gives ids that the word embedding of `num_rows` rows does not have."""
    if tokenizer.largest_id >= num_rows:
        raise InputError(
            f"The tokenizer does not belong to this model: it gives ids up to {tokenizer.largest_id}, but the word embedding has only "
            f"{num_rows} rows. Use the tokenizer that the model was trained with."
        )


def _load(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise InputError(
            f"{folder} holds no tokenizer: one of {', '.join(_VOCABULARIES)} is needed. Copy it there, or name its folder with --tokenizer."
        )
    has_config = any((folder / name).is_file() for name in ("tokenizer_config.json", "config.json"))
    try:
        if not has_config and (folder / TOKENIZER).is_file():
            tokenizer: Any = PreTrainedTokenizerFast(tokenizer_file=str(folder / TOKENIZER))
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The tokenizer in {folder} cannot be read: {reason[:300]}. Save it again with tokenizer.save_pretrained, so that there is a "
            f"{TOKENIZER}; tokenizers that need their own Python code are not supported."
        ) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError(f"The tokenizer in {folder} ({type(tokenizer).__name__}) has no fast form, so no {TOKENIZER} can be written.")
    return tokenizer


def _facts(tokenizer: Any, folder: Path) -> TokenizerFacts:
    vocabulary = tokenizer.get_vocab()
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = next((vocabulary[token] for token in _PAD_TOKENS if token in vocabulary), None)
    if pad is None:
        raise InputError(f"The tokenizer in {folder} has no padding token. Add one: \"pad_token\": \"[PAD]\" in tokenizer_config.json.")
    return TokenizerFacts(
        file=TOKENIZER,
        pad_token_id=pad,
        pad_token_type_id=tokenizer.pad_token_type_id,
        padding_side=tokenizer.padding_side,
        mask_token_id=tokenizer.mask_token_id,
        vocab_size=len(vocabulary),
    )


def _copy_without_code(path: Path, output: Path) -> None:
    config = read_json(path)
    if isinstance(config, dict) and config.pop("auto_map", None) is not None:
        logger.warning("%s names Python code of its own (auto_map); it is never run and was left out", path.name)
    output.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
