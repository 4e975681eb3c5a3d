"""Method `vocabulary`: drop the tokens that the texts do not use, from the tokenizer and from the word embedding."""

import copy
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import tokenizers
import torch
from pydantic import Field
from transformers import PreTrainedTokenizerFast

from trtbert.checkpoint.hf_config import OFFSET_POSITIONS
from trtbert.checkpoint.read import Checkpoint
from trtbert.checkpoint.tokenizer import Tokenizer
from trtbert.checkpoint.torch_model import load_model
from trtbert.compress.method import Job, Options, Result
from trtbert.data import Text
from trtbert.errors import InputError, UnsupportedError

_MULTIPLE = 8
"""What the rows of the word embedding are a multiple of."""
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_WIDER = "the weights came in {dtype} and are written in float32, which takes twice the bytes: the file may be larger than it was"
_ID_KEYS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id")


class VocabularyOptions(Options):
    min_count: int = Field(default=1, ge=1)
    """Times that a token must occur in the texts to stay"""


def prune_vocabulary(job: Job, options: VocabularyOptions) -> Result:
    """Keep the tokens of `job.texts` and `job.labelled`, special tokens, and pieces that every other text can be made of.

    The new tokenizer cuts those texts as the old one does, with other numbers; other texts may be cut into smaller pieces. Raises
    InputError where there are no texts, UnsupportedError for a tokenizer that is none of WordPiece, BPE and Unigram.
    """
    checkpoint = job.checkpoint
    texts = [*(example.text for example in job.labelled), *job.texts]
    if not texts:
        raise InputError("vocabulary keeps what the texts use, and there are none: give them with --data or --texts.")
    content = json.loads(checkpoint.tokenizer.fast.backend_tokenizer.to_str())
    kind = content["model"]["type"]
    if kind not in _PRUNED:
        raise UnsupportedError(f"A tokenizer of the kind {kind!r} cannot be pruned; WordPiece, BPE and Unigram can.")
    num_rows = checkpoint.model.get_input_embeddings().num_embeddings
    old = checkpoint.tokenizer.fast.get_vocab()
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < num_rows]  # transformers adds some of its own
    used = _used(checkpoint.tokenizer.fast, texts, options.min_count)
    special = {token["content"] for token in content["added_tokens"]}
    kept = _PRUNED[kind](content["model"], used | special)
    numbers = {token: number for number, token in enumerate(kept)}
    _renumber(content, numbers)
    tokenizer = _rebuilt(checkpoint.tokenizer, content)
    rows = [old[token] for token in numbers]
    _check_padding(checkpoint, rows)
    model = _sliced(checkpoint, rows)
    facts = {"tokens": len(numbers), "of": len(old)}
    notes = (_WIDER.format(dtype=str(checkpoint.dtype).removeprefix("torch.")),) * (checkpoint.dtype.itemsize < torch.float32.itemsize)
    return Result(checkpoint=replace(checkpoint, model=model, tokenizer=tokenizer), notes=notes, facts=facts)


def _used(fast: Any, texts: Iterable[Text], min_count: int) -> set[str]:
    counts: Counter[str] = Counter()
    for encoding in fast.backend_tokenizer.encode_batch(list(texts)):
        counts.update(encoding.tokens)
    return {token for token, count in counts.items() if count >= min_count}


def _word_pieces(model: dict[str, Any], wanted: Collection[str]) -> list[str]:
    """Single characters stay, at the start of a word and inside, so that other words are not [UNK]."""
    prefix = model["continuing_subword_prefix"]
    kept = [token for token in model["vocab"] if token in wanted or len(token.removeprefix(prefix)) == 1]
    model["vocab"] = kept
    return kept


def _byte_pairs(model: dict[str, Any], wanted: Collection[str]) -> list[str]:
    """Symbols that no merge makes stay (characters, bytes, ends of words), and what a token can be merged from, with all those merges.

    A token may be made by several merges, as in a converted SentencePiece model; with only one of them the same text could be cut
    differently. Of every merge that cut the texts all three tokens stay, and no merge is new, so each of them comes first as before.
    """
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    prefix = model.get("continuing_subword_prefix") or ""
    made = [(first + second.removeprefix(prefix), first, second) for first, second in merges]
    parts: dict[str, list[str]] = {}
    for token, first, second in made:
        parts.setdefault(token, []).extend((first, second))
    needed, todo = set[str](), list(wanted)
    while todo:
        token = todo.pop()
        if token not in needed:
            needed.add(token)
            todo += parts.get(token, ())
    kept = [token for token in model["vocab"] if token in needed or token not in parts]
    present = set(kept)
    model["merges"] = [[first, second] for token, first, second in made if {token, first, second} <= present]
    model["vocab"] = kept
    return kept


