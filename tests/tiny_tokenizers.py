"""A family and a few sentences -> tokenizer.json and tokenizer_config.json of the kind that family has."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = (
    "The museum opens at nine in the morning and closes at five in the afternoon.",
    "My sister moved from Lisbon to Toronto because she found a better job there.",
    "I would not recommend this restaurant: the soup was cold and the waiter was rude!",
    "What an excellent film, I loved every minute of it and so did my children.",
    "How do I reset the password of my account if I have lost my phone?",
    "The quick brown fox jumps over the lazy dog while 37 geese watch from the river.",
    "Heavy rain is expected in the north on Monday, with wind of up to 80 kilometres per hour.",
    "The committee will publish its report (about 250 pages) before the end of the year.",
    "A young engineer named Peter Novak works for Acme in Berlin; he writes software for trains.",
    "Please send the invoice to our office in Paris, the order number is 41-6925.",
    "This product broke after two days & nobody answered my e-mail. Very disappointing.",
    "Water boils at 100 degrees at sea level, and at a lower temperature in the mountains.",
)
"""Written for these tests; together with the alphabet they hold every printable ASCII character."""

_ASCII = tuple(" ".join(chr(code) for code in range(start, start + 16)) for start in range(33, 127, 16))
_CORPUS = (*SENTENCES * 4, *_ASCII)
_VOCABULARY_SIZE = 320


@dataclass(frozen=True, kw_only=True)
class Family:
    """What tells one family's tokenizer from another's."""

    kind: str
    tokenizer_class: str
    roles: Mapping[str, str]
    """Special token of each role, in the order of their ids."""
    separators: int = 1
    """How many separators stand between the two texts of a pair."""
    has_token_type_ids: bool = False
    num_reserved_positions: int = 0
    """Rows of the position table that no token uses (the padding offset of RoBERTa and MPNet)."""
    is_lowercase: bool = False


_BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ROBERTA = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
_DEBERTA = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
_ALBERT = {"pad": "<pad>", "unk": "<unk>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_MPNET = {**_ROBERTA, "unk": "[UNK]"}

FAMILIES: dict[str, Family] = {
    "albert": Family(kind="unigram", tokenizer_class="AlbertTokenizer", roles=_ALBERT, has_token_type_ids=True, is_lowercase=True),
    "bert": Family(kind="wordpiece", tokenizer_class="BertTokenizer", roles=_BERT, has_token_type_ids=True),
    "camembert": Family(kind="unigram", tokenizer_class="CamembertTokenizer", roles=_ROBERTA, separators=2, num_reserved_positions=2),
    "deberta-v2": Family(kind="unigram", tokenizer_class="DebertaV2Tokenizer", roles=_DEBERTA, has_token_type_ids=True),
    "distilbert": Family(kind="wordpiece", tokenizer_class="DistilBertTokenizer", roles=_BERT),
    "electra": Family(kind="wordpiece", tokenizer_class="ElectraTokenizer", roles=_BERT, has_token_type_ids=True),
    "modernbert": Family(kind="bytes", tokenizer_class="PreTrainedTokenizerFast", roles=_BERT),
    "mpnet": Family(kind="wordpiece", tokenizer_class="MPNetTokenizer", roles=_MPNET, separators=2, num_reserved_positions=2),
    "roberta": Family(kind="bytes", tokenizer_class="RobertaTokenizer", roles=_ROBERTA, separators=2, num_reserved_positions=2),
    "xlm-roberta": Family(kind="unigram", tokenizer_class="XLMRobertaTokenizer", roles=_ROBERTA, separators=2, num_reserved_positions=2),
}


def make_tokenizer(folder: Path, architecture: str, *, max_length: int) -> Tokenizer:
    """Train the family's tokenizer on SENTENCES and write its two files into `folder`; the tokenizer is returned."""
    family = FAMILIES[architecture]
    tokenizer = _KINDS[family.kind](family)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in family.roles.values()])
    tokenizer.post_processor = _post_processor(tokenizer, family)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ["input_ids", "token_type_ids", "attention_mask"] if family.has_token_type_ids else ["input_ids", "attention_mask"]
    config = {
        **{f"{role}_token": token for role, token in family.roles.items()},
        "tokenizer_class": family.tokenizer_class,
        "model_max_length": max_length,
        "model_input_names": names,
        "clean_up_tokenization_spaces": False,
    }
    if family.separators == 2:
        config |= {"bos_token": family.roles["cls"], "eos_token": family.roles["sep"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return tokenizer


def _wordpiece(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=family.roles["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=_VOCABULARY_SIZE, special_tokens=list(family.roles.values()), show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def _bytes(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY_SIZE + 60,
        special_tokens=list(family.roles.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def _unigram(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.Lowercase()] if family.is_lowercase else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *steps, normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=_VOCABULARY_SIZE,
        special_tokens=list(family.roles.values()),
        unk_token=family.roles["unk"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


_KINDS: dict[str, Callable[[Family], Tokenizer]] = {"wordpiece": _wordpiece, "bytes": _bytes, "unigram": _unigram}


def _post_processor(tokenizer: Tokenizer, family: Family) -> processors.TemplateProcessing:
    cls, sep = family.roles["cls"], family.roles["sep"]
    second = 1 if family.has_token_type_ids else 0
    between = f"{sep}:0 " * family.separators
    return processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {between}$B:{second} {sep}:{second}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