def _unigrams(model: dict[str, Any], wanted: Collection[str]) -> list[str]:
    """Single characters and bytes stay; a piece keeps its score, so that what is cut as before is as likely as before.

    The least likely piece stays too: what an unknown character costs is counted from it.
    """
    scores = [score for _, score in model["vocab"]]
    fixed = {scores.index(min(scores)), model["unk_id"]}
    pieces = [
        (token, score)
        for index, (token, score) in enumerate(model["vocab"])
        if token in wanted or len(token) == 1 or index in fixed or (model.get("byte_fallback") and _BYTE.fullmatch(token))
    ]
    kept = [token for token, _ in pieces]
    if model["unk_id"] is not None:
        model["unk_id"] = kept.index(model["vocab"][model["unk_id"]][0])
    model["vocab"] = pieces
    return kept


_PRUNED = {"WordPiece": _word_pieces, "BPE": _byte_pairs, "Unigram": _unigrams}


def _renumber(content: dict[str, Any], numbers: dict[str, int]) -> None:
    """New numbers for the vocabulary, the added tokens (which may be beyond it) and the post-processor."""
    for token in content["added_tokens"]:
        token["id"] = numbers.setdefault(token["content"], len(numbers))
    if isinstance(content["model"]["vocab"][0], str):
        content["model"]["vocab"] = {token: numbers[token] for token in content["model"]["vocab"]}
    _renumber_processor(content.get("post_processor"), numbers)


def _renumber_processor(processor: Any, numbers: Mapping[str, int]) -> None:
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors", ()):
        _renumber_processor(part, numbers)
    for name in ("cls", "sep"):
        if isinstance(processor.get(name), list):
            processor[name] = [processor[name][0], numbers[processor[name][0]]]
    for special in (processor.get("special_tokens") or {}).values():
        special["ids"] = [numbers[token] for token in special["tokens"]]


def _rebuilt(tokenizer: Tokenizer, content: dict[str, Any]) -> Tokenizer:
    fast = tokenizer.fast
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")
    options = {name: getattr(fast, name) for name in names if getattr(fast, name, None) is not None}
    sides = {"padding_side": fast.padding_side, "model_max_length": fast.model_max_length, "pad_token_type_id": fast.pad_token_type_id}
    rebuilt = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, model_input_names=fast.model_input_names, **options, **sides
    )
    return replace(tokenizer, fast=rebuilt, own_tokens=frozenset(backend.get_vocab()), is_changed=True)


def _check_padding(checkpoint: Checkpoint, rows: list[int]) -> None:
    config = checkpoint.model.config
    if config.model_type in OFFSET_POSITIONS and rows.index(config.pad_token_id) != config.pad_token_id:
        raise UnsupportedError(
            f"In {config.model_type} positions are counted from the number of the padding token, {config.pad_token_id}, which would "
            "change, for tokens before it would be dropped."
        )


def _sliced(checkpoint: Checkpoint, rows: list[int]) -> Any:
    """The model with those rows of the word embedding, and of what is tied to it or gives a score for each token."""
    model = checkpoint.model
    total = model.config.vocab_size
    index = torch.tensor([*rows, *rows[:1] * (-len(rows) % _MULTIPLE)])
    config = copy.deepcopy(model.config)
    by_old = {old: new for new, old in enumerate(rows)}
    for key in _ID_KEYS:
        if getattr(config, key, None) is not None:
            setattr(config, key, by_old.get(getattr(config, key), 0))
    config.vocab_size = len(index)
    named = {name for name, p in model.state_dict().items() if p.shape[:1] == (total,) and _is_by_token(name)}
    state = {name: p.detach()[index] if name in named else p.detach().clone() for name, p in model.state_dict().items()}
    return load_model(config, checkpoint.task, state)


def _is_by_token(name: str) -> bool:
    parts = ("word_embeddings", "tok_embeddings", "characters.table", "decoder", "lm_head", "predictions", "vocab_projector", "generator")
    return any(part in name for part in parts)
